import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { main } from "../src/cli.ts";
import {
  checkErofs,
  diffErofs,
  type ErofsDiff,
  ErofsError,
  memorySource,
  openErofs,
  type TreeEntry,
  type WriteErofsOptions,
  type WrittenErofs,
  writeErofs,
} from "../src/index.ts";
import { capture, noise, scratch } from "./support.ts";
import { tinyImage } from "./tiny-image.ts";
import { compressibleTree, describeTree, imageSink, mixedContent, sampleTree } from "./trees.ts";
import { Versions } from "./versions.ts";

const FIXED = { uuid: "c1b9d5a2-f162-11cf-9ece-0020afc76f16", buildTime: 1_700_000_000n, workers: 0 } as const;

/** A machine that is busy needs long for some of these. */
const LONG = { timeout: 60_000 };

interface Built extends WrittenErofs {
  readonly bytes: Uint8Array;
}

async function build(
  entries: readonly TreeEntry[],
  options: Partial<WriteErofsOptions> = {},
  old?: Uint8Array,
): Promise<Built> {
  const output = imageSink();
  const like = old === undefined ? undefined : await openErofs(memorySource(old));
  const written = await writeErofs(entries, { output, ...FIXED, ...options, like });
  expect(output.bytes().byteLength).toBe(written.sizeBytes);
  return { ...written, bytes: output.bytes() };
}

/** Checks an image, and that it is of the same tree as another one. */
async function expectSameTree(bytes: Uint8Array, other: Uint8Array): Promise<void> {
  expect((await checkErofs(memorySource(bytes))).problems).toEqual([]);
  const image = await openErofs(memorySource(bytes));
  // Programs do not show names with the number 0.
  for await (const { path, inode } of image.walk()) expect(inode.nid, path).not.toBe(0n);
  expect(await describeTree(image)).toEqual(await describeTree(await openErofs(memorySource(other))));
}

async function blocksBetween(before: Uint8Array, after: Uint8Array): Promise<ErofsDiff["blocks"]> {
  const { blocks } = await diffErofs(await openErofs(memorySource(before)), await openErofs(memorySource(after)));
  return blocks;
}

/** A tree with files of other sizes, some missing and some new ones. */
function changed(tree: readonly TreeEntry[], turn: number): TreeEntry[] {
  const linked = new Set(tree.flatMap((entry) => (entry.type === "link" ? [entry.target] : [])));
  return tree
    .filter(({ path }, index) => linked.has(path) || index % 13 !== turn)
    .map((entry, index): TreeEntry => {
      if (entry.type !== "file" || index % 7 !== turn % 7 || !(entry.content instanceof Uint8Array)) return entry;
      const size = entry.content.byteLength;
      const less = entry.content.subarray(0, Math.floor(size * 0.6));
      return {
        ...entry,
        content: index % 2 === 0 ? less : Buffer.concat([entry.content, noise(size / 2 + 90, index)]),
      };
    })
    .concat([
      {
        type: "file",
        path: `/new/${turn}`,
        content: noise(5000 * turn + 4096, turn),
        xattrs: { "user.new": noise(9) },
      },
      { type: "symlink", path: `/new/link ${turn}`, target: "a".repeat(turn * 300 + 1) },
    ]);
}

/** Files of more than one segment are in a test of their own. */
const COMPRESSIBLE = compressibleTree().filter(
  (entry) => entry.type !== "file" || (entry.content as Uint8Array).byteLength < 400_000,
);

const KINDS: readonly [string, readonly TreeEntry[], Partial<WriteErofsOptions>][] = [
  ["plain", sampleTree(), {}],
  ["in blocks of 512 bytes", sampleTree(512), { blockSize: 512 }],
  ["without holes and tails", sampleTree(), { sparse: false, maxTailBytes: 0 }],
  ["with xattr prefixes", sampleTree(), { xattrPrefixes: ["user.o"], fixedTime: true }],
  ["lz4", COMPRESSIBLE, { compression: { algorithm: "lz4" } }],
  ["lz4 in clusters of 64 KiB", COMPRESSIBLE, { compression: { algorithm: "lz4", clusterSize: 65_536 } }],
];

