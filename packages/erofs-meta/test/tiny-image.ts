import { crc32c } from "../src/internal/crc32c.ts";

/** Block size of the image in `bytes`, the smallest there is, so that every byte of it can be flipped in a test. */
export const BLOCK = 512;
const BLOCKS = 10;
const META_BLOCK = 3;
const XATTR_BLOCK = 6;
const PLAIN_BLOCK = 7;
const CHUNK_BLOCK = 8;
const COMPRESSED_BLOCK = 9;

/** Node numbers, in units of 32 bytes from block 3. */
export const NIDS = {
  root: 0,
  hello: 8,
  plain: 12,
  chunked: 14,
  link: 16,
  device: 18,
  compressed: 20,
  sub: 24,
} as const;

export const PLAIN_CONTENT = new Uint8Array(BLOCK).fill(0x70);
/** Three clusters of one letter, and what lz4 makes of them: a letter, a match with the letter before, five letters. */
export const COMPRESSED_CONTENT = new Uint8Array(1200).fill(0x63);
const COMPRESSED = [0x1f, 0x63, 1, 0, 255, 255, 255, 255, 155, 0x50, 0x63, 0x63, 0x63, 0x63, 0x63];
export const CHUNK_CONTENT = new Uint8Array(BLOCK).fill(0x63);

/**
 * Builds an image by hand that has every structure the package reads: both inode forms, plain, inline and chunk
 * layouts, a hole, inline and shared xattrs, a link, a device, a compressed file and a directory in a directory.
 */
export function tinyImage(options: { readonly checksum?: boolean } = {}): Uint8Array {
  const image = new Uint8Array(BLOCKS * BLOCK);
  const view = new DataView(image.buffer);
  superblock(image, view);
  nodes(image, view);
  image.set(PLAIN_CONTENT, PLAIN_BLOCK * BLOCK);
  image.set(CHUNK_CONTENT, CHUNK_BLOCK * BLOCK);
  image.set(COMPRESSED, (COMPRESSED_BLOCK + 1) * BLOCK - COMPRESSED.length);
  if (options.checksum === true) {
    view.setUint32(1024 + 8, 1, true);
    view.setUint32(1024 + 4, crc32c(0xffffffff, image.subarray(1024, 1024 + BLOCK)), true);
  }
  return image;
}

function superblock(image: Uint8Array, view: DataView): void {
  view.setUint32(1024, 0xe0f5e1e2, true);
  view.setUint8(1024 + 12, 9);
  view.setUint16(1024 + 14, NIDS.root, true);
  view.setBigUint64(1024 + 16, 8n, true);
  view.setBigUint64(1024 + 24, 1_700_000_000n, true);
  view.setUint32(1024 + 36, BLOCKS, true);
  view.setUint32(1024 + 40, META_BLOCK, true);
  view.setUint32(1024 + 44, XATTR_BLOCK, true);
  image.set(
    new Uint8Array(16).map((_, index) => index),
    1024 + 48,
  );
  image.set(new TextEncoder().encode("tiny"), 1024 + 64);
  view.setUint32(1024 + 80, 0x5, true);
}

interface Node {
  readonly nid: number;
  readonly layout: number;
  readonly mode: number;
  readonly size: number;
  readonly data?: number;
  readonly tail?: Uint8Array;
  readonly xattrs?: Uint8Array;
  readonly extended?: boolean;
}

function nodes(image: Uint8Array, view: DataView): void {
  const root = directory([
    [".", NIDS.root, 2],
    ["..", NIDS.root, 2],
    ["chunked", NIDS.chunked, 1],
    ["compressed", NIDS.compressed, 1],
    ["dev", NIDS.device, 3],
    ["hello", NIDS.hello, 1],
    ["link", NIDS.link, 7],
    ["plain", NIDS.plain, 1],
    ["sub", NIDS.sub, 2],
  ]);
  const sub = directory([
    [".", NIDS.sub, 2],
    ["..", NIDS.root, 2],
    ["hello", NIDS.hello, 1],
  ]);
  const hello = new TextEncoder().encode("hello\n");
  const chunkMap = new Uint8Array(16);
  new DataView(chunkMap.buffer).setUint32(4, CHUNK_BLOCK, true);
  chunkMap.fill(0xff, 8, 16);
  const link = new TextEncoder().encode("sub/../hello");
  put(image, view, { nid: NIDS.root, layout: 2, mode: 0o040755, size: root.byteLength, tail: root });
  put(image, view, {
    nid: NIDS.hello,
    layout: 2,
    mode: 0o100644,
    size: 6,
    tail: hello,
    xattrs: xattrArea(),
    extended: true,
  });
  put(image, view, { nid: NIDS.plain, layout: 0, mode: 0o100600, size: 300, data: PLAIN_BLOCK });
  // Two chunks of one block with 8-byte indexes: data, then a hole.
  put(image, view, { nid: NIDS.chunked, layout: 4, mode: 0o100600, size: 900, data: 0x20, tail: chunkMap });
  put(image, view, { nid: NIDS.link, layout: 2, mode: 0o120777, size: link.byteLength, tail: link });
  put(image, view, { nid: NIDS.device, layout: 0, mode: 0o020600, size: 0, data: 0x1234_0567 });
  put(image, view, { nid: NIDS.compressed, layout: 3, mode: 0o100600, size: 1200, data: 1, tail: compressedMap() });
  put(image, view, { nid: NIDS.sub, layout: 2, mode: 0o040755, size: sub.byteLength, tail: sub });
  const shared = xattrEntry(4, "shared", "by many");
  image.set(shared, XATTR_BLOCK * BLOCK + 8);
}

