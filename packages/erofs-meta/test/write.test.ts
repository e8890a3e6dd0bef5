import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type BlockSource,
  DEFAULT_MAX_DEPTH,
  ErofsError,
  memorySource,
  openErofs,
  type TreeEntries,
  type TreeEntry,
  type WriteErofsOptions,
  writeErofs,
} from "../src/index.ts";
import { xxh32 } from "../src/internal/xxh32.ts";
import { noise, scratch } from "./support.ts";
import { describeTree, imageSink, sampleTree } from "./trees.ts";

const UUID = "c1b9d5a2-f162-11cf-9ece-0020afc76f16";
const TIME = 1_700_000_000n;

async function written(entries: TreeEntries, options: Partial<WriteErofsOptions> = {}): Promise<Uint8Array> {
  const output = imageSink();
  const { sizeBytes } = await writeErofs(entries, { output, uuid: UUID, buildTime: TIME, ...options });
  expect(output.bytes().byteLength).toBe(sizeBytes);
  return output.bytes();
}

/** A source as a server is one: no bytes without waiting. */
function farSource(bytes: Uint8Array): BlockSource {
  return {
    sizeBytes: bytes.byteLength,
    async read(offset, length) {
      await setImmediate();
      return bytes.slice(offset, offset + length);
    },
    async close() {},
  };
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof ErofsError) return error.code;
  throw error ?? new Error("expected a failure");
}

const file = (path: string, content: Uint8Array = new Uint8Array(0)): TreeEntry => ({ type: "file", path, content });

/** What an image of the entries has to say, links counted and parents added. */
function expectedTree(entries: readonly TreeEntry[]): Map<string, Record<string, unknown>> {
  const defaults = { uid: 0, gid: 0, mtime: TIME, mtimeNsec: 0, xattrs: {}, device: undefined };
  const found = new Map<string, Record<string, unknown>>();
  const directory = (path: string): Record<string, unknown> => {
    const known = found.get(path);
    if (known !== undefined) return known;
    const made = { ...defaults, type: "directory", mode: 0o755, links: 2 };
    found.set(path, made);
    if (path !== "/") {
      const parent = directory(path.slice(0, path.lastIndexOf("/")) || "/");
      parent.links = (parent.links as number) + 1;
    }
    return made;
  };
  directory("/");
  for (const entry of entries) {
    if (entry.type === "link") continue;
    const path = `/${entry.path.split("/").filter(Boolean).join("/")}`;
    const { mode = entry.type === "symlink" ? 0o777 : entry.type === "directory" ? 0o755 : 0o644 } = entry;
    const xattrs = Object.entries(entry.xattrs ?? {}).map(([name, value]) => [
      name,
      Buffer.from(value).toString("hex"),
    ]);
    const { uid = 0, gid = 0, mtime = TIME, mtimeNsec = 0 } = entry;
    const common = { type: entry.type, mode, uid, gid, mtime, mtimeNsec, xattrs: Object.fromEntries(xattrs.sort()) };
    if (entry.type === "directory") {
      Object.assign(directory(path), common);
      continue;
    }
    directory(path.slice(0, path.lastIndexOf("/")) || "/");
    found.set(path, {
      ...{ ...common, links: 1, device: "device" in entry ? entry.device : undefined },
      ...(entry.type === "symlink" && { target: entry.target }),
      ...(entry.type === "file" && { content: Buffer.from(entry.content as Uint8Array).toString("hex") }),
    });
  }
  for (const entry of entries) {
    if (entry.type !== "link") continue;
    const target = found.get(entry.target);
    if (target === undefined) throw new Error(`no ${entry.target}`);
    target.links = (target.links as number) + 1;
    directory(entry.path.slice(0, entry.path.lastIndexOf("/")) || "/");
    found.set(entry.path, target);
  }
  return found;
}

