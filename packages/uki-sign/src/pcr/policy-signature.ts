import * as z from "zod";
import { UkiSignError } from "../errors.ts";
import { toHex } from "../internal/bytes.ts";
import { PCR_BANKS, type PcrBank } from "./register.ts";

/** Longest `.pcrsig` text that is parsed, in bytes. */
export const DEFAULT_MAX_PCR_SIGNATURES_BYTES = 1024 * 1024;

/** A signed policy, as a `.pcrsig` section lists it. */
export interface PcrSignature {
  readonly bank: PcrBank;
  /** registers of the policy, ascending */
  readonly pcrs: readonly number[];
  /** SHA-256 of the signer's RSAPublicKey in DER, lower-case hex */
  readonly keyFingerprint: string;
  /** policy digest, SHA-256 */
  readonly policy: Uint8Array;
  /** RSASSA-PKCS1-v1_5 with the bank's hash over `policy` */
  readonly signature: Uint8Array;
}

const hash = z.string().regex(/^[0-9a-f]{64}$/, "expected 64 lower-case hexadecimal digits");
const entrySchema = z.object({
  pcrs: z.array(z.int().min(0).max(23)).min(1).max(24),
  pkfp: hash,
  pol: hash,
  sig: z.string().regex(/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/, "expected base64"),
});
const documentSchema = z.partialRecord(z.enum(PCR_BANKS), z.array(entrySchema));

/**
 * Renders signed policies as the text of a `.pcrsig` section, as systemd-measure prints it.
 *
 * @param signatures - Signatures; those of one bank stay in their order.
 * @returns JSON in one line, with a newline.
 * @see systemd 257 systemd-measure(1); systemd-stub(7), `.pcrsig`
 */
export function renderPcrSignatures(signatures: readonly PcrSignature[]): string {
  const document: Record<string, z.input<typeof entrySchema>[]> = {};
  for (const { bank, pcrs, keyFingerprint, policy, signature } of signatures) {
    document[bank] ??= [];
    document[bank].push({
      pcrs: [...pcrs],
      pkfp: keyFingerprint,
      pol: toHex(policy),
      sig: Buffer.from(signature).toString("base64"),
    });
  }
  return `${JSON.stringify(document)}\n`;
}

/**
 * Parses the text of a `.pcrsig` section. Nothing is verified: see `verifyPcrSignature`.
 *
 * @param text - The section's text, or its bytes; NULs at the end are ignored.
 * @returns Signatures by bank, in their order.
 * @throws {UkiSignError} `UKI_SIGN_PCR_SIGNATURES_INVALID` naming what is wrong, `UKI_SIGN_TOO_LARGE` beyond
 *   {@link DEFAULT_MAX_PCR_SIGNATURES_BYTES}.
 * @example
 * const section = findPeSection(decodePe(image), ".pcrsig");
 * for (const signature of parsePcrSignatures(readPeSection(image, section))) verifyPcrSignature(signature, publicKey);
 */
export function parsePcrSignatures(text: string | Uint8Array): PcrSignature[] {
  if (text.length > DEFAULT_MAX_PCR_SIGNATURES_BYTES) {
    const message = `expected at most ${DEFAULT_MAX_PCR_SIGNATURES_BYTES} bytes of PCR signatures, got ${text.length}`;
    throw new UkiSignError("UKI_SIGN_TOO_LARGE", message);
  }
  const json = typeof text === "string" ? text : Buffer.from(text).toString("utf8");
  let document: unknown;
  try {
    document = JSON.parse(json.replace(/\0+$/, ""));
  } catch (cause) {
    throw new UkiSignError("UKI_SIGN_PCR_SIGNATURES_INVALID", "expected PCR signatures in JSON, got other text", {
      cause,
    });
  }
  const parsed = documentSchema.safeParse(document);
  if (!parsed.success) {
    const message = `expected PCR signatures by bank, got: ${z.prettifyError(parsed.error)}`;
    throw new UkiSignError("UKI_SIGN_PCR_SIGNATURES_INVALID", message, { cause: parsed.error });
  }
  return Object.entries(parsed.data).flatMap(([bank, entries = []]) =>
    entries.map(({ pcrs, pkfp, pol, sig }) => ({
      bank: bank as PcrBank,
      pcrs,
      keyFingerprint: pkfp,
      policy: new Uint8Array(Buffer.from(pol, "hex")),
      signature: new Uint8Array(Buffer.from(sig, "base64")),
    })),
  );
}
