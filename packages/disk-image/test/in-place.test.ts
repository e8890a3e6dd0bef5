import { createHash } from "node:crypto";
import { copyFile, open, readFile, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type InPlaceFile, openRawDisk } from "../src/in-place/file.ts";
import { writeTable } from "../src/in-place/write-table.ts";
import {
  DiskImageError,
  encodeGpt,
  type GptTable,
  memorySource,
  openDiskImage,
  openFat,
  type PartitionOptions,
  readGpt,
  repairDiskImage,
  replacePartition,
  writeDiskImage,
} from "../src/index.ts";
import { noise, scratch } from "./support.ts";

const MIB = 1024 * 1024;
const PARTITIONS: readonly PartitionOptions[] = [
  { label: "esp", type: "esp", content: noise(3 * MIB) },
  { label: "old", type: "usr-x86-64", sizeBytes: 2 * MIB, content: noise(MIB, 2), attributes: ["read-only"] },
  { label: "_empty", type: "usr-x86-64", sizeBytes: 2 * MIB },
];
const SIZE = 12 * MIB;

async function disk(sectorSize: 512 | 4096 = 512): Promise<string> {
  const path = join(await scratch(), "disk");
  await writeDiskImage(path, { seed: "in place", sizeBytes: SIZE, sectorSize, partitions: PARTITIONS });
  return path;
}

async function spoil(path: string, offset: number, bytes: Uint8Array = new Uint8Array([0xff])): Promise<void> {
  await using file = await open(path, "r+");
  await file.write(bytes, 0, bytes.byteLength, offset);
}

async function digest(path: string): Promise<string> {
  return createHash("sha256")
    .update(await readFile(path))
    .digest("hex");
}

const SOUND = { primary: "valid", backup: "valid", isBackupAtEnd: true, hasProtectiveMbr: true };

describe.each([512, 4096] as const)("a partition table with sectors of %i bytes", (sectorSize) => {
  test.each([
    ["primary header", sectorSize + 24, ["primary"]],
    ["primary signature", sectorSize, ["primary"]],
    ["primary entries", 2 * sectorSize + 60, ["primary"]],
    ["backup header", SIZE - sectorSize + 20, ["backup"]],
    ["backup entries", SIZE - 2 * sectorSize, ["backup"]],
    ["protective MBR", 510, ["protective-mbr"]],
  ] as const)("whose %s is damaged becomes what it was", async (_, offset, parts) => {
    const path = await disk(sectorSize);
    const before = await digest(path);
    await spoil(path, offset);
    const found = await repairDiskImage(path, { dryRun: true });
    expect(found.damages.map(({ part }) => part)).toEqual(parts);
    expect(await digest(path)).not.toBe(before);
    expect((await repairDiskImage(path)).damages).toEqual(found.damages);
    expect(await digest(path)).toBe(before);
    expect((await repairDiskImage(path)).damages).toEqual([]);
  });

  test("of a disk that has grown takes all of it", async () => {
    const path = await disk(sectorSize);
    await truncate(path, SIZE + 5 * MIB);
    {
      await using grown = await openDiskImage(path);
      expect(grown.gpt).toMatchObject({ ...SOUND, isBackupAtEnd: false });
    }
    const { damages, table } = await repairDiskImage(path);
    expect(damages).toMatchObject([{ part: "backup", reason: expect.stringContaining("in the last sector") }]);
    await using found = await openDiskImage(path);
    expect(found.gpt).toMatchObject({ ...SOUND, table });
    expect(Number(table.lastUsableLba) * sectorSize).toBeGreaterThan(SIZE + 4 * MIB);
    // The length of the protective partition, too.
    const mbr = new DataView((await readFile(path)).buffer.slice(0, 512));
    expect(mbr.getUint32(446 + 12, true)).toBe((SIZE + 5 * MIB) / sectorSize - 1);
  });

  test("of a disk that was cut behind its partitions fits again", async () => {
    const path = await disk(sectorSize);
    await truncate(path, SIZE - 2 * MIB);
    expect((await repairDiskImage(path)).damages).toMatchObject([{ part: "backup" }]);
    await using found = await openDiskImage(path);
    expect(found.gpt).toMatchObject(SOUND);
    expect(found.partitions).toHaveLength(3);
  });
});

