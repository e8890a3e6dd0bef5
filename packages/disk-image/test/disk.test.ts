import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  DiskImageError,
  type DiskOptions,
  extractTo,
  memorySource,
  openDiskImage,
  openFat,
  planDisk,
  writeDiskImage,
} from "../src/index.ts";
import { noise, scratch } from "./support.ts";

const MIB = 1024 * 1024;
const fat = { volumeId: 1, time: new Date("2026-01-01T00:00:00Z"), files: { "EFI/x.efi": noise(100_000) } };

function description(): DiskOptions {
  return {
    seed: "test",
    partitions: [
      { label: "esp", type: "esp", sizeBytes: 40 * MIB, content: { fat } },
      { label: "usr", type: "usr-x86-64", attributes: ["read-only"], content: noise(10_000) },
      { label: "slot b", type: "usr-x86-64", sizeBytes: 20 * MIB },
      {
        label: "made",
        type: "linux-generic",
        sizeBytes: MIB,
        content: { write: (sink) => sink.write(4096, noise(50, 2)) },
      },
    ],
  };
}

async function failure(promise: Promise<unknown>): Promise<DiskImageError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof DiskImageError)) throw new Error(`expected a DiskImageError, got ${String(error)}`);
  return error;
}

describe("writeDiskImage", () => {
  test.each([512, 4096] as const)("with sectors of %i bytes writes what openDiskImage reads", async (sectorSize) => {
    const path = join(await scratch(), "disk");
    const plan = await writeDiskImage(path, { ...description(), sectorSize });
    await using disk = await openDiskImage(path);
    expect(disk.gpt).toMatchObject({ primary: "valid", backup: "valid", hasProtectiveMbr: true });
    expect(disk.gpt.table.sectorSize).toBe(sectorSize);
    expect(disk.partitions.map(({ label, typeName, sizeBytes }) => [label, typeName, sizeBytes])).toEqual([
      ["esp", "esp", 40 * MIB],
      ["usr", "usr-x86-64", 12_288],
      ["slot b", "usr-x86-64", 20 * MIB],
      ["made", "linux-generic", MIB],
    ]);
    expect(disk.partitions.every(({ offsetBytes }) => offsetBytes % MIB === 0)).toBe(true);
    expect(disk.partitions.map(({ uuid }) => uuid)).toEqual(plan.partitions.map(({ uuid }) => uuid));
    expect(await (await openFat(disk.open("esp"))).readFile("efi/X.EFI")).toEqual(fat.files["EFI/x.efi"]);
    expect(await disk.open(2).read(0, 10_000)).toEqual(noise(10_000));
    expect(await disk.open("made").read(4096, 50)).toEqual(noise(50, 2));
  });

  test("writes the same bytes each time, whatever was in the way", async () => {
    const folder = await scratch();
    await writeFile(join(folder, "b"), noise(1000));
    for (const name of ["a", "b"]) await writeDiskImage(join(folder, name), description());
    expect((await readFile(join(folder, "a"))).equals(await readFile(join(folder, "b")))).toBe(true);
    expect((await readdir(folder)).sort()).toEqual(["a", "b"]);
  });

  test("leaves zeros out of the file", async () => {
    const folder = await scratch();
    const content = new Uint8Array(16 * MIB);
    content.set(noise(4096), 8 * MIB);
    await writeDiskImage(join(folder, "disk"), { seed: "s", partitions: [{ label: "x", type: "var", content }] });
    const { size, blocks } = await stat(join(folder, "disk"));
    expect(size).toBe(18 * MIB);
    expect(blocks * 512).toBeLessThan(512 * 1024);
  });

  test("a writer may replace what it wrote with zeros", async () => {
    const path = join(await scratch(), "disk");
    const write = async (sink: { write(offset: number, bytes: Uint8Array): Promise<void> }): Promise<void> => {
      await sink.write(0, noise(20_000));
      await sink.write(4096, new Uint8Array(8192));
    };
    await writeDiskImage(path, {
      seed: "s",
      partitions: [{ label: "x", type: "var", sizeBytes: MIB, content: { write } }],
    });
    await using disk = await openDiskImage(path);
    const expected = noise(20_000).fill(0, 4096, 4096 + 8192);
    expect(await disk.open(1).read(0, 20_000)).toEqual(expected);
  });

  test("an abort throws the reason and leaves nothing", async () => {
    const folder = await scratch();
    const controller = new AbortController();
    const reason = new Error("enough");
    const options: DiskOptions = {
      seed: "s",
      partitions: [{ label: "x", type: "var", content: noise(5 * MIB) }],
      signal: controller.signal,
      onProgress: () => controller.abort(reason),
    };
    await expect(writeDiskImage(join(folder, "disk"), options)).rejects.toBe(reason);
    expect(await readdir(folder)).toEqual([]);
  });

  test("a writer that fails leaves the image that was there", async () => {
    const folder = await scratch();
    await writeFile(join(folder, "disk"), "old");
    const content = { write: async (): Promise<void> => Promise.reject(new Error("out of ink")) };
    const options: DiskOptions = { seed: "s", partitions: [{ label: "x", type: "var", sizeBytes: MIB, content }] };
    await expect(writeDiskImage(join(folder, "disk"), options)).rejects.toThrow("out of ink");
    expect(await readdir(folder)).toEqual(["disk"]);
    expect(await readFile(join(folder, "disk"), "utf8")).toBe("old");
  });

  test("a writer may not leave its partition", async () => {
    const path = join(await scratch(), "disk");
    const content = {
      write: (sink: { write(offset: number, bytes: Uint8Array): Promise<void> }) => sink.write(MIB - 1, noise(2)),
    };
    const options: DiskOptions = { seed: "s", partitions: [{ label: "x", type: "var", sizeBytes: MIB, content }] };
    expect((await failure(writeDiskImage(path, options))).code).toBe("DISK_TOO_SMALL");
  });

  test("tells its progress up to the end", async () => {
    const path = join(await scratch(), "disk");
    const events: number[] = [];
    let total = 0;
    await writeDiskImage(path, {
      ...description(),
      onProgress: ({ doneBytes, totalBytes }) => {
        events.push(doneBytes);
        total = totalBytes;
      },
    });
    expect(events).toEqual(events.toSorted((a, b) => a - b));
    expect(events.at(-1)).toBeLessThanOrEqual(total);
  });
});

