import { chmod, link, mkdir, readdir, readFile, symlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { main } from "../src/cli.ts";
import {
  ErofsError,
  fileSource,
  memorySource,
  openErofs,
  readDirectory,
  readTar,
  type TreeEntry,
  writeErofs,
} from "../src/index.ts";
import { capture, noise, scratch } from "./support.ts";
import { tarHeader, tarOf } from "./tar.ts";
import { describeTree, imageSink } from "./trees.ts";

/** Enough of a zstd frame to be known by. */
const zstdStart = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 4, 0, 0);
const OPTIONS = { uuid: "c1b9d5a2-f162-11cf-9ece-0020afc76f16", buildTime: 5n };

async function treeOfTar(archive: Uint8Array, pieceSize = archive.byteLength): Promise<Map<string, unknown>> {
  function* pieces(): Generator<Uint8Array> {
    for (let at = 0; at < archive.byteLength; at += pieceSize) yield archive.subarray(at, at + pieceSize);
  }
  const output = imageSink();
  await writeErofs(readTar(pieces()), { output, ...OPTIONS });
  return describeTree(await openErofs(memorySource(output.bytes())));
}

describe("readDirectory", () => {
  test("gives modes, times, links and contents", async () => {
    const folder = await scratch();
    const tree = join(folder, "tree");
    await mkdir(join(tree, "sub"), { recursive: true });
    await writeFile(join(tree, "sub/large"), noise(300_000));
    await writeFile(join(tree, "small"), "hello\n");
    await link(join(tree, "small"), join(tree, "sub/again"));
    await symlink("/small", join(tree, "link"));
    await chmod(join(tree, "small"), 0o4750);
    await utimes(join(tree, "small"), 1_234_567_890, 1_234_567_890.25);
    const path = join(folder, "image");
    await writeErofs(readDirectory(tree, { owner: { uid: 7, gid: 8 } }), { output: path, ...OPTIONS });
    await using image = await openErofs(await fileSource(path));
    const found = await describeTree(image);
    expect([...found.keys()]).toEqual(["/", "/link", "/small", "/sub", "/sub/again", "/sub/large"]);
    expect(found.get("/sub/again")).toEqual(found.get("/small"));
    expect(found.get("/small")).toMatchObject({
      ...{ mode: 0o4750, uid: 7, gid: 8, links: 2, mtime: 1_234_567_890n, mtimeNsec: 250_000_000 },
      content: Buffer.from("hello\n").toString("hex"),
    });
    expect(found.get("/link")).toMatchObject({ target: "/small" });
    expect(found.get("/sub/large")).toMatchObject({ content: Buffer.from(noise(300_000)).toString("hex") });
  });

  test.each([
    ["nothing", "missing", "EROFS_NOT_FOUND"],
    ["a file", "file", "EROFS_WRONG_TYPE"],
  ])("refuses %s", async (_, name, code) => {
    const folder = await scratch();
    await writeFile(join(folder, "file"), "");
    await expect(readDirectory(join(folder, name)).next()).rejects.toMatchObject({ code });
  });

  test("refuses more levels than it may go down", async () => {
    const folder = await scratch();
    await mkdir(join(folder, "a/b/c"), { recursive: true });
    const all = async (): Promise<void> => {
      for await (const _ of readDirectory(folder, { maxDepth: 2 }));
    };
    await expect(all()).rejects.toMatchObject({ code: "EROFS_LIMIT" });
  });
});

