import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import {
  DiskImageError,
  type DiskImageErrorCode,
  memorySource,
  openDiskImage,
  qcow2Source,
  writeDiskImage,
} from "../src/index.ts";
import { qcow2Sink } from "../src/qcow2/write.ts";
import { writeQcow2File } from "../src/sink.ts";
import { noise, scratch } from "./support.ts";

const MIB = 1024 * 1024;
const CLUSTER = 65_536;
const HEADER = { version: 4, backingFileOffset: 8, clusterBits: 20, size: 24, crypt: 32, l1Size: 36, l1: 40 };
const INCOMPATIBLE = 72;

/** An image in memory. */
async function image(sizeBytes: number, writes: readonly (readonly [number, Uint8Array])[]): Promise<Uint8Array> {
  let bytes = new Uint8Array(0);
  const file = {
    async write(offset: number, piece: Uint8Array) {
      const longer = new Uint8Array(Math.max(bytes.byteLength, offset + piece.byteLength));
      longer.set(bytes);
      longer.set(piece, offset);
      bytes = longer;
    },
  };
  const sink = qcow2Sink(file, sizeBytes);
  for (const [offset, piece] of writes) await sink.write(offset, piece);
  await file.write((await sink.finish()) - 1, new Uint8Array(1));
  return bytes;
}

async function content(bytes: Uint8Array): Promise<Uint8Array> {
  const disk = await qcow2Source(memorySource(bytes));
  return disk.read(0, disk.sizeBytes);
}

/** What opening and reading all of a damaged image comes to. */
async function outcome(bytes: Uint8Array): Promise<DiskImageErrorCode | "read"> {
  try {
    const disk = await qcow2Source(memorySource(bytes));
    // A size that was flipped may be anything; no reader would take it at once.
    for (let at = 0; at < Math.min(disk.sizeBytes, 4 * MIB); at += CLUSTER) {
      await disk.read(at, Math.min(CLUSTER, disk.sizeBytes - at));
    }
    return "read";
  } catch (error) {
    if (error instanceof DiskImageError) return error.code;
    throw error;
  }
}

