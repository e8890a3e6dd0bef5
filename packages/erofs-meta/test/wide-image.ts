/** Block size of the images in `bytes`. */
export const BLOCK = 512;
const META_BLOCK = 3;
const DATA_BLOCK = 12;
/** A block far behind what 32 bits can say. */
const FAR_BLOCK = 2 ** 34 + 5;

/** 512 letters as lz4 stores them: a letter, a match of 506 with the letter before, five letters. */
const LZ4_OF_C = [0x1f, 0x63, 1, 0, 255, 232, 0x50, 0x63, 0x63, 0x63, 0x63, 0x63];

/** What the files hold: letters as they are, a hole, and letters that are compressed. */
export const CONTENT = Uint8Array.from({ length: 3 * BLOCK }, (_, at) =>
  at < BLOCK ? 0x61 : at < 2 * BLOCK ? 0 : 0x63,
);

/** A place of the image that is not zeros. */
export interface Piece {
  readonly at: number;
  readonly bytes: Uint8Array;
}

/** How extents are listed: bytes of a record. */
export type RecordSize = 4 | 8 | 16 | 32;

class Inode {
  readonly bytes = new Uint8Array(256);
  readonly view = new DataView(this.bytes.buffer);

  constructor(format: number, mode: number, size: number) {
    this.view.setUint16(0, 1 | format, true);
    this.view.setUint16(4, mode, true);
    this.view.setBigUint64(8, BigInt(size), true);
    this.view.setUint32(44, 1, true);
  }

  /** `i_u` and the upper half of it. */
  data(low: number, high = 0): this {
    this.view.setUint32(16, low, true);
    this.view.setUint16(6, high, true);
    return this;
  }
}

function superblock(rootNid: number): Uint8Array {
  const bytes = new Uint8Array(128);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0xe0f5e1e2, true);
  view.setUint8(12, 9);
  // blocks_hi, where others have the root's number
  view.setUint16(14, 4, true);
  view.setBigInt64(24, 1_600_000_000n, true);
  view.setUint32(36, 100, true);
  view.setUint32(40, META_BLOCK, true);
  // zero padding, chunks, 48 bits
  view.setUint32(80, 0x85, true);
  view.setUint32(108, 7, true);
  view.setBigUint64(112, BigInt(rootNid), true);
  return bytes;
}

function directory(names: readonly (readonly [string, number, number])[]): Uint8Array {
  const bytes = new Uint8Array(names.length * 12 + names.reduce((sum, [name]) => sum + name.length, 0));
  const view = new DataView(bytes.buffer);
  let nameOffset = names.length * 12;
  for (const [index, [name, nid, type]] of names.entries()) {
    view.setBigUint64(index * 12, BigInt(nid), true);
    view.setUint16(index * 12 + 8, nameOffset, true);
    view.setUint8(index * 12 + 10, type);
    bytes.set(Buffer.from(name), nameOffset);
    nameOffset += name.length;
  }
  return bytes;
}

/** A list of extents behind an inode, as Linux v6.18 `fs/erofs/erofs_fs.h` has it. */
function extents(inode: Inode, recordSize: RecordSize): void {
  const header = 64;
  const plain = { start: 0, position: DATA_BLOCK * BLOCK, word: BLOCK };
  const hole = { start: BLOCK, position: 0, word: 0 };
  const compressed = { start: 2 * BLOCK, position: (DATA_BLOCK + 1) * BLOCK, word: LZ4_OF_C.length | (1 << 28) };
  const records = [plain, hole, compressed];
  const { view } = inode;
  if (recordSize > 8) view.setUint32(header, records.length, true);
  view.setUint16(header + 4, 1 | (Math.log2(recordSize / 4) << 1), true);
  let at = Math.ceil((header + 8) / recordSize) * recordSize;
  if (recordSize === 4) {
    view.setBigUint64(at, BigInt(plain.position), true);
    at += 8;
  }
  for (const { start, position, word } of records) {
    view.setUint32(at, word, true);
    if (recordSize > 4) view.setUint32(at + 4, position, true);
    if (recordSize > 8) view.setUint32(at + 12, start, true);
    at += recordSize;
  }
}

/**
 * Builds by hand what no writer makes today: extents in records of every size, and contents behind what 32 bits can
 * address, as chunks and as they are.
 */
export function wideImage(): { readonly pieces: readonly Piece[]; readonly sizeBytes: number } {
  const inodes = ([4, 8, 16, 32] as const).map((recordSize) => {
    const inode = new Inode(1 << 1, 0o100644, CONTENT.byteLength);
    extents(inode, recordSize);
    return inode;
  });
  const low = FAR_BLOCK % 2 ** 32;
  const high = Math.floor(FAR_BLOCK / 2 ** 32);
  const plain = new Inode(0, 0o100644, BLOCK).data(low, high);
  const hole = new Inode(0, 0o100644, BLOCK).data(0xffffffff, 0xffff);
  const chunks = new Inode(4 << 1, 0o100644, 2 * BLOCK).data(0x60);
  chunks.view.setUint16(64, high, true);
  chunks.view.setUint32(68, low, true);
  chunks.view.setUint16(72, 0xffff, true);
  chunks.view.setUint32(76, 0xffffffff, true);
  // A compact inode with one link: the upper part of an address stands where links are counted.
  const compact = new Inode(0, 0o100644, BLOCK);
  compact.view.setUint16(0, 0x10, true);
  compact.view.setUint32(12, 5, true);
  compact.data(low, high);
  const files = [...inodes, plain, hole, chunks, compact];
  const names = ["4", "8", "16", "32", "plain", "hole", "chunks", "compact"];
  const nidOf = (index: number): number => 16 + index * 8;
  const listed = [".", "..", ...names].sort();
  const root = directory(
    listed.map((name) => (name.startsWith(".") ? [name, 0, 2] : [name, nidOf(names.indexOf(name)), 1])),
  );
  const top = new Inode(2 << 1, 0o040755, root.byteLength);
  top.view.setUint32(44, 2, true);
  const pieces: Piece[] = [
    { at: 1024, bytes: superblock(1) },
    // The root's number is 1, because 0 would mean the old field.
    { at: META_BLOCK * BLOCK + 32, bytes: top.bytes.subarray(0, 64) },
    { at: META_BLOCK * BLOCK + 96, bytes: root },
    { at: DATA_BLOCK * BLOCK, bytes: CONTENT.subarray(0, BLOCK) },
    { at: (DATA_BLOCK + 1) * BLOCK, bytes: Uint8Array.from(LZ4_OF_C) },
    { at: FAR_BLOCK * BLOCK, bytes: CONTENT.subarray(2 * BLOCK) },
  ];
  for (const [index, { bytes }] of files.entries()) {
    pieces.push({ at: META_BLOCK * BLOCK + nidOf(index) * 32, bytes: bytes.subarray(0, 192) });
  }
  return { pieces, sizeBytes: (FAR_BLOCK + 1) * BLOCK };
}
