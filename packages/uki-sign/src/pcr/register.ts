import { createHash } from "node:crypto";

/** Hash algorithms of TPM banks, weakest first. */
export const PCR_BANKS = ["sha1", "sha256", "sha384", "sha512"] as const;

/** Bank of a TPM: the hash algorithm of its registers. */
export type PcrBank = (typeof PCR_BANKS)[number];

/** Size of a bank's registers and digests, in bytes. */
export const PCR_BYTES: Readonly<Record<PcrBank, number>> = { sha1: 20, sha256: 32, sha384: 48, sha512: 64 };

/** TPM2_PCR_Extend: the register's next value. */
export function extendPcr(bank: PcrBank, register: Uint8Array, digest: Uint8Array): Uint8Array {
  return new Uint8Array(createHash(bank).update(register).update(digest).digest());
}