describe("a qcow2 image", () => {
  test("holds whatever was written, wherever and in whatever order", async () => {
    const write = fc.record({
      at: fc.nat(3 * CLUSTER),
      length: fc.nat(2 * CLUSTER),
      seed: fc.integer({ min: 0, max: 3 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(write, { maxLength: 5 }), async (writes) => {
        const sizeBytes = 5 * CLUSTER + 512;
        const expected = new Uint8Array(sizeBytes);
        const pieces = writes.map(({ at, length, seed }) => {
          const piece = seed === 0 ? new Uint8Array(length) : noise(length, seed);
          expected.set(piece, at);
          return [at, piece] as const;
        });
        const read = await content(await image(sizeBytes, pieces));
        expect(Buffer.compare(read, expected)).toBe(0);
      }),
      { numRuns: 30 },
    );
  });

  test("is the same for the same disk, and takes no room for zeros", async () => {
    const folder = await scratch();
    const disk = {
      format: "qcow2",
      seed: "s",
      partitions: [{ label: "x", type: "var", sizeBytes: 4096 * MIB, content: noise(100_000) }],
    } as const;
    for (const name of ["a", "b"]) await writeDiskImage(join(folder, name), disk);
    const bytes = await readFile(join(folder, "a"));
    expect(bytes.equals(await readFile(join(folder, "b")))).toBe(true);
    expect(bytes.byteLength).toBeLessThan(16 * CLUSTER);
  });

  test("is opened like a raw one", async () => {
    const folder = await scratch();
    const partitions = [{ label: "x", type: "var", content: noise(100_000) }];
    await writeDiskImage(join(folder, "a"), { format: "qcow2", seed: "s", partitions });
    await using disk = await openDiskImage(join(folder, "a"));
    expect(disk).toMatchObject({ format: "qcow2", gpt: { primary: "valid", backup: "valid", hasProtectiveMbr: true } });
    expect(Buffer.compare(await disk.open("x").read(0, 100_000), noise(100_000))).toBe(0);
  });

  test("refuses to be read or written beyond its end", async () => {
    const disk = await qcow2Source(memorySource(await image(CLUSTER, [])));
    await expect(disk.read(CLUSTER - 1, 2)).rejects.toMatchObject({ code: "DISK_TRUNCATED" });
    const folder = await scratch();
    const written = writeQcow2File(join(folder, "a"), 512, (sink) => sink.write(511, noise(2)));
    await expect(written).rejects.toMatchObject({ code: "DISK_TOO_SMALL" });
    expect(await readdir(folder)).toEqual([]);
  });

  test("may have a size of nothing", async () => {
    expect(await content(await image(0, []))).toEqual(new Uint8Array(0));
  });

  test("is not read whole to be opened", async () => {
    const folder = await scratch();
    const path = join(folder, "a");
    await writeQcow2File(path, 1024 * 1024 * MIB, (sink) => sink.write(1024 * 1024 * MIB - 3, noise(3)));
    expect((await stat(path)).size).toBeLessThan(64 * CLUSTER);
  });
});

describe("a bad qcow2 image", () => {
  let good = new Uint8Array(0);
  beforeAll(async () => {
    good = Uint8Array.from(
      await image(3 * CLUSTER, [
        [0, noise(10)],
        [2 * CLUSTER, noise(CLUSTER, 2)],
      ]),
    );
  });

  const changed = (change: (view: DataView) => void): Uint8Array => {
    const bytes = good.slice();
    change(new DataView(bytes.buffer));
    return bytes;
  };

  test.each<[string, DiskImageErrorCode, (view: DataView) => void]>([
    ["another magic", "DISK_BAD_MAGIC", (view) => view.setUint32(0, 0)],
    ["version 1", "DISK_UNSUPPORTED", (view) => view.setUint32(HEADER.version, 1)],
    ["a backing file", "DISK_UNSUPPORTED", (view) => view.setBigUint64(HEADER.backingFileOffset, 200n)],
    ["encryption", "DISK_UNSUPPORTED", (view) => view.setUint32(HEADER.crypt, 2)],
    ["an external data file", "DISK_UNSUPPORTED", (view) => view.setBigUint64(INCOMPATIBLE, 4n)],
    ["zstd", "DISK_UNSUPPORTED", (view) => view.setBigUint64(INCOMPATIBLE, 8n)],
    ["extended L2 entries", "DISK_UNSUPPORTED", (view) => view.setBigUint64(INCOMPATIBLE, 16n)],
    ["an unknown feature", "DISK_UNSUPPORTED", (view) => view.setBigUint64(INCOMPATIBLE, 1n << 60n)],
    ["the mark of corruption", "DISK_CORRUPT", (view) => view.setBigUint64(INCOMPATIBLE, 2n)],
    ["clusters of 256 bytes", "DISK_CORRUPT", (view) => view.setUint32(HEADER.clusterBits, 8)],
    ["clusters of 4 MiB", "DISK_CORRUPT", (view) => view.setUint32(HEADER.clusterBits, 22)],
    ["more bytes than can be counted", "DISK_LIMIT", (view) => view.setBigUint64(HEADER.size, 1n << 53n)],
    ["an L1 table that is too short", "DISK_CORRUPT", (view) => view.setBigUint64(HEADER.size, 1n << 40n)],
    [
      "an L1 table that is too long",
      "DISK_LIMIT",
      (view) => {
        view.setUint32(HEADER.l1Size, 0xffff_ffff);
        view.setBigUint64(HEADER.size, (1n << 53n) - 1n);
      },
    ],
    ["an L1 table between clusters", "DISK_CORRUPT", (view) => view.setBigUint64(HEADER.l1, 512n)],
    ["an L1 table beyond the end", "DISK_TRUNCATED", (view) => view.setBigUint64(HEADER.l1, 1n << 40n)],
    [
      "an L2 table beyond the end",
      "DISK_TRUNCATED",
      (view) => view.setBigUint64(Number(view.getBigUint64(HEADER.l1)), 1n << 40n),
    ],
  ])("with %s is %s", async (_, code, change) => {
    expect(await outcome(changed(change))).toBe(code);
  });

  test("that is only dirty is read", async () => {
    expect(await outcome(changed((view) => view.setBigUint64(INCOMPATIBLE, 1n)))).toBe("read");
  });

  test("says what is wrong and where", async () => {
    const bytes = changed((view) => view.setBigUint64(HEADER.backingFileOffset, 200n));
    await expect(qcow2Source(memorySource(bytes))).rejects.toMatchObject({
      message: "expected an image that stands for itself, got one with a backing file (at byte 8)",
      hint: "qemu-img convert makes one file of both",
    });
  });

  test("never makes anything but a typed error, wherever it is cut", async () => {
    const ends = [
      ...Array(200).keys(),
      ...Array.from({ length: good.byteLength / 4096 }, (_, index) => index * 4096 + 7),
    ];
    const outcomes = new Set(await Promise.all(ends.map((end) => outcome(good.slice(0, end)))));
    // Whoever is cut within the refcounts, at the end, can still be read.
    expect([...outcomes].sort()).toEqual(["DISK_BAD_MAGIC", "DISK_TRUNCATED", "read"]);
  });

  test("never makes anything but a typed error, whichever byte of its tables is flipped", async () => {
    const l1 = Number(new DataView(good.buffer).getBigUint64(HEADER.l1));
    const l2 = l1 - CLUSTER;
    const range = (start: number, length: number): number[] => Array.from({ length }, (_, index) => start + index);
    const places = [...range(0, 120), ...range(l1, 16), ...range(l2, 40)];
    const outcomes = new Set<string>();
    for (const place of places) {
      for (const bits of [0x01, 0x40, 0x80, 0xff]) {
        const bytes = good.slice();
        bytes[place] = (bytes[place] ?? 0) ^ bits;
        outcomes.add(await outcome(bytes));
      }
    }
    expect([...outcomes].sort()).toEqual([
      "DISK_BAD_MAGIC",
      "DISK_CORRUPT",
      "DISK_LIMIT",
      "DISK_TRUNCATED",
      "DISK_UNSUPPORTED",
      "read",
    ]);
  });
});
