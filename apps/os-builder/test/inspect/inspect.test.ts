import { mkdtemp, open, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DiskImageError, openDiskImage, openFat, writeDiskImage } from "@leveret/disk-image";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { buildImage } from "../../src/image/image.ts";
import type { TrustedCertificates } from "../../src/inspect/chain.ts";
import type { ImageInspection } from "../../src/inspect/model.ts";
import { inspectImage } from "../../src/inspect/read.ts";
import { renderSvg } from "../../src/inspect/svg.ts";
import { renderText } from "../../src/inspect/text.ts";
import { scratch } from "../support/io.ts";
import { copyKeys, KEYS_TIMEOUT_MS, makeKeys } from "../support/keys.ts";
import { projectIn, TINY_LOCK, writeArtefacts } from "../support/system.ts";

let directory: string;
let image: string;
let trusted: TrustedCertificates;
let others: TrustedCertificates;
/** Where the partitions start, by number. */
let starts: number[];

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "os-builder-inspect-"));
  const [own, other] = await Promise.all([makeKeys("tiny"), makeKeys("other")]);
  await copyKeys(own, join(directory, "keys"));
  const built = await buildImage(projectIn(directory), {
    artefacts: await writeArtefacts(directory),
    lock: TINY_LOCK,
    stateDirectory: directory,
    outputDirectory: join(directory, "images"),
  });
  image = built.disk;
  trusted = { db: [own.set.certificates.db], verity: [own.set.certificates.verity] };
  others = { db: [other.set.certificates.db], verity: [other.set.certificates.verity] };
  await using disk = await openDiskImage(image);
  starts = [0, ...disk.partitions.map(({ offsetBytes }) => offsetBytes)];
}, KEYS_TIMEOUT_MS);
afterAll(() => rm(directory, { recursive: true, force: true }));

const io = { stdout: { write: () => {} }, stderr: { write: () => {} }, env: {}, cwd: "/", signal: AbortSignal.abort() };

function show(inspection: ImageInspection): string {
  return renderText({ ...inspection, path: "tiny_1.0.raw" }, io);
}

/** `role: verdict, detail` of every link. */
function verdicts({ chain }: ImageInspection): string[] {
  return chain.map(({ role, verdict, detail }) => `${role}: ${verdict}, ${detail}`);
}

/** Inspects the image while `bytes` are in place of what it has at `offset`. */
async function inspectWith(offset: number, bytes: Uint8Array): Promise<ImageInspection> {
  const file = await open(image, "r+");
  const { buffer: before } = await file.read(Buffer.alloc(bytes.length), 0, bytes.length, offset);
  try {
    await file.write(bytes, 0, bytes.length, offset);
    return await inspectImage(image, { trusted });
  } finally {
    await file.write(before, 0, before.length, offset);
    await file.close();
  }
}

/** Inspects the image with one bit flipped. */
async function inspectFlipped(offset: number): Promise<ImageInspection> {
  const file = await open(image, "r");
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, offset);
  await file.close();
  return inspectWith(
    offset,
    buffer.map((byte) => byte ^ 1),
  );
}

/** Where some text of an artefact came to lie in the ESP. */
async function offsetOf(text: string): Promise<number> {
  const file = await open(image, "r");
  try {
    const { buffer } = await file.read(Buffer.alloc(4_000_000), 0, 4_000_000, starts[1]);
    const found = buffer.indexOf(text);
    expect(found).toBeGreaterThan(0);
    return (starts[1] ?? 0) + found;
  } finally {
    await file.close();
  }
}

/** Where the kernel image begins. */
async function kernelImageOffset(): Promise<number> {
  await using disk = await openDiskImage(image);
  const volume = await openFat(disk.open("esp"));
  const { dataOffset, clusterSize } = volume.boot.geometry;
  const entry = await volume.lookup("EFI/Linux/tiny_1.0.efi");
  return (starts[1] ?? 0) + dataOffset + ((entry?.cluster ?? 0) - 2) * clusterSize;
}

