import { link, mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { main } from "../src/cli.ts";
import { writeErofs } from "../src/index.ts";
import { capture, noise, scratch } from "./support.ts";
import { BLOCK, NIDS, tinyImage } from "./tiny-image.ts";

const META_BLOCK = 3;
const SIZE_FIELD = 8;

async function image(): Promise<string> {
  const folder = await scratch();
  await writeFile(join(folder, "tiny.erofs"), tinyImage());
  return folder;
}

describe("erofs-meta", () => {
  test("lists a directory", async () => {
    const { io, out } = capture(await image());
    expect(await main(["ls", "tiny.erofs"], io)).toBe(0);
    expect(out()).toBe("chunked\ncompressed\ndev\nhello\nlink -> sub/../hello\nplain\nsub/\n");
  });

  test("has help for every command", async () => {
    const listed = capture(await image());
    await main(["--help"], listed.io);
    const names = [...listed.out().matchAll(/^ {2}([a-z]+) /gm)].map(([, name]) => name ?? "");
    const commands = names.filter((name) => name !== "help");
    expect(commands).toContain("build");
    for (const command of commands) {
      const { io, out } = capture("/");
      expect(await main([command, "--help"], io), command).toBe(0);
      expect(out()).toContain(`Usage: erofs-meta ${command}`);
    }
  });

  test("lists with details", async () => {
    const { io, out } = capture(await image());
    expect(await main(["ls", "--long", "tiny.erofs", "/hello"], io)).toBe(0);
    expect(out()).toBe("-rw-r--r--  2  70000:70001  6  2020-09-13 12:26:40  /hello\n");
  });

  test("draws a tree", async () => {
    const { io, out } = capture(await image());
    expect(await main(["tree", "tiny.erofs"], io)).toBe(0);
    expect(out().split("\n").slice(-5, -1)).toEqual(["├─ link -> sub/../hello", "├─ plain", "└─ sub/", "   └─ hello"]);
  });

  test.each([["lz4"], ["deflate"], ["deflate,9", "--cluster-size", "16384"]])(
    "builds an image compressed with %s that is smaller and has the same content",
    async (...compress) => {
      const folder = await image();
      const content = "line after line of the same\n".repeat(3000);
      await mkdir(join(folder, "tree"));
      await writeFile(join(folder, "tree/text"), content);
      const build = capture(folder);
      const options = ["--uuid", "00112233-4455-6677-8899-aabbccddeeff", "--owner", "0:0", "--fixed-time"];
      expect(await main(["build", "made.erofs", "tree", ...options, "--compress", ...compress], build.io)).toBe(0);
      expect(build.out()).toBe(
        "image   8.0 KiB in made.erofs\ninodes  2\nuuid    00112233-4455-6677-8899-aabbccddeeff\n",
      );
      const { io, out } = capture(folder);
      expect(await main(["cat", "made.erofs", "/text"], io)).toBe(0);
      expect(out()).toBe(content);
    },
  );

  test.each([
    ["--compress", "lzo"],
    ["--compress", "deflate,0"],
    ["--cluster-size", "65536"],
  ])("takes no %s %s", async (...options) => {
    const { io, err } = capture(await image());
    expect(await main(["build", "made.erofs", ".", ...options], io)).toBe(2);
    expect(err()).toMatch(/lz4, deflate|goes with/);
  });

  test("writes content, following links", async () => {
    const { io, out } = capture(await image());
    expect(await main(["cat", "tiny.erofs", "link"], io)).toBe(0);
    expect(out()).toBe("hello\n");
  });

  test.each([
    [["dump", "tiny.erofs"], "erofs-superblock"],
    [["ls", "tiny.erofs"], "erofs-list"],
    [["stat", "tiny.erofs", "/chunked"], "erofs-stat"],
    [["tree", "tiny.erofs"], "erofs-tree"],
    [["cat", "tiny.erofs", "/hello"], "erofs-content"],
  ])("%j --json prints one document", async (argv, kind) => {
    const { io, out } = capture(await image());
    expect(await main([...argv, "--json"], io)).toBe(0);
    expect(JSON.parse(out())).toMatchObject({ kind, version: 1 });
  });

  test("shows where content lies, holes included", async () => {
    const { io, out } = capture(await image());
    await main(["stat", "tiny.erofs", "/chunked"], io);
    expect(out()).toContain("0..512 at byte 4096");
    expect(out()).toContain("512..900 is a hole");
    const compressed = capture(await image());
    await main(["stat", "tiny.erofs", "/compressed"], compressed.io);
    expect(compressed.out()).toContain("0..1200 lz4 in 512 bytes at byte 4608");
  });

  test("reports a missing path with its code and returns 1", async () => {
    const { io, err } = capture(await image());
    expect(await main(["cat", "tiny.erofs", "/nope"], io)).toBe(1);
    expect(err()).toContain("EROFS_NOT_FOUND");
  });

  test("draws as many levels as it is told, and reads no more", async () => {
    const folder = await scratch();
    const broken = tinyImage();
    // The directory `sub` says that it is as large as can be.
    new DataView(broken.buffer).setUint32(META_BLOCK * BLOCK + NIDS.sub * 32 + SIZE_FIELD, 0xffff_ffff, true);
    await writeFile(join(folder, "tiny.erofs"), broken);
    const whole = capture(folder);
    expect(await main(["tree", "tiny.erofs"], whole.io)).toBe(1);
    const { io, out } = capture(folder);
    expect(await main(["tree", "tiny.erofs", "--depth", "1"], io)).toBe(0);
    expect(out()).toMatch(/└─ sub\/\n$/);
    const root = capture(folder);
    expect(await main(["tree", "tiny.erofs", "--depth", "0"], root.io)).toBe(0);
    expect(root.out()).toBe("/\n");
  });

  test("draws trunks for directories with more entries, and writes the same tree as JSON", async () => {
    const folder = await scratch();
    for (const name of ["a/b/c", "a/b/d", "a/e", "f/g"]) {
      await mkdir(join(folder, "tree", name, ".."), { recursive: true });
      await writeFile(join(folder, "tree", name), "");
    }
    expect(await main(["build", "made.erofs", "tree"], capture(folder).io)).toBe(0);
    const drawn = capture(folder);
    expect(await main(["tree", "made.erofs"], drawn.io)).toBe(0);
    const lines = ["/", "├─ a/", "│  ├─ b/", "│  │  ├─ c", "│  │  └─ d", "│  └─ e", "└─ f/", "   └─ g", ""];
    expect(drawn.out().split("\n")).toEqual(lines);
    const json = capture(folder);
    expect(await main(["tree", "made.erofs", "--json"], json.io)).toBe(0);
    const document = JSON.parse(json.out());
    expect(document.entries.map(({ path }: { path: string }) => path)).toEqual([
      "/",
      "/a",
      "/a/b",
      "/a/b/c",
      "/a/b/d",
      "/a/e",
      "/f",
      "/f/g",
    ]);
    // As if it had been written at once.
    expect(json.out()).toBe(`${JSON.stringify(document, undefined, 2)}\n`);
  });

  test("writes a tree while it walks, and keeps none of it", async () => {
    const folder = await scratch();
    const content = new Uint8Array(0);
    const files = Array.from({ length: 5000 }, (_, index) => ({
      type: "file" as const,
      path: `directory/${"name".repeat(20)}${String(index).padStart(4, "0")}`,
      content,
    }));
    await writeErofs(files, { output: join(folder, "image"), buildTime: 0n });
    const pieces: number[] = [];
    const { io } = capture(folder);
    const stdout = { write: (text: string) => pieces.push(text.length) };
    expect(await main(["tree", "image"], { ...io, stdout })).toBe(0);
    expect(pieces.length).toBeGreaterThan(5);
    expect(Math.max(...pieces)).toBeLessThan(70_000);
  });

  test.each([
    [["verity", "build", "data", "data"]],
    [["verity", "build", "data", "hard"]],
    [["verity", "build", "data", "tree", "--fec", "link"]],
    [["build", "data", "data"]],
    [["build", "data", ".", "--xattrs", "data"]],
    [["composefs", "build", "data", "./data"]],
  ])("%j refuses to write over what it reads", async (argv) => {
    const folder = await scratch();
    await writeFile(join(folder, "data"), noise(8192));
    await symlink("data", join(folder, "link"));
    await link(join(folder, "data"), join(folder, "hard"));
    const { io, err } = capture(folder);
    expect(await main(argv, io)).toBe(1);
    expect(err()).toMatch(/EROFS_BAD_(OPTIONS|TREE)/);
    expect((await readFile(join(folder, "data"))).equals(noise(8192))).toBe(true);
    expect(await readdir(folder)).toEqual(["data", "hard", "link"]);
  });

  test.each([
    [["verity", "build", "data", "/dev/full"]],
    [["build", "/dev/full", "empty"]],
    [["composefs", "build", "dump", "/dev/null"]],
  ])("%j refuses to replace a device", async (argv) => {
    const folder = await scratch();
    await writeFile(join(folder, "data"), noise(8192));
    await writeFile(join(folder, "dump"), "/ 0 40755 2 0 0 0 0.0 - - -\n");
    await mkdir(join(folder, "empty"));
    const { io, err } = capture(folder);
    expect(await main(argv, io)).toBe(1);
    expect(err()).toContain("EROFS_WRONG_TYPE");
  });

  test.each([[["composefs", "build", "/dev/zero", "out"]], [["build", "out", ".", "--xattrs", "/dev/zero"]]])(
    "%j reads no more than it may",
    async (argv) => {
      const folder = await scratch();
      await mkdir(join(folder, "tree"));
      const { io, err } = capture(join(folder, "tree"));
      expect(
        await main(
          argv.map((word) => (word === "out" ? "../out" : word)),
          io,
        ),
      ).toBe(1);
      expect(err()).toContain("EROFS_LIMIT");
      expect(await readdir(folder)).toEqual(["tree"]);
    },
  );

  test("refuses zeros without end as an archive, and takes an archive of nothing", async () => {
    const folder = await scratch();
    await writeFile(join(folder, "empty.tar"), new Uint8Array(10_240));
    expect(await main(["build", "empty.erofs", "empty.tar"], capture(folder).io)).toBe(0);
    const { io, err } = capture(folder);
    expect(await main(["build", "zero.erofs", "/dev/zero"], io)).toBe(1);
    expect(err()).toContain("expected a tar archive, got 1048576 bytes of zeros and more");
    expect(await readdir(folder)).toEqual(["empty.erofs", "empty.tar"]);
  });

  test("says the order of the arguments to whoever took the other one", async () => {
    const folder = await scratch();
    await mkdir(join(folder, "tree"));
    await writeFile(join(folder, "root.tar"), new Uint8Array(10_240));
    for (const source of ["tree", "root.tar"]) {
      const { io, err } = capture(folder);
      expect(await main(["build", source, "made.erofs"], io)).toBe(1);
      expect(err()).toContain("the image comes first: erofs-meta build IMAGE SOURCE");
    }
    expect((await readFile(join(folder, "root.tar"))).byteLength).toBe(10_240);
  });

  test("says its version", async () => {
    const { io, out } = capture("/");
    expect(await main(["--version"], io)).toBe(0);
    expect(out()).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  test("prints xattrs as getfattr does", async () => {
    const folder = await scratch();
    const xattrs = { "security.selinux": Buffer.from("a:b\0"), "user.bytes": Uint8Array.of(1, 255) };
    const content = new Uint8Array(0);
    await writeErofs([{ type: "file", path: "a", content, xattrs }], { output: join(folder, "image"), buildTime: 0n });
    const { io, out } = capture(folder);
    expect(await main(["stat", "image", "a"], io)).toBe(0);
    expect(out()).toContain('xattr     security.selinux="a:b\\000"\n');
    expect(out()).toContain("xattr     user.bytes=0sAf8=\n");
  });

  test("builds the same tree of the same data", async () => {
    const folder = await scratch();
    await writeFile(join(folder, "data"), noise(4096 * 3));
    const trees: Buffer[] = [];
    for (const name of ["one", "other"]) {
      const { io } = capture(folder);
      expect(await main(["verity", "build", "data", name], io)).toBe(0);
      trees.push(await readFile(join(folder, name)));
    }
    expect(trees[1]?.equals(trees[0] ?? Buffer.alloc(0))).toBe(true);
    await writeFile(join(folder, "data"), noise(4096 * 3, 2));
    const { io } = capture(folder);
    expect(await main(["verity", "build", "data", "third"], io)).toBe(0);
    expect((await readFile(join(folder, "third"))).subarray(0, 512).equals(trees[0]?.subarray(0, 512) as Buffer)).toBe(
      false,
    );
  });

  test("builds a tree, verifies it, and names the damaged block", async () => {
    const folder = await scratch();
    const data = noise(4096 * 10);
    await writeFile(join(folder, "data"), data);
    const build = capture(folder);
    expect(await main(["verity", "build", "data", "tree", "--salt", "00ff", "--json"], build.io)).toBe(0);
    const { rootHash } = JSON.parse(build.out()) as { rootHash: string };
    const verify = capture(folder);
    expect(await main(["verity", "verify", "data", "tree", rootHash], verify.io)).toBe(0);
    expect(verify.out()).toBe("all 10 blocks match the root hash\n");

    data[4096 * 7] = (data[4096 * 7] ?? 0) ^ 1;
    await writeFile(join(folder, "data"), data);
    const damaged = capture(folder);
    expect(await main(["verity", "verify", "data", "tree", rootHash], damaged.io)).toBe(1);
    expect(damaged.err()).toContain("damaged data block 7, from byte 28672");
    const json = capture(folder);
    expect(await main(["verity", "verify", "--json", "data", "tree", rootHash], json.io)).toBe(1);
    expect(JSON.parse(json.out())).toMatchObject({
      kind: "error",
      report: { damagedDataBlocks: [{ first: 7, count: 1 }] },
    });
  });
});
