import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { chooseShortNames } from "../src/fat/names.ts";
import {
  type ByteSink,
  DiskImageError,
  type FatOptions,
  memorySource,
  openFat,
  planFat,
  writeFat,
} from "../src/index.ts";
import { noise } from "./support.ts";

const MIB = 1024 * 1024;
const TIME = new Date("2026-01-02T03:04:06Z");
const COMMON = { volumeId: 0x1234_5678, time: TIME };

async function format(options: FatOptions): Promise<Uint8Array> {
  const bytes = new Uint8Array(options.sizeBytes);
  const sink: ByteSink = { write: async (offset, piece) => bytes.set(piece, offset) };
  await writeFat(await planFat(options), sink);
  return bytes;
}

/** Digests of files by path: comparing the bytes themselves takes the test runner minutes. */
async function filesIn(bytes: Uint8Array): Promise<Record<string, string>> {
  const volume = await openFat(memorySource(bytes));
  const files: Record<string, string> = {};
  for await (const { path, entry } of volume.walk()) {
    if (!entry.isDirectory) files[path] = digest(await volume.readFile(entry));
  }
  return files;
}

function digests(files: Readonly<Record<string, Uint8Array>>): Record<string, string> {
  return Object.fromEntries(Object.entries(files).map(([path, bytes]) => [path, digest(bytes)]));
}

function digest(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

async function failure(promise: Promise<unknown>): Promise<DiskImageError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof DiskImageError)) throw new Error(`expected a DiskImageError, got ${String(error)}`);
  return error;
}