describe("an image", () => {
  test("is verified from the firmware down", async () => {
    const inspection = await inspectImage(image, { trusted });
    expect(inspection.chain.map(({ verdict }) => verdict)).toEqual(Array(4).fill("verified"));
    expect(show(inspection)).toMatchInlineSnapshot(`
      "tiny_1.0.raw  105 MiB  GPT 00f815c6-6cbb-85dd-816e-1c9a6a48a7e1

        ┌───────────────────────┬───┬───┬───┬───┬───┬───┬─────────────────────────────────────────────┐
        │           1           │ 2 │ 3 │ 4 │ 5 │ 6 │ 7 │                    free                     │
        └───────────────────────┴───┴───┴───┴───┴───┴───┴─────────────────────────────────────────────┘

        1  esp       esp                    33 MiB   FAT, 4 files
        2  tiny_1.0  usr-x86-64             1.0 MiB  EROFS, 3 inodes
        3  tiny_1.0  usr-x86-64-verity      1.0 MiB  hash tree
        4  tiny_1.0  usr-x86-64-verity-sig  1.0 MiB  signature of the root hash
        5  _empty    usr-x86-64             1.0 MiB  free slot
        6  _empty    usr-x86-64-verity      1.0 MiB  free slot
        7  _empty    usr-x86-64-verity-sig  1.0 MiB  free slot

      Trust, from the firmware down:
        ✓ boot loader: EFI/BOOT/BOOTX64.EFI · by CN=tiny db
          Authenticode
        └─ ✓ kernel image: EFI/Linux/tiny_1.0.efi · by CN=tiny db
             Authenticode
           └─ ✓ root hash of /usr: b9ac22c55581dc33… · by CN=tiny verity
                PKCS#7, and pinned by the kernel image
              └─ ✓ file system: /usr · by the root hash
                   every one of 40 blocks
      "
    `);
  });

  test("is drawn", async () => {
    const svg = renderSvg(await inspectImage(image, { trusted }));
    await expect(svg).toMatchFileSnapshot("golden/tiny.svg");
  });

  test("is only read when nobody says whom to trust", async () => {
    expect(show(await inspectImage(image))).toMatchInlineSnapshot(`
      "tiny_1.0.raw  105 MiB  GPT 00f815c6-6cbb-85dd-816e-1c9a6a48a7e1

        ┌───────────────────────┬───┬───┬───┬───┬───┬───┬─────────────────────────────────────────────┐
        │           1           │ 2 │ 3 │ 4 │ 5 │ 6 │ 7 │                    free                     │
        └───────────────────────┴───┴───┴───┴───┴───┴───┴─────────────────────────────────────────────┘

        1  esp       esp                    33 MiB   FAT, 4 files
        2  tiny_1.0  usr-x86-64             1.0 MiB  EROFS, 3 inodes
        3  tiny_1.0  usr-x86-64-verity      1.0 MiB  hash tree
        4  tiny_1.0  usr-x86-64-verity-sig  1.0 MiB  signature of the root hash
        5  _empty    usr-x86-64             1.0 MiB  free slot
        6  _empty    usr-x86-64-verity      1.0 MiB  free slot
        7  _empty    usr-x86-64-verity-sig  1.0 MiB  free slot

      Trust, from the firmware down:
        ? boot loader: EFI/BOOT/BOOTX64.EFI · unchecked, signed by CN=tiny db
          intact, whoever that is
        └─ ? kernel image: EFI/Linux/tiny_1.0.efi · unchecked, signed by CN=tiny db
             intact, whoever that is
           └─ ? root hash of /usr: b9ac22c55581dc33… · unchecked, its signature was not looked at
                pinned by the kernel image
              └─ ✓ file system: /usr · by the root hash
                   every one of 40 blocks
      "
    `);
  });

  test("by others is refused, and its /usr is still the one that it pins", async () => {
    expect(verdicts(await inspectImage(image, { trusted: others }))).toEqual([
      "boot loader: refused, expected a certificate that a trusted one issued, got CN=tiny db",
      "kernel image: refused, expected a certificate that a trusted one issued, got CN=tiny db",
      expect.stringMatching(/^root hash of \/usr: refused, expected a known signer, got .* of CN=tiny verity$/),
      "file system: verified, every one of 40 blocks",
    ]);
  });

  test("is not inspected further when that is interrupted", async () => {
    await expect(inspectImage(image, { signal: AbortSignal.abort(new Error("Ctrl-C")) })).rejects.toThrow("Ctrl-C");
  });
});