describe("an image like an older one", () => {
  test.each(KINDS)("that is %s is the older one again for the same tree", async (_, tree, options) => {
    const old = await build(tree, options);
    const again = await build(tree, options, old.bytes);
    expect(Buffer.compare(again.bytes, old.bytes)).toBe(0);
    expect(again.unusedBytes).toBe(0);
  });

  test.each(KINDS)("that is %s has its own tree, and is the same each time", LONG, async (_, tree, options) => {
    let old = await build(tree, options);
    for (const turn of [1, 2]) {
      const entries = changed(tree, turn);
      const now = await build(entries, options, old.bytes);
      await expectSameTree(now.bytes, (await build(entries, options)).bytes);
      if (turn === 1) expect(Buffer.compare((await build(entries, options, old.bytes)).bytes, now.bytes)).toBe(0);
      old = now;
    }
  });

  // The README has these figures.
  test.each([
    ["as they are", {}, { inPlace: 0.04, known: 0.04 }, { inPlace: 0.95, known: 0.3 }],
    ["compressed", { compression: { algorithm: "lz4" } }, { inPlace: 0.1, known: 0.1 }, { inPlace: 0.8, known: 0.45 }],
  ] as const)(
    "has few other blocks, files stored %s, where one of 50 is another",
    LONG,
    async (_, options, most, without) => {
      const versions = new Versions(3000, 7);
      const old = await build(versions.entries(), options);
      versions.next({ changed: 0.01, removed: 0.005, added: 0.005 });
      const shares = async ({ bytes }: Built): Promise<{ inPlace: number; known: number }> => {
        const { total, inPlace, known } = await blocksBetween(old.bytes, bytes);
        return { inPlace: (total - inPlace) / total, known: (total - known) / total };
      };
      const like = await shares(await build(versions.entries(), options, old.bytes));
      const anew = await shares(await build(versions.entries(), options));
      expect(like.inPlace).toBeLessThan(most.inPlace);
      expect(like.known).toBeLessThan(most.known);
      expect(anew.inPlace).toBeGreaterThan(without.inPlace);
      expect(anew.known).toBeGreaterThan(without.known);
    },
  );

  test.each([
    ["as they are", {}],
    ["compressed", { compression: { algorithm: "lz4" } }],
  ] as const)("of 20 versions one after another stays of about one size, files stored %s", LONG, async (_, options) => {
    const versions = new Versions(300, 3);
    let old = await build(versions.entries(), options);
    let largest = 0;
    for (let version = 1; version <= 20; version += 1) {
      versions.next({ changed: 0.03, removed: 0.015, added: 0.015 });
      old = await build(versions.entries(), options, old.bytes);
      largest = Math.max(largest, (await build(versions.entries(), options)).sizeBytes);
      expect(old.sizeBytes / largest, `version ${version}`).toBeLessThan(1.25);
    }
    expect((await checkErofs(memorySource(old.bytes))).problems).toEqual([]);
  });

  test("keeps compressed content that grows in its place, and has the rest elsewhere", async () => {
    const tree = (size: number): TreeEntry[] => [
      { type: "file", path: "/large", content: mixedContent(size, 3) },
      { type: "file", path: "/other", content: mixedContent(400_000, 5) },
    ];
    const options = { compression: { algorithm: "lz4" } } as const;
    const old = await build(tree(3_000_000), options);
    const now = await build(tree(3_600_000), options, old.bytes);
    await expectSameTree(now.bytes, (await build(tree(3_600_000), options)).bytes);
    const image = await openErofs(memorySource(now.bytes));
    expect((await image.lookup("/large")).layout).toBe("compressed-full");
    const { total, inPlace } = await blocksBetween(old.bytes, now.bytes);
    expect(inPlace / total).toBeGreaterThan(0.7);
    // What is in two places stays there.
    expect(Buffer.compare((await build(tree(3_600_000), options, now.bytes)).bytes, now.bytes)).toBe(0);
  });

  test("keeps sparse content that grows in its place, and has the rest elsewhere", async () => {
    const sparse = (size: number): Uint8Array => {
      const content = new Uint8Array(1_000_000);
      content.set(noise(size), 100_000);
      return content;
    };
    const tree = (size: number): TreeEntry[] => [
      { type: "file", path: "/sparse", content: sparse(size) },
      { type: "file", path: "/z", content: noise(40_000) },
    ];
    const old = await build(tree(200_000));
    const now = await build(tree(300_000), {}, old.bytes);
    await expectSameTree(now.bytes, (await build(tree(300_000))).bytes);
    const { total, known, inPlace } = await blocksBetween(old.bytes, now.bytes);
    expect(inPlace).toBeGreaterThanOrEqual(known - 1);
    expect(total - inPlace).toBeLessThan(30);
  });

  test("leaves directories alone when names are added to the one above them", async () => {
    const names = (count: number): TreeEntry[] =>
      Array.from({ length: count }, (_, index) => ({ type: "file", path: `/d${index}/f`, content: noise(300, index) }));
    const old = await build(names(100));
    const now = await build(names(103), {}, old.bytes);
    await expectSameTree(now.bytes, (await build(names(103))).bytes);
    const { total, inPlace } = await blocksBetween(old.bytes, now.bytes);
    // The superblock, the root, its names, and what is new.
    expect(total - inPlace).toBeLessThanOrEqual(6);
  });

  test("keeps shared attributes where they are when there are others", async () => {
    const tree = (labels: number): TreeEntry[] =>
      Array.from({ length: labels * 4 }, (_, index) => ({
        ...{ type: "file", path: `/${index}`, content: noise(4096, index) },
        xattrs: { "security.selinux": noise(30, 1000 - (index % labels)) },
      }));
    const old = await build(tree(50));
    const now = await build([...tree(50), ...tree(70).slice(200)], {}, old.bytes);
    const { total, inPlace, known } = await blocksBetween(old.bytes, now.bytes);
    expect(inPlace).toBe(known);
    // Contents of 80 files, and 12 of attributes and inodes.
    expect(total - inPlace).toBeLessThanOrEqual(92);
  });

  test("of another root moves its inodes, and leaves contents where they are", async () => {
    const tree = sampleTree();
    const old = await build(tree);
    const xattrs = { "user.large": noise(2000) };
    const entries = tree.map((entry): TreeEntry => (entry.path === "/" ? ({ ...entry, xattrs } as TreeEntry) : entry));
    const now = await build(entries, {}, old.bytes);
    await expectSameTree(now.bytes, (await build(entries)).bytes);
    const before = await openErofs(memorySource(old.bytes));
    const after = await openErofs(memorySource(now.bytes));
    const place = async (image: typeof before): Promise<number> => (await image.lookup("/sizes/4097")).rawData;
    expect(await place(after)).toBe(await place(before));
    expect(after.superblock.metaBlock).toBeGreaterThan(before.superblock.metaBlock);
  });

  test.each([
    "tiny",
    "lzma.erofs",
    "zstd.erofs",
    "48bit-lz4.erofs.gz",
    "48bit-chunks.erofs.gz",
    "48bit-deflate-fragments.erofs.gz",
    "metabox-fragments.erofs.gz",
    "metabox-prefixes.erofs.gz",
    "metabox-zstd-directories.erofs.gz",
  ])("may have been made by another tool, as %s was", async (name) => {
    const path = fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));
    const stored = name === "tiny" ? tinyImage() : await readFile(path);
    const old = name.endsWith(".gz") ? gunzipSync(stored) : stored;
    const { blockSize } = (await openErofs(memorySource(old))).superblock;
    const tree = sampleTree(blockSize);
    const now = await build(tree, { blockSize }, old);
    await expectSameTree(now.bytes, (await build(tree, { blockSize })).bytes);
  });

  test("says what is wrong with the older one", async () => {
    const tree = sampleTree(512);
    const { bytes } = await build(tree, { blockSize: 512 });
    await expect(build(tree, {}, bytes)).rejects.toMatchObject({ code: "EROFS_BAD_OPTIONS" });
    const other = { like: { walk: 1 } } as unknown as Partial<WriteErofsOptions>;
    await expect(writeErofs(tree, { output: imageSink(), ...FIXED, ...other })).rejects.toMatchObject({
      code: "EROFS_BAD_OPTIONS",
    });
    await expect(build(tree, { blockSize: 512, maxEntries: 3 }, bytes)).rejects.toMatchObject({ code: "EROFS_LIMIT" });
  });

  test.each([
    ["as they are", 5, { blockSize: 512 }],
    ["compressed", 23, { compression: { algorithm: "lz4" } }],
  ] as const)("is whole, whatever the older one says, files stored %s", LONG, async (_, step, options) => {
    const shared = { "user.label": noise(20) };
    const tree: TreeEntry[] = [
      { type: "file", path: "/a", content: noise(1300), xattrs: shared },
      { type: "file", path: "/d/b", content: mixedContent(9000, 1), xattrs: shared },
      { type: "file", path: "/d/sparse", content: Buffer.concat([new Uint8Array(2048), noise(600)]) },
      { type: "symlink", path: "/l", target: "a" },
    ];
    const now = tree.slice(0, 3).concat({ type: "file", path: "/new", content: noise(700) });
    const { bytes } = await build(tree, options);
    const expected = await describeTree(await openErofs(memorySource((await build(now, options)).bytes)));
    // The superblock, which says that it has no checksum, and everything from the shared attributes on.
    const { xattrBlock, blockSize } = (await openErofs(memorySource(bytes))).superblock;
    const places = [
      ...Array.from({ length: 128 }, (_, at) => 1024 + at),
      ...Array.from(bytes.keys()).filter((at) => at >= xattrBlock * blockSize && (bytes[at] !== 0 || at % 64 === 0)),
    ];
    let built = 0;
    for (const [turn, at] of places.filter((_, index) => index % step === 0).entries()) {
      const old = Uint8Array.from(bytes);
      old[1032] = (old[1032] ?? 0) & ~1;
      old[at] = (old[at] ?? 0) ^ (1 << (turn % 8));
      const result = await build(now, options, old).catch((error: unknown) => error);
      if (result instanceof ErofsError) continue;
      if (result instanceof Error) throw result;
      built += 1;
      const image = (result as Built).bytes;
      expect(image.byteLength).toBeLessThanOrEqual(2 * bytes.byteLength + 4096);
      expect(await describeTree(await openErofs(memorySource(image))), `byte ${at}`).toEqual(expected);
      expect((await checkErofs(memorySource(image))).problems, `byte ${at}`).toEqual([]);
    }
    expect(built).toBeGreaterThan(10);
  });
});

