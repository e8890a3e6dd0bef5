import { describe, expect, test } from "vitest";
import {
  DEFAULT_MAX_FAT_DEPTH,
  DiskImageError,
  type FatVolume,
  type FatWalkOptions,
  memorySource,
  openFat,
  planFat,
  writeFat,
} from "../src/index.ts";
import { noise } from "./support.ts";

const MIB = 1024 * 1024;
const DIRECTORY = 0x10;

async function format(files: Readonly<Record<string, Uint8Array>>): Promise<Uint8Array> {
  const bytes = new Uint8Array(3 * MIB);
  const time = new Date("2026-01-02T03:04:06Z");
  const plan = await planFat({ sizeBytes: bytes.byteLength, type: 16, volumeId: 1, time, files });
  await writeFat(plan, { write: async (offset, piece) => bytes.set(piece, offset) });
  return bytes;
}

async function walk(volume: FatVolume, options?: FatWalkOptions): Promise<string[]> {
  const paths: string[] = [];
  for await (const { path } of volume.walk(options)) paths.push(path);
  return paths;
}

async function failure(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
}

/** Writes the entry of an empty file or of a directory. */
function putEntry(bytes: Uint8Array, at: number, name: string, cluster?: number): void {
  bytes.set(new TextEncoder().encode(name.padEnd(11)), at);
  bytes[at + 11] = cluster === undefined ? 0 : DIRECTORY;
  new DataView(bytes.buffer).setUint16(at + 26, cluster ?? 0, true);
}

describe("a walk", () => {
  test("refuses directories that each begin one cluster further in the same chain", async () => {
    const bytes = await format({});
    const { geometry } = (await openFat(memorySource(bytes))).boot;
    const { clusterSize, dataOffset, reservedSectors, rootOffset, sectorSize } = geometry;
    // As long as a directory may be: 65,536 entries.
    const last = 2 + (65_536 * 32) / clusterSize - 1;
    const table = new DataView(bytes.buffer, reservedSectors * sectorSize);
    for (let cluster = 2; cluster <= last; cluster += 1) {
      const isLast = cluster === last;
      table.setUint16(cluster * 2, isLast ? 0xffff : cluster + 1, true);
      const at = dataOffset + (cluster - 2) * clusterSize;
      for (let entry = 0; entry < clusterSize; entry += 32) putEntry(bytes, at + entry, `F${cluster}-${entry}`);
      if (!isLast) putEntry(bytes, at, `D${cluster}`, cluster + 1);
    }
    putEntry(bytes, rootOffset, "D", 2);
    const error = await failure(walk(await openFat(memorySource(bytes))));
    expect(error).toBeInstanceOf(DiskImageError);
    expect(error).toMatchObject({ code: "DISK_CORRUPT", path: "D/D2", message: expect.stringContaining("cluster 3") });
  });

  test("refuses a chain that leads to itself", async () => {
    const bytes = await format({ "d/x": noise(5000) });
    const volume = await openFat(memorySource(bytes));
    const { reservedSectors, sectorSize } = volume.boot.geometry;
    const cluster = (await volume.lookup("d"))?.cluster ?? 0;
    new DataView(bytes.buffer).setUint16(reservedSectors * sectorSize + cluster * 2, cluster, true);
    const error = await failure(walk(await openFat(memorySource(bytes))));
    expect(error).toMatchObject({ code: "DISK_CORRUPT", path: "d" });
  });

  // Four names, directories of one cluster each two deep, paths of 1 + 3 + 5 + 4 characters.
  test.each<[string, keyof FatWalkOptions, number]>([
    ["names", "maxEntries", 4],
    ["nested directories", "maxDepth", 3],
    ["bytes of directories", "maxDirectoryBytes", 2 * 512],
    ["characters of paths", "maxPathChars", 13],
  ])("ends with DISK_LIMIT at more %s than %s allows", async (_, option, enough) => {
    const volume = await openFat(memorySource(await format({ "a/b/c": noise(9), "a/bb": noise(9) })));
    expect(await walk(volume, { [option]: enough })).toEqual(["a", "a/b", "a/b/c", "a/bb"]);
    const error = await failure(walk(volume, { [option]: enough - 1 }));
    expect(error).toBeInstanceOf(DiskImageError);
    expect(error).toMatchObject({ code: "DISK_LIMIT" });
  });

  test("goes as deep as it says and no deeper", async () => {
    const deep = Array.from({ length: DEFAULT_MAX_FAT_DEPTH - 1 }, () => "d").join("/");
    expect(await walk(await openFat(memorySource(await format({ [`${deep}/f`]: noise(1) }))))).toHaveLength(128);
    const deeper = await openFat(memorySource(await format({ [`${deep}/d/f`]: noise(1) })));
    expect(await failure(walk(deeper))).toMatchObject({ code: "DISK_LIMIT" });
  });

  test("stops when it is aborted", async () => {
    const volume = await openFat(memorySource(await format({ "a/b/c": noise(9), d: noise(9) })));
    const controller = new AbortController();
    const seen: string[] = [];
    const stopped = async (): Promise<void> => {
      for await (const { path } of volume.walk({ signal: controller.signal })) {
        seen.push(path);
        controller.abort(new Error("Ctrl-C"));
      }
    };
    await expect(stopped()).rejects.toThrow("Ctrl-C");
    expect(seen).toEqual(["a"]);
  });
});

test("reading a file stops when it is aborted", async () => {
  const volume = await openFat(memorySource(await format({ f: noise(2 * MIB) })));
  const controller = new AbortController();
  const entry = await volume.lookup("f");
  if (entry === undefined) throw new Error("expected an entry");
  const pieces = volume.content(entry, { signal: controller.signal });
  expect((await pieces.next()).value?.byteLength).toBe(MIB);
  controller.abort(new Error("Ctrl-C"));
  await expect(pieces.next()).rejects.toThrow("Ctrl-C");
  await expect(volume.readFile("f", { signal: controller.signal })).rejects.toThrow("Ctrl-C");
});

describe("the wrong kind of thing", () => {
  test.each<[string, (volume: FatVolume) => Promise<unknown>, string]>([
    ["list of a file", (volume) => volume.list("d/f"), "expected a directory, got the file d/f"],
    ["readFile of a directory", (volume) => volume.readFile("d"), "expected a file, got the directory d"],
    ["readFile of the root", (volume) => volume.readFile("/"), "expected a file, got the directory /"],
  ])("%s is DISK_WRONG_TYPE", async (_, use, message) => {
    const volume = await openFat(memorySource(await format({ "d/f": noise(9) })));
    const error = await failure(use(volume));
    expect(error).toBeInstanceOf(DiskImageError);
    expect(error).toMatchObject({ code: "DISK_WRONG_TYPE", message });
  });

  test("planFat of a directory as a file is DISK_WRONG_TYPE", async () => {
    const time = new Date("2026-01-01");
    const files = { f: { file: "/" } };
    const error = await failure(planFat({ sizeBytes: MIB, volumeId: 1, time, files }));
    expect(error).toMatchObject({ code: "DISK_WRONG_TYPE", path: "/" });
  });
});