describe("readDirectory of many names, for which it has a thread", () => {
  /** 3,000 files in 60 directories, one inside the other by tens. */
  async function manyNames(): Promise<string> {
    const folder = await scratch();
    for (let index = 0; index < 60; index += 1) {
      const directory = join(
        folder,
        `${Math.floor(index / 10)}`,
        ...Array.from({ length: index % 10 }, (_, at) => `${at}`),
      );
      await mkdir(directory, { recursive: true });
      for (let file = 0; file < 50; file += 1)
        await writeFile(join(directory, `file-${file}`), noise(file * 40, index));
    }
    return folder;
  }

  test("gives what is there, in order, to whoever writes at once or later", async () => {
    const folder = await manyNames();
    await writeFile(join(folder, "5/large"), noise(1_500_000));
    const listed: TreeEntry[] = [];
    for await (const entry of readDirectory(folder, { workers: 1 })) listed.push(entry);
    const alone: string[] = [];
    for await (const { path } of readDirectory(folder, { workers: 0 })) alone.push(path);
    expect(alone).toEqual(listed.map(({ path }) => path));
    expect(listed.map(({ path }) => path)).toEqual(await pathsBelow(folder));
    const [now, later] = [imageSink(), imageSink()];
    await writeErofs(readDirectory(folder, { workers: 1 }), { output: now, ...OPTIONS });
    await writeErofs(listed, { output: later, ...OPTIONS });
    expect(Buffer.compare(now.bytes(), later.bytes())).toBe(0);
    const image = await openErofs(memorySource(now.bytes()));
    const content = await image.readFile(await image.lookup("/4/0/1/file-49"));
    expect(Buffer.compare(content, await readFile(join(folder, "4/0/1/file-49")))).toBe(0);
    expect((await image.readFile(await image.lookup("/5/large"))).byteLength).toBe(1_500_000);
  });

  test("can be left early", async () => {
    let seen = 0;
    for await (const _ of readDirectory(await manyNames())) {
      seen += 1;
      if (seen === 2000) break;
    }
    expect(seen).toBe(2000);
  });

  test("refuses more levels than it may go down", async () => {
    const folder = await manyNames();
    await mkdir(join(folder, "5/z/z/z/z/z/z/z/z/z/z/z/z"), { recursive: true });
    const all = async (): Promise<void> => {
      for await (const _ of readDirectory(folder, { maxDepth: 12 }));
    };
    await expect(all()).rejects.toMatchObject({ code: "EROFS_LIMIT" });
  });
});

/** The order in which directories are read: names by their bytes, what is below them after all of them. */
async function pathsBelow(root: string): Promise<string[]> {
  const paths = ["/"];
  const visit = async (path: string): Promise<void> => {
    const found = await readdir(root + path, { withFileTypes: true });
    const sorted = found.sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)));
    for (const { name } of sorted) paths.push(`${path}/${name}`);
    for (const one of sorted) if (one.isDirectory()) await visit(`${path}/${one.name}`);
  };
  await visit("");
  return paths;
}