describe("planDisk", () => {
  test("refuses content larger than its partition, with the arithmetic", async () => {
    const error = await failure(
      planDisk({
        seed: "s",
        partitions: [{ label: "usr", type: "usr-x86-64", sizeBytes: 8192, content: noise(9000) }],
      }),
    );
    expect(error).toMatchObject({ code: "DISK_TOO_SMALL", neededBytes: 9000, availableBytes: 8192 });
    expect(error.hint).toContain("808 bytes too many");
  });

  test("refuses partitions larger than the disk, with the arithmetic", async () => {
    const partitions = [{ label: "root", type: "root-x86-64", sizeBytes: 10 * MIB }];
    const error = await failure(planDisk({ seed: "s", sizeBytes: 8 * MIB, partitions }));
    expect(error).toMatchObject({ code: "DISK_TOO_SMALL", availableBytes: 8 * MIB, neededBytes: 11 * MIB + 33 * 512 });
    expect((await planDisk({ seed: "s", sizeBytes: 11 * MIB + 33 * 512, partitions })).sizeBytes).toBe(
      11 * MIB + 33 * 512,
    );
  });

  test.each<[string, object]>([
    ["no seed and no GUIDs", { partitions: [] }],
    ["an unknown type", { seed: "s", partitions: [{ label: "a", type: "boot", sizeBytes: MIB }] }],
    ["no size and no content", { seed: "s", partitions: [{ label: "a", type: "var" }] }],
    ["empty content", { seed: "s", partitions: [{ label: "a", type: "var", content: new Uint8Array(0) }] }],
    [
      "an unknown attribute",
      { seed: "s", partitions: [{ label: "a", type: "var", sizeBytes: MIB, attributes: ["fast"] }] },
    ],
    ["an unknown key", { seed: "s", partitions: [], colour: "red" }],
    ["a size that is no whole sector", { seed: "s", sizeBytes: 8 * MIB + 1, partitions: [] }],
    [
      "one UUID twice",
      {
        seed: "s",
        partitions: [1, 2].map((n) => ({
          label: `${n}`,
          type: "var",
          sizeBytes: MIB,
          uuid: "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa",
        })),
      },
    ],
  ])("refuses %s", async (_, options) => {
    expect((await failure(planDisk(options as DiskOptions))).code).toBe("DISK_BAD_OPTIONS");
  });
});

describe("a disk opened", () => {
  test("finds partitions by number, label, UUID and type when only one matches", async () => {
    const path = join(await scratch(), "disk");
    const { partitions } = await writeDiskImage(path, description());
    await using disk = await openDiskImage(path);
    for (const which of [1, "esp", partitions[0]?.uuid.toUpperCase() ?? ""])
      expect(disk.partition(which).number).toBe(1);
    for (const which of [9, "nothing", "usr-x86-64"]) expect(() => disk.partition(which)).toThrow(DiskImageError);
  });

  test("gives windows that keep to their partition", async () => {
    const path = join(await scratch(), "disk");
    await writeDiskImage(path, description());
    await using disk = await openDiskImage(path);
    const window = disk.open(2);
    expect((await failure(window.read(12_288, 1))).code).toBe("DISK_TRUNCATED");
    expect((await failure(window.read(-1, 1))).code).toBe("DISK_TRUNCATED");
  });

  test("that is no disk is a typed error", async () => {
    expect((await failure(openDiskImage(memorySource(noise(5000))))).code).toBe("DISK_BAD_MAGIC");
    expect((await failure(openDiskImage("/nonexistent"))).code).toBe("DISK_NOT_FOUND");
  });

  test("lets a partition be extracted sparsely", async () => {
    const folder = await scratch();
    await writeDiskImage(join(folder, "disk"), description());
    await using disk = await openDiskImage(join(folder, "disk"));
    await extractTo(disk.open("slot b"), join(folder, "b"));
    const { size, blocks } = await stat(join(folder, "b"));
    expect([size, blocks]).toEqual([20 * MIB, 0]);
  });
});