test("erofs-meta build --like says how much is unused, and diff how much is the same", async () => {
  const folder = await scratch();
  const command = async (...argv: string[]): Promise<string> => {
    const { io, out, err } = capture(folder);
    // Two images that differ are no failure.
    expect(await main(argv, io), err()).toBe(argv[0] === "diff" ? 1 : 0);
    return out();
  };
  const write = (name: string, size: number): Promise<void> => writeFile(join(folder, "tree", name), noise(size));
  await mkdir(join(folder, "tree"));
  await write("a", 10_000);
  await write("b", 20_000);
  await command("build", "1.erofs", "tree", "--fixed-time");
  await write("a", 30_000);
  const options = ["--fixed-time", "--like", "1.erofs"];
  expect(await command("build", "2.erofs", "tree", ...options)).toMatch(
    /^image {3}64 KiB in 2.erofs\nunused {2}8.0 KiB\n/,
  );
  expect(await command("diff", "1.erofs", "2.erofs")).toContain("16 blocks of 4 KiB are in 1.erofs already, ");
  // An image may take the place of the one that it is like.
  await command("build", "1.erofs", "tree", ...options);
  expect(Buffer.compare(await readFile(join(folder, "1.erofs")), await readFile(join(folder, "2.erofs")))).toBe(0);
});
