import { countText } from "@leveret/command";
import type { Bytes } from "../bytes/byte-source.ts";
import { UkiSignError } from "../errors.ts";
import { toHex } from "../internal/bytes.ts";
import { PCR_POLICY_BANKS, predictPcrPolicies } from "../pcr/policy.ts";
import { type PcrSignature, parsePcrSignatures } from "../pcr/policy-signature.ts";
import { measuredSections } from "../uki/inspect.ts";

/**
 * What the signatures of a `.pcrsig` section are about, in rows for people: bank, registers, key, and after which phases of
 * the image's own boot the policies hold.
 *
 * @param text - The section's text.
 * @param image - The image that it is in.
 * @param profile - The profile that it belongs to.
 */
export function describePcrSignatures(text: string, image: Bytes, profile: number): string[][] {
  let signatures: PcrSignature[];
  try {
    signatures = parsePcrSignatures(text);
  } catch (error) {
    if (error instanceof UkiSignError) return [[`not readable: ${error.message} [${error.code}]`]];
    throw error;
  }
  const groups = new Map<string, PcrSignature[]>();
  for (const signature of signatures) {
    const key = [signature.bank, signature.pcrs, signature.keyFingerprint].join(" ");
    groups.set(key, [...(groups.get(key) ?? []), signature]);
  }
  const phases = phasesOf(image, profile, signatures);
  return [...groups.values()].map((group) => {
    const known = group.flatMap(({ bank, policy }) => phases.get(`${bank} ${toHex(policy)}`) ?? []);
    const others = group.length - known.length;
    const rest = others === 0 ? [] : [`${countText(others, "policy", "policies")} for other values`];
    const { bank, pcrs, keyFingerprint } = group[0] as PcrSignature;
    const key = `by key ${keyFingerprint.slice(0, 16)}…`;
    return [bank, `PCR ${pcrs.join(", ")}`, key, [...known, ...rest].join(", ")];
  });
}

/** The last phase of each policy that holds during a boot of the image as it is, by bank and policy. */
function phasesOf(image: Bytes, profile: number, signatures: readonly PcrSignature[]): Map<string, string> {
  const banks = PCR_POLICY_BANKS.filter((name) => signatures.some(({ bank }) => bank === name));
  if (banks.length === 0) return new Map();
  const policies = predictPcrPolicies({ sections: measuredSections(image, { profile }), banks });
  return new Map(
    policies.map(({ bank, policy, phasePath }) => [`${bank} ${toHex(policy)}`, phasePath.split(":").at(-1) ?? ""]),
  );
}
