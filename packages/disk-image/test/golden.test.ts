import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { memorySource, openDiskImage, openFat, qcow2Source } from "../src/index.ts";

/** An image of another tool; see fixtures/README.md. */
function golden(name: string): Uint8Array {
  return new Uint8Array(gunzipSync(readFileSync(new URL(`./fixtures/${name}.gz`, import.meta.url))));
}

const HELLO = "hello\n";
/** What `seq 1 5000` prints. */
const NUMBERS = Array.from({ length: 5000 }, (_, index) => `${index + 1}\n`).join("");

describe("a partition table", () => {
  test("of sgdisk is read", async () => {
    await using disk = await openDiskImage(memorySource(golden("sgdisk")));
    expect(disk.gpt).toMatchObject({ primary: "valid", backup: "valid", isBackupAtEnd: true, hasProtectiveMbr: true });
    expect(disk.gpt.table).toMatchObject({ diskGuid: "11111111-1111-4111-8111-111111111111", sectorSize: 512 });
    expect(disk.partitions).toMatchObject([
      {
        number: 1,
        label: "ESP",
        uuid: "22222222-2222-4222-8222-222222222222",
        offsetBytes: 1 << 20,
        sizeBytes: 2 << 20,
      },
      {
        number: 3,
        label: "usr ☃",
        uuid: "33333333-3333-4333-8333-333333333333",
        type: "8484680c-9521-48c6-9c11-b0720656f69e",
        offsetBytes: 3 << 20,
        attributes: 1n << 60n,
      },
    ]);
  });

  test("of fdisk with large sectors is read", async () => {
    await using disk = await openDiskImage(memorySource(golden("fdisk-4096")));
    expect(disk.gpt).toMatchObject({ primary: "valid", backup: "valid", isBackupAtEnd: true });
    expect(disk.gpt.table).toMatchObject({ diskGuid: "44444444-4444-4444-8444-444444444444", sectorSize: 4096 });
    expect(disk.partitions).toMatchObject([
      { label: "four", uuid: "55555555-5555-4555-8555-555555555555", offsetBytes: 1 << 20, sizeBytes: 3 << 20 },
    ]);
  });
});

test.each([12, 16, 32] as const)("a FAT%i of mkfs.fat and mtools is read", async (type) => {
  const volume = await openFat(memorySource(golden(`fat${type}`)));
  expect(volume.boot).toMatchObject({ geometry: { type }, label: "GOLDEN", volumeId: 0x1234_5678 });
  const read = async (path: string): Promise<string> => Buffer.from(await volume.readFile(path)).toString("utf8");
  expect(await read("EFI/BOOT/BOOTX64.EFI")).toBe(HELLO);
  expect(await read("A DIRECTORY WITH A LONG NAME/ünïcode ☃.txt")).toBe(NUMBERS);
  expect(await read("empty")).toBe("");
  const paths: string[] = [];
  for await (const { path } of volume.walk()) paths.push(path);
  expect(paths.sort()).toEqual([
    "EFI",
    "EFI/BOOT",
    "EFI/BOOT/BOOTX64.EFI",
    "EMPTY",
    "a directory with a long name",
    "a directory with a long name/ünïcode ☃.txt",
  ]);
});

test.each(["qcow2", "qcow2-v2"])("a %s of qemu-img is read", async (name) => {
  await using source = await qcow2Source(memorySource(golden(name)));
  expect(source.sizeBytes).toBe(3 << 20);
  const raw = new Uint8Array(3 << 20);
  raw.set(Buffer.from(NUMBERS), 70_000);
  raw.set(Buffer.from(HELLO), 3_000_000);
  const digest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
  expect(digest(await source.read(0, source.sizeBytes))).toBe(digest(raw));
});
