// Environment: LEVERET_TRIXIE_TREE is a directory with the unpacked Debian 13 package erofs-utils and what it needs.
// EROFS_META_FULL_MATRIX=1 tests every combination of options; otherwise every option with a few others.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { link, mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { fileSource, openErofs, type TreeEntry } from "../src/index.ts";
import { needs, run, scratch } from "./support.ts";
import { compressibleTree } from "./trees.ts";

const TREE = process.env.LEVERET_TRIXIE_TREE ?? "$LEVERET_TRIXIE_TREE";
const MKFS = join(TREE, "usr/bin/mkfs.erofs");
const FULL = process.env.EROFS_META_FULL_MATRIX === "1";

const CODECS = ["lz4", "lz4hc,level=9", "lzma", "deflate", "zstd", "lz4:zstd:lzma"];
const CLUSTERS = [4096, 16_384, 131_072, 1_048_576];
const PACKINGS = ["", "ztailpacking", "fragments", "all-fragments", "dedupe", "ztailpacking,fragments,dedupe"];
const INODES = ["", "legacy-compress", "force-inode-compact", "force-inode-extended", "xattr-name-filter"];

interface Cell {
  readonly title: string;
  readonly options: readonly string[];
}

const MATRIX = CODECS.flatMap((codec, a) =>
  CLUSTERS.flatMap((cluster, b) =>
    PACKINGS.flatMap((packing, c) =>
      INODES.filter((_, d) => FULL || ((a + b) % 6 === c && (a + 2 * b) % 5 === d)).map((inodes): Cell => {
        const extended = [packing, inodes].filter((text) => text !== "").join(",");
        const options = [`-z${codec}`, `-C${cluster}`, ...(extended === "" ? [] : [`-E${extended}`])];
        return { title: options.join(" "), options };
      }),
    ),
  ),
);

/** Starts mkfs.erofs with the loader and the libraries of its own tree. */
function mkfs(...args: string[]): string | undefined {
  const libraries = join(TREE, "usr/lib/x86_64-linux-gnu");
  const loader = join(TREE, "usr/lib64/ld-linux-x86-64.so.2");
  const made = spawnSync(loader, ["--library-path", libraries, MKFS, "--quiet", ...args], { encoding: "utf8" });
  return made.status === 0 ? undefined : made.stderr;
}

/** Names of this kind are root's alone; tests run by anybody else have names of their own there. */
const TRUSTED = process.getuid?.() === 0 ? "trusted" : "user";

async function writeTree(root: string): Promise<Map<string, TreeEntry & { readonly type: "file" }>> {
  const files = new Map<string, TreeEntry & { readonly type: "file" }>();
  for (const entry of compressibleTree()) {
    // Larger ones take mkfs.erofs longer than they tell.
    if (entry.type !== "file" || (entry.content as Uint8Array).byteLength > 2 ** 18) continue;
    const path = join(root, entry.path);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, entry.content as Uint8Array);
    if (entry.path.startsWith("/many/")) {
      run("setfattr", "-n", "user.number", "-v", entry.path.slice(6), path);
      run("setfattr", "-n", `${TRUSTED}.all`, "-v", "the same everywhere", path);
    }
    files.set(entry.path, entry);
  }
  await link(join(root, "many/9"), join(root, "linked"));
  return files;
}

describe("images made by mkfs.erofs 1.8 of Debian 13", () => {
  test(`with ${MATRIX.length} combinations of options are read as they were written`, {
    timeout: 3_600_000,
  }, async (context) => {
    needs(context, "setfattr");
    if (!existsSync(MKFS)) {
      const reason = "LEVERET_TRIXIE_TREE has no mkfs.erofs (node scripts/oracle-trees.mjs makes it)";
      if (process.env.REQUIRE_ORACLES === "1") throw new Error(reason);
      context.skip(reason);
    }
    const folder = await scratch();
    const files = await writeTree(join(folder, "tree"));
    const refused: string[] = [];
    for (const { title, options } of MATRIX) {
      const path = join(folder, "image");
      const failure = mkfs("-T0", ...options, path, join(folder, "tree"));
      if (failure !== undefined) {
        refused.push(title);
        continue;
      }
      await using image = await openErofs(await fileSource(path));
      let seen = 0;
      for await (const { path: inside, inode } of image.walk()) {
        if (inode.type !== "file") continue;
        seen += 1;
        const expected = files.get(inside === "/linked" ? "/many/9" : inside);
        const content = expected?.content as Uint8Array;
        expect(Buffer.compare(await image.readFile(inode), content), `${title}: ${inside}`).toBe(0);
        const xattrs = await image.xattrs(inode);
        const names = xattrs.map(({ name }) => name).sort();
        const isMany = inside.startsWith("/many/") || inside === "/linked";
        expect(names, `${title}: ${inside}`).toEqual(isMany ? [`${TRUSTED}.all`, "user.number"] : []);
      }
      expect(seen, title).toBe(files.size + 1);
    }
    // Some options exclude each other.
    expect(refused.length, refused.join("\n")).toBeLessThan(MATRIX.length / 3);
  });

  test("with xattr name prefixes are read as they were written", async (context) => {
    needs(context, "setfattr");
    if (!existsSync(MKFS)) context.skip("LEVERET_TRIXIE_TREE has no mkfs.erofs");
    const folder = await scratch();
    await mkdir(join(folder, "tree"));
    await writeFile(join(folder, "tree/file"), "content");
    for (const name of [
      "user.a.long.prefix.one",
      "user.a.long.prefix.two",
      "user.other",
      `${TRUSTED}.overlay.opaque`,
    ]) {
      run("setfattr", "-n", name, "-v", name, join(folder, "tree/file"));
    }
    const prefixes = ["--xattr-prefix=user.a.long.prefix.", `--xattr-prefix=${TRUSTED}.overlay.`];
    for (const options of [prefixes, [...prefixes, "-zlz4", "-Eall-fragments"], [...prefixes, "-Exattr-name-filter"]]) {
      expect(mkfs(...options, join(folder, "image"), join(folder, "tree"))).toBeUndefined();
      await using image = await openErofs(await fileSource(join(folder, "image")));
      const inode = await image.lookup("/file");
      const found = (await image.xattrs(inode)).map(({ name, value }) => [name, Buffer.from(value).toString()]).sort();
      expect(found.map(([name]) => name)).toEqual(found.map(([, value]) => value));
      expect(found.length).toBe(4);
      expect(Buffer.from(await image.readFile(inode))).toEqual(await readFile(join(folder, "tree/file")));
    }
  });
});