describe("an image with", () => {
  test("a flipped bit in /usr is refused by the root hash", async () => {
    expect(verdicts(await inspectFlipped((starts[2] ?? 0) + 7 * 4096 + 5)).at(-1)).toBe(
      "file system: refused, 1 damaged block, the first at byte 28672",
    );
  });

  test("a flipped bit in the file system's superblock is refused by the root hash", async () => {
    const inspection = await inspectFlipped((starts[2] ?? 0) + 1024);
    expect(verdicts(inspection).at(-1)).toBe("file system: refused, 1 damaged block, the first at byte 0");
    expect(inspection.partitions[1]?.content).toMatch(/^expected magic/);
  });

  test("a flipped bit in the hash tree is refused by the root hash", async () => {
    expect(verdicts(await inspectFlipped((starts[3] ?? 0) + 4096)).at(-1)).toBe(
      "file system: refused, expected a hash tree with this root hash, got another",
    );
  });

  test("a flipped bit in the hash tree's superblock is refused", async () => {
    const link = (await inspectFlipped(starts[3] ?? 0)).chain.at(-1);
    expect(link).toMatchObject({ subject: "/usr", verdict: "refused" });
  });

  test("a flipped bit in the kernel image is refused by the firmware", async () => {
    const inspection = await inspectFlipped(await offsetOf("initrd of four"));
    expect(inspection.chain.map(({ verdict }) => verdict)).toEqual(["verified", "refused", "verified", "verified"]);
    expect(inspection.chain[1]?.detail).toMatch(/^expected an image with digest/);
  });

  test("a flipped bit in the boot loader is refused by the firmware", async () => {
    const inspection = await inspectFlipped(await offsetOf("boot loader"));
    expect(inspection.chain.map(({ verdict }) => verdict)).toEqual(["refused", "verified", "verified", "verified"]);
  });

  test("a kernel image that is none has no chain below it", async () => {
    const inspection = await inspectWith(await kernelImageOffset(), Buffer.alloc(64));
    expect(inspection.chain.map(({ verdict }) => verdict)).toEqual(["verified", "refused", "missing"]);
  });

  test("another root hash pinned is refused all the way down", async () => {
    const inspection = await inspectWith(await offsetOf("usrhash="), Buffer.from(`usrhash=${"0".repeat(64)}`));
    expect(verdicts(inspection)).toEqual([
      "boot loader: verified, Authenticode",
      expect.stringMatching(/^kernel image: refused, expected an image with digest/),
      "root hash of /usr: missing, no partition with a signature of this root hash",
      "file system: missing, no partitions that belong to this root hash",
    ]);
  });

  test("no root hash pinned says so", async () => {
    const inspection = await inspectWith(await offsetOf("usrhash="), Buffer.from("USRHASH="));
    expect(verdicts(inspection).at(-1)).toBe("root hash of /usr: missing, not on the kernel command line");
  });

  test.each<[string, string]>([
    ["nothing", ""],
    ["no JSON", "{"],
    ["another root hash's signature", JSON.stringify({ rootHash: "00".repeat(32), signature: "AAAA" })],
    ["text that drives a terminal", JSON.stringify({ "\u001b[31m": 1 })],
  ])("%s in its signature partition is refused by the kernel", async (_, text) => {
    const content = Buffer.alloc(16_384);
    content.write(text);
    const inspection = await inspectWith(starts[4] ?? 0, content);
    expect(inspection.chain.map(({ verdict }) => verdict)).toEqual(["verified", "verified", "refused", "verified"]);
    expect(show(inspection)).not.toMatch(/[^\P{C}\n]/u);
  });

  test("no file system on its ESP has no chain", async () => {
    const inspection = await inspectWith(starts[1] ?? 0, Buffer.alloc(512));
    expect(inspection.chain).toHaveLength(1);
    expect(inspection.chain[0]).toMatchObject({ role: "boot loader", verdict: "refused" });
    expect(inspection.partitions[0]?.content).toBe(inspection.chain[0]?.detail);
  });

  test("one damaged partition table is read with a warning", async () => {
    const inspection = await inspectWith(512, Buffer.alloc(92));
    expect(inspection.warnings).toEqual([expect.stringMatching(/^the partition table at the start is damaged: /)]);
    expect(inspection.chain.map(({ verdict }) => verdict)).toEqual(Array(4).fill("verified"));
    expect(show(inspection)).toContain("\nwarning: the partition table at the start");
    expect(renderSvg(inspection)).toContain(">warning: the partition table at the start");
  });

  test("only its end missing is still verified, with a warning", async () => {
    const { size } = await stat(image);
    await truncate(image, size - 512);
    const inspection = await inspectImage(image, { trusted }).finally(() => truncate(image, size));
    expect(inspection.warnings).toEqual([expect.stringMatching(/^the partition table at the end is damaged: /)]);
    expect(inspection.chain.map(({ verdict }) => verdict)).toEqual(Array(4).fill("verified"));
  });

  test("a partition cut off is an error, wherever it was cut", async () => {
    const path = join(await scratch(), "short.raw");
    const file = await open(image, "r");
    const { buffer } = await file.read(Buffer.alloc(40_000_000), 0, 40_000_000, 0);
    await file.close();
    await writeFile(path, buffer);
    for (const length of [buffer.length, (starts[2] ?? 0) + 4096, starts[1] ?? 0, 20_000, 10_000, 512, 1, 0]) {
      await truncate(path, length);
      await expect(inspectImage(path)).rejects.toBeInstanceOf(DiskImageError);
    }
  });

  test("any bit flipped in its tables, boot sector, directories or signature gives verdicts or a typed error", async () => {
    const regions = [
      [512, 92],
      [1024, 256],
      [starts[1], 96],
      [starts[4], 128],
      [starts[3], 64],
    ] as const;
    const offsets = regions.flatMap(([start = 0, length]) =>
      Array.from({ length: Math.ceil(length / 4) }, (_, index) => start + index * 4),
    );
    for (const offset of offsets) {
      const inspection = await inspectFlipped(offset).catch((error: unknown) => {
        if (!(error instanceof DiskImageError)) throw error;
      });
      if (inspection !== undefined) show(inspection);
    }
  });
});

