import type { ByteSink, ErofsImage, TreeEntry } from "../src/index.ts";
import { noise } from "./support.ts";

/** A sink in memory; unwritten bytes are zeros. */
export function imageSink(): ByteSink & { bytes(): Uint8Array } {
  let bytes = new Uint8Array(0);
  return {
    async write(offset, piece) {
      if (offset + piece.byteLength > bytes.byteLength) {
        const longer = new Uint8Array(offset + piece.byteLength);
        longer.set(bytes);
        bytes = longer;
      }
      bytes.set(piece, offset);
    },
    bytes: () => bytes,
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
