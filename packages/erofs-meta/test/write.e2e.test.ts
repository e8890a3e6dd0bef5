import { spawnSync } from "node:child_process";
import { createReadStream } from "node:fs";
import { link, lstat, mkdir, readdir, readFile, readlink, rename, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { main } from "../src/cli.ts";
import {
  addXattrs,
  diffErofs,
  fileSource,
  openErofs,
  parseXattrDump,
  readDirectory,
  readTar,
  type TreeEntry,
  type WriteErofsOptions,
  writeErofs,
} from "../src/index.ts";
import { capture, needs, noise, run, scratch, tryRun } from "./support.ts";
import { compressibleTree, mixedContent, sampleTree } from "./trees.ts";
import { Versions } from "./versions.ts";

const UUID = "c1b9d5a2-f162-11cf-9ece-0020afc76f16";

describe("images written by writeErofs", () => {
  test.for<[string, Partial<WriteErofsOptions>]>([
    ["the defaults", {}],
    ["one time for all", { fixedTime: true }],
    ["xattr prefixes", { xattrPrefixes: ["user.o", "trusted.overlay.", "user.own"] }],
    ["no holes", { sparse: false }],
    ["no inline tails of files", { maxTailBytes: 0 }],
    ["blocks of 512 bytes", { blockSize: 512 }],
    ["blocks of 2048 bytes", { blockSize: 2048 }],
    ["lz4", { compression: { algorithm: "lz4" } }],
    ["lz4 without inline tails", { compression: { algorithm: "lz4" }, maxTailBytes: 0 }],
    ["lz4 in clusters of 16 KiB", { compression: { algorithm: "lz4", clusterSize: 16_384 } }],
    ["lz4 in clusters of 1 MiB", { compression: { algorithm: "lz4", clusterSize: 1_048_576 } }],
    ["deflate", { compression: { algorithm: "deflate" } }],
    ["deflate in single blocks", { compression: { algorithm: "deflate", level: 9, clusterSize: 4096 } }],
  ])("with %s are clean to fsck.erofs and mounted by the kernel as they were meant", async ([, options], context) => {
    needs(context, "fsck.erofs", "dump.erofs", "getfattr");
    const folder = await scratch();
    const path = join(folder, "image");
    const tree = options.compression === undefined ? sampleTree(options.blockSize) : compressibleTree();
    const { inodes } = await writeErofs(tree, {
      output: path,
      uuid: UUID,
      buildTime: 1_700_000_000n,
      ...options,
    });
    // erofs-utils before 1.6 read no smaller blocks, no deflate and no prefixes; the kernel does.
    const isOld = options.blockSize === undefined && options.xattrPrefixes === undefined;
    if (isOld && options.compression?.algorithm !== "deflate") {
      run("fsck.erofs", "--extract", path);
      const dump = run("dump.erofs", path);
      expect(dump).toContain(UUID);
      expect(dump).toMatch(new RegExp(`inode count:\\s*${inodes}\\b`));
    }

    const mounted = join(folder, "mounted");
    await mkdir(mounted);
    if (process.getuid?.() !== 0) context.skip("only root can mount an image");
    const mount = tryRun("mount", "-t", "erofs", "-o", "ro,loop", path, mounted);
    if (mount.status !== 0) context.skip(`the kernel or container does not mount images: ${mount.stderr.trim()}`);
    try {
      await using image = await openErofs(await fileSource(path));
      const seen = new Set<string>();
      for await (const { path: inside, inode } of image.walk()) {
        const real = join(mounted, inside);
        seen.add(real);
        const stat = await lstat(real, { bigint: true });
        expect([Number(stat.mode & 0o7777n), Number(stat.uid), Number(stat.gid)], real).toEqual([
          inode.mode,
          inode.uid,
          inode.gid,
        ]);
        const mtime = inode.mtime * 1_000_000_000n + BigInt(inode.mtimeNsec);
        expect([stat.mtimeNs, Number(stat.nlink)], real).toEqual([mtime, inode.links]);
        if (inode.type === "file") {
          expect(Buffer.compare(await readFile(real), await image.readFile(inode)), real).toBe(0);
        }
        if (inode.type === "symlink") expect(await readlink(real)).toBe(await image.readLink(inode));
        if (inode.device !== undefined) {
          const { major, minor } = inode.device;
          expect(run("stat", "-c", "%t %T", real).trim()).toBe(`${major.toString(16)} ${minor.toString(16)}`);
        }
        if (inode.xattrSizeBytes > 0) {
          const shown = run("getfattr", "-h", "-d", "-m", "-", "-e", "hex", "--absolute-names", real);
          for (const { name, value } of await image.xattrs(inode)) {
            expect(shown, real).toContain(`${name}=0x${Buffer.from(value).toString("hex")}`);
          }
        }
      }
      const names = await readdir(mounted, { recursive: true });
      expect(seen).toEqual(new Set([join(mounted, "/"), ...names.map((name) => join(mounted, name))]));
    } finally {
      run("umount", mounted);
    }
  });

  test.for([
    ["lz4", ["-zlz4"], { compression: { algorithm: "lz4" } }],
    // fsck.erofs before 1.6 leaves holes out of what it extracts.
    ["plain", [], { sparse: false }],
    ["chunks", ["--chunksize=4096"], { sparse: false }],
  ] as const)(
    "like one of mkfs.erofs, %s, and like each other are clean to fsck.erofs",
    async ([, flags, options], context) => {
      needs(context, "fsck.erofs", "mkfs.erofs");
      const folder = await scratch();
      const versions = new Versions(200, 5);
      const tree = join(folder, "tree");
      const grow = (size: number): Uint8Array => mixedContent(size, 11);
      for (const { path, content } of versions.entries() as { path: string; content: Uint8Array }[]) {
        await mkdir(dirname(join(tree, path)), { recursive: true });
        await writeFile(join(tree, path), content);
      }
      await writeFile(join(tree, "large"), grow(2_000_000));
      run("mkfs.erofs", ...flags, join(folder, "0"), tree);
      for (let version = 1; version <= 4; version += 1) {
        const path = join(folder, `${version}`);
        const large: TreeEntry = { type: "file", path: "/large", content: grow(2_000_000 + 300_000 * version) };
        const entries = [...versions.entries(), large];
        await using like = await openErofs(await fileSource(join(folder, `${version - 1}`)));
        await writeErofs(entries, { output: path, uuid: UUID, buildTime: 0n, like, ...options });
        run("fsck.erofs", "--extract", path);
        const extracted = join(folder, `extracted ${version}`);
        run("fsck.erofs", `--extract=${extracted}`, path);
        for (const { path: name, content } of entries as { path: string; content: Uint8Array }[]) {
          expect(Buffer.compare(await readFile(join(extracted, name)), content), name).toBe(0);
        }
        versions.next({ changed: 0.2, removed: 0.1, added: 0.1 });
      }
    },
  );

  test.for(["pax", "gnu", "ustar"])(
    "of an archive in tar's %s format have what was packed",
    async (format, context) => {
      needs(context, "tar", "setfattr");
      const folder = await scratch();
      const tree = join(folder, "tree");
      await mkdir(join(tree, "sub"), { recursive: true });
      await writeFile(join(tree, "sub/file"), noise(70_000));
      await writeFile(join(tree, `sub/${"n".repeat(120)}`), "long\n");
      await symlink("sub/file", join(tree, "link"));
      await link(join(tree, "sub/file"), join(tree, "hard"));
      run("setfattr", "-n", "user.note", "-v", "seen", join(tree, "sub/file"));
      const xattrs = format === "pax" ? ["--xattrs"] : [];
      const excluded = format === "ustar" ? [`--exclude=${"n".repeat(120)}`] : [];
      run("tar", "-C", tree, `--format=${format}`, ...xattrs, ...excluded, "-cf", join(folder, "tar"), ".");

      const path = join(folder, "image");
      const archive = createReadStream(join(folder, "tar"));
      await writeErofs(readTar(archive), { output: path, uuid: UUID, buildTime: 0n });
      run("fsck.erofs", path);
      await using image = await openErofs(await fileSource(path));
      const seen = new Set<string>();
      for await (const { path: inside, inode } of image.walk()) {
        const real = join(tree, inside);
        seen.add(real);
        const stat = await lstat(real, { bigint: true });
        expect([inode.mode, inode.uid, inode.gid, inode.mtime], real).toEqual([
          ...[Number(stat.mode & 0o7777n), Number(stat.uid), Number(stat.gid)],
          stat.mtimeNs / 1_000_000_000n,
        ]);
        if (inode.type === "file") {
          expect(inode.links).toBe(Number(stat.nlink));
          expect(Buffer.compare(await image.readFile(inode), await readFile(real)), real).toBe(0);
        }
      }
      const names = (await readdir(tree, { recursive: true })).filter(
        (name) => format !== "ustar" || !/n{120}/.test(name),
      );
      expect(seen).toEqual(new Set([join(tree, "/"), ...names.map((name) => join(tree, name))]));
      const found = await image.xattrs(await image.lookup("/hard"));
      expect(found.map(({ name }) => name)).toEqual(format === "pax" ? ["user.note"] : []);
    },
  );

  test("have xattrs that setfattr restores from what was extracted", async (context) => {
    needs(context, "setfattr", "getfattr");
    const folder = await scratch();
    const path = join(folder, "image");
    const value = new TextEncoder().encode('he said "hi" \\ back\n\ttab');
    const entries = ["plain", "we ird\\name", "new\nline", "ü"].map((name) => {
      const xattrs = { "user.text": value, "user.eq=ual na": noise(30), "user.empty": new Uint8Array(0) };
      return { type: "file", path: `dir/${name}`, content: noise(3), xattrs } as const;
    });
    await writeErofs([...entries, { type: "directory", path: "/", xattrs: { "user.root": value } }], {
      output: path,
      buildTime: 0n,
    });
    const { io, err } = capture(folder);
    expect(await main(["extract", "image", "out", "--xattrs", "dump"], io), err()).toBe(0);
    const restored = spawnSync("setfattr", ["-h", "--restore=../dump"], { cwd: join(folder, "out"), encoding: "utf8" });
    expect(restored).toMatchObject({ status: 0, stderr: "" });
    const again = join(folder, "again");
    const dumped = spawnSync("getfattr", ["-R", "-h", "-d", "-m", "-", "-e", "base64", "."], {
      cwd: join(folder, "out"),
    });
    const read = addXattrs(readDirectory(join(folder, "out")), parseXattrDump(dumped.stdout));
    await writeErofs(read, { output: again, buildTime: 0n });
    await using one = await openErofs(await fileSource(path));
    await using other = await openErofs(await fileSource(again));
    const { changed } = await diffErofs(one, other, { times: false });
    expect(changed.filter(({ aspects }) => aspects.includes("xattrs"))).toEqual([]);
  });

  test("of an archive that tar appended to have what tar extracts", async (context) => {
    needs(context, "tar", "xz");
    const folder = await scratch();
    const [tree, out, archive] = ["tree", "out", "tar"].map((name) => join(folder, name)) as [string, string, string];
    await mkdir(tree);
    await mkdir(out);
    await writeFile(join(tree, "a"), "first\n");
    await link(join(tree, "a"), join(tree, "b"));
    run("tar", "-C", tree, "-cf", archive, ".");
    await writeFile(join(tree, "new"), "second\n");
    await rename(join(tree, "new"), join(tree, "a"));
    await link(join(tree, "a"), join(tree, "c"));
    run("tar", "-C", tree, "-rf", archive, "./a", "./c");
    run("tar", "-C", out, "-xf", archive);
    const path = join(folder, "image");
    await writeErofs(readTar(createReadStream(archive)), { output: path, buildTime: 0n });
    run("fsck.erofs", path);
    await using image = await openErofs(await fileSource(path));
    for (const name of ["a", "b", "c"]) {
      const inode = await image.lookup(name);
      expect(new TextDecoder().decode(await image.readFile(inode))).toBe(await readFile(join(out, name), "utf8"));
      expect(inode.links, name).toBe((await lstat(join(out, name))).nlink);
    }
    run("xz", archive);
    const xz = writeErofs(readTar(createReadStream(`${archive}.xz`)), { output: path, buildTime: 0n });
    await expect(xz).rejects.toMatchObject({ code: "EROFS_BAD_TAR", hint: expect.stringContaining("xzcat") });
  });

  test.for(["text", "hex", "base64"])(
    "have the xattrs of a directory that getfattr prints as %s, as those of mkfs.erofs have",
    async (encoding, context) => {
      needs(context, "setfattr", "getfattr", "mkfs.erofs");
      const folder = await scratch();
      const tree = join(folder, "tree");
      await mkdir(join(tree, "sub"), { recursive: true });
      const names = ["sub/we ird\\name", "sub/new\nline", "ü", "#hash"];
      for (const [index, name] of names.entries()) {
        await writeFile(join(tree, name), name);
        run("setfattr", "-n", `user.${"n".repeat(index)}=x`, "-v", `quoted " and \\ and \n${name}`, join(tree, name));
        run("setfattr", "-n", "user.bytes", "-v", "0x00ff80", join(tree, name));
        run("setfattr", "-n", "user.empty", join(tree, name));
      }
      await link(join(tree, "ü"), join(tree, "hard"));
      const dumped = spawnSync("getfattr", ["-R", "-h", "-d", "-m", "-", "-e", encoding, "."], { cwd: tree });
      await writeFile(join(folder, "xattrs"), dumped.stdout);
      const { io, err } = capture(folder);
      expect(await main(["build", "ours", "tree", "--xattrs", "xattrs"], io), err()).toBe(0);
      run("mkfs.erofs", join(folder, "theirs"), tree);
      await using ours = await openErofs(await fileSource(join(folder, "ours")));
      await using theirs = await openErofs(await fileSource(join(folder, "theirs")));
      const { added, removed, changed } = await diffErofs(theirs, ours);
      expect([added, removed, changed]).toEqual([[], [], []]);
      expect((await ours.xattrs(await ours.lookup("/hard"))).length).toBe(3);
    },
  );
});