describe("readTar", () => {
  const archive = tarOf([
    { name: "./", type: "5", mode: 0o711 },
    { name: "dir/file", mode: 0o640, uid: 1000, gid: 1001, mtime: 99, content: noise(700) },
    { name: "dir/again", type: "1", linkName: "dir/file" },
    { name: "link", type: "2", linkName: "../x" },
    { name: "null", type: "3", major: 1, minor: 3 },
    { name: "pipe", type: "6" },
    {
      name: "short",
      content: noise(3),
      pax: {
        path: `${"long/".repeat(40)}naïve`,
        uid: "3000000",
        mtime: "123.5",
        "SCHILY.xattr.user.key": "va=l\nue",
      },
    },
    { name: "short", longName: `${"g".repeat(120)}/name`, content: noise(1) },
    { name: "prefixed", prefix: "in/front" },
  ]);

  test.each([1, 100, 512, 100_000])("reads every kind of entry, in pieces of %i bytes", async (pieceSize) => {
    const found = await treeOfTar(archive, pieceSize);
    expect(found.get("/")).toMatchObject({ mode: 0o711 });
    expect(found.get("/dir/file")).toMatchObject({
      ...{ mode: 0o640, uid: 1000, gid: 1001, mtime: 99n, links: 2 },
      content: Buffer.from(noise(700)).toString("hex"),
    });
    expect(found.get("/dir/again")).toEqual(found.get("/dir/file"));
    expect(found.get("/link")).toMatchObject({ target: "../x" });
    expect(found.get("/null")).toMatchObject({ type: "char", device: { major: 1, minor: 3 } });
    expect(found.get("/pipe")).toMatchObject({ type: "fifo" });
    expect(found.get(`/${"long/".repeat(40)}naïve`)).toMatchObject({
      ...{ uid: 3_000_000, mtime: 123n, mtimeNsec: 500_000_000 },
      xattrs: { "user.key": Buffer.from("va=l\nue").toString("hex") },
    });
    expect(found.has(`/${"g".repeat(120)}/name`)).toBe(true);
    expect(found.has("/in/front/prefixed")).toBe(true);
  });

  test("takes the last of several members with one path, links to the ones before it excepted", async () => {
    const found = await treeOfTar(
      tarOf([
        { name: "file", content: noise(9000) },
        { name: "old", type: "1", linkName: "file" },
        { name: "file", mode: 0o600, content: noise(5) },
        { name: "new", type: "1", linkName: "file" },
        { name: "old again", type: "1", linkName: "old" },
        { name: "changes", content: noise(3) },
        { name: "changes", type: "2", linkName: "file" },
        { name: "becomes", content: noise(3) },
        { name: "becomes", type: "5" },
        { name: "becomes/full", content: noise(2) },
        { name: "empty", type: "5" },
        { name: "empty", content: noise(1) },
        { name: "file", type: "1", linkName: "file" },
      ]),
    );
    const hex = (size: number): string => Buffer.from(noise(size)).toString("hex");
    expect(found.get("/file")).toMatchObject({ content: hex(5), mode: 0o600, links: 2 });
    expect(found.get("/new")).toEqual(found.get("/file"));
    expect(found.get("/old")).toMatchObject({ content: hex(9000), mode: 0o644, links: 2 });
    expect(found.get("/old again")).toEqual(found.get("/old"));
    expect(found.get("/changes")).toMatchObject({ target: "file" });
    expect(found.get("/becomes/full")).toMatchObject({ content: hex(2) });
    expect(found.get("/empty")).toMatchObject({ type: "file" });
  });

  test.each([1, 1000])("reads archives in gzip, in pieces of %i bytes", async (pieceSize) => {
    expect(await treeOfTar(gzipSync(archive), pieceSize)).toEqual(await treeOfTar(archive));
  });

  test("reads an archive whose first name looks like compressed data", async () => {
    expect([...(await treeOfTar(tarOf([{ name: "BZh" }]))).keys()]).toEqual(["/", "/BZh"]);
  });

  test.each<[string, Uint8Array, RegExp]>([
    ["the member that is of an unknown type", tarOf([{ name: "a/b", type: "M" }]), /type "M" \(a\/b, at byte 156\)/],
    [
      "the member that is cut off",
      tarOf([{ name: "a/b", content: noise(600) }]).subarray(0, 700),
      /\(a\/b, at byte 700\)/,
    ],
    ["the member before the end", tarOf([{ name: "a/b" }]).subarray(0, 512), /zeros behind a\/b, got the end/],
    ["a path that stands for two things", tarOf([{ name: "a" }, { name: "a/b" }]), /directory, got a file \(\/a\)/],
    [
      "a directory that is a file later",
      tarOf([{ name: "d/a" }, { name: "d" }]),
      /names in it already, got a file \(d\)/,
    ],
    ["a link to nothing", tarOf([{ name: "a", type: "1", linkName: "gone" }]), /got no gone \(\/a\)/],
    ["zstd", zstdStart, /got zstd data .*zstdcat ARCHIVE \| erofs-meta build IMAGE -/s],
    ["damaged gzip", gzipSync(archive).fill(7, 40, 60), /expected gzip data, got damage/],
    ["half of gzip", gzipSync(archive).subarray(0, 300), /expected gzip data, got damage: unexpected end/],
  ])("names %s", async (_, bytes, message) => {
    const error = await treeOfTar(bytes).catch((reason: unknown) => reason);
    if (!(error instanceof ErofsError)) throw error;
    expect(`${error.message}\n${error.hint}`).toMatch(message);
  });

  test.each<[string, Uint8Array, string]>([
    ["a sparse file", tarOf([{ name: "a", type: "S" }]), "EROFS_UNSUPPORTED"],
    ["a pax sparse file", tarOf([{ name: "a", pax: { "GNU.sparse.major": "1" } }]), "EROFS_UNSUPPORTED"],
    ["'..' in a path", tarOf([{ name: "../a" }]), "EROFS_BAD_TREE"],
    ["an archive without an end", archive.subarray(0, 1024), "EROFS_BAD_TAR"],
    ["nothing", new Uint8Array(0), "EROFS_BAD_TAR"],
    ["something else", noise(2048), "EROFS_BAD_TAR"],
    ["an extended header of 2 MiB", tarHeader({ name: "a", type: "x" }, 2 ** 21), "EROFS_LIMIT"],
    ["a sparse file without a name", tarOf([{ name: "", type: "S" }]), "EROFS_UNSUPPORTED"],
    ["many extended headers of a member", extendedHeaders("x"), "EROFS_LIMIT"],
    ["many extended headers of all members", extendedHeaders("g"), "EROFS_LIMIT"],
  ])("refuses %s", async (_, bytes, code) => {
    await expect(treeOfTar(bytes)).rejects.toMatchObject({ code });
  });

  test("of every truncation and flipped byte gives entries or a typed error", async () => {
    const attempt = async (bytes: Uint8Array): Promise<void> => {
      try {
        for await (const entry of readTar([bytes])) {
          if (entry.type === "file" && "read" in entry.content) for await (const _ of entry.content.read());
        }
      } catch (error) {
        if (!(error instanceof ErofsError)) throw error;
      }
    };
    for (let length = 0; length < archive.byteLength; length += 11) await attempt(archive.subarray(0, length));
    for (let at = 0; at < archive.byteLength; at += 5) {
      const flipped = archive.slice();
      flipped[at] = (flipped[at] ?? 0) ^ 0x81;
      await attempt(flipped);
    }
  });
});

