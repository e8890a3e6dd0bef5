/**
 * TPM 2.0 Library Part 2 (Structures) and Part 3 (Commands) revision 1.59: section 23.7 (TPM2_PolicyPCR).
 * https://trustedcomputinggroup.org/resource/tpm-library-specification/
 */

/** TPM_CC_PolicyPCR */
export const TPM_CC_POLICY_PCR = 0x0000_017f;

/** TPM_ALG_ID of banks. */
export const TPM_ALG_ID = { sha1: 0x0004, sha256: 0x000b, sha384: 0x000c, sha512: 0x000d } as const;

/** TPMS_PCR_SELECTION.sizeofSelect of a PC: 24 registers, one bit each. */
export const PCR_SELECT_BYTES = 3;
