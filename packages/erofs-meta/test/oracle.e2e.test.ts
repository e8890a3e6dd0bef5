import { createHash } from "node:crypto";
import {
  link,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  symlink,
  truncate,
  utimes,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { main } from "../src/cli.ts";
import {
  buildVerityTree,
  type ErofsImage,
  fileSource,
  type Inode,
  memorySource,
  openErofs,
  type VerityAlgorithm,
  verifyVerityTree,
} from "../src/index.ts";
import { capture, needs, noise, run, scratch, tryRun } from "./support.ts";

/** A tree with what decides layouts: empty, small, block-sized, large, sparse; many names; links; xattrs. */
async function sourceTree(): Promise<{ folder: string; tree: string }> {
  const folder = await scratch();
  const tree = join(folder, "tree");
  await mkdir(join(tree, "etc/deep/er"), { recursive: true });
  await mkdir(join(tree, "many"));
  await mkdir(join(tree, "empty"));
  await writeFile(join(tree, "empty-file"), "");
  await writeFile(join(tree, "etc/os-release"), "NAME=test\n");
  for (const size of [1, 4095, 4096, 4097, 8192, 100_000, 3_000_001]) {
    await writeFile(join(tree, `size-${size}`), noise(size, size));
  }
  await writeFile(join(tree, "text"), "the same line again\n".repeat(20_000));
  await writeFile(join(tree, "sparse"), noise(5000));
  await truncate(join(tree, "sparse"), 2_000_000);
  const sparse = await open(join(tree, "sparse"), "r+");
  await sparse.write(noise(6000), 0, 6000, 1_500_000);
  await sparse.close();
  for (let index = 0; index < 700; index += 1) {
    await writeFile(join(tree, "many", `a name of some length, number ${index}`), `${index}`);
  }
  await writeFile(join(tree, "many", "ünïcödé-名前"), "x");
  await symlink("../etc/os-release", join(tree, "etc/deep/link"));
  await symlink("/etc/deep", join(tree, "absolute"));
  await symlink(`${"long/".repeat(700)}end`, join(tree, "long-link"));
  await link(join(tree, "text"), join(tree, "etc/hard"));
  run("setfattr", "-n", "user.one", "-v", "first", join(tree, "text"));
  for (const name of ["size-1", "size-4097", "empty"]) {
    run("setfattr", "-n", "user.shared", "-v", "the same value in several places", join(tree, name));
  }
  await utimes(join(tree, "etc/os-release"), 1_234_567_890, 1_234_567_890);
  return { folder, tree };
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** The attributes `getfattr` shows, name by name. */
function attributesOf(real: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const line of run("getfattr", "-h", "-d", "-m", "-", "-e", "hex", "--absolute-names", real).split("\n")) {
    const [name, value] = line.split("=0x");
    if (name !== undefined && value !== undefined) found[name] = value;
  }
  return found;
}

async function compareNode(image: ErofsImage, inode: Inode, real: string, time: bigint | undefined): Promise<void> {
  const stat = await lstat(real);
  expect(inode.mode, real).toBe(stat.mode & 0o7777);
  expect([inode.uid, inode.gid], real).toEqual([stat.uid, stat.gid]);
  const mtime = time ?? BigInt(Math.floor(stat.mtimeMs / 1000));
  if (inode.form === "extended") expect(inode.mtime, real).toBe(mtime);
  if (inode.type === "symlink") expect(await image.readLink(inode)).toBe(await readlink(real));
  if (inode.type !== "file") return;
  expect(inode.links, real).toBe(stat.nlink);
  expect(inode.sizeBytes, real).toBe(BigInt(stat.size));
  expect(sha256(await image.readFile(inode)), real).toBe(sha256(await readFile(real)));
}

describe("images made by mkfs.erofs with an extra device", () => {
  test("are read with that device, and without it as far as they go", async (context) => {
    needs(context, "mkfs.erofs", "setfattr");
    const { folder, tree } = await sourceTree();
    const path = join(folder, "image");
    const blob = join(folder, "blob");
    run("mkfs.erofs", "-T0", "--chunksize=8192", `--blobdev=${blob}`, path, tree);
    await using source = await fileSource(path);
    await using device = await fileSource(blob);
    const image = await openErofs(source, { devices: [device] });
    expect(image.superblock.extraDevices).toBe(1);
    for await (const { path: inside, inode } of image.walk()) await compareNode(image, inode, join(tree, inside), 0n);

    const extents = [];
    for await (const extent of image.extents(await image.lookup("/size-3000001"))) extents.push(extent.device);
    expect(new Set(extents)).toEqual(new Set([1]));
    const alone = await openErofs(source);
    await expect(alone.readFile(await alone.lookup("/size-3000001"))).rejects.toMatchObject({
      code: "EROFS_NOT_FOUND",
      hint: expect.stringContaining("the files the image was made with"),
    });
    await expect(openErofs(source, { devices: [device, device] })).rejects.toMatchObject({ code: "EROFS_BAD_OPTIONS" });

    // The same device at an address behind the image: in its table, and both in one file.
    const whole = new Uint8Array(await readFile(path));
    const start = Math.ceil(whole.byteLength / 4096) * 4096;
    const table = image.superblock.deviceTableSlot * 128;
    const blocks = Buffer.from(whole.buffer, whole.byteOffset);
    blocks.writeUInt32LE(start / 4096, table + 68);
    // Without the feature bit of the checksum, which covers the table.
    blocks.writeUInt32LE(blocks.readUInt32LE(1032) & ~1, 1032);
    const both = Buffer.alloc(start + device.sizeBytes);
    both.set(whole);
    both.set(await readFile(blob), start);
    const joined = await openErofs(memorySource(both));
    const content = await joined.readFile(await joined.lookup("/size-3000001"));
    expect(sha256(content)).toBe(sha256(await readFile(join(tree, "size-3000001"))));

    const { io, out } = capture(folder);
    expect(await main(["cat", "image", "/etc/os-release", "--device", "blob"], io)).toBe(0);
    expect(out()).toBe("NAME=test\n");
  });
});

describe("images made by mkfs.erofs", () => {
  test.for<[string, string[]]>([
    ["no options", []],
    ["compact inodes", ["-Eforce-inode-compact"]],
    ["extended inodes", ["-Eforce-inode-extended"]],
    ["no inline data", ["-Enoinline_data"]],
    ["chunks with a block map", ["--chunksize=4096", "-Eforce-chunk-blockmap"]],
    ["chunks with indexes", ["--chunksize=8192", "-Eforce-chunk-indexes"]],
    ["every xattr shared", ["-x0"]],
    ["no xattrs", ["-x-1"]],
    ["one time for all", ["-T1700000000"]],
    ["lz4", ["-zlz4"]],
    ["lz4hc in big clusters", ["-zlz4hc,3", "-C65536"]],
    ["lz4 with packed tails", ["-zlz4", "-Eztailpacking"]],
    ["lz4 with full indexes", ["-zlz4", "-Elegacy-compress"]],
    ["lz4 with full indexes, big clusters and packed tails", ["-zlz4", "-C32768", "-Elegacy-compress,ztailpacking"]],
    ["lz4 in clusters of 1 MiB", ["-zlz4", "-C1048576"]],
    ["lz4hc in big clusters with packed tails", ["-zlz4hc,4", "-C65536", "-Eztailpacking"]],
    ["deflate", ["-zdeflate"]],
    ["fragments of tails", ["-zlz4", "-Efragments"]],
    ["fragments of tails in big clusters", ["-zlz4hc,3", "-C65536", "-Efragments,ztailpacking"]],
    ["everything at once", ["-zlz4", "-C65536", "-Efragments,ztailpacking,dedupe"]],
    ["fragments", ["-zlz4", "-Eall-fragments"]],
    ["deduplication", ["-zlz4", "-Ededupe"]],
    ["a long xattr prefix", ["--xattr-prefix=user.sha"]],
    ["xattr name filters", ["-Exattr-name-filter"]],
    ["blocks of 512 bytes", ["-b512"]],
  ])("with %s are read as they were written", async ([, options], context) => {
    needs(context, "mkfs.erofs", "fsck.erofs", "setfattr");
    const { folder, tree } = await sourceTree();
    const path = join(folder, "image");
    const made = tryRun("mkfs.erofs", ...options, path, tree);
    if (made.status !== 0)
      context.skip(`mkfs.erofs refuses ${options.join(" ")}: ${made.stderr.trim().split("\n")[0]}`);
    run("fsck.erofs", path);

    await using image = await openErofs(await fileSource(path));
    const hasXattrs = !options.includes("-x-1");
    const mtime = options.includes("-T1700000000") ? 1_700_000_000n : undefined;
    const seen = new Set<string>();
    for await (const { path: inside, inode } of image.walk()) {
      const real = join(tree, inside);
      seen.add(real);
      await compareNode(image, inode, real, mtime);
      const xattrs = (await image.xattrs(inode)).map(({ name, value }) => [name, Buffer.from(value).toString("hex")]);
      if (seen.size < 40) expect(Object.fromEntries(xattrs), real).toEqual(hasXattrs ? attributesOf(real) : {});
    }
    const names = await readdir(tree, { recursive: true });
    expect(seen).toEqual(new Set([join(tree, "/"), ...names.map((name) => join(tree, name))]));
  });

  test("have the superblock that dump.erofs shows", async (context) => {
    needs(context, "mkfs.erofs", "dump.erofs");
    const { folder, tree } = await sourceTree();
    const path = join(folder, "image");
    run("mkfs.erofs", "-U", "c1b9d5a2-f162-11cf-9ece-0020afc76f16", "-T1700000000", path, tree);
    const shown = run("dump.erofs", path);
    const field = (name: string): string => new RegExp(`${name}:\\s*(.+)`).exec(shown)?.[1]?.trim() ?? `no ${name}`;
    await using image = await openErofs(await fileSource(path));
    const { superblock } = image;
    expect(`${superblock.blocks}`).toBe(field("Filesystem blocks"));
    expect(`${superblock.metaBlock}`).toBe(field("Filesystem inode metadata start block"));
    expect(`${superblock.xattrBlock}`).toBe(field("Filesystem shared xattr metadata start block"));
    expect(`${superblock.rootNid}`).toBe(field("Filesystem root nid"));
    expect(`${superblock.inodes}`).toBe(/inode count:\s*(\d+)/.exec(shown)?.[1]);
    expect(superblock.uuid).toBe(field("Filesystem UUID"));
    expect(superblock.buildTime).toBe(1_700_000_000n);
  });
});

describe("hash trees", () => {
  const SALT = Buffer.from(noise(32, 9)).toString("hex");
  const UUID = "c1b9d5a2-f162-11cf-9ece-0020afc76f16";

  test.for<[number, number, number, VerityAlgorithm, string]>([
    [1, 4096, 4096, "sha256", SALT],
    [2, 4096, 4096, "sha256", SALT],
    [128, 4096, 4096, "sha256", SALT],
    [129, 4096, 4096, "sha256", "-"],
    [16_385, 4096, 4096, "sha256", SALT],
    [1000, 512, 512, "sha256", SALT],
    [1000, 1024, 4096, "sha1", "00"],
    [1000, 4096, 1024, "sha512", SALT.repeat(8)],
    [300, 4096, 4096, "sha384", SALT],
    [300, 4096, 4096, "sha224", SALT],
  ])(
    "of %i blocks of %i bytes in blocks of %i with %s are veritysetup's to the byte",
    async ([blocks, dataBlockSize, hashBlockSize, algorithm, salt], context) => {
      needs(context, "veritysetup");
      const folder = await scratch();
      const [data, ours, theirs] = [join(folder, "data"), join(folder, "ours"), join(folder, "theirs")];
      await writeFile(data, noise(blocks * dataBlockSize));
      const shown = run(
        "veritysetup",
        "format",
        `--data-block-size=${dataBlockSize}`,
        `--hash-block-size=${hashBlockSize}`,
        `--hash=${algorithm}`,
        `--salt=${salt}`,
        `--uuid=${UUID}`,
        data,
        theirs,
      );
      const theirRoot = /Root hash:\s*([0-9a-f]+)/.exec(shown)?.[1];
      await using source = await fileSource(data);
      const { rootHash } = await buildVerityTree(source, {
        output: ours,
        salt: salt === "-" ? new Uint8Array(0) : Buffer.from(salt, "hex"),
        uuid: UUID,
        dataBlockSize,
        hashBlockSize,
        algorithm,
      });
      expect(Buffer.from(rootHash).toString("hex")).toBe(theirRoot);
      expect(sha256(await readFile(ours))).toBe(sha256(await readFile(theirs)));
      run("veritysetup", "verify", data, ours, theirRoot ?? "");
      await using tree = await fileSource(theirs);
      expect(await verifyVerityTree(source, tree, { rootHash })).toMatchObject({ ok: true });
    },
  );

  test("are refused by veritysetup exactly when they are by us", async (context) => {
    needs(context, "veritysetup");
    const folder = await scratch();
    const [data, treePath] = [join(folder, "data"), join(folder, "tree")];
    const bytes = noise(300 * 4096);
    await writeFile(data, bytes);
    const { rootHash } = await buildVerityTree(memorySource(bytes), {
      output: treePath,
      salt: new Uint8Array(8),
      uuid: UUID,
    });
    bytes[299 * 4096 + 17] = (bytes[299 * 4096 + 17] ?? 0) ^ 1;
    await writeFile(data, bytes);
    expect(tryRun("veritysetup", "verify", data, treePath, Buffer.from(rootHash).toString("hex")).status).not.toBe(0);
    await using tree = await fileSource(treePath);
    const report = await verifyVerityTree(memorySource(bytes), tree, { rootHash });
    expect(report.damagedDataBlocks).toEqual([{ first: 299, count: 1 }]);
  });

  test("that do not fit on the disk leave a typed error and nothing else", async (context) => {
    if (process.getuid?.() !== 0) context.skip("a small file system can only be mounted by root");
    const folder = await scratch();
    const small = join(folder, "small");
    await mkdir(small);
    run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small);
    try {
      const source = memorySource(noise(4096 * 4096));
      const options = { output: join(small, "tree"), salt: new Uint8Array(0), uuid: UUID };
      await expect(buildVerityTree(source, options)).rejects.toMatchObject({ code: "EROFS_DISK_FULL" });
      expect(await readdir(small)).toEqual([]);
    } finally {
      run("umount", small);
    }
  });
});
