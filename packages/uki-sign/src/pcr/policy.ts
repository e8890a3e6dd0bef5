import { createHash, createPublicKey, type KeyObject } from "node:crypto";
import * as z from "zod";
import { UkiSignError } from "../errors.ts";
import { PCR_SELECT_BYTES, TPM_ALG_ID, TPM_CC_POLICY_PCR } from "../format/tpm.ts";
import { concat } from "../internal/bytes.ts";
import { bytesSchema, parseOptions } from "../internal/options.ts";
import { decodePem } from "../keys/pem.ts";
import { requireRsa, type Signer } from "../keys/signer.ts";
import { type HashName, schemeOf } from "../rsa/scheme.ts";
import { verifyDigest } from "../rsa/verify.ts";
import type { MeasuredSection } from "../uki/inspect.ts";
import type { PcrSignature } from "./policy-signature.ts";
import { BOOT_PHASES, predictPcr11Paths } from "./predict-pcr11.ts";
import { PCR_BANKS, PCR_BYTES, type PcrBank } from "./register.ts";

/** Phase paths that systemd 257 signs by default: every prefix of a boot, joined by colons. */
export const BOOT_PHASE_PATHS: readonly string[] = BOOT_PHASES.map((_, index) =>
  BOOT_PHASES.slice(0, index + 1).join(":"),
);

/** Banks that policies are signed for: systemd signs with the bank's hash, and nobody should sign with SHA-1. */
export const PCR_POLICY_BANKS: readonly HashName[] = ["sha256", "sha384", "sha512"];

const policyOptions = z.strictObject({
  sections: z.array(z.custom<MeasuredSection>()).readonly(),
  phasePaths: z.array(z.string()).min(1).readonly().default(BOOT_PHASE_PATHS),
  banks: z
    .array(z.enum(["sha256", "sha384", "sha512"]))
    .min(1)
    .readonly()
    .default(PCR_POLICY_BANKS),
});

/** Options of {@link predictPcrPolicies}. */
export interface PredictPcrPoliciesOptions {
  /** what the stub measures; see `measuredSections` */
  readonly sections: readonly MeasuredSection[];
  /** phases joined by colons, one path a policy; {@link BOOT_PHASE_PATHS} by default, the empty path for the stub alone */
  readonly phasePaths?: readonly string[] | undefined;
  /** banks; {@link PCR_POLICY_BANKS} by default */
  readonly banks?: readonly HashName[] | undefined;
}

/** A state of PCR 11 in which a secret may be used, and what a signature of it is made of. */
export interface PcrPolicy {
  /** bank, and the hash that the policy is signed with */
  readonly bank: HashName;
  /** phases measured so far, joined by colons */
  readonly phasePath: string;
  /** registers, ascending */
  readonly pcrs: readonly number[];
  /** policy digest of TPM2_PolicyPCR, SHA-256 whatever the bank */
  readonly policy: Uint8Array;
  /** `policy`, hashed with the bank's hash: what a {@link Signer} takes, for signing somewhere else */
  readonly digest: Uint8Array;
}

/**
 * Predicts the TPM policies under which a unified kernel image may unlock secrets, one for each bank and phase path.
 *
 * @param options - Sections, phase paths and banks.
 * @returns Policies by bank in the given order, then by phase path in the order of their text, as systemd-measure has them.
 * @throws {UkiSignError} `UKI_SIGN_BAD_OPTIONS` for what {@link predictPcr11} refuses.
 * @see systemd 257 systemd-measure(1); TPM 2.0 Library Part 3 revision 1.59 section 23.7
 * @example
 * const policies = predictPcrPolicies({ sections: measuredSections(image), banks: ["sha256"] });
 * console.log(Buffer.from(policies[0].digest).toString("hex")); // to be signed offline
 */
export function predictPcrPolicies(options: PredictPcrPoliciesOptions): PcrPolicy[] {
  const { sections, phasePaths, banks } = parseOptions(policyOptions, options);
  const paths = [...new Set(phasePaths.map((path) => path.split(":").filter(Boolean).join(":")))].sort();
  const phases = paths.map((path) => path.split(":").filter(Boolean));
  return banks.flatMap((bank) => {
    const values = predictPcr11Paths(sections, phases, bank);
    return paths.map((phasePath, index) => {
      const value = values[index] ?? new Uint8Array();
      const policy = pcrPolicyDigest(bank, [{ pcr: 11, value }]);
      return { bank, phasePath, pcrs: [11], policy, digest: hashOf(bank, policy) };
    });
  });
}

