import { lstat, mkdir, readdir, readFile, readlink, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { main } from "../src/cli.ts";
import {
  ErofsError,
  type ErofsImage,
  type ExtractedXattrs,
  type ExtractOptions,
  extractErofs,
  memorySource,
  openErofs,
  parseXattrDump,
  type TreeEntry,
  writeErofs,
} from "../src/index.ts";
import { capture, noise, scratch } from "./support.ts";
import { imageSink, sampleTree } from "./trees.ts";

async function sampleBytes(blockSize = 4096, entries = sampleTree(blockSize)): Promise<Uint8Array> {
  const output = imageSink();
  await writeErofs(entries, {
    output,
    uuid: "c1b9d5a2-f162-11cf-9ece-0020afc76f16",
    buildTime: 9n,
    blockSize,
  });
  return output.bytes();
}

async function sample(): Promise<ErofsImage> {
  return openErofs(memorySource(await sampleBytes()));
}

describe("extractErofs", () => {
  test("writes contents, links, modes and times, and says what it left out", async () => {
    const image = await sample();
    const out = join(await scratch(), "out");
    const report = await extractErofs(image, out);
    expect(report.skipped.map(({ path }) => path).sort()).toEqual([
      "/dev/disk",
      "/dev/null",
      "/dev/pipe",
      "/dev/socket",
    ]);
    let count = 0;
    for await (const { path, inode } of image.walk()) {
      if (path.startsWith("/dev/")) continue;
      count += 1;
      const found = await lstat(join(out, path));
      expect(found.mtimeMs, path).toBeCloseTo(Number(inode.mtime) * 1000, -1);
      if (inode.type === "symlink") expect(await readlink(join(out, path))).toBe(await image.readLink(inode));
      else expect(found.mode & 0o7777, path).toBe(inode.mode & 0o777);
      if (inode.type !== "file") continue;
      expect(Buffer.compare(await readFile(join(out, path)), await image.readFile(inode)), path).toBe(0);
    }
    const names = await readdir(out, { recursive: true });
    expect(names).toHaveLength(count - 1);
    expect((await stat(join(out, "early/link"))).ino).toBe((await stat(join(out, "etc/os-release"))).ino);
  });

  test("counts the xattrs and set-id bits it leaves out, hands on the former and keeps the latter if told to", async () => {
    const label = { "security.selinux": new TextEncoder().encode("a:b\0"), "user.bytes": noise(20) };
    const entries: TreeEntry[] = [
      { type: "directory", path: "/", xattrs: label },
      { type: "directory", path: "/sticky", mode: 0o1777 },
      { type: "file", path: "/sticky/su", mode: 0o4755, content: noise(10), xattrs: label },
      { type: "link", path: "/again", target: "/sticky/su" },
      { type: "symlink", path: "/link", target: "x", xattrs: { "trusted.a": noise(1) } },
      { type: "file", path: "/plain", mode: 0o755, content: noise(10) },
    ];
    const image = await openErofs(memorySource(await sampleBytes(4096, entries)));
    const folder = await scratch();
    const taken: string[] = [];
    const onXattrs = ({ path, file, xattrs }: ExtractedXattrs): void => {
      expect(join(folder, "out", path)).toBe(file);
      taken.push(`${path}: ${xattrs.map(({ name }) => name)}`);
    };
    const missing = { withoutXattrs: 3, withoutSetId: 2 };
    expect(await extractErofs(image, join(folder, "out"), { onXattrs })).toMatchObject(missing);
    expect(taken.sort()).toEqual([
      ".: security.selinux,user.bytes",
      "again: security.selinux,user.bytes",
      "link: trusted.a",
    ]);
    const kept = join(folder, "kept");
    expect(await extractErofs(image, kept, { setId: true })).toMatchObject({ withoutXattrs: 3, withoutSetId: 0 });
    expect((await stat(join(kept, "sticky/su"))).mode & 0o7777).toBe(0o4755);
    expect((await stat(join(kept, "sticky"))).mode & 0o7777).toBe(0o1777);
    const limited = extractErofs(image, join(folder, "limited"), { onXattrs: () => {}, maxBytes: 30 });
    await expect(limited).rejects.toMatchObject({ code: "EROFS_LIMIT" });
  });

  test("extracts a part of the tree", async () => {
    const out = join(await scratch(), "out");
    expect(await extractErofs(await sample(), out, { from: "/etc/deep" })).toMatchObject({
      directories: 2,
      symlinks: 1,
    });
    expect(await readdir(out, { recursive: true })).toEqual(["er", "er/short"]);
  });

  test("writes into no directory that is there, and follows no link at its place", async () => {
    const folder = await scratch();
    await mkdir(join(folder, "there"));
    await writeFile(join(folder, "victim"), "untouched");
    await symlink(join(folder, "victim"), join(folder, "trap"));
    const image = await sample();
    for (const [name, from] of [
      ["there", "/"],
      ["trap", "/etc/os-release"],
    ] as const) {
      const path = join(folder, name);
      await expect(extractErofs(image, path, { from })).rejects.toMatchObject({ code: "EROFS_EXISTS", path });
    }
    await expect(extractErofs(image, join(folder, "missing/out"))).rejects.toMatchObject({
      code: "EROFS_NOT_FOUND",
      message: expect.stringContaining("a directory for"),
    });
    expect(await readFile(join(folder, "victim"), "utf8")).toBe("untouched");
  });

  test.each([
    [{ maxBytes: 10 }, "EROFS_LIMIT"],
    [{ maxEntries: 3 }, "EROFS_LIMIT"],
    [{ maxByte: 3 }, "EROFS_BAD_OPTIONS"],
  ])("with %j fails with %s", async (options, code) => {
    const out = join(await scratch(), "out");
    await expect(extractErofs(await sample(), out, options as ExtractOptions)).rejects.toMatchObject({ code });
  });

  test("does not leave its directory whatever the image says", async () => {
    const folder = await scratch();
    const bytes = await sampleBytes(
      512,
      sampleTree(512).filter(({ path }) => !path.startsWith("many")),
    );
    const positions = noise(60, 4);
    await mkdir(join(folder, "out"));
    for (const [round, seed] of positions.entries()) {
      const damaged = bytes.slice();
      const spot = bytes.byteLength - 1 - ((seed * 7919 + round * 104_729) % 8000);
      damaged[spot] = (damaged[spot] ?? 0) ^ (1 + (round % 255));
      try {
        await extractErofs(await openErofs(memorySource(damaged)), join(folder, "out", `${round}`), { maxBytes: 1e7 });
      } catch (error) {
        if (!(error instanceof ErofsError)) throw error;
      }
    }
    expect(await readdir(folder)).toEqual(["out"]);
  });
});

describe("erofs-meta extract", () => {
  test("says what it did", async () => {
    const folder = await scratch();
    await writeFile(join(folder, "image"), await sampleBytes());
    const { io, out } = capture(folder);
    expect(await main(["extract", "image", "out", "/dev"], io)).toBe(0);
    expect(out()).toContain("0 files, 1 directory, 0 symlinks, 0 hard links, 0 B");
    expect(out()).toContain("skipped /dev/null, a char");
    const json = capture(folder);
    expect(await main(["extract", "--json", "image", "other", "/etc"], json.io)).toBe(0);
    expect(JSON.parse(json.out())).toMatchObject({ kind: "erofs-extract", version: 1, files: 1, symlinks: 2 });
  });

  test("warns of what is missing, and writes the xattrs to a file", async () => {
    const folder = await scratch();
    const content = new Uint8Array(0);
    const xattrs = { "user.text": new TextEncoder().encode('"a" \\ b\n'), "user.b=c": noise(9) };
    const file: TreeEntry = { type: "file", path: "/a\nb", mode: 0o4711, content, xattrs };
    await writeFile(join(folder, "image"), await sampleBytes(4096, [file]));
    const { io, err } = capture(folder);
    expect(await main(["extract", "image", "out"], io)).toBe(0);
    expect(err()).toBe(
      "warning: xattrs of 1 name were not set, because Node cannot; --xattrs FILE writes what setfattr -h --restore=FILE sets\n" +
        "warning: set-id or sticky bits of 1 name were left out; --set-id or --owners keeps them\n",
    );
    const all = capture(folder);
    expect(await main(["extract", "image", "all", "--xattrs", "dump", "--set-id"], all.io)).toBe(0);
    expect(all.err()).toBe("");
    const dump = parseXattrDump(await readFile(join(folder, "dump")));
    expect([...dump]).toEqual([["a\nb", xattrs]]);
    const same = capture(folder);
    expect(await main(["extract", "image", "third", "--xattrs", "image"], same.io)).toBe(1);
    expect(same.err()).toContain("EROFS_BAD_OPTIONS");
  });
});
