import { readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { type BlockSource, ErofsError, type ErofsImage, memorySource, openErofs, writeErofs } from "../src/index.ts";
import { locateDamage } from "../src/verity/locate.ts";
import { noise } from "./support.ts";
import { BLOCK, CONTENT, type Piece, wideImage } from "./wide-image.ts";

const FIXTURES = join(import.meta.dirname, "fixtures");
const IMAGES = readdirSync(FIXTURES).filter((name) => name.endsWith(".erofs.gz"));

/** The files of the tree that `fixtures/make.sh` makes. */
function files(): Map<string, Uint8Array> {
  const text = (lines: readonly string[]): Uint8Array => Buffer.from(`${lines.join("\n")}\n`);
  const numbers = text(Array.from({ length: 4000 }, (_, index) => `${index + 1}`));
  const line = (index: number): string => `line ${index} of a longer text, ${(index * 7919) % 1000}`;
  const sparse = new Uint8Array(300_000);
  sparse[200_000] = 0x78;
  const found = new Map([
    ["/numbers", numbers],
    ["/sub/copy", numbers],
    ["/text", text(Array.from({ length: 1500 }, (_, index) => line(index)))],
    ["/small", text(["hello"])],
    ["/hard", text(["hello"])],
    ["/sparse", sparse],
  ]);
  for (let index = 0; index < 60; index += 1) found.set(`/sub/many/file-${index}`, text([`${index}`]));
  return found;
}

async function fixture(name: string): Promise<Uint8Array> {
  return Uint8Array.from(gunzipSync(await readFile(join(FIXTURES, name))));
}

async function xattrsOf(image: ErofsImage, path: string): Promise<string[]> {
  const xattrs = await image.xattrs(await image.lookup(path));
  return xattrs.map(({ name, value }) => `${name}=${Buffer.from(value)}`).sort();
}

describe("images of mkfs.erofs 1.9", () => {
  test.each(IMAGES)("%s is read as it was written", async (name) => {
    const image = await openErofs(memorySource(await fixture(name)));
    expect(image.superblock.buildTime).toBe(1_650_000_000n);
    const expected = files();
    for await (const { path, inode } of image.walk()) {
      const time = path === "/numbers" ? 1_700_000_001n : 1_700_000_000n;
      const isSmall = path === "/small" || path === "/hard";
      expect(inode.mtime, path).toBe(isSmall ? 1_600_000_000n : time);
      if (inode.type === "directory") continue;
      expect(inode.links, path).toBe(isSmall ? 2 : 1);
      expect(inode.uid, path).toBe(path === "/text" ? 70_000 : 0);
      if (inode.type === "symlink") expect(await image.readLink(inode)).toBe("small");
      if (inode.type !== "file") continue;
      const content = expected.get(path) ?? new Uint8Array(0);
      expected.delete(path);
      expect(Buffer.compare(await image.readFile(inode), content), path).toBe(0);
      const pieces: number[] = [];
      for await (const piece of image.content(inode, { start: 3, end: 5000 })) pieces.push(...piece);
      expect(Buffer.compare(Uint8Array.from(pieces), content.subarray(3, 5000)), path).toBe(0);
    }
    expect([...expected.keys()]).toEqual([]);
    expect(await image.inode((await image.lookup("/null")).nid)).toMatchObject({ device: { major: 1, minor: 3 } });
    expect(await xattrsOf(image, "/numbers")).toEqual([
      "trusted.all=all",
      "user.long.prefix.one=1",
      "user.long.prefix.two=2",
    ]);
    expect(await xattrsOf(image, "/text")).toEqual(["trusted.all=all"]);
  });

  test("damage in a metadata box is found in every inode it may be in", async () => {
    const bytes = await fixture("metabox-deflate.erofs.gz");
    const image = await openErofs(memorySource(bytes));
    const box = await image.inode(image.superblock.metaboxNid);
    const extents = [];
    for await (const extent of image.extents(box)) extents.push(extent);
    const last = extents.at(-1);
    const { files: damaged } = await locateDamage(image, [{ offset: last?.position ?? 0, length: 1 }]);
    expect(damaged.length).toBeGreaterThan(10);
    expect(damaged.every(({ isMetadata }) => isMetadata)).toBe(true);
  });

  test("flipped bytes in them are never anything but an ErofsError", async () => {
    for (const name of ["metabox-prefixes.erofs.gz", "48bit-deflate-fragments.erofs.gz"]) {
      const bytes = await fixture(name);
      // Around the superblock, then now and then.
      for (let at = 1024; at < bytes.byteLength; at += at < 1200 ? 3 : 797) {
        const flipped = bytes.slice();
        flipped[at] = (flipped[at] ?? 0) ^ 0x55;
        // Without the checksum, so that what is behind it is looked at.
        flipped[1024 + 8] = 0x6;
        await readAll(memorySource(flipped)).catch((error: unknown) => expect(error).toBeInstanceOf(ErofsError));
      }
    }
  });
});

describe("48-bit addresses and lists of extents", () => {
  const { pieces, sizeBytes } = wideImage();

  test.each(["/4", "/8", "/16", "/32"])("records of %s bytes are read", async (path) => {
    const image = await openErofs(sparseSource(pieces, sizeBytes));
    const inode = await image.lookup(path);
    expect(Buffer.compare(await image.readFile(inode), CONTENT)).toBe(0);
    const extents = [];
    for await (const { start, position, stored } of image.extents(inode)) {
      extents.push([start, position === undefined ? "hole" : stored?.encoding]);
    }
    expect(extents).toEqual([
      [0, "none"],
      [BLOCK, "hole"],
      [2 * BLOCK, "lz4"],
    ]);
  });

  test.each([
    ["/plain", "c"],
    ["/compact", "c"],
    ["/hole", "\0"],
  ])("%s is read from behind what 32 bits can say", async (path, letter) => {
    const image = await openErofs(sparseSource(pieces, sizeBytes));
    const inode = await image.lookup(path);
    expect(Buffer.from(await image.readFile(inode)).toString()).toBe(letter.repeat(BLOCK));
    if (path === "/compact") expect(inode).toMatchObject({ links: 1, mtime: 1_600_000_005n, form: "compact" });
  });

  test("chunks have wide addresses, and wide holes", async () => {
    const image = await openErofs(sparseSource(pieces, sizeBytes));
    expect(image.superblock).toMatchObject({ rootNid: 1n, blocks: 4 * 2 ** 32 + 100, buildTime: 1_600_000_007n });
    const content = Buffer.from(await image.readFile(await image.lookup("/chunks"))).toString();
    expect(content).toBe("c".repeat(BLOCK) + "\0".repeat(BLOCK));
  });

  test("flipped bytes in them are never anything but an ErofsError", async () => {
    for (const [index, piece] of pieces.slice(0, -1).entries()) {
      for (let at = 0; at < piece.bytes.byteLength; at += 3) {
        const bytes = piece.bytes.slice();
        bytes[at] = (bytes[at] ?? 0) ^ 0x41;
        // Short, because the memory for what is read grows with the image.
        const source = sparseSource(pieces.with(index, { at: piece.at, bytes }), 64 * BLOCK);
        await readAll(source).catch((error: unknown) => expect(error).toBeInstanceOf(ErofsError));
      }
    }
  });
});

test("compressed contents are read from the extra device that their addresses are mapped to", async () => {
  const pieces: Piece[] = [];
  const output = { write: async (at: number, bytes: Uint8Array) => void pieces.push({ at, bytes: bytes.slice() }) };
  const content = noise(200_000).map((byte) => byte & 3);
  const { sizeBytes } = await writeErofs([{ type: "file", path: "/file", content }], {
    output,
    uuid: "c1b9d5a2-f162-11cf-9ece-0020afc76f16",
    buildTime: 0n,
    compression: { algorithm: "lz4" },
    workers: 0,
  });
  const bytes = await sparseSource(pieces, sizeBytes).read(0, sizeBytes);
  const whole = await openErofs(memorySource(bytes));
  const { metaBlock, blockSize } = whole.superblock;
  // Everything before the metadata moves to a device; the table of devices is where the boot sector could be.
  const device = bytes.slice(blockSize, metaBlock * blockSize);
  bytes.fill(0, blockSize, metaBlock * blockSize);
  const view = new DataView(bytes.buffer);
  view.setUint32(64, metaBlock - 1, true);
  view.setUint32(68, 1, true);
  view.setUint32(1024 + 8, 0x2, true);
  view.setUint32(1024 + 80, view.getUint32(1024 + 80, true) | 0x8, true);
  view.setUint16(1024 + 86, 1, true);
  const image = await openErofs(memorySource(bytes), { devices: [memorySource(device)] });
  const inode = await image.lookup("/file");
  expect(Buffer.compare(await image.readFile(inode), content)).toBe(0);
  const devices: (number | undefined)[] = [];
  for await (const { device: number } of image.extents(inode)) devices.push(number);
  // The end is beside the inode.
  expect(devices.slice(0, -1).every((number) => number === 1)).toBe(true);
  expect(devices.length).toBeGreaterThan(3);
  const short = await openErofs(memorySource(bytes), { devices: [memorySource(device.subarray(0, blockSize))] });
  await expect(short.readFile(inode)).rejects.toMatchObject({ code: "EROFS_TRUNCATED" });
});

/** Reads everything, limited as careful callers do it. */
async function readAll(source: BlockSource): Promise<void> {
  const image = await openErofs(source);
  for await (const { inode } of image.walk({ maxEntries: 1000 })) {
    await image.xattrs(inode);
    if (inode.type === "file") await image.readFile(inode, { maxBytes: 2 ** 20 });
  }
}

/** An image of any size of which only some places are not zeros. */
function sparseSource(pieces: readonly Piece[], sizeBytes: number): BlockSource {
  return {
    sizeBytes,
    async read(offset, length) {
      if (offset + length > sizeBytes) throw new ErofsError("EROFS_TRUNCATED", "expected less", { offset });
      const target = new Uint8Array(length);
      for (const { at, bytes } of pieces) {
        const from = Math.max(at, offset);
        const to = Math.min(at + bytes.byteLength, offset + length);
        if (from < to) target.set(bytes.subarray(from - at, to - at), from - offset);
      }
      return target;
    },
    async close() {},
  };
}