const registersSchema = z
  .array(
    z.strictObject({
      pcr: z
        .int()
        .min(0)
        .max(PCR_SELECT_BYTES * 8 - 1),
      value: bytesSchema,
    }),
  )
  .min(1)
  .readonly();

/**
 * The digest of a TPM policy that asks for register values, as a SHA-256 policy session has it after one TPM2_PolicyPCR.
 *
 * @param bank - Bank of the registers.
 * @param registers - Numbers and values, in any order, each number once.
 * @returns 32 bytes.
 * @throws {UkiSignError} `UKI_SIGN_BAD_OPTIONS` for a register that is given twice, does not exist, or has not the bank's size.
 * @see TPM 2.0 Library Part 3 revision 1.59 section 23.7.1
 * @example
 * const policy = pcrPolicyDigest("sha256", [{ pcr: 7, value: pcr7 }, { pcr: 11, value: pcr11 }]);
 */
export function pcrPolicyDigest(
  bank: PcrBank,
  registers: readonly { readonly pcr: number; readonly value: Uint8Array }[],
): Uint8Array {
  const hash = parseOptions(z.enum(PCR_BANKS), bank);
  const sorted = [...parseOptions(registersSchema, registers)].sort((a, b) => a.pcr - b.pcr);
  const size = PCR_BYTES[hash];
  for (const [index, { pcr, value }] of sorted.entries()) {
    if (value.length === size && sorted[index + 1]?.pcr !== pcr) continue;
    const found = value.length === size ? `PCR ${pcr} twice` : `${value.length} bytes for PCR ${pcr}`;
    throw new UkiSignError("UKI_SIGN_BAD_OPTIONS", `expected each register once with ${size} bytes, got ${found}`, {
      field: "registers",
    });
  }
  // TPML_PCR_SELECTION with one TPMS_PCR_SELECTION, big-endian like everything the TPM marshals.
  const selection = new Uint8Array(4 + 2 + 1 + PCR_SELECT_BYTES);
  const view = new DataView(selection.buffer);
  view.setUint32(0, 1);
  view.setUint16(4, TPM_ALG_ID[hash]);
  view.setUint8(6, PCR_SELECT_BYTES);
  for (const { pcr } of sorted) {
    const at = 7 + (pcr >> 3);
    view.setUint8(at, view.getUint8(at) | (1 << (pcr & 7)));
  }
  const command = new Uint8Array(4);
  new DataView(command.buffer).setUint32(0, TPM_CC_POLICY_PCR);
  const values = sha256(concat(...sorted.map(({ value }) => value)));
  return sha256(concat(new Uint8Array(32), command, selection, values));
}

/**
 * Signs policies with a key at hand.
 *
 * @param policies - What {@link predictPcrPolicies} returned.
 * @param signer - The key.
 * @param publicKey - Its public half, SubjectPublicKeyInfo in DER, or PEM as in a `.pcrpkey` section.
 * @returns Signatures in the order of the policies, for `renderPcrSignatures`.
 * @throws {UkiSignError} What {@link attachPcrSignatures} throws.
 * @example
 * const { signers } = await loadKeys("keys", { roles: ["pcr"] });
 * const pcrsig = renderPcrSignatures(await signPcrPolicies(policies, signers.pcr, signers.pcr.publicKey));
 */
export async function signPcrPolicies(
  policies: readonly PcrPolicy[],
  signer: Signer,
  publicKey: Uint8Array | string,
): Promise<PcrSignature[]> {
  const digests = policies.map(({ bank, digest }) => ({ hash: bank, digest }));
  if (signer.signDigests !== undefined) {
    return attachPcrSignatures(policies, await signer.signDigests(digests), publicKey);
  }
  const signatures: Uint8Array[] = [];
  for (const { hash, digest } of digests) signatures.push(await signer.signDigest(hash, digest));
  return attachPcrSignatures(policies, signatures, publicKey);
}

/**
 * Puts policies together with signatures of their digests that were made somewhere else.
 *
 * @param policies - What {@link predictPcrPolicies} returned.
 * @param signatures - RSASSA-PKCS1-v1_5 signatures of the policies' digests, in the same order.
 * @param publicKey - The signer's key, SubjectPublicKeyInfo in DER, or PEM.
 * @returns Signatures in the order of the policies; each was verified.
 * @throws {UkiSignError} `UKI_SIGN_SIGNATURE_MISMATCH` when one is wrong, `UKI_SIGN_KEY_INVALID` when the key is none,
 *   `UKI_SIGN_KEY_UNSUPPORTED` for other keys than RSA, `UKI_SIGN_BAD_OPTIONS` when the numbers of both differ.
 * @see systemd 257 systemd-measure(1), "sign"
 */
