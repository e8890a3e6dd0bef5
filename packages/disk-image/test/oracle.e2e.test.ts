import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import {
  fileSource,
  openDiskImage,
  openFat,
  PARTITION_TYPES,
  planFat,
  writeDiskImage,
  writeFat,
} from "../src/index.ts";
import { writeSparseFile } from "../src/sink.ts";
import { needs, noise, run, scratch, tryRun } from "./support.ts";

const MIB = 1024 * 1024;
const TIME = new Date("2026-01-02T03:04:06Z");

const FILES: Readonly<Record<string, Uint8Array>> = {
  "EFI/BOOT/BOOTX64.EFI": noise(1_300_000),
  "EFI/Linux/particle_1.0+3-0.efi": noise(70_001, 2),
  "EFI/systemd/systemd-bootx64.efi": noise(4096, 3),
  "loader/loader.conf": new TextEncoder().encode("timeout 0\n"),
  "loader/keys/auto/PK.auth": noise(1, 4),
  "empty file": new Uint8Array(0),
  "ünïcode ☃.txt": noise(513, 5),
};

function digest(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

async function formatFat(
  path: string,
  options: Omit<Parameters<typeof planFat>[0], "volumeId" | "time" | "files">,
): Promise<void> {
  const plan = await planFat({ volumeId: 0x1234_abcd, time: TIME, files: FILES, ...options });
  await writeSparseFile(path, options.sizeBytes, (sink) => writeFat(plan, sink));
}

describe("partition tables", () => {
  test("satisfy sgdisk and sfdisk, which read the same partitions", async (context) => {
    needs(context, "sgdisk", "sfdisk");
    const path = join(await scratch(), "disk");
    const plan = await writeDiskImage(path, {
      seed: "oracle",
      partitions: [
        { label: "ESP", type: "esp", sizeBytes: 5 * MIB, attributes: ["required"] },
        {
          label: "usr äöü ☃",
          type: "usr-x86-64",
          content: noise(100_000),
          attributes: ["read-only", "grow-file-system"],
        },
        { label: "verity", type: "usr-x86-64-verity", sizeBytes: 4096, attributes: ["no-auto"] },
        { label: "rest", type: "linux-generic", sizeBytes: 3 * MIB, attributes: ["legacy-boot", "no-block-io"] },
      ],
    });
    expect(run("sgdisk", "-v", path)).toContain("No problems found");
    run("sfdisk", "--verify", path);
    const { partitiontable: theirs } = JSON.parse(run("sfdisk", "--json", path)) as {
      partitiontable: { id: string; firstlba: number; lastlba: number; partitions: Record<string, string | number>[] };
    };
    expect(theirs.id.toLowerCase()).toBe(plan.diskGuid);
    expect([theirs.firstlba, theirs.lastlba]).toEqual([34, plan.sizeBytes / 512 - 34]);
    const ours = plan.partitions.map(({ label, type, uuid, offsetBytes, sizeBytes }) => ({
      start: offsetBytes / 512,
      size: sizeBytes / 512,
      type: type.toUpperCase(),
      uuid: uuid.toUpperCase(),
      name: label,
    }));
    expect(theirs.partitions).toMatchObject(ours);
    expect(theirs.partitions.map(({ attrs }) => attrs)).toEqual([
      "RequiredPartition",
      "GUID:59,60",
      "GUID:63",
      "NoBlockIOProtocol LegacyBIOSBootable",
    ]);
  });

  test("with sectors of 4096 bytes satisfy fdisk, which reads the same partitions", async (context) => {
    needs(context, "fdisk");
    const path = join(await scratch(), "disk");
    const plan = await writeDiskImage(path, {
      seed: "oracle",
      sectorSize: 4096,
      partitions: [
        { label: "one", type: "var", sizeBytes: 5 * MIB },
        { label: "two", type: "swap", sizeBytes: MIB },
      ],
    });
    const { stdout, stderr } = tryRun("fdisk", "-b", "4096", "-l", "-o", "Start,End,Type-UUID,UUID,Name", path);
    expect(stderr).toBe("");
    for (const { offsetBytes, sizeBytes, type, uuid, label } of plan.partitions) {
      const ends = [offsetBytes / 4096, (offsetBytes + sizeBytes) / 4096 - 1];
      expect(stdout).toMatch(new RegExp([...ends, type.toUpperCase(), uuid.toUpperCase(), label].join("\\s+")));
    }
  });

  test("written by sgdisk are read", async (context) => {
    needs(context, "sgdisk");
    const path = join(await scratch(), "disk");
    await writeFile(path, "");
    await truncate(path, 64 * MIB);
    run(
      "sgdisk",
      "-n",
      "1:2048:+5M",
      "-t",
      "1:EF00",
      "-c",
      "1:boot",
      "-n",
      "5:0:0",
      "-c",
      "5:all the rest",
      "-A",
      "5:set:60",
      path,
    );
    await using disk = await openDiskImage(path);
    expect(disk.gpt).toMatchObject({ primary: "valid", backup: "valid", hasProtectiveMbr: true });
    expect(disk.partitions).toMatchObject([
      { number: 1, label: "boot", typeName: "esp", offsetBytes: MIB, sizeBytes: 5 * MIB },
      { number: 5, label: "all the rest", typeName: "linux-generic", attributeNames: ["read-only"] },
    ]);
  });

  test("name the types that sfdisk knows", (context) => {
    needs(context, "sfdisk");
    const known = run("sfdisk", "--list-types", "-X", "gpt").toLowerCase();
    const missing = Object.entries(PARTITION_TYPES).filter(([, guid]) => !known.includes(guid));
    // Too young for fdisk 2.38, and defined in the specification only.
    expect(missing.map(([name]) => name).filter((name) => name !== "user-home")).toEqual([]);
  });
});

describe("FAT file systems", () => {
  test.for<[number, 12 | 16 | 32 | undefined, 512 | 4096, number | undefined]>([
    [2 * MIB, undefined, 512, undefined],
    [8 * MIB, undefined, 512, undefined],
    [8 * MIB, 12, 512, undefined],
    [30 * MIB + 512, undefined, 512, undefined],
    [33 * MIB, undefined, 512, undefined],
    [64 * MIB, undefined, 512, undefined],
    [300 * MIB, undefined, 512, undefined],
    [300 * MIB, 32, 512, 1024],
    [100 * MIB, 16, 512, 8192],
    [512 * MIB, undefined, 4096, undefined],
    [9 * 1024 * MIB, undefined, 512, undefined],
  ])(
    "of %i bytes (FAT%s, sectors of %i, clusters of %s) satisfy fsck.fat and mtools",
    async ([sizeBytes, type, sectorSize, clusterSizeBytes], context) => {
      needs(context, "fsck.fat", "mcopy");
      const folder = await scratch();
      const path = join(folder, "fat");
      await formatFat(path, { sizeBytes, type, sectorSize, clusterSizeBytes, label: "LEVERET ESP" });
      const checked = tryRun("fsck.fat", "-nv", path);
      expect(checked.stdout + checked.stderr).not.toMatch(
        /differences|Wrong|wrong|error|Warning|warning|Auto|mismatch/,
      );
      expect(checked.status).toBe(0);

      await mkdir(join(folder, "out"));
      run("mcopy", "-s", "-n", "-i", path, "::*", join(folder, "out"));
      const names = await readdir(join(folder, "out"), { recursive: true, withFileTypes: true });
      const found: Record<string, string> = {};
      for (const entry of names) {
        if (!entry.isFile()) continue;
        const real = join(entry.parentPath, entry.name);
        found[real.slice(join(folder, "out").length + 1)] = digest(await readFile(real));
      }
      expect(found).toEqual(Object.fromEntries(Object.entries(FILES).map(([name, bytes]) => [name, digest(bytes)])));
      expect(run("mdir", "-i", path, "::")).toMatch(/is LEVERET ESP[\s\S]*1234-ABCD[\s\S]*2026-01-02/);
    },
  );

  test.for<[number, string[]]>([
    [2 * MIB, ["-F", "12"]],
    [20 * MIB, ["-F", "16"]],
    [40 * MIB, ["-F", "32"]],
    [40 * MIB, ["-F", "32", "-s", "1", "-f", "1"]],
    [300 * MIB, ["-F", "32", "-S", "4096"]],
  ])("of %i bytes made by mkfs.fat %j and filled by mcopy are read", async ([sizeBytes, options], context) => {
    needs(context, "mkfs.fat", "mcopy", "mmd");
    const folder = await scratch();
    const path = join(folder, "fat");
    await writeFile(path, "");
    await truncate(path, sizeBytes);
    run("mkfs.fat", ...options, "-n", "THEIRS", "-i", "cafe1234", path);
    await writeFile(join(folder, "a long name.text"), noise(70_000));
    await writeFile(join(folder, "lower.txt"), noise(10, 2));
    run("mmd", "-i", path, "::dir", "::dir/sub");
    run("mcopy", "-i", path, join(folder, "a long name.text"), "::dir/sub");
    run("mcopy", "-i", path, join(folder, "lower.txt"), "::");
    await using source = await fileSource(path);
    const volume = await openFat(source);
    expect(await volume.label()).toBe("THEIRS");
    expect(volume.boot.volumeId).toBe(0xcafe_1234);
    const paths: string[] = [];
    for await (const { path: inside } of volume.walk()) paths.push(inside);
    expect(paths.sort()).toEqual(["dir", "dir/sub", "dir/sub/a long name.text", "lower.txt"]);
    expect(digest(await volume.readFile("dir/sub/a long name.text"))).toBe(digest(noise(70_000)));
    expect(digest(await volume.readFile("LOWER.TXT"))).toBe(digest(noise(10, 2)));
  });
});

describe("a disk that is full", () => {
  test("is a typed error and nothing is left", async (context) => {
    if (process.getuid?.() !== 0) context.skip("a small file system can only be mounted by root");
    const small = join(await scratch(), "small");
    await mkdir(small);
    run("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small);
    try {
      await writeFile(join(small, "disk"), "old");
      const partitions = [{ label: "x", type: "var", content: noise(8 * MIB) }];
      const written = writeDiskImage(join(small, "disk"), { seed: "s", partitions });
      await expect(written).rejects.toMatchObject({ code: "DISK_FULL", path: join(small, "disk") });
      expect(await readdir(small)).toEqual(["disk"]);
      expect(await readFile(join(small, "disk"), "utf8")).toBe("old");
    } finally {
      run("umount", small);
    }
  });
});