describe("a FAT file system", () => {
  const files = {
    "EFI/BOOT/BOOTX64.EFI": noise(300_000),
    "EFI/Linux/particle_1.0+3-0.efi": noise(70_001, 2),
    "loader/loader.conf": new TextEncoder().encode("timeout 0\n"),
    empty: new Uint8Array(0),
    "ünïcode ☃ 😀.txt": noise(513, 3),
  };

  test.each<[number, 12 | 16 | 32 | undefined, 512 | 4096, 12 | 16 | 32]>([
    [MIB, undefined, 512, 12],
    [4 * MIB, undefined, 512, 16],
    [32 * MIB, undefined, 512, 16],
    [40 * MIB, undefined, 512, 32],
    [40 * MIB, 16, 512, 16],
    [8 * MIB, 12, 512, 12],
    [4 * MIB, undefined, 4096, 12],
    [20 * MIB, undefined, 4096, 16],
  ])(
    "of %i bytes, asked for FAT%s with sectors of %i, is FAT%i and read as it was written",
    async (sizeBytes, type, sectorSize, expected) => {
      const bytes = await format({ ...COMMON, sizeBytes, type, sectorSize, files, label: "ESP" });
      const volume = await openFat(memorySource(bytes));
      expect(volume.boot.geometry.type).toBe(expected);
      expect(volume.boot.volumeId).toBe(0x1234_5678);
      expect(await volume.label()).toBe("ESP");
      expect(await filesIn(bytes)).toEqual(digests(files));
    },
  );

  test("does not depend on the order of the description", async () => {
    const turned = Object.fromEntries(Object.entries(files).reverse());
    const one = digest(await format({ ...COMMON, sizeBytes: 4 * MIB, files }));
    expect(digest(await format({ ...COMMON, sizeBytes: 4 * MIB, files: turned }))).toBe(one);
  });

  test("has the time it was given, in UTC", async () => {
    const volume = await openFat(memorySource(await format({ ...COMMON, sizeBytes: MIB, files: { a: noise(1) } })));
    expect((await volume.list())[0]?.modified).toEqual(TIME);
  });

  test("makes empty directories and finds names whatever their case", async () => {
    const bytes = await format({ ...COMMON, sizeBytes: MIB, files: { "a/b": noise(9) }, directories: ["x/y", "a"] });
    const volume = await openFat(memorySource(bytes));
    expect((await volume.list()).map(({ name }) => name)).toEqual(["a", "x"]);
    expect(await volume.list("X/Y")).toEqual([]);
    expect(await volume.readFile("A/B")).toEqual(noise(9));
  });

  test("holds directories of more than one cluster", async () => {
    const many = Object.fromEntries(
      Array.from({ length: 900 }, (_, index) => [`dir/a long name number ${index}`, noise(1, index)]),
    );
    expect(await filesIn(await format({ ...COMMON, sizeBytes: 4 * MIB, files: many }))).toEqual(digests(many));
    const root = Object.fromEntries(Object.entries(many).map(([name, bytes]) => [name.slice(4), bytes]));
    expect(await filesIn(await format({ ...COMMON, sizeBytes: 4 * MIB, files: root }))).toEqual(digests(root));
  });

  test("survives writing and reading, whatever the names", async () => {
    const name = fc
      .string({ unit: "grapheme", minLength: 1, maxLength: 40 })
      .filter((text) => !/["*/:<>?\\|\p{Cc}]|[. ]$/u.test(text));
    const tree = fc.dictionary(
      fc.array(name, { minLength: 1, maxLength: 4 }).map((names) => names.join("/")),
      fc.uint8Array({ maxLength: 2000 }),
      {
        maxKeys: 12,
      },
    );
    await fc.assert(
      fc.asyncProperty(tree, async (wanted) => {
        let bytes: Uint8Array;
        try {
          bytes = await format({ ...COMMON, sizeBytes: MIB, files: wanted });
        } catch (error) {
          // Names that differ in case only, or a file where a directory is needed.
          if (error instanceof DiskImageError && error.code === "DISK_BAD_NAME") return;
          throw error;
        }
        expect(await filesIn(bytes)).toEqual(digests(wanted));
      }),
      { numRuns: 60 },
    );
  });
});

describe("what a FAT file system refuses", () => {
  test("content that does not fit, with the arithmetic", async () => {
    const error = await failure(
      planFat({ ...COMMON, sizeBytes: MIB, files: { "EFI/big.efi": noise(2 * MIB), small: noise(100) } }),
    );
    expect(error.code).toBe("DISK_TOO_SMALL");
    expect(error.neededBytes).toBe(2 * MIB + 512 + 512);
    expect(error.availableBytes).toBeLessThan(MIB);
    expect(error.hint).toContain(`${2 * MIB} bytes for EFI/big.efi`);
    expect(error.hint).toContain("bytes of tables");
  });

  test("a size below the type's minimum, saying what it is", async () => {
    const error = await failure(planFat({ ...COMMON, sizeBytes: 20 * MIB, type: 32, files: {} }));
    expect(error.code).toBe("DISK_TOO_SMALL");
    const least = error.neededBytes ?? 0;
    await planFat({ ...COMMON, sizeBytes: least, type: 32, files: {} });
    expect((await failure(planFat({ ...COMMON, sizeBytes: least - 512, type: 32, files: {} }))).code).toBe(
      "DISK_TOO_SMALL",
    );
  });

  test.each([
    ["a reserved character", "a:b"],
    ["a dot at the end", "a."],
    ["a parent directory", "../a"],
    ["a control character", "a\u0001"],
    ["half a character", "a\ud800"],
    ["a name of 256 units", "x".repeat(256)],
    ["no name", "/"],
  ])("%s", async (_, path) => {
    expect((await failure(planFat({ ...COMMON, sizeBytes: MIB, files: { [path]: noise(1) } }))).code).toBe(
      "DISK_BAD_NAME",
    );
  });

  test.each([
    ["names that differ in case", { "a/X": noise(1), "a/x": noise(1) }],
    ["a file that is also a directory", { a: noise(1), "a/b": noise(1) }],
    ["directories that differ in case", { "a/x": noise(1), "A/y": noise(1) }],
  ])("%s", async (_, files) => {
    expect((await failure(planFat({ ...COMMON, sizeBytes: MIB, files }))).code).toBe("DISK_BAD_NAME");
  });

  test.each([
    ["a time before 1980", { time: new Date("1979-12-31T23:59:59Z") }],
    ["an invalid time", { time: new Date(Number.NaN) }],
    ["a cluster size that is no power of two", { clusterSizeBytes: 1536 }],
    ["a volume id beyond 32 bits", { volumeId: 2 ** 32 }],
    ["an unknown option", { colour: "red" }],
  ])("%s", async (_, wrong) => {
    expect((await failure(planFat({ ...COMMON, sizeBytes: MIB, files: {}, ...wrong }))).code).toBe("DISK_BAD_OPTIONS");
  });

  test("a lower case volume label", async () => {
    expect((await failure(planFat({ ...COMMON, sizeBytes: MIB, files: {}, label: "esp" }))).code).toBe("DISK_BAD_NAME");
  });

  test("a file that is not there", async () => {
    const files = { a: { file: "/nonexistent/file" } };
    expect((await failure(planFat({ ...COMMON, sizeBytes: MIB, files }))).code).toBe("DISK_NOT_FOUND");
  });
});

describe("short names", () => {
  const shorts = (names: string[]): string[] =>
    chooseShortNames(names).map(({ short }) => new TextDecoder().decode(short));

  test.each([
    [["BOOTX64.EFI"], ["BOOTX64 EFI"]],
    [["linux.efi"], ["LINUX   EFI"]],
    [["loader.conf"], ["LOADER~1CON"]],
    [
      ["a long name.text", "a long name.textile"],
      ["ALONGN~1TEX", "ALONGN~2TEX"],
    ],
    [
      ["foo", "FOO"],
      ["FOO~1      ", "FOO        "],
    ],
    [
      [".hidden", "a.b.c"],
      ["HIDDEN~1   ", "AB~1    C  "],
    ],
    [["ü"], ["_~1        "]],
  ])("of %j are %j", (names, expected) => {
    expect(shorts(names)).toEqual(expected);
  });

  test("of a thousand alike names are all different", () => {
    const names = Array.from({ length: 1000 }, (_, index) => `the same beginning ${index}.conf`);
    expect(new Set(shorts(names)).size).toBe(1000);
  });
});

describe("damaged FAT file systems", () => {
  const files = { "dir/a long file name.txt": noise(1500), "B.TXT": noise(600, 2), "dir/sub/c": noise(10, 3) };

  async function readAll(bytes: Uint8Array): Promise<void> {
    try {
      const volume = await openFat(memorySource(bytes));
      await volume.label();
      for await (const { entry } of volume.walk()) {
        if (entry.isDirectory) continue;
        try {
          await volume.readFile(entry, { maxBytes: MIB });
        } catch (error) {
          if (!(error instanceof DiskImageError)) throw error;
        }
      }
    } catch (error) {
      if (!(error instanceof DiskImageError)) throw error;
    }
  }

  test.each<[12 | 16 | 32, number]>([
    [12, 64 * 1024],
    [16, 3 * MIB],
    [32, 34 * MIB],
  ])(
    "FAT%i: every flipped byte of its tables and directories is a typed error or harmless",
    async (type, sizeBytes) => {
      const bytes = await format({ ...COMMON, sizeBytes, type, files });
      const { geometry } = (await openFat(memorySource(bytes))).boot;
      const table = geometry.reservedSectors * geometry.sectorSize;
      const ranges = [
        [0, 512],
        [table, table + 64],
        [geometry.rootOffset, geometry.rootOffset + 256],
        [geometry.dataOffset, geometry.dataOffset + 3 * 512],
      ];
      for (const [start = 0, end = 0] of ranges) {
        for (let at = start; at < end; at += 1) {
          const before = bytes[at] ?? 0;
          for (const mask of [0xff, 0x01]) {
            bytes[at] = before ^ mask;
            await readAll(bytes);
          }
          bytes[at] = before;
        }
      }
    },
  );

  test("every truncation is a typed error", async () => {
    const bytes = await format({ ...COMMON, sizeBytes: 32 * 1024, files });
    for (let length = 0; length < bytes.byteLength; length += 1) {
      expect((await failure(openFat(memorySource(bytes.subarray(0, length))))).code).toMatch(
        /DISK_(TRUNCATED|BAD_MAGIC)/,
      );
    }
  });

  test("a chain that leads to itself ends in a typed error", async () => {
    const bytes = await format({ ...COMMON, sizeBytes: 3 * MIB, type: 16, files: { "d/x": noise(5000) } });
    const volume = await openFat(memorySource(bytes));
    const { geometry } = volume.boot;
    const directory = (await volume.lookup("d"))?.cluster ?? 0;
    new DataView(bytes.buffer).setUint16(
      geometry.reservedSectors * geometry.sectorSize + directory * 2,
      directory,
      true,
    );
    const looping = await openFat(memorySource(bytes));
    expect((await failure(looping.list("d"))).code).toBe("DISK_LIMIT");
  });
});