describe("erofs-meta build", () => {
  test("writes the same image of a directory and of its archive", async () => {
    const folder = await scratch();
    await mkdir(join(folder, "tree"));
    await writeFile(join(folder, "tree/file"), "hello\n");
    await chmod(join(folder, "tree"), 0o755);
    await chmod(join(folder, "tree/file"), 0o644);
    await writeFile(
      join(folder, "tree.tar"),
      tarOf([
        { name: "./", type: "5", mode: 0o755 },
        { name: "./file", mode: 0o644, content: new TextEncoder().encode("hello\n") },
      ]),
    );
    for (const source of ["tree", "tree.tar"]) {
      const { io, out } = capture(folder);
      const options = ["--uuid", OPTIONS.uuid, "--time", "5", "--fixed-time", "--owner", "0:0", "--json"];
      expect(await main(["build", `${source}.erofs`, source, ...options], io)).toBe(0);
      expect(JSON.parse(out())).toMatchObject({ kind: "erofs-image", inodes: 2 });
    }
    const [one, other] = await Promise.all(["tree", "tree.tar"].map((name) => readFile(join(folder, `${name}.erofs`))));
    expect(one?.equals(other ?? Buffer.alloc(0))).toBe(true);
  });

  test("gives the same tree the same UUID, and another tree another one", async () => {
    const folder = await scratch();
    const content = "hello\n".repeat(5000);
    const made = async (
      name: string,
      text: string,
      options: string[] = [],
    ): Promise<{ uuid: string; bytes: Buffer }> => {
      await writeFile(join(folder, `${name}.tar`), tarOf([{ name: "file", content: new TextEncoder().encode(text) }]));
      const { io, out } = capture(folder);
      expect(await main(["build", name, `${name}.tar`, "--json", ...options], io)).toBe(0);
      return { uuid: JSON.parse(out()).uuid, bytes: await readFile(join(folder, name)) };
    };
    const one = await made("one", content);
    const same = await made("same", content);
    expect(same.bytes.equals(one.bytes)).toBe(true);
    expect(one.uuid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    await using image = await openErofs(memorySource(one.bytes));
    expect(image.superblock.uuid).toBe(one.uuid);
    const others = [
      await made("content", content.replace("hello", "Hello")),
      await made("name", content, ["--name", "volume"]),
      await made("time", content, ["--time", "1"]),
    ];
    expect(new Set([one, ...others].map(({ uuid }) => uuid)).size).toBe(4);
  });

  test("refuses an image inside of what goes into it", async () => {
    const folder = await scratch();
    await mkdir(join(folder, "self"));
    await symlink("self", join(folder, "link"));
    for (const [image, source] of [
      ["self/image", "self"],
      ["link/image", "self"],
      ["image", "."],
    ] as const) {
      const { io, err } = capture(folder);
      expect(await main(["build", image, source], io)).toBe(1);
      expect(err()).toContain("EROFS_BAD_TREE");
    }
    expect(await readdir(join(folder, "self"))).toEqual([]);
    const { io } = capture(join(folder, "self"));
    expect(await main(["build", "../selfish", "."], io)).toBe(0);
  });

  test("returns 1 for a source that is not there, and leaves nothing", async () => {
    const { io, err } = capture(await scratch());
    expect(await main(["build", "image", "missing"], io)).toBe(1);
    expect(err()).toContain("EROFS_NOT_FOUND");
  });
});

/** Extended headers that are each within the limit, with keys of their own. */
function extendedHeaders(type: "x" | "g"): Uint8Array {
  const headers = ["a", "b", "c"].map((key) => {
    const content = `400000 ${key}=${"v".repeat(400_000 - "400000 a=\n".length)}\n`;
    return [tarHeader({ name: "pax", type }, 400_000), Buffer.from(content), Buffer.alloc(384)];
  });
  return Buffer.concat([...headers.flat(), tarOf([{ name: "a" }])]);
}
