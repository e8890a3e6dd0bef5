import type { ByteSink, ErofsImage, TreeEntry } from "../src/index.ts";
import { noise } from "./support.ts";

/** A sink in memory; unwritten bytes are zeros. */
export function imageSink(): ByteSink & { bytes(): Uint8Array } {
  let room = new Uint8Array(0);
  let length = 0;
  return {
    async write(offset, piece) {
      length = Math.max(length, offset + piece.byteLength);
      if (length > room.byteLength) {
        const larger = new Uint8Array(2 * length);
        larger.set(room);
        room = larger;
      }
      room.set(piece, offset);
    },
    bytes: () => room.subarray(0, length),
  };
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

/** A tree with what decides layouts, in an order that no tool would write it in. */
export function sampleTree(blockSize = 4096): TreeEntry[] {
  const sparse = new Uint8Array(blockSize * 20 + 5);
  sparse.set(noise(blockSize * 2 + 7), blockSize * 3);
  sparse.set(noise(9), blockSize * 20 - 4);
  const shared = { "user.shared": text("the same value in several places"), "security.selinux": text("a:b:c") };
  return [
    { type: "link", path: "/early/link", target: "/etc/os-release" },
    {
      type: "file",
      path: "/etc/os-release",
      mode: 0o4755,
      uid: 70_000,
      gid: 3,
      mtime: 1_234_567_890n,
      mtimeNsec: 17,
      content: text("NAME=test\n"),
      xattrs: { ...shared, "user.own": noise(40), "trusted.overlay.opaque": text("y") },
    },
    { type: "directory", path: "/", mode: 0o711, uid: 1, xattrs: { "user.root": text("yes") } },
    { type: "directory", path: "/etc", mode: 0o1777, mtime: 5n, xattrs: shared },
    { type: "symlink", path: "/etc/deep/er/short", target: "../../os-release" },
    { type: "symlink", path: "/etc/long", target: `${"long/".repeat(700)}end` },
    { type: "char", path: "/dev/null", mode: 0o666, device: { major: 1, minor: 3 } },
    { type: "block", path: "/dev/disk", mode: 0o660, gid: 6, device: { major: 0xfff, minor: 0xfffff } },
    { type: "fifo", path: "/dev/pipe" },
    { type: "socket", path: "/dev/socket", mode: 0o600 },
    { type: "file", path: "/empty", content: new Uint8Array(0) },
    { type: "file", path: "/sparse", content: sparse },
    { type: "file", path: "/zeros", content: new Uint8Array(blockSize * 7) },
    ...[1, 64, blockSize - 97, blockSize - 64, blockSize - 1, blockSize, blockSize + 1, blockSize * 40 + 3].map(
      (size): TreeEntry => ({ type: "file", path: `/sizes/${size}`, content: noise(size, size), xattrs: shared }),
    ),
    ...Array.from(
      { length: 400 },
      (_, index): TreeEntry => ({
        type: "file",
        path: `many/a name of some length ${index}`,
        content: text(`${index}`),
      }),
    ),
    ...["!", "-dash", "...", ".hidden", "ünïcödé-名前", "x".repeat(255)].map(
      (name): TreeEntry => ({ type: "file", path: `/names/${name}`, content: text(name) }),
    ),
    { type: "directory", path: "/hollow" },
  ];
}

/** Content that is noise in parts, and in parts text, repeats at several distances, and zeros. */
export function mixedContent(size: number, seed: number): Uint8Array {
  const content = new Uint8Array(size);
  const random = noise(4096, seed);
  for (let at = 0, turn = 0; at < size; turn += 1) {
    const [kind = 0, length = 0, distance = 0] = random.subarray((turn * 3) % 4000);
    const count = Math.min(size - at, 1 + (length << (kind & 7)));
    if (kind < 40) content.set(noise(count, seed + turn), at);
    else if (kind < 80) at += 0;
    else if (kind < 170) content.set(text("all the same words again and again ".repeat(1000)).subarray(0, count), at);
    else for (let index = at; index < at + count; index += 1) content[index] = content[index - 1 - distance] ?? 7;
    at += count;
  }
  return content;
}

/** What is in the images in `fixtures`. */
export const FIXTURE_FILES: Readonly<Record<string, Uint8Array>> = {
  mixed: Buffer.concat(Array.from({ length: 60 }, (_, seed) => mixedContent(700, seed * 3))),
  numbers: text(Array.from({ length: 2500 }, (_, index) => `${index * 7919}, `).join("")),
  repeats: text("the same words again and again, a hundred times and more\n".repeat(300)),
};

/** Files of sizes at which extents, clusters, segments and tails end in different ways. */
export function compressibleTree(): TreeEntry[] {
  const sizes = [0, 1, 30, 500, 4000, 4095, 4096, 4097, 5000, 8191, 8192, 8193, 12_288, 20_000, 65_536, 70_001];
  const large = [300_001, 2 ** 20 - 1, 2 ** 20, 2 ** 20 + 1, 3_300_007];
  return [
    ...[...sizes, ...large].flatMap((size): TreeEntry[] => [
      { type: "file", path: `/mixed/${size}`, content: mixedContent(size, size + 1) },
      { type: "file", path: `/zeros/${size}`, content: new Uint8Array(size) },
      {
        type: "file",
        path: `/text/${size}`,
        content: text("0123456789 lines of text\n".repeat(size / 20 + 1)).subarray(0, size),
      },
    ]),
    ...[100, 5000, 100_000].map(
      (size): TreeEntry => ({ type: "file", path: `/noise/${size}`, content: noise(size, size) }),
    ),
    ...Array.from(
      { length: 40 },
      (_, seed): TreeEntry => ({
        type: "file",
        path: `/many/${seed}`,
        content: mixedContent(1000 * seed + seed * seed * 7, seed),
        ...(seed % 3 === 0 && { xattrs: { "user.note": noise(seed * 11) } }),
      }),
    ),
    { type: "symlink", path: "/link", target: "many/7" },
    { type: "symlink", path: "/long", target: `${"long/".repeat(800)}end` },
  ];
}

/** Everything an image says about its tree, to be compared. */
export async function describeTree(image: ErofsImage): Promise<Map<string, unknown>> {
  const found = new Map<string, unknown>();
  for await (const { path, inode } of image.walk()) {
    const { type, mode, uid, gid, mtime, mtimeNsec, links, device } = inode;
    const xattrs = await image.xattrs(inode);
    found.set(path, {
      ...{ type, mode, uid, gid, mtime, mtimeNsec, links, device },
      xattrs: Object.fromEntries(
        xattrs.map(({ name, value }) => [name, Buffer.from(value).toString("hex")] as const).sort(),
      ),
      ...(type === "symlink" && { target: await image.readLink(inode) }),
      ...(type === "file" && { content: Buffer.from(await image.readFile(inode)).toString("hex") }),
    });
  }
  return found;
}
