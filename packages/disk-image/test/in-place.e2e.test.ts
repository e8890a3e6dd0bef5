import { open, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openDiskImage, repairDiskImage, replacePartition, writeDiskImage } from "../src/index.ts";
import { needs, noise, run, scratch, tryRun } from "./support.ts";

const MIB = 1024 * 1024;
const SIZE = 12 * MIB;
/** sgdisk computes them for small disks, with a geometry that no disk has any more. */
const PROTECTIVE_END_CHS = [446 + 5, 446 + 8] as const;

/** A disk of sgdisk's, as fresh as it makes one. */
async function theirDisk(): Promise<string> {
  const path = join(await scratch(), "disk");
  await writeFile(path, "");
  await truncate(path, SIZE);
  const guids = ["-U", "11111111-2222-4333-8444-555555555555", "-u", "1:aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"];
  run("sgdisk", "-n", "1:2048:+2M", "-t", "1:EF00", "-c", "1:boot", "-n", "3:0:+4M", "-c", "3:data", ...guids, path);
  return path;
}

async function spoil(path: string, offset: number): Promise<void> {
  await using file = await open(path, "r+");
  await file.write(new Uint8Array(16).fill(0xa5), 0, 16, offset);
}

describe("a disk of sgdisk's", () => {
  test.for([
    ["primary header", 512],
    ["primary entries", 1024],
    ["backup header", SIZE - 512],
    ["backup entries", SIZE - 33 * 512],
    ["protective MBR", 496],
  ] as const)("whose %s is damaged is repaired to what it was", async ([, offset], context) => {
    needs(context, "sgdisk");
    const path = await theirDisk();
    const before = await readFile(path);
    await spoil(path, offset);
    expect(tryRun("sgdisk", "-v", path).stdout).toMatch(/corrupt|Caution/);
    expect((await repairDiskImage(path)).damages).toHaveLength(1);
    expect(run("sgdisk", "-v", path)).toMatch(/^\s*No problems found/);
    const after = await readFile(path);
    for (const bytes of [before, after]) bytes.fill(0, ...PROTECTIVE_END_CHS);
    expect(after.equals(before)).toBe(true);
  });

  test("that has grown is repaired as sgdisk -e does it", async (context) => {
    needs(context, "sgdisk");
    const [ours, theirs] = [await theirDisk(), await theirDisk()];
    run("sgdisk", "-u", "3:bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb", ours);
    run("sgdisk", "-u", "3:bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb", theirs);
    for (const path of [ours, theirs]) await truncate(path, SIZE + 5 * MIB);
    await repairDiskImage(ours);
    run("sgdisk", "-e", theirs);
    const [a, b] = [await readFile(ours), await readFile(theirs)];
    for (const bytes of [a, b]) bytes.fill(0, ...PROTECTIVE_END_CHS);
    expect(a.equals(b)).toBe(true);
    expect(run("sgdisk", "-v", ours)).toContain("No problems found");
  });

  test("gets another partition, which sgdisk and sfdisk find", async (context) => {
    needs(context, "sgdisk", "sfdisk");
    const path = await theirDisk();
    const uuid = "0a1b2c3d-0000-4000-8000-000000000001";
    await replacePartition(path, "data", { content: noise(MIB), label: "new ☃", uuid, attributes: ["read-only"] });
    expect(run("sgdisk", "-v", path)).toContain("No problems found");
    run("sfdisk", "--verify", path);
    const shown = run("sgdisk", "-i", "3", path);
    expect(shown).toContain(`unique GUID: ${uuid.toUpperCase()}`);
    expect(shown).toContain("Partition name: 'new ☃'");
    expect(shown).toContain("Attribute flags: 1000000000000000");
  });
});

describe("a generated partition table", () => {
  const disks = ([512, 4096] as const).flatMap((sectorSize) =>
    [0, 1, 2, 7, 128].flatMap((count) => [0, 3 * MIB, 4097 * 4096].map((extra) => ({ sectorSize, count, extra }))),
  );
  test.for(disks)(
    "of %o satisfies sfdisk or sgdisk, which find the same",
    async ({ sectorSize, count, extra }, context) => {
      needs(context, "sgdisk", "fdisk");
      const path = join(await scratch(), "disk");
      const partitions = Array.from({ length: count }, (_, index) => ({
        label: `part ${index} ${"ü☃𝄞".repeat(index % 5)}`,
        type: (["esp", "usr-x86-64", "usr-x86-64-verity", "root-arm64", "swap", "var"] as const)[index % 6] ?? "var",
        sizeBytes: 4096 * (1 + index * 37),
        ...(index % 3 === 0 && { content: noise(3000, index) }),
        attributes: index % 2 === 0 ? [] : (["read-only", "grow-file-system"] as const),
      }));
      const least = await writeDiskImage(path, { seed: `${count}`, sectorSize, partitions });
      const sizeBytes = least.sizeBytes + extra;
      const plan = await writeDiskImage(path, { seed: `${count}`, sectorSize, sizeBytes, partitions });
      if (sectorSize === 512) expect(run("sgdisk", "-v", path)).toContain("No problems found");
      const listed = tryRun("fdisk", "-b", `${sectorSize}`, "-l", "-o", "Start,Sectors,UUID", path);
      expect(listed.stderr).toBe("");
      const found = [...listed.stdout.matchAll(/^ *(\d+) +(\d+) +([0-9A-F-]{36})$/gm)].map(([, start, size, uuid]) => ({
        offsetBytes: Number(start) * sectorSize,
        sizeBytes: Number(size) * sectorSize,
        uuid: uuid?.toLowerCase(),
      }));
      expect(found).toEqual(
        plan.partitions.map(({ offsetBytes, sizeBytes: size, uuid }) => ({ offsetBytes, sizeBytes: size, uuid })),
      );
      await using disk = await openDiskImage(path);
      expect(disk.partitions.map(({ label }) => label)).toEqual(partitions.map(({ label }) => label));
    },
  );
});
