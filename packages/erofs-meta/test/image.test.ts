import { describe, expect, test } from "vitest";
import {
  ErofsError,
  type ErofsImage,
  type Extent,
  type Inode,
  memorySource,
  openErofs,
  type WalkOptions,
  windowSource,
} from "../src/index.ts";
import { BLOCK, CHUNK_CONTENT, COMPRESSED_CONTENT, NIDS, PLAIN_CONTENT, tinyImage } from "./tiny-image.ts";

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

async function failure(promise: Promise<unknown>): Promise<ErofsError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof ErofsError)) throw new Error(`expected an ErofsError, got ${String(error)}`);
  return error;
}

/** Reads everything an image offers, as a program that trusts nothing would. */
async function readAll(image: ErofsImage): Promise<void> {
  for await (const { inode } of image.walk({ maxEntries: 1000 })) {
    await tolerate(image.xattrs(inode));
    await tolerate(countExtents(image, inode));
    if (inode.type === "symlink") await tolerate(image.readLink(inode));
    if (inode.type === "file") await tolerate(image.readFile(inode, { maxBytes: 1 << 20 }));
  }
  await tolerate(image.lookup("/link"));
}

async function countExtents(image: ErofsImage, inode: Inode): Promise<number> {
  let count = 0;
  for await (const _ of image.extents(inode)) count += 1;
  return count;
}

async function tolerate(promise: Promise<unknown>): Promise<void> {
  try {
    await promise;
  } catch (error) {
    if (!(error instanceof ErofsError)) throw error;
  }
}