describe("a partition table", () => {
  test("of a disk that was cut within its partitions is refused", async () => {
    const path = await disk();
    await truncate(path, 7 * MIB);
    const before = await digest(path);
    await expect(repairDiskImage(path)).rejects.toMatchObject({ code: "DISK_CORRUPT" });
    // The partitions fit, but there is no room for the backup behind them.
    await truncate(path, 8 * MIB + 512);
    await copyFile(await disk(), `${path}2`);
    await truncate(`${path}2`, 8 * MIB + 512);
    await expect(repairDiskImage(`${path}2`)).rejects.toMatchObject({
      code: "DISK_TOO_SMALL",
      neededBytes: 8 * MIB + 33 * 512,
      availableBytes: 8 * MIB + 512,
    });
    await truncate(path, 7 * MIB);
    expect(await digest(path)).toBe(before);
  });

  test("whose valid copies differ is only repaired from the one that is named", async () => {
    for (const from of ["primary", "backup"] as const) {
      const path = await disk();
      const { table } = await readGpt(memorySource(await readFile(path)));
      const [first, ...others] = table.partitions;
      if (first === undefined) throw new Error("no partition");
      const { backup } = encodeGpt({ ...table, partitions: [{ ...first, label: "from backup" }, ...others] });
      await spoil(path, SIZE - backup.byteLength, backup);
      const before = await digest(path);
      await expect(repairDiskImage(path)).rejects.toMatchObject({ code: "DISK_CORRUPT", hint: /--from primary/ });
      expect(await digest(path)).toBe(before);
      expect((await repairDiskImage(path, { from })).damages).toMatchObject([
        { part: from === "primary" ? "backup" : "primary" },
      ]);
      await using found = await openDiskImage(path);
      expect(found.gpt).toMatchObject(SOUND);
      expect(found.partitions[0]?.label).toBe(from === "primary" ? "esp" : "from backup");
    }
  });

  test("is not repaired from the copy that is damaged", async () => {
    const path = await disk();
    await spoil(path, 512 + 24);
    await expect(repairDiskImage(path, { from: "primary" })).rejects.toMatchObject({ code: "DISK_BAD_CHECKSUM" });
  });

  test("is not written over an MBR with partitions of its own", async () => {
    const path = await disk();
    await spoil(path, 446 + 4, new Uint8Array([0x83]));
    await spoil(path, 512 + 24);
    const before = await digest(path);
    await expect(repairDiskImage(path)).rejects.toMatchObject({ code: "DISK_CORRUPT", message: /protective MBR/ });
    expect(await digest(path)).toBe(before);
  });

  test("leaves a boot loader and a hybrid MBR alone", async () => {
    const path = await disk();
    await spoil(path, 0, noise(440));
    await spoil(path, 446 + 16 + 4, new Uint8Array([0xef]));
    await spoil(path, 512 + 24);
    await repairDiskImage(path);
    const sector = (await readFile(path)).subarray(0, 512);
    expect(Buffer.compare(sector.subarray(0, 440), noise(440))).toBe(0);
    expect(sector[446 + 16 + 4]).toBe(0xef);
  });

  test("that nothing is left of is not invented", async () => {
    const path = join(await scratch(), "disk");
    await writeFile(path, noise(MIB));
    await expect(repairDiskImage(path)).rejects.toMatchObject({ code: "DISK_BAD_MAGIC" });
    await expect(repairDiskImage(`${path}2`)).rejects.toMatchObject({ code: "DISK_NOT_FOUND" });
    await writeDiskImage(path, { format: "qcow2", seed: "s", partitions: [] });
    await expect(repairDiskImage(path)).rejects.toMatchObject({ code: "DISK_UNSUPPORTED", hint: /qemu-img/ });
  });

  test("has one whole copy wherever writing it stops", async () => {
    const path = await disk();
    const bytes = await readFile(path);
    const { table } = await readGpt(memorySource(bytes));
    const renamed: GptTable = {
      ...table,
      partitions: table.partitions.map((partition) => ({ ...partition, label: "new" })),
    };
    const labels = new Set<string>();
    let isComplete = false;
    const stopped = Uint8Array.from(bytes);
    for (let limit = 0; !isComplete; limit += 100) {
      const written: [number, number][] = [];
      isComplete = await writeTable(failing(bytes, stopped, limit, written), renamed).then(
        () => true,
        () => false,
      );
      const found = await readGpt(memorySource(stopped));
      expect(found.table.partitions).toHaveLength(3);
      labels.add(found.table.partitions[0]?.label ?? "");
      for (const [start, end] of written) stopped.set(bytes.subarray(start, end), start);
    }
    expect([...labels].sort()).toEqual(["esp", "new"]);
  });
});

