/**
 * Forward error correction of dm-verity: Reed-Solomon codes of 255 symbols of 8 bits.
 *
 * @see Linux v6.12 `drivers/md/dm-verity-fec.h`; cryptsetup 2.6 `veritysetup(8)`, "--fec-roots"
 */
export const FEC_ROOTS = { min: 2, max: 24, default: 2 } as const;
