// JavaScript, not TypeScript: worker threads of Node 20 start from what imports it.
/**
 * Lengths of the LZ4 block format.
 *
 * @see LZ4 Block Format Description, 1.6.x `doc/lz4_Block_format.md`
 */

/** shortest match in `bytes` */
export const MIN_MATCH = 4;
/** value of the four bits of a length that goes on in further bytes */
export const LONG_LENGTH = 15;
/** furthest that a match can be away in `bytes` */
export const MAX_DISTANCE = 65535;
/** `bytes` at the end of a block in which no match starts */
export const MATCH_MARGIN = 12;
/** `bytes` at the end of a block that no match reaches into */
export const LAST_LITERALS = 5;
