import { readdirSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { main } from "../../src/cli.ts";
import {
  checkErofs,
  DEFAULT_MAX_REGIONS,
  ErofsError,
  type ErofsImage,
  memorySource,
  openErofs,
  type TreeEntry,
  type WriteErofsOptions,
  writeErofs,
} from "../../src/index.ts";
import { capture, noise, scratch } from "../support.ts";
import { tinyImage } from "../tiny-image.ts";
import { compressibleTree, imageSink, sampleTree } from "../trees.ts";

const FIXTURES = join(import.meta.dirname, "..", "fixtures");

async function written(entries: readonly TreeEntry[], options: Partial<WriteErofsOptions> = {}): Promise<Uint8Array> {
  const output = imageSink();
  await writeErofs(entries, { output, uuid: "c1b9d5a2-f162-11cf-9ece-0020afc76f16", buildTime: 9n, ...options });
  return output.bytes();
}

const TREE: TreeEntry[] = [
  { type: "directory", path: "/dir" },
  { type: "file", path: "/dir/a", content: noise(9000), xattrs: { "user.one": noise(3) } },
  { type: "file", path: "/dir/b", content: noise(5000, 2) },
  { type: "link", path: "/hard", target: "/dir/a" },
  { type: "symlink", path: "/link", target: "dir" },
];

/** Damages an image, whose checksum is left out so that it does not tell. */
async function damaged(
  change: (image: ErofsImage, view: DataView, bytes: Uint8Array) => Promise<void> | void,
): Promise<string[]> {
  const bytes = await written(TREE);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  view.setUint32(1024 + 8, view.getUint32(1024 + 8, true) & ~1, true);
  expect(await checkErofs(memorySource(bytes))).toMatchObject({ ok: true, problems: [], inodes: 5, names: 6 });
  await change(await openErofs(memorySource(bytes)), view, bytes);
  const { ok, problems } = await checkErofs(memorySource(bytes));
  expect(ok).toBe(problems.length === 0);
  return problems.map(({ path = "image", message }) => `${path}: ${message}`);
}

describe("checkErofs", () => {
  test.each([
    ["a tree of everything", sampleTree(), {}],
    ["small blocks", sampleTree(512), { blockSize: 512 }],
    ["lz4", compressibleTree(), { compression: { algorithm: "lz4" } }],
    ["deflate", compressibleTree(), { compression: { algorithm: "deflate" } }],
  ] as const)("finds nothing wrong with %s", async (_, tree, options) => {
    const bytes = await written([...tree], options);
    const report = await checkErofs(memorySource(bytes));
    expect(report.problems).toEqual([]);
    expect(report.contentBytes).toBeGreaterThan(20_000);
  });

  test.each(readdirSync(FIXTURES).filter((name) => /\.erofs(\.gz)?$/.test(name)))(
    "finds nothing wrong with %s of mkfs.erofs",
    async (name) => {
      const bytes = await readFile(join(FIXTURES, name));
      const image = name.endsWith(".gz") ? gunzipSync(bytes) : bytes;
      expect((await checkErofs(memorySource(image))).problems).toEqual([]);
    },
  );

  test("finds a wrong checksum, and looks behind it", async () => {
    const bytes = await written(TREE);
    bytes[1024 + 48] = 0xee;
    const { problems, inodes } = await checkErofs(memorySource(bytes));
    expect(problems).toMatchObject([{ code: "EROFS_BAD_CHECKSUM", offset: 1028 }]);
    expect(inodes).toBe(5);
  });

  test("finds that there is no image", async () => {
    const { problems, names } = await checkErofs(memorySource(new Uint8Array(4096)));
    expect(problems).toMatchObject([{ code: "EROFS_BAD_MAGIC" }]);
    expect(names).toBe(0);
  });

  test("finds an image cut off", async () => {
    const bytes = await written(TREE);
    const { problems } = await checkErofs(memorySource(bytes.subarray(0, 4096)));
    expect(problems.length).toBeGreaterThan(1);
    expect(problems.every(({ code }) => code === "EROFS_TRUNCATED")).toBe(true);
  });

  test("finds counts of links and inodes that are wrong", async () => {
    const links = await damaged(async (image, view) => {
      view.setUint16((await image.lookup("/dir/a")).offset + 6, 3, true);
    });
    expect(links).toEqual([expect.stringMatching(/^\/dir\/a: expected 3 links, as its inode says, got 2/)]);
    const directory = await damaged(async (image, view) => {
      view.setUint16((await image.lookup("/dir")).offset + 6, 9, true);
    });
    expect(directory).toEqual([expect.stringMatching(/^\/dir: expected 9 links, as its inode says, got 2/)]);
    const inodes = await damaged((_, view) => view.setBigUint64(1024 + 16, 6n, true));
    expect(inodes).toEqual(["image: expected 6 inodes, got 5"]);
  });

  test("finds names out of order, twice, of the wrong type, and dots that lead elsewhere", async () => {
    const names = await damaged(async (image, _, bytes) => {
      const { offset } = await image.lookup("/dir");
      const text = Buffer.from(bytes.buffer, bytes.byteOffset).indexOf("...ab", offset);
      bytes.set(Buffer.from("ba"), text + 3);
    });
    expect(names).toContainEqual("/dir: expected names in the order of their bytes, got a behind b");
    const twice = await damaged(async (image, _, bytes) => {
      const { offset } = await image.lookup("/dir");
      const text = Buffer.from(bytes.buffer, bytes.byteOffset).indexOf("...ab", offset);
      bytes.set(Buffer.from("aa"), text + 3);
    });
    expect(twice).toContainEqual("/dir: expected names in the order of their bytes, got a behind a");
    const type = await damaged(async (image, view) => {
      view.setUint8((await image.lookup("/dir")).offset + 32 + 2 * 12 + 10, 7);
    });
    expect(type).toEqual([expect.stringMatching(/^\/dir\/a: expected a symlink, as its directory says, got a file/)]);
    const noType = await damaged(async (image, view) => {
      view.setUint8((await image.lookup("/dir")).offset + 32 + 2 * 12 + 10, 8);
    });
    expect(noType).toEqual(["/dir: expected a type of a in 0..7, got 8"]);
    const dots = await damaged(async (image, view) => {
      const dir = await image.lookup("/dir");
      view.setBigUint64(dir.offset + 32 + 12, dir.nid, true);
    });
    expect(dots).toEqual([expect.stringMatching(/^\/dir: expected \.\. to be node/)]);
  });

  test("finds loops, contents upon each other and upon metadata, and contents that lead out", async () => {
    const loop = await damaged(async (image, view) => {
      const dir = await image.lookup("/dir");
      view.setBigUint64(dir.offset + 32 + 2 * 12, (await image.root()).nid, true);
      view.setUint8(dir.offset + 32 + 2 * 12 + 10, 2);
    });
    expect(loop).toContainEqual(
      expect.stringMatching(/^\/dir\/a: expected each directory once, got the one at \/ again/),
    );
    const same = await damaged(async (image, view) => {
      view.setUint32((await image.lookup("/dir/b")).offset + 16, (await image.lookup("/dir/a")).rawData, true);
    });
    expect(same).toEqual([expect.stringMatching(/to be one thing, got content of \/.* and content of \/dir/)]);
    const metadata = await damaged(async (image, view) => {
      view.setUint32((await image.lookup("/dir/b")).offset + 16, image.superblock.metaBlock, true);
    });
    expect(metadata).toContainEqual(expect.stringMatching(/to be one thing, got content of \/dir\/b and metadata of/));
    const outside = await damaged(async (image, view) => {
      view.setUint32((await image.lookup("/dir/b")).offset + 16, 100_000, true);
    });
    expect(outside).toEqual([expect.stringMatching(/^\/dir\/b: expected content up to byte 40960\d*, got an image/)]);
  });

  test("finds filters that hide attributes, and attributes that cannot be", async () => {
    const filter = await damaged(async (image, view) => {
      view.setUint32((await image.lookup("/dir/a")).offset + 32, 0xffffffff, true);
    });
    expect(filter).toEqual([expect.stringMatching(/^\/(dir\/a|hard): expected a filter that lets user.one be found/)]);
    const prefix = await damaged(async (image, view) => {
      view.setUint8((await image.lookup("/dir/a")).offset + 32 + 12 + 1, 99);
    });
    expect(prefix).toEqual([expect.stringMatching(/expected a known xattr prefix, got number 99/)]);
  });

  test("lists no more problems than it may, and compares no more parts", async () => {
    const bytes = await written(TREE);
    const cut = memorySource(bytes.subarray(0, 4096));
    expect(await checkErofs(cut, { maxProblems: 1 })).toMatchObject({ isIncomplete: true, problems: [{}] });
    expect(DEFAULT_MAX_REGIONS).toBeGreaterThan(1_000_000);
    await expect(checkErofs(memorySource(bytes), { maxEntries: 2 })).rejects.toMatchObject({ code: "EROFS_LIMIT" });
    await expect(checkErofs(memorySource(bytes), { maxProblems: 0 })).rejects.toMatchObject({
      code: "EROFS_BAD_OPTIONS",
    });
    await expect(checkErofs(memorySource(bytes), { signal: AbortSignal.abort("enough") })).rejects.toBe("enough");
  });

  test("never fails over flipped bytes, and finds almost all of those in use", async () => {
    const image = tinyImage();
    expect((await checkErofs(memorySource(image))).problems).toEqual([]);
    for (let at = 1024; at < image.byteLength; at += 3) {
      const flipped = image.slice();
      flipped[at] = (flipped[at] ?? 0) ^ 0x21;
      const report = await checkErofs(memorySource(flipped)).catch((error: unknown) => error);
      if (report instanceof Error) expect(report, `byte ${at}`).toBeInstanceOf(ErofsError);
    }
  });
});

describe("erofs-meta verify", () => {
  test("says that an image is whole, or what is damaged, and where", async () => {
    const folder = await scratch();
    const bytes = await written(TREE);
    await writeFile(join(folder, "whole"), bytes);
    const whole = capture(folder);
    expect(await main(["verify", "whole"], whole.io)).toBe(0);
    expect(whole.out()).toBe("whole: no damage in 5 inodes with 14 KiB of content\n");
    const document = capture(folder);
    expect(await main(["verify", "--json", "whole"], document.io)).toBe(0);
    expect(JSON.parse(document.out())).toMatchObject({ kind: "erofs-report", version: 1, ok: true, inodes: 5 });

    const image = await openErofs(memorySource(bytes));
    const { offset } = await image.lookup("/dir/b");
    bytes[offset + 16] = 0xff;
    bytes[1024 + 64] = 1;
    await writeFile(join(folder, "damaged"), bytes);
    const people = capture(folder);
    expect(await main(["verify", "damaged"], people.io)).toBe(1);
    expect(people.err()).toMatch(
      /^error: expected an image without damage, got 2 problems in damaged \[EROFS_DAMAGED\]\n/,
    );
    expect(people.err()).toMatch(/\n {2}expected checksum .* \(at byte 1028\)\n {2}\/dir\/b: expected content up to/);
    const programs = capture(folder);
    expect(await main(["verify", "damaged", "--json"], programs.io)).toBe(1);
    expect(JSON.parse(programs.out())).toMatchObject({
      kind: "error",
      code: "EROFS_DAMAGED",
      problems: [{ code: "EROFS_BAD_CHECKSUM" }, { code: "EROFS_TRUNCATED", path: "/dir/b", offset }],
    });
  });
});
