import { describe, expect, test } from "vitest";
import {
  attributeBits,
  attributeNames,
  DiskImageError,
  encodeGpt,
  type GptTable,
  memorySource,
  PARTITION_TYPES,
  readGpt,
} from "../src/index.ts";

const DISK_GUID = "11111111-2222-4333-8444-555555555555";

function table(sectorSize: 512 | 4096 = 512): GptTable {
  return {
    sectorSize,
    diskGuid: DISK_GUID,
    sectors: 16n,
    firstUsableLba: 3n,
    lastUsableLba: 13n,
    entryCount: 4,
    partitions: [
      {
        number: 1,
        type: PARTITION_TYPES.esp,
        uuid: "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa",
        firstLba: 4n,
        lastLba: 7n,
        attributes: attributeBits(["required", "no-auto"]),
        label: "the label may be 36 units long, äöü",
      },
      {
        number: 3,
        type: PARTITION_TYPES["usr-x86-64"],
        uuid: "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb",
        firstLba: 8n,
        lastLba: 8n,
        attributes: 0n,
        label: "",
      },
    ],
  };
}

function disk(value: GptTable = table()): Uint8Array {
  const bytes = new Uint8Array(Number(value.sectors) * value.sectorSize);
  const { primary, backup } = encodeGpt(value);
  bytes.set(primary);
  bytes.set(backup, bytes.byteLength - backup.byteLength);
  return bytes;
}

async function codeOf(bytes: Uint8Array): Promise<string | undefined> {
  try {
    await readGpt(memorySource(bytes));
    return undefined;
  } catch (error) {
    if (error instanceof DiskImageError) return error.code;
    throw error;
  }
}

describe("a partition table", () => {
  test.each([512, 4096] as const)("with sectors of %i bytes is read as it was written", async (sectorSize) => {
    const found = await readGpt(memorySource(disk(table(sectorSize))));
    expect(found).toEqual({
      table: table(sectorSize),
      primary: "valid",
      backup: "valid",
      isBackupAtEnd: true,
      hasProtectiveMbr: true,
    });
  });

  test("is not changed by being read, also as a Buffer", async () => {
    const bytes = Buffer.from(disk());
    await readGpt(memorySource(bytes));
    expect(bytes.equals(disk())).toBe(true);
    expect((await readGpt(memorySource(bytes))).primary).toBe("valid");
  });

  test.each([
    ["start", 512, "primary"],
    ["start's entries", 1024, "primary"],
    ["end", 15 * 512, "backup"],
    ["end's entries", 14 * 512, "backup"],
  ] as const)("is read from the other copy when the one at the %s is damaged", async (_, offset, copy) => {
    const bytes = disk();
    bytes[offset + 20] = (bytes[offset + 20] ?? 0) ^ 1;
    const found = await readGpt(memorySource(bytes));
    expect(found.table.partitions).toEqual(table().partitions);
    expect(found[copy]).toMatchObject({ code: "DISK_BAD_CHECKSUM" });
    expect(found[copy === "primary" ? "backup" : "primary"]).toBe("valid");
  });

  test("says when its copies are both valid and differ", async () => {
    const bytes = disk();
    const { backup } = encodeGpt({ ...table(), diskGuid: "99999999-2222-4333-8444-555555555555" });
    bytes.set(backup, bytes.byteLength - backup.byteLength);
    const found = await readGpt(memorySource(bytes));
    expect(found.table.diskGuid).toBe(DISK_GUID);
    expect(found.backup).toMatchObject({ code: "DISK_CORRUPT" });
  });

  test("says when nothing keeps other programs off", async () => {
    const bytes = disk();
    bytes[446 + 4] = 0x83;
    expect((await readGpt(memorySource(bytes))).hasProtectiveMbr).toBe(false);
  });

  const overlap = (firstLba: bigint, lastLba: bigint): GptTable => {
    const { partitions, ...rest } = table();
    const [first, second] = partitions;
    if (first === undefined || second === undefined) throw new Error("bug: the table has two partitions");
    return { ...rest, partitions: [first, { ...second, firstLba, lastLba }] };
  };

  test.each([
    ["overlaps another", 7n, 8n],
    ["starts before the usable sectors", 2n, 2n],
    ["ends behind the usable sectors", 8n, 14n],
    ["ends before it starts", 9n, 8n],
  ])("is refused when a partition %s", async (_, firstLba, lastLba) => {
    expect(await codeOf(disk(overlap(firstLba, lastLba)))).toBe("DISK_CORRUPT");
  });

  test("is refused with more entries than anyone needs", async () => {
    const bytes = disk();
    new DataView(bytes.buffer).setUint32(512 + 80, 0xffff_ffff, true);
    bytes.fill(0, 15 * 512);
    expect(["DISK_LIMIT", "DISK_BAD_CHECKSUM"]).toContain(await codeOf(bytes));
  });

  test.each([
    ["no signature", new Uint8Array(8192), "DISK_BAD_MAGIC"],
    ["nothing", new Uint8Array(0), "DISK_TRUNCATED"],
  ])("in %s is a typed error", async (_, bytes, code) => {
    expect(await codeOf(bytes)).toBe(code);
  });

  test("every truncation is a typed error or is read from its start", async () => {
    const bytes = disk();
    for (let length = 0; length < bytes.byteLength; length += 1) {
      const code = await codeOf(bytes.subarray(0, length));
      if (length < 3 * 512) expect(code, `${length} bytes`).toBeDefined();
    }
  });

  test("every flipped byte is found or does not matter", async () => {
    const bytes = disk();
    for (let at = 0; at < bytes.byteLength; at += 1) {
      const flipped = bytes.slice();
      flipped[at] = (flipped[at] ?? 0) ^ 0xff;
      const found = await readGpt(memorySource(flipped));
      expect(found.table.partitions, `byte ${at}`).toEqual(table().partitions);
    }
  });

  test("every flipped byte of a disk with one copy is a typed error or does not matter", async () => {
    const bytes = disk();
    bytes.fill(0, 14 * 512);
    for (let at = 0; at < 3 * 512; at += 1) {
      const flipped = bytes.slice();
      flipped[at] = (flipped[at] ?? 0) ^ 0x01;
      await codeOf(flipped);
    }
  });
});

describe("attributes", () => {
  test("have names both ways, and numbers where they have none", () => {
    const bits = attributeBits(["read-only", "grow-file-system"]);
    expect(bits).toBe((1n << 60n) | (1n << 59n));
    expect(attributeNames(bits | (1n << 7n))).toEqual(["bit-7", "grow-file-system", "read-only"]);
  });
});

describe("encodeGpt", () => {
  test.each([
    ["a label of 37 units", { label: "x".repeat(37) }],
    ["a number beyond the table", { number: 5 }],
    ["a bad GUID", { uuid: "x" }],
  ])("refuses %s", (_, wrong) => {
    const { partitions, ...rest } = table();
    const [first] = partitions;
    if (first === undefined) throw new Error("bug: the table has partitions");
    expect(() => encodeGpt({ ...rest, partitions: [{ ...first, ...wrong }] })).toThrow(DiskImageError);
  });
});
