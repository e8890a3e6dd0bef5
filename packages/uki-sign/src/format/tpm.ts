/**
 * TPM 2.0 Library Part 2 (Structures) and Part 3 (Commands) revision 1.59: section 23.7 (TPM2_PolicyPCR).
 * https://trustedcomputinggroup.org/resource/tpm-library-specification/
 */

/** TPM_CC_PolicyPCR */
export const TPM_CC_POLICY_PCR = 0x0000_017f;

/** TPM_ALG_ID of hash algorithms (TCG Algorithm Registry 1.34, table 3), with the names this package gives them. */
export const TPM_ALG_ID = {
  sha1: 0x0004,
  sha256: 0x000b,
  sha384: 0x000c,
  sha512: 0x000d,
  "sm3-256": 0x0012,
  "sha3-256": 0x0027,
  "sha3-384": 0x0028,
  "sha3-512": 0x0029,
} as const;

/** TPMS_PCR_SELECTION.sizeofSelect of a PC: 24 registers, one bit each. */
export const PCR_SELECT_BYTES = 3;
