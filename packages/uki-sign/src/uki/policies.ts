import * as z from "zod";
import type { ByteSource } from "../bytes/byte-source.ts";
import { parseOptions } from "../internal/options.ts";
import { encodePem } from "../keys/pem.ts";
import type { Signer } from "../keys/signer.ts";
import {
  PCR_POLICY_BANKS,
  type PredictPcrPoliciesOptions,
  predictPcrPolicies,
  signPcrPolicies,
} from "../pcr/policy.ts";
import { type PcrSignature, renderPcrSignatures } from "../pcr/policy-signature.ts";
import { decodePe } from "../pe/image.ts";
import { assembleUki } from "./build.ts";
import { measuredSections } from "./inspect.ts";
import type { BuildUkiOptions } from "./parts.ts";
import { splitProfiles } from "./profiles.ts";

/** Who signs PCR policies of an image, and for which boots. */
export interface UkiPolicySigner extends Pick<PredictPcrPoliciesOptions, "phasePaths" | "banks"> {
  readonly signer: Signer;
  /** SubjectPublicKeyInfo of the signer, DER */
  readonly publicKey: Uint8Array;
}

const signersSchema = z
  .array(z.custom<UkiPolicySigner>((value) => typeof value === "object" && value !== null && "publicKey" in value))
  .min(1)
  .readonly();

/**
 * Assembles a unified kernel image with signed PCR 11 policies: a `.pcrsig` section for each profile, about each device tree
 * that the machine may pick, and the `.pcrpkey` section when one key signs and no other is given.
 *
 * @param options - Parts of the image as for `assembleUki`, without `pcrsig`.
 * @param signers - Keys, each with its banks and phase paths.
 * @returns The unsigned image, as `assembleUki` returns it.
 * @throws {UkiSignError} What `assembleUki`, `predictPcrPolicies` and `signPcrPolicies` throw.
 * @see systemd 257 ukify(1), `--pcr-private-key=`
 * @example
 * const { signers } = await loadKeys("keys", { roles: ["pcr"] });
 * const image = await assembleUkiWithPolicies({ stub, linux, initrd }, [{ signer: signers.pcr, publicKey: signers.pcr.publicKey }]);
 */
export async function assembleUkiWithPolicies(
  options: Omit<BuildUkiOptions, "pcrsig">,
  signers: readonly UkiPolicySigner[],
): Promise<ByteSource> {
  const [first, ...others] = parseOptions(signersSchema, signers);
  const own = first === undefined || others.length > 0 ? undefined : encodePem("PUBLIC KEY", first.publicKey);
  const parts = { ...options, pcrpkey: options.pcrpkey ?? own };
  const image = assembleUki(parts);
  const profiles = Math.max(1, splitProfiles(decodePe(image)).profiles.length);
  const pcrsig: string[] = [];
  for (let profile = 0; profile < profiles; profile++) {
    pcrsig.push(renderPcrSignatures(await signProfile(image, profile, signers)));
  }
  return assembleUki({ ...parts, pcrsig });
}

async function signProfile(
  image: ByteSource,
  profile: number,
  signers: readonly UkiPolicySigner[],
): Promise<PcrSignature[]> {
  const trees = decodePe(image).sections.filter(({ name }) => name === ".dtbauto").length;
  const picks = trees === 0 ? [undefined] : Array.from({ length: trees }, (_, index) => index);
  const found = new Map<string, PcrSignature>();
  for (const dtbauto of picks) {
    const sections = measuredSections(image, { profile, dtbauto });
    for (const { signer, publicKey, phasePaths, banks = PCR_POLICY_BANKS } of signers) {
      const policies = predictPcrPolicies({ sections, phasePaths, banks });
      for (const signature of await signPcrPolicies(policies, signer, publicKey)) {
        found.set(renderPcrSignatures([signature]), signature);
      }
    }
  }
  return [...found.values()];
}