describe("writeErofs", () => {
  test.each([512, 1024, 4096, 65536])("writes what the reader reads, in blocks of %i bytes", async (blockSize) => {
    const entries = sampleTree(blockSize);
    const image = await openErofs(memorySource(await written(entries, { blockSize })));
    const sorted = (map: Map<string, unknown>): unknown[] => [...map].sort(([a], [b]) => (a < b ? -1 : 1));
    expect(sorted(await describeTree(image))).toEqual(sorted(expectedTree(entries)));
  });

  test.each([512, 4096, 65536])(
    "reads the same without waiting and from afar, blocks of %i bytes",
    async (blockSize) => {
      const image = await written(sampleTree(blockSize), { blockSize });
      const near = await describeTree(await openErofs(memorySource(image)));
      expect(await describeTree(await openErofs(farSource(image)))).toEqual(near);
    },
  );

  test("gives the same bytes for the same tree", async () => {
    expect(Buffer.compare(await written(sampleTree()), await written(sampleTree()))).toBe(0);
  });

  test("stores runs of zeros as holes, and attributes of many nodes once", async () => {
    const image = await openErofs(memorySource(await written(sampleTree())));
    expect((await image.lookup("/zeros")).layout).toBe("chunk");
    const extents = [];
    for await (const extent of image.extents(await image.lookup("/sparse")))
      extents.push(extent.position === undefined);
    expect(extents).toEqual([true, false, true, false]);
    expect((await image.lookup("/sizes/64")).xattrSizeBytes).toBe(12 + 2 * 4);
  });

  test("stores starts of names once, and says which names an inode has not", async () => {
    const value = new TextEncoder().encode("y");
    const names = ["trusted.overlay.opaque", "trusted.overlay.metacopy", "trusted.other", "user.trusted.overlay.x"];
    const xattrs = Object.fromEntries(names.map((name) => [name, value]));
    const entries: TreeEntry[] = [{ ...file("/a"), xattrs } as TreeEntry, file("/b")];
    const plain = await openErofs(memorySource(await written(entries)));
    const bytes = await written(entries, { xattrPrefixes: ["trusted.", "trusted.overlay.", "user.trusted.o"] });
    const image = await openErofs(memorySource(bytes));
    const inode = await image.lookup("/a");
    expect((await image.xattrs(inode)).map(({ name }) => name).sort()).toEqual(names.toSorted());
    expect(image.superblock).toMatchObject({
      xattrPrefixCount: 3,
      compatFeatures: ["sb_chksum", "mtime", "xattr_filter", "plain_xattr_pfx"],
      incompatFeatures: ["xattr_prefixes"],
    });
    expect(inode.xattrSizeBytes).toBeLessThan((await plain.lookup("/a")).xattrSizeBytes);
    const area = inode.offset + (inode.form === "compact" ? 32 : 64);
    const filter = new DataView(bytes.buffer).getUint32(area, true);
    // Linux v6.12 `fs/erofs/xattr.c`, `erofs_getxattr`: the hash of what is behind the namespace, whatever the prefixes.
    const bit = (index: number, name: string): number => xxh32(Buffer.from(name), 0x25bbe08f + index) & 31;
    const bits = [bit(4, "overlay.opaque"), bit(4, "overlay.metacopy"), bit(4, "other"), bit(1, "trusted.overlay.x")];
    expect(filter).toBe(bits.reduce((left, one) => (left & ~(1 << one)) >>> 0, 0xffff_ffff));
  });

  test("takes half an inode for what has the build time and small ids", async () => {
    const bytes = await written([file("/a"), { ...file("/b"), mtime: 5n } as TreeEntry], {});
    const image = await openErofs(memorySource(bytes));
    expect((await image.lookup("/a")).form).toBe("compact");
    expect((await image.lookup("/b")).form).toBe("extended");
    const fixed = await openErofs(
      memorySource(await written([{ ...file("/b"), mtime: 5n } as TreeEntry], { fixedTime: true })),
    );
    expect(await fixed.lookup("/b")).toMatchObject({ form: "compact", mtime: TIME });
  });

  test("keeps no more ends of files than it may", async () => {
    const entries = [1, 2, 3].map((index) => file(`/${index}`, noise(100, index)));
    const image = await openErofs(memorySource(await written(entries, { maxTailBytes: 250 })));
    const layouts = await Promise.all(["/1", "/2", "/3"].map(async (path) => (await image.lookup(path)).layout));
    expect(layouts).toEqual(["inline", "inline", "plain"]);
  });

  test("reads streams in pieces of any size", async () => {
    const content = noise(30_000);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 9000 }), { maxLength: 12 }), async (sizes) => {
        async function* read(): AsyncGenerator<Uint8Array> {
          let at = 0;
          for (const size of sizes) {
            yield content.slice(at, at + size);
            at += size;
          }
          yield content.slice(at);
        }
        const stream = { sizeBytes: content.byteLength, read };
        const image = await openErofs(memorySource(await written([{ type: "file", path: "/f", content: stream }])));
        expect(Buffer.compare(await image.readFile(await image.lookup("/f")), content)).toBe(0);
      }),
      { numRuns: 30 },
    );
  });

  test.each<[string, TreeEntry[], string]>([
    ["a name twice", [file("/a"), file("a")], "EROFS_BAD_TREE"],
    ["a file above a file", [file("/a"), file("/a/b")], "EROFS_BAD_TREE"],
    ["'..' in a path", [file("/a/../b")], "EROFS_BAD_TREE"],
    ["a root that is a file", [file("/")], "EROFS_BAD_TREE"],
    ["a link to nothing", [{ type: "link", path: "/a", target: "/b" }], "EROFS_BAD_TREE"],
    ["a link to a directory", [{ type: "link", path: "/a", target: "/" }], "EROFS_BAD_TREE"],
    [
      "a circle of links",
      [
        { type: "link", path: "/a", target: "/b" },
        { type: "link", path: "/b", target: "/a" },
      ],
      "EROFS_BAD_TREE",
    ],
    ["a name of 256 bytes", [file(`/${"ü".repeat(128)}`)], "EROFS_NOT_REPRESENTABLE"],
    ["half a character", [file("/\ud800")], "EROFS_NOT_REPRESENTABLE"],
    ["a mode with a type", [{ ...file("/a"), mode: 0o100644 } as TreeEntry], "EROFS_NOT_REPRESENTABLE"],
    ["a user id of 33 bits", [{ ...file("/a"), uid: 2 ** 32 } as TreeEntry], "EROFS_NOT_REPRESENTABLE"],
    ["a time before 1970", [{ ...file("/a"), mtime: -1n } as TreeEntry], "EROFS_NOT_REPRESENTABLE"],
    ["an empty target", [{ type: "symlink", path: "/a", target: "" }], "EROFS_NOT_REPRESENTABLE"],
    [
      "a minor number of 21 bits",
      [{ type: "char", path: "/a", device: { major: 1, minor: 2 ** 20 } }],
      "EROFS_NOT_REPRESENTABLE",
    ],
    [
      "an xattr outside every namespace",
      [{ ...file("/a"), xattrs: { "system.other": noise(1) } } as TreeEntry],
      "EROFS_NOT_REPRESENTABLE",
    ],
    [
      "an xattr of 64 KiB",
      [{ ...file("/a"), xattrs: { "user.a": noise(65536) } } as TreeEntry],
      "EROFS_NOT_REPRESENTABLE",
    ],
  ])("refuses %s", async (_, entries, code) => {
    expect(await codeOf(written(entries))).toBe(code);
  });

  test.each([
    ["longer", 3],
    ["shorter", 5],
  ])("refuses content that is %s than it says", async (_, sizeBytes) => {
    const content = {
      sizeBytes,
      async *read() {
        yield noise(4);
      },
    };
    expect(await codeOf(written([{ type: "file", path: "/a", content }]))).toBe("EROFS_BAD_TREE");
  });

  test.each<[string, Record<string, unknown>]>([
    ["an unknown key", { colour: 1 }],
    ["a bad UUID", { uuid: "x" }],
    ["a name of 17 bytes", { volumeName: "x".repeat(17) }],
    ["a block size of 3000", { blockSize: 3000 }],
    ["a time before 1970", { buildTime: -1n }],
    ["a prefix of no namespace", { xattrPrefixes: ["other."] }],
    ["more prefixes than there are numbers", { xattrPrefixes: Array.from({ length: 129 }, (_, i) => `user.${i}`) }],
  ])("refuses %s", async (_, wrong) => {
    expect(await codeOf(written([], wrong))).toBe("EROFS_BAD_OPTIONS");
  });

  test("writes directories as deep as can be read, and none deeper", async () => {
    const path = (levels: number): string => "/d".repeat(levels);
    const deepest = [{ type: "directory", path: path(DEFAULT_MAX_DEPTH - 1) } as const, file(path(DEFAULT_MAX_DEPTH))];
    // Neither of them may be in the way of the other.
    for (const entry of deepest) {
      const image = await openErofs(memorySource(await written([entry])));
      let count = 0;
      for await (const _ of image.walk()) count += 1;
      expect(count).toBe(entry.path.length / 2 + 1);
    }
    for (const entry of [
      { type: "directory", path: path(DEFAULT_MAX_DEPTH) } as const,
      file(path(DEFAULT_MAX_DEPTH + 1)),
    ]) {
      expect(await codeOf(written([entry]))).toBe("EROFS_LIMIT");
    }
    expect(await codeOf(written([file("/a/b/c")], { maxDepth: 2 }))).toBe("EROFS_LIMIT");
    await written([file("/a/b/c")], { maxDepth: 3 });
  });

  test("gives an image without a UUID one that does not depend on the pieces its contents come in", async () => {
    const content = noise(3_000_000);
    const images: Uint8Array[] = [];
    for (const size of [1000, 70_000, content.byteLength]) {
      const stream = {
        sizeBytes: content.byteLength,
        async *read() {
          for (let at = 0; at < content.byteLength; at += size) yield content.subarray(at, at + size);
        },
      };
      const entries: TreeEntry[] = [{ type: "file", path: "/a", content: stream }];
      images.push(await written(entries, { uuid: undefined }));
    }
    const [first, ...others] = images;
    for (const other of others) expect(Buffer.compare(other, first ?? other)).toBe(0);
  });

  test("gives a compressed image the same UUID with any number of threads", async () => {
    const entries = Array.from({ length: 12 }, (_, index) =>
      file(
        `/${index}`,
        noise(90_000, index).map((byte) => byte & 3),
      ),
    );
    const options = { uuid: undefined, compression: { algorithm: "lz4", clusterSize: 16_384 } } as const;
    const [alone, ...others] = await Promise.all([0, 1, 3].map((workers) => written(entries, { ...options, workers })));
    for (const other of others) expect(Buffer.compare(other, alone ?? other)).toBe(0);
  });

  test("refuses more entries than it may take", async () => {
    expect(await codeOf(written([file("/a"), file("/b")], { maxEntries: 1 }))).toBe("EROFS_LIMIT");
  });

  test("leaves no file after an abort", async () => {
    const folder = await scratch();
    const controller = new AbortController();
    const reason = new Error("enough");
    function* entries(): Generator<TreeEntry> {
      yield file("/a", noise(9));
      controller.abort(reason);
      yield file("/b", noise(9));
    }
    const options = { output: join(folder, "image"), uuid: UUID, buildTime: TIME, signal: controller.signal };
    await expect(writeErofs(entries(), options)).rejects.toBe(reason);
    expect(await readdir(folder)).toEqual([]);
  });

  test.each([undefined, { algorithm: "lz4" } as const])(
    "hears of an abort in the middle of zeros that are never written, compressed by %j",
    async (compression) => {
      const folder = await scratch();
      const zeros = new Uint8Array(1 << 20);
      // Ends by the abort only: a terabyte takes minutes.
      const content = {
        sizeBytes: 2 ** 40,
        async *read() {
          for (;;) yield zeros;
        },
      };
      const options = { output: join(folder, "image"), uuid: UUID, buildTime: TIME, compression };
      const signal = AbortSignal.timeout(50);
      const entries: TreeEntry[] = [{ type: "file", path: "/hole", content }];
      await expect(writeErofs(entries, { ...options, signal })).rejects.toMatchObject({ name: "TimeoutError" });
      expect(await readdir(folder)).toEqual([]);
    },
  );
});

describe("a damaged written image", () => {
  test("is read, or refused with a typed error, for every truncation and flipped byte", async () => {
    const small = sampleTree(512).filter(({ path }) => !path.startsWith("many") && !/\d{3}/.test(path));
    const bytes = await written(small, { blockSize: 512 });
    const readAll = async (candidate: Uint8Array): Promise<void> => {
      try {
        await describeTree(await openErofs(memorySource(candidate)));
      } catch (error) {
        if (!(error instanceof ErofsError)) throw error;
      }
    };
    for (let length = 0; length < bytes.byteLength; length += 61) await readAll(bytes.subarray(0, length));
    for (let at = 2048; at < bytes.byteLength; at += 7) {
      const flipped = bytes.slice();
      flipped[at] = (flipped[at] ?? 0) ^ 0xff;
      await readAll(flipped);
    }
  });
});
