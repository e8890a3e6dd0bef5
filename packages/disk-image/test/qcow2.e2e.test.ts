import { createHash } from "node:crypto";
import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { fileSource, qcow2Source, writeDiskImage } from "../src/index.ts";
import { needs, noise, run, scratch } from "./support.ts";

const MIB = 1024 * 1024;
const SIZE = 9 * MIB + 512 * 3;

/** A disk with data, holes, text that compresses, and an end in the middle of a cluster. */
async function rawDisk(folder: string): Promise<string> {
  const path = join(folder, "raw");
  await using file = await open(path, "w");
  await file.truncate(SIZE);
  await file.write(noise(300_000), 0, 300_000, 1000);
  const text = new TextEncoder().encode("leveret ".repeat(50_000));
  await file.write(text, 0, text.byteLength, 3 * MIB + 77);
  await file.write(noise(2 * MIB, 2), 0, 2 * MIB, 5 * MIB);
  await file.write(noise(5, 3), 0, 5, SIZE - 5);
  return path;
}

function digest(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

describe("a qcow2 image", () => {
  test.for([{ sizeMiB: 3 }, { sizeMiB: 700 }, { sizeMiB: 3000 }])(
    "of $sizeMiB MiB satisfies qemu-img, which reads the same disk",
    async ({ sizeMiB }, context) => {
      needs(context, "qemu-img");
      const folder = await scratch();
      const [ours, raw] = [join(folder, "ours"), join(folder, "raw")];
      const disk = {
        seed: "oracle",
        sizeBytes: sizeMiB * MIB,
        partitions: [{ label: "x", type: "var", content: noise(MIB + 12_345) }],
      };
      await writeDiskImage(ours, { ...disk, format: "qcow2" });
      await writeDiskImage(raw, disk);
      const checked = JSON.parse(run("qemu-img", "check", "--output=json", ours)) as Record<string, unknown>;
      expect(checked).toMatchObject({ "check-errors": 0 });
      for (const problem of ["corruptions", "leaks"]) expect(checked[problem] ?? 0).toBe(0);
      expect(run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", ours, raw)).toContain("Images are identical");
      expect(JSON.parse(run("qemu-img", "info", "--output=json", ours))).toMatchObject({
        format: "qcow2",
        "virtual-size": sizeMiB * MIB,
        "cluster-size": 65_536,
      });
    },
  );

  const options: string[][] = [[], ["-c"]];
  const matrix = ["compat=0.10", "compat=1.1"].flatMap((compat) =>
    [512, 4096, 65_536, 2 * MIB].flatMap((cluster) =>
      options.map((flags) => [flags, `${compat},cluster_size=${cluster}`] as const),
    ),
  );
  test.for<readonly [readonly string[], string]>([
    ...matrix,
    [[], "refcount_bits=1"],
    [[], "refcount_bits=64,lazy_refcounts=on"],
    [[], "preallocation=metadata"],
    [[], "preallocation=full"],
  ])("of qemu-img convert %j -o %s is read", async ([flags, settings], context) => {
    needs(context, "qemu-img");
    const folder = await scratch();
    const raw = await rawDisk(folder);
    const path = join(folder, "theirs");
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", ...flags, "-o", settings, raw, path);
    await using disk = await qcow2Source(await fileSource(path));
    expect(disk.sizeBytes).toBe(SIZE);
    const expected = await readFile(raw);
    expect(digest(await disk.read(0, SIZE))).toBe(digest(expected));
    // Ranges that begin and end anywhere.
    for (let at = 0; at < SIZE; at += 777_777) {
      const length = Math.min(70_001, SIZE - at);
      expect(Buffer.compare(await disk.read(at, length), expected.subarray(at, at + length))).toBe(0);
    }
  });

  test.each([
    ["compression_type=zstd", "a compression other than deflate"],
    ["extended_l2=on", "extended L2 entries"],
  ])("of qemu-img with %s is refused by name", async (settings, name) => {
    const folder = await scratch();
    const path = join(folder, "theirs");
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", settings, await rawDisk(folder), path);
    await using file = await fileSource(path);
    await expect(qcow2Source(file)).rejects.toMatchObject({
      code: "DISK_UNSUPPORTED",
      message: expect.stringContaining(name),
    });
  });

  test("that stands on another one is refused, which is not opened", async () => {
    const folder = await scratch();
    const path = join(folder, "theirs");
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", await rawDisk(folder), path);
    await using file = await fileSource(path);
    await expect(qcow2Source(file)).rejects.toMatchObject({ code: "DISK_UNSUPPORTED" });
  });
});