/** A disk that is read from `before` and written to `after`, and fails once so many bytes were written to it. */
function failing(before: Uint8Array, after: Uint8Array, limit: number, written: [number, number][]): InPlaceFile {
  let left = limit;
  return {
    source: memorySource(before),
    async write(offset, piece) {
      const length = Math.min(left, piece.byteLength);
      after.set(piece.subarray(0, length), offset);
      written.push([offset, offset + length]);
      left -= length;
      if (length < piece.byteLength) throw new Error("power is off");
    },
    async sync() {},
    async [Symbol.asyncDispose]() {},
  };
}

describe("a partition", () => {
  const UUID = "0a1b2c3d-0000-4000-8000-000000000001";

  test("gets another content and another entry, and nothing else changes", async () => {
    const path = await disk();
    const before = await readFile(path);
    const replaced = await replacePartition(path, "_empty", {
      content: noise(MIB + 5, 9),
      label: "new",
      uuid: UUID.toUpperCase(),
      attributes: ["no-auto"],
    });
    expect(replaced).toMatchObject({ number: 3, label: "new", uuid: UUID, attributeNames: ["no-auto"] });
    await using found = await openDiskImage(path);
    expect(found.gpt).toMatchObject(SOUND);
    expect(found.partition("new")).toEqual(replaced);
    expect(Buffer.compare(await found.open("new").read(0, MIB + 5), noise(MIB + 5, 9))).toBe(0);
    const after = await readFile(path);
    const [start, end] = [replaced.offsetBytes, replaced.offsetBytes + MIB + 5];
    after.fill(0, start, end);
    // Entries 1 and 2 and everything between the tables is as before.
    expect(Buffer.compare(after.subarray(MIB, SIZE - 34 * 512), before.subarray(MIB, SIZE - 34 * 512))).toBe(0);
    expect(Buffer.compare(after.subarray(1024, 1024 + 256), before.subarray(1024, 1024 + 256))).toBe(0);
  });

  test("has only zeros behind a shorter content, and its entry stays when only the content is new", async () => {
    const path = await disk();
    const table = (await readFile(path)).subarray(0, 34 * 512);
    await replacePartition(path, "old", { content: noise(100, 9) });
    await using found = await openDiskImage(path);
    const expected = new Uint8Array(2 * MIB);
    expected.set(noise(100, 9));
    expect(Buffer.compare(await found.open("old").read(0, 2 * MIB), expected)).toBe(0);
    expect(Buffer.compare((await readFile(path)).subarray(0, 34 * 512), table)).toBe(0);
  });

  test("takes a FAT file system and a writer, over what was there", async () => {
    const path = await disk();
    const files = { "a.txt": new TextEncoder().encode("hello") };
    const fat = { volumeId: 1, time: new Date("2026-01-01"), files };
    await replacePartition(path, "esp", { content: { fat } });
    await replacePartition(path, "old", { content: { write: (sink) => sink.write(MIB, noise(10)) } });
    await using found = await openDiskImage(path);
    const volume = await openFat(found.open("esp"));
    expect(Buffer.from(await volume.readFile("a.txt")).toString()).toBe("hello");
    const old = await found.open("old").read(0, 2 * MIB);
    expect(Buffer.compare(old.subarray(MIB, MIB + 10), noise(10))).toBe(0);
    old.fill(0, MIB, MIB + 10);
    expect(old.every((byte) => byte === 0)).toBe(true);
  });

  test("that gets what it has already is not written to", async () => {
    const path = await disk();
    const { blocks } = await stat(path);
    await replacePartition(path, "old", { content: noise(MIB, 2) });
    await replacePartition(path, "_empty", { content: new Uint8Array(2 * MIB) });
    expect((await stat(path)).blocks).toBe(blocks);
  });

  test("is replaced beside another one at the same time, and neither is lost", async () => {
    const path = await disk();
    await Promise.all([
      replacePartition(path, "_empty", { label: "os_2", content: noise(MIB, 7) }),
      replacePartition(path, "old", { label: "os_1", content: noise(2 * MIB, 8) }),
    ]);
    await using found = await openDiskImage(path);
    expect(found.partitions.map(({ label }) => label)).toEqual(["esp", "os_1", "os_2"]);
    expect(found.gpt).toMatchObject(SOUND);
  });

  test("whose entry another process changed meanwhile is an error, another entry is left as it has become", async () => {
    const path = await disk();
    const meanwhile = (which: number, label: string) => async (): Promise<void> => {
      await using file = await openRawDisk(path);
      const { table } = await readGpt(file.source);
      const partitions = table.partitions.map((each) => (each.number === which ? { ...each, label } : each));
      await writeTable(file, { ...table, partitions });
    };
    await replacePartition(path, 3, { label: "os_2", content: { write: meanwhile(2, "newer") } });
    const replacing = replacePartition(path, 3, { label: "os_3", content: { write: meanwhile(3, "theirs") } });
    await expect(replacing).rejects.toMatchObject({ code: "DISK_CHANGED" });
    await using found = await openDiskImage(path);
    expect(found.partitions.map(({ label }) => label)).toEqual(["esp", "newer", "theirs"]);
  });

  test("reports progress and can be interrupted", async () => {
    const path = await disk();
    const done: number[] = [];
    const onProgress = ({ doneBytes, totalBytes }: { doneBytes: number; totalBytes: number }): void => {
      expect(totalBytes).toBe(2 * MIB);
      done.push(doneBytes);
    };
    await replacePartition(path, "_empty", { content: noise(2 * MIB), onProgress });
    expect(done).toEqual([MIB, 2 * MIB]);
    const aborted = AbortSignal.abort(new Error("enough"));
    await expect(replacePartition(path, "old", { label: "x", signal: aborted })).rejects.toThrow("enough");
  });

  test.each<[string, string, Parameters<typeof replacePartition>[2]]>([
    ["nothing to replace", "DISK_BAD_OPTIONS", {}],
    ["content that is too long", "DISK_TOO_SMALL", { content: noise(2 * MIB + 1), label: "x" }],
    ["a file that is missing", "DISK_NOT_FOUND", { content: { file: "/nowhere" }, label: "x" }],
    ["a label of 37 characters", "DISK_BAD_OPTIONS", { label: "x".repeat(37) }],
    ["a label with a NUL", "DISK_BAD_OPTIONS", { content: noise(1), label: "a\0b" }],
    ["an unknown type", "DISK_BAD_OPTIONS", { content: noise(1), type: "nothing" }],
    ["a UUID that is none", "DISK_BAD_OPTIONS", { uuid: "1" }],
    ["an unknown option", "DISK_BAD_OPTIONS", { label: "x", size: 1 } as never],
  ])("is not touched by %s", async (_, code, options) => {
    const path = await disk();
    const before = await digest(path);
    await expect(replacePartition(path, "old", options)).rejects.toMatchObject({ code });
    expect(await digest(path)).toBe(before);
  });

  test("does not get a UUID that the disk has already", async () => {
    const path = await disk();
    await using found = await openDiskImage(path);
    for (const uuid of [found.partition("esp").uuid, found.gpt.table.diskGuid]) {
      await expect(replacePartition(path, "old", { uuid })).rejects.toMatchObject({ code: "DISK_BAD_OPTIONS" });
    }
    await replacePartition(path, "old", { uuid: found.partition("old").uuid });
  });

  test("of a disk whose table is not sound has to wait for its repair", async () => {
    for (const damage of [
      (path: string) => spoil(path, 512 + 24),
      (path: string) => spoil(path, 510),
      (path: string) => truncate(path, SIZE + MIB),
    ]) {
      const path = await disk();
      await damage(path);
      const replaced = replacePartition(path, "old", { label: "x" });
      await expect(replaced).rejects.toMatchObject({ code: "DISK_CORRUPT", hint: /disk-image repair/ });
      await repairDiskImage(path);
      await replacePartition(path, "old", { label: "x" });
    }
  });

  test("that is not there is an error that names those that are", async () => {
    const path = await disk();
    const error = await replacePartition(path, "new", { label: "x" }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(DiskImageError);
    expect(error).toMatchObject({ code: "DISK_NOT_FOUND", hint: "partitions: 1 (esp), 2 (old), 3 (_empty)" });
  });
});
