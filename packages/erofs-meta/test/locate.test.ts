import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { memorySource } from "../src/block-source.ts";
import { main } from "../src/cli.ts";
import { type TreeEntry, type WriteErofsOptions, writeErofs } from "../src/index.ts";
import type { Extent } from "../src/read/content.ts";
import { type ErofsImage, openErofs } from "../src/read/image.ts";
import type { Inode } from "../src/read/inode.ts";
import { locateDamage } from "../src/verity/locate.ts";
import { capture, noise, scratch } from "./support.ts";
import { imageSink, mixedContent } from "./trees.ts";

const ENTRIES: readonly TreeEntry[] = [
  { type: "directory", path: "dir" },
  { type: "file", path: "dir/a", content: noise(10_000) },
  { type: "file", path: "dir/b", content: mixedContent(300_000, 2) },
  { type: "link", path: "dir/b2", target: "dir/b" },
  { type: "file", path: "small", content: noise(10, 3), xattrs: { "user.x": noise(20) } },
  { type: "symlink", path: "link", target: "dir/a" },
];

async function make(options: Partial<WriteErofsOptions> = {}): Promise<Uint8Array> {
  const sink = imageSink();
  await writeErofs(ENTRIES, { output: sink, uuid: "00112233-4455-6677-8899-aabbccddeeff", buildTime: 1n, ...options });
  return Uint8Array.from(sink.bytes());
}

async function extentsOf(image: ErofsImage, inode: Inode): Promise<Extent[]> {
  const extents: Extent[] = [];
  for await (const extent of image.extents(inode)) extents.push(extent);
  return extents;
}

const SHAPES: [string, Partial<WriteErofsOptions>][] = [
  ["plain", {}],
  ["compressed with lz4", { compression: { algorithm: "lz4" } }],
  ["compressed with deflate", { compression: { algorithm: "deflate", clusterSize: 65_536 } }],
];

describe.each(SHAPES)("damage of an image that is %s", (_, options) => {
  test("is found in exactly the files that read otherwise", async () => {
    const good = await make(options);
    const image = await openErofs(memorySource(good));
    const contents = new Map<string, Uint8Array>();
    for await (const { path, inode } of image.walk()) {
      if (inode.type === "file") contents.set(path, await image.readFile(inode));
    }
    for (let offset = 0; offset < good.byteLength; offset += 2048) {
      const bad = Uint8Array.from(good);
      for (let at = offset; at < offset + 512; at += 1) bad[at] = (bad[at] ?? 0) ^ 0xff;
      const { files } = await locateDamage(image, [{ offset, length: 512 }]);
      const blamed = new Set(files.map(({ path }) => path));
      const spoiled = await openErofs(memorySource(bad)).catch(() => undefined);
      for (const [path, content] of contents) {
        const read = await spoiled
          ?.lookup(path)
          .then((inode) => spoiled.readFile(inode))
          .catch(() => undefined);
        const isSame = read !== undefined && Buffer.compare(read, content) === 0;
        // What leads to a file may be damaged too; then its directories are blamed.
        const isBlamed = blamed.has(path) || ["/", "/dir"].some((above) => path.startsWith(above) && blamed.has(above));
        // The superblock's checksum is over all of its block; who cannot open an image need not ask further.
        if (!isSame && offset >= 4096) expect({ path, offset, isBlamed }).toEqual({ path, offset, isBlamed: true });
      }
    }
  });
});

describe("damage", () => {
  test("is told by parts of contents, also behind hard links", async () => {
    const image = await openErofs(memorySource(await make()));
    const b = await image.lookup("dir/b");
    const extents = await extentsOf(image, b);
    // The content begins with a hole.
    const { start = 0, position = 0 } = extents.find((extent) => extent.position !== undefined) ?? {};
    const { files, unreadable } = await locateDamage(image, [
      { offset: position + 5000, length: 10 },
      { offset: position + 5005, length: 100 },
      { offset: position + 100_000, length: 1 },
    ]);
    const content = [
      { offset: start + 5000, length: 105 },
      { offset: start + 100_000, length: 1 },
    ];
    expect(files).toEqual([
      { path: "/dir/b", isMetadata: false, content },
      { path: "/dir/b2", isMetadata: false, content },
    ]);
    expect(unreadable).toEqual([]);
  });

  test("of an inode and its attributes is damage of metadata", async () => {
    const image = await openErofs(memorySource(await make()));
    const { offset } = await image.lookup("small");
    expect((await locateDamage(image, [{ offset: offset + 40, length: 1 }])).files).toEqual([
      { path: "/small", isMetadata: true, content: [] },
    ]);
  });

  test("of unused space belongs to no file", async () => {
    const image = await openErofs(memorySource(await make()));
    expect(await locateDamage(image, [{ offset: 0, length: 1000 }])).toEqual({ files: [], unreadable: [] });
    expect(await locateDamage(image, [])).toEqual({ files: [], unreadable: [] });
  });

  test("that hides a directory does not hide the others", async () => {
    const bytes = await make();
    const { offset } = await (await openErofs(memorySource(bytes))).lookup("dir");
    bytes.fill(0xff, offset, offset + 32);
    const { files, unreadable } = await locateDamage(await openErofs(memorySource(bytes)), [{ offset, length: 32 }]);
    expect(unreadable).toContain("/dir");
    expect(files.map(({ path }) => path)).not.toContain("/small");
  });

  test("is named by the command, where the data is an image", async () => {
    const folder = await scratch();
    const bytes = await make();
    await writeFile(join(folder, "image"), bytes);
    const build = capture(folder);
    expect(await main("verity build image tree --json".split(" "), build.io)).toBe(0);
    const { rootHash } = JSON.parse(build.out());
    const image = await openErofs(memorySource(bytes));
    const [extent] = await extentsOf(image, await image.lookup("dir/a"));
    const at = extent?.position ?? 0;
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    await writeFile(join(folder, "image"), bytes);
    const verify = capture(folder);
    expect(await main(["verity", "verify", "image", "tree", rootHash], verify.io)).toBe(1);
    expect(verify.err()).toContain(`damaged data block ${Math.floor(at / 4096)}`);
    expect(verify.err()).toContain("in /dir/a: content from byte 0");
  });
});