function put(image: Uint8Array, view: DataView, node: Node): void {
  const { xattrs = new Uint8Array(0), tail = new Uint8Array(0) } = node;
  const at = META_BLOCK * BLOCK + node.nid * 32;
  const extended = node.extended === true;
  view.setUint16(at, (extended ? 1 : 0) | (node.layout << 1), true);
  view.setUint16(at + 2, xattrs.byteLength === 0 ? 0 : 1 + (xattrs.byteLength - 12) / 4, true);
  view.setUint16(at + 4, node.mode, true);
  view.setUint32(at + 8, node.size, true);
  view.setUint32(at + 16, node.data ?? 0, true);
  view.setUint32(at + 20, node.nid, true);
  if (extended) {
    view.setUint32(at + 24, 70000, true);
    view.setUint32(at + 28, 70001, true);
    view.setBigUint64(at + 32, 1_600_000_000n, true);
    view.setUint32(at + 40, 5, true);
    view.setUint32(at + 44, 2, true);
  } else {
    view.setUint16(at + 6, 1, true);
    view.setUint16(at + 24, 1000, true);
    view.setUint16(at + 26, 1001, true);
  }
  const behind = at + (extended ? 64 : 32);
  image.set(xattrs, behind);
  // Chunk indexes are aligned to their size; every inode here ends on a multiple of 8 anyway.
  image.set(tail, behind + xattrs.byteLength);
}

function directory(entries: readonly (readonly [string, number, number])[]): Uint8Array {
  const names = entries.map(([name]) => new TextEncoder().encode(name));
  const bytes = new Uint8Array(entries.length * 12 + names.reduce((sum, name) => sum + name.byteLength, 0));
  const view = new DataView(bytes.buffer);
  let nameAt = entries.length * 12;
  for (const [index, [, nid, type]] of entries.entries()) {
    const name = names[index] ?? new Uint8Array(0);
    view.setBigUint64(index * 12, BigInt(nid), true);
    view.setUint16(index * 12 + 8, nameAt, true);
    view.setUint8(index * 12 + 10, type);
    bytes.set(name, nameAt);
    nameAt += name.byteLength;
  }
  return bytes;
}

/** A map header of zeros, which means lz4, and two packs of two indexes: where the extent starts, and three times on. */
function compressedMap(): Uint8Array {
  const map = new Uint8Array(8 + 2 * 8);
  const view = new DataView(map.buffer);
  view.setUint16(8, 1 << 12, true);
  view.setUint16(10, (2 << 12) | 1, true);
  view.setUint32(12, COMPRESSED_BLOCK - 1, true);
  view.setUint16(16, (2 << 12) | 2, true);
  view.setUint32(20, COMPRESSED_BLOCK, true);
  return map;
}

function xattrArea(): Uint8Array {
  const entry = xattrEntry(1, "note", "inline");
  const area = new Uint8Array(12 + 4 + entry.byteLength);
  area[4] = 1;
  new DataView(area.buffer).setUint32(12, 2, true);
  area.set(entry, 16);
  return area;
}

function xattrEntry(index: number, name: string, value: string): Uint8Array {
  const bytes = new Uint8Array(Math.ceil((4 + name.length + value.length) / 4) * 4);
  bytes[0] = name.length;
  bytes[1] = index;
  bytes[2] = value.length;
  bytes.set(new TextEncoder().encode(name + value), 4);
  return bytes;
}