describe("a file that is no image", () => {
  test.each([
    ["garbage", Buffer.alloc(100_000, "leveret")],
    ["zeros", Buffer.alloc(2_000_000)],
  ])("is an error: %s", async (_, bytes) => {
    const path = join(await scratch(), "file");
    await writeFile(path, bytes);
    await expect(inspectImage(path)).rejects.toMatchObject({ code: "DISK_BAD_MAGIC" });
  });

  test("is an error when it is missing", async () => {
    await expect(inspectImage(join(await scratch(), "file"))).rejects.toMatchObject({ code: "DISK_NOT_FOUND" });
  });
});

describe("names in an image", () => {
  test("become neither markup nor commands of a terminal", async () => {
    const path = join(await scratch(), "evil<script>.raw");
    const label = `<b>&"'\u001b[31m\u202e\u0007\n`;
    await writeDiskImage(path, {
      seed: "x",
      partitions: [
        { label, type: "var", sizeBytes: 4096 },
        { label: "W".repeat(36), type: "11111111-2222-3333-4444-555555555555", sizeBytes: 4096 },
        { label: "\ud800", type: "usr-x86-64", sizeBytes: 4096 },
      ],
    });
    const inspection = await inspectImage(path);
    expect(inspection.partitions[0]?.label).toBe(label);
    expect(verdicts(inspection)).toEqual(["boot loader: missing, no EFI system partition"]);
    const svg = renderSvg(inspection);
    expect(svg).not.toMatch(/<b>|<script>|&"/);
    for (const text of [svg, show(inspection)]) expect(text).not.toMatch(/[^\P{C}\n]/u);
    expect(svg).toContain(">&lt;b&gt;&amp;&quot;'");
    await expect(svg).toMatchFileSnapshot("golden/names.svg");
  });

  test("of very many partitions still make a drawing", async () => {
    const path = join(await scratch(), "many.raw");
    const partitions = Array.from({ length: 128 }, (_, index) => ({ label: `${index}`, type: "var", sizeBytes: 4096 }));
    await writeDiskImage(path, { seed: "x", partitions });
    const inspection = await inspectImage(path);
    expect(renderSvg(inspection)).not.toMatch(/="-|NaN/);
    expect(
      Math.max(
        ...show(inspection)
          .split("\n")
          .map((line) => line.length),
      ),
    ).toBeLessThan(100);
  });
});
