import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { main } from "../src/cli.ts";
import {
  type DiffOptions,
  diffErofs,
  type ErofsImage,
  memorySource,
  openErofs,
  type TreeEntry,
  type WriteErofsOptions,
  writeErofs,
} from "../src/index.ts";
import { capture, noise, scratch } from "./support.ts";
import { imageSink } from "./trees.ts";

const file = (path: string, content: Uint8Array, more: Partial<TreeEntry> = {}): TreeEntry =>
  ({ type: "file", path, content, ...more }) as TreeEntry;

async function bytesOf(entries: TreeEntry[], options: Partial<WriteErofsOptions> = {}): Promise<Uint8Array> {
  const output = imageSink();
  await writeErofs(entries, { output, uuid: "c1b9d5a2-f162-11cf-9ece-0020afc76f16", buildTime: 9n, ...options });
  return output.bytes();
}

async function imageOf(entries: TreeEntry[], options?: Partial<WriteErofsOptions>): Promise<ErofsImage> {
  return openErofs(memorySource(await bytesOf(entries, options)));
}

const OLD: TreeEntry[] = [
  file("/same", noise(20_000)),
  file("/gone", noise(3)),
  file("/content", noise(9000, 2)),
  file("/size", noise(10)),
  file("/attributes", noise(10), { mtime: 1n } as Partial<TreeEntry>),
  { type: "symlink", path: "/link", target: "a" },
  { type: "fifo", path: "/type" },
  { type: "char", path: "/device", device: { major: 1, minor: 1 } },
];
const NEW: TreeEntry[] = [
  file("/same", noise(20_000)),
  file("/content", noise(9000, 3)),
  file("/size", noise(11)),
  file("/attributes", noise(10), {
    mode: 0o600,
    uid: 1,
    mtime: 2n,
    xattrs: { "user.a": noise(1) },
  } as Partial<TreeEntry>),
  { type: "symlink", path: "/link", target: "b" },
  { type: "socket", path: "/type" },
  { type: "char", path: "/device", device: { major: 1, minor: 2 } },
  { type: "link", path: "/new", target: "/same" },
];

describe("diffErofs", () => {
  test("finds nothing between an image and itself", async () => {
    const { blocks, ...rest } = await diffErofs(await imageOf(OLD), await imageOf(OLD));
    expect(rest).toEqual({ isSame: true, superblock: [], added: [], removed: [], changed: [] });
    expect(blocks.known).toBe(blocks.total);
  });

  test("says what was added, removed and changed in which way, and which blocks are known", async () => {
    const { added, removed, changed, blocks } = await diffErofs(await imageOf(OLD), await imageOf(NEW));
    expect(added).toEqual(["/new"]);
    expect(removed).toEqual(["/gone"]);
    expect(changed).toEqual([
      { path: "/attributes", aspects: ["mode", "owner", "mtime", "xattrs"] },
      { path: "/content", aspects: ["content"] },
      { path: "/device", aspects: ["device"] },
      { path: "/link", aspects: ["target"] },
      { path: "/same", aspects: ["links"] },
      { path: "/size", aspects: ["size", "content"] },
      { path: "/type", aspects: ["type"] },
    ]);
    // The four whole blocks of /same.
    expect(blocks).toEqual({ total: 9, known: 4, inPlace: 4 });
  });

  test("compares what the superblocks say, and not where things are", async () => {
    const entries = [file("/a", noise(10), { mtime: 1n } as Partial<TreeEntry>)];
    const before = await imageOf(entries);
    const other = { uuid: "c1b9d5a2-f162-11cf-9ece-0020afc76f17", volumeName: "v", buildTime: 10n };
    const { isSame, superblock } = await diffErofs(before, await imageOf(entries, other));
    expect({ isSame, superblock }).toEqual({
      isSame: false,
      superblock: ["uuid", "volumeName", "buildTime"],
    });
    expect(await diffErofs(before, await imageOf(entries, { buildTime: 10n }), { times: false })).toMatchObject({
      isSame: true,
      superblock: [],
    });
    expect(await diffErofs(before, await imageOf(entries, { maxTailBytes: 0 }))).toMatchObject({ isSame: true });
  });

  test("leaves times out where told to", async () => {
    const later = [file("/attributes", noise(10), { mtime: 3n } as Partial<TreeEntry>)];
    const before = await imageOf([file("/attributes", noise(10), { mtime: 1n } as Partial<TreeEntry>)]);
    expect((await diffErofs(before, await imageOf(later), { times: false })).changed).toEqual([]);
    expect((await diffErofs(before, await imageOf(later))).changed).toHaveLength(1);
  });

  test.each([
    [{ maxBlocks: 1 }, "EROFS_LIMIT"],
    [{ maxEntries: 2 }, "EROFS_LIMIT"],
    [{ colour: 1 }, "EROFS_BAD_OPTIONS"],
  ])("with %j fails with %s", async (options, code) => {
    const compared = diffErofs(await imageOf(OLD), await imageOf(NEW), options as DiffOptions);
    await expect(compared).rejects.toMatchObject({ code });
  });
});

test("erofs-meta diff prints lines, or one document", async () => {
  const folder = await scratch();
  await writeFile(join(folder, "old"), await bytesOf(OLD));
  await writeFile(join(folder, "new"), await bytesOf(NEW));
  const { io, out } = capture(folder);
  expect(await main(["diff", "--no-times", "old", "new"], io)).toBe(1);
  const lines = out().split("\n");
  expect(lines.slice(0, 4)).toEqual([
    "~ superblock: compatible features",
    "- /gone",
    "+ /new",
    "~ /attributes: mode, owner, xattrs",
  ]);
  expect(lines.at(-2)).toBe("4 of 9 blocks of 4 KiB are in old already, 4 at the same place");
  const json = capture(folder);
  expect(await main(["diff", "--json", "old", "new"], json.io)).toBe(1);
  expect(JSON.parse(json.out())).toMatchObject({ kind: "erofs-diff", version: 1, added: ["/new"] });

  const same = capture(folder);
  expect(await main(["diff", "old", "old"], same.io)).toBe(0);
  expect(same.out()).toBe("9 of 9 blocks of 4 KiB are in old already, 9 at the same place\n");
  const trouble = capture(folder);
  expect(await main(["diff", "old", "missing"], trouble.io)).toBe(2);
  expect(trouble.err()).toContain("EROFS_NOT_FOUND");
});