describe("an open image", () => {
  test("walks parents before children with whole paths", async () => {
    const image = await openErofs(memorySource(tinyImage()));
    const paths: string[] = [];
    for await (const { path } of image.walk()) paths.push(path);
    expect(paths).toEqual(["/", "/chunked", "/compressed", "/dev", "/hello", "/link", "/plain", "/sub", "/sub/hello"]);
  });

  test("walks from a directory", async () => {
    const image = await openErofs(memorySource(tinyImage()));
    const found: [string, number][] = [];
    for await (const { path, depth } of image.walk({ from: "/sub/" })) found.push([path, depth]);
    expect(found).toEqual([
      ["/sub", 0],
      ["/sub/hello", 1],
    ]);
  });

  test("decodes the fields of both inode forms", async () => {
    const image = await openErofs(memorySource(tinyImage()));
    expect(await image.lookup("/hello")).toMatchObject({
      form: "extended",
      layout: "inline",
      mode: 0o644,
      uid: 70000,
      gid: 70001,
      links: 2,
      mtime: 1_600_000_000n,
      mtimeNsec: 5,
      sizeBytes: 6n,
    });
    expect(await image.lookup("/plain")).toMatchObject({
      form: "compact",
      layout: "plain",
      uid: 1000,
      mtime: 1_700_000_000n,
    });
    expect((await image.lookup("/dev")).device).toEqual({ major: 0x405, minor: 0x12367 });
  });

  test("reads plain, inline and chunked content, holes as zeros", async () => {
    const image = await openErofs(memorySource(tinyImage()));
    expect(text(await image.readFile(await image.lookup("/hello")))).toBe("hello\n");
    expect(await image.readFile(await image.lookup("/plain"))).toEqual(PLAIN_CONTENT.slice(0, 300));
    const chunked = await image.readFile(await image.lookup("/chunked"));
    expect(chunked.subarray(0, BLOCK)).toEqual(CHUNK_CONTENT);
    expect(chunked.subarray(BLOCK)).toEqual(new Uint8Array(900 - BLOCK));
  });

  test("reads a range of content", async () => {
    const image = await openErofs(memorySource(tinyImage()));
    const pieces: Uint8Array[] = [];
    const inode = await image.lookup("/chunked");
    for await (const piece of image.content(inode, { start: 510, end: 514 })) pieces.push(piece);
    expect(Buffer.concat(pieces)).toEqual(Buffer.from([0x63, 0x63, 0, 0]));
  });

  test("lists inline and shared xattrs", async () => {
    const image = await openErofs(memorySource(tinyImage()));
    const xattrs = await image.xattrs(await image.lookup("/hello"));
    expect(xattrs.map(({ name, value }) => [name, text(value)])).toEqual([
      ["user.note", "inline"],
      ["trusted.shared", "by many"],
    ]);
  });

  test("follows links in paths, and does not leave the image through '..'", async () => {
    const image = await openErofs(memorySource(tinyImage()));
    expect((await image.lookup("/link")).nid).toBe(BigInt(NIDS.hello));
    expect((await image.lookup("/link", { followLast: false })).type).toBe("symlink");
    expect((await image.lookup("/../../sub/../hello")).nid).toBe(BigInt(NIDS.hello));
  });

  test("opens inside another source", async () => {
    const disk = new Uint8Array(BLOCK + tinyImage().byteLength + BLOCK);
    disk.set(tinyImage(), BLOCK);
    const image = await openErofs(windowSource(memorySource(disk), BLOCK, tinyImage().byteLength));
    expect((await image.root()).type).toBe("directory");
  });

  test.each([
    ["/nope", "EROFS_NOT_FOUND"],
    ["/hello/x", "EROFS_WRONG_TYPE"],
  ])("refuses the path %s with %s", async (path, code) => {
    const image = await openErofs(memorySource(tinyImage()));
    expect((await failure(image.lookup(path))).code).toBe(code);
  });

  test("reads compressed content, and says where it lies", async () => {
    const image = await openErofs(memorySource(tinyImage()));
    const inode = await image.lookup("/compressed");
    expect(await image.readFile(inode)).toEqual(COMPRESSED_CONTENT);
    const pieces: Uint8Array[] = [];
    for await (const piece of image.content(inode, { start: 7, end: 700 })) pieces.push(piece);
    expect(Buffer.concat(pieces)).toEqual(Buffer.alloc(693, "c"));
    const extents: Extent[] = [];
    for await (const extent of image.extents(inode)) extents.push(extent);
    expect(extents).toEqual([
      { start: 0, length: 1200, position: 9 * BLOCK, stored: { encoding: "lz4", length: BLOCK } },
    ]);
  });

  test("ends a chain of links that leads to itself", async () => {
    const bytes = tinyImage();
    bytes.set(new TextEncoder().encode("././././link"), 3 * BLOCK + NIDS.link * 32 + 32);
    const image = await openErofs(memorySource(bytes));
    expect((await failure(image.lookup("/link"))).code).toBe("EROFS_LIMIT");
  });

  test("refuses a directory that contains its parent", async () => {
    const bytes = tinyImage();
    const subEntry = 3 * BLOCK + NIDS.sub * 32 + 32 + 2 * 12;
    new DataView(bytes.buffer).setBigUint64(subEntry, BigInt(NIDS.root), true);
    const image = await openErofs(memorySource(bytes));
    const walk = async (): Promise<void> => {
      for await (const _ of image.walk());
    };
    expect((await failure(walk())).code).toBe("EROFS_CORRUPT");
  });

  test.each([
    [{ maxEntries: 3 }, "EROFS_LIMIT"],
    [{ maxDepth: 1 }, "EROFS_LIMIT"],
    [{ maxDeep: 1 }, "EROFS_BAD_OPTIONS"],
  ])("a walk with %j fails with %s", async (options, code) => {
    const image = await openErofs(memorySource(tinyImage()));
    const walk = async (): Promise<void> => {
      for await (const _ of image.walk(options as WalkOptions));
    };
    expect((await failure(walk())).code).toBe(code);
  });
});

describe("damaged images", () => {
  test("every truncation ends in a typed error or reads what is there", async () => {
    const bytes = tinyImage();
    for (let length = 0; length < bytes.byteLength; length += 1) {
      await tolerate(openErofs(memorySource(bytes.subarray(0, length))).then(readAll));
    }
  });

  test.each([0xff, 0x01, 0x80])("every byte flipped with 0x%s ends in a typed error or is harmless", async (mask) => {
    const bytes = tinyImage();
    for (let at = 1024; at < bytes.byteLength; at += 1) {
      const flipped = bytes.slice();
      flipped[at] = (flipped[at] ?? 0) ^ mask;
      await tolerate(openErofs(memorySource(flipped)).then(readAll));
    }
  });
});