export function attachPcrSignatures(
  policies: readonly PcrPolicy[],
  signatures: readonly Uint8Array[],
  publicKey: Uint8Array | string,
): PcrSignature[] {
  if (policies.length !== signatures.length) {
    const message = `expected ${policies.length} signatures, one a policy, got ${signatures.length}`;
    throw new UkiSignError("UKI_SIGN_BAD_OPTIONS", message, { field: "signatures" });
  }
  const key = readPublicKey(publicKey);
  const keyFingerprint = fingerprintOf(key);
  return policies.map(({ bank, pcrs, policy, phasePath }, index) => {
    const signature = signatures[index] ?? new Uint8Array();
    if (verifyDigest(key, schemeOf(bank, "pkcs1"), hashOf(bank, policy), signature)) {
      return { bank, pcrs, keyFingerprint, policy, signature: new Uint8Array(signature) };
    }
    const message = `expected a signature of the policy of ${bank} ${phasePath}, got one of something else`;
    throw new UkiSignError("UKI_SIGN_SIGNATURE_MISMATCH", message, { field: `signatures[${index}]` });
  });
}

/**
 * Verifies one signature of a `.pcrsig` section.
 *
 * @param signature - One of what `parsePcrSignatures` returned.
 * @param publicKey - The key, SubjectPublicKeyInfo in DER, or PEM as in a `.pcrpkey` section.
 * @throws {UkiSignError} `UKI_SIGN_UNTRUSTED` when it names another key, `UKI_SIGN_SIGNATURE_MISMATCH` when it is wrong,
 *   `UKI_SIGN_PCR_SIGNATURES_INVALID` when it was made with SHA-1; `UKI_SIGN_KEY_INVALID` and `UKI_SIGN_KEY_UNSUPPORTED` about the key.
 */
export function verifyPcrSignature(signature: PcrSignature, publicKey: Uint8Array | string): void {
  const key = readPublicKey(publicKey);
  const fingerprint = fingerprintOf(key);
  if (signature.keyFingerprint !== fingerprint) {
    const message = `expected a signature by the key ${fingerprint}, got one by ${signature.keyFingerprint}`;
    throw new UkiSignError("UKI_SIGN_UNTRUSTED", message);
  }
  const bank = PCR_POLICY_BANKS.find((candidate) => candidate === signature.bank);
  if (bank === undefined) {
    const message = `expected a signature with ${PCR_POLICY_BANKS.join(", ")}, got one with ${signature.bank}`;
    throw new UkiSignError("UKI_SIGN_PCR_SIGNATURES_INVALID", message);
  }
  if (verifyDigest(key, schemeOf(bank, "pkcs1"), hashOf(bank, signature.policy), signature.signature)) return;
  throw new UkiSignError(
    "UKI_SIGN_SIGNATURE_MISMATCH",
    "expected a signature of this policy, got one of something else",
  );
}

function readPublicKey(publicKey: Uint8Array | string): KeyObject {
  const text = typeof publicKey === "string" ? publicKey : Buffer.from(publicKey).toString("latin1");
  const block = decodePem(text).find(({ label }) => label === "PUBLIC KEY");
  const der = block?.bytes ?? (typeof publicKey === "string" ? new Uint8Array() : publicKey);
  let key: KeyObject;
  try {
    key = createPublicKey({ key: Buffer.from(der), format: "der", type: "spki" });
  } catch (cause) {
    throw new UkiSignError("UKI_SIGN_KEY_INVALID", "expected a public key in PEM or DER, got something else", {
      cause,
    });
  }
  requireRsa(key);
  return key;
}

/** SHA-256 of the RSAPublicKey (RFC 8017 appendix A.1.1), by which systemd finds the key of a signature. */
function fingerprintOf(key: KeyObject): string {
  return createHash("sha256")
    .update(key.export({ format: "der", type: "pkcs1" }))
    .digest("hex");
}

function sha256(data: Uint8Array): Uint8Array {
  return hashOf("sha256", data);
}

function hashOf(hash: HashName, data: Uint8Array): Uint8Array {
  return new Uint8Array(createHash(hash).update(data).digest());
}
