import { join } from "node:path";
import { openDiskImage, writeDiskImage } from "@leveret/disk-image";
import { expect, test } from "vitest";
import { espReader } from "../../src/inspect/esp.ts";
import { inspectImage } from "../../src/inspect/read.ts";
import { scratch } from "../support/io.ts";

const CONTENT = new TextEncoder().encode("MZ");

/** A disk whose only partition is an EFI system partition. */
async function espOnly(...paths: string[]): Promise<string> {
  const image = join(await scratch(), "esp.raw");
  const files = Object.fromEntries(paths.map((path) => [path, CONTENT]));
  const fat = { volumeId: 1, time: new Date("2026-01-02T03:04:06Z"), files };
  await writeDiskImage(image, {
    seed: "x",
    partitions: [{ label: "esp", type: "esp", sizeBytes: 4 * 1024 * 1024, content: { fat } }],
  });
  return image;
}

test("an EFI system partition is looked into once, for its files, its loader and its newest kernel image", async () => {
  const kernels = ["os_1.10.efi", "os_1.9.efi", "notes.txt"].map((name) => `EFI/Linux/${name}`);
  await using disk = await openDiskImage(await espOnly("EFI/boot/BootX64.efi", ...kernels, "EFI/Linux/old/os_2.efi"));
  const readEsp = espReader(disk, undefined);
  const { fileCount, programs } = await readEsp(1);
  expect(fileCount).toBe(5);
  expect(programs).toEqual({ loader: "EFI/boot/BootX64.efi", kernel: "EFI/Linux/os_1.10.efi" });
  expect(await readEsp(1)).toBe(await readEsp(1));
});

test("looking into one can be interrupted, and that is no verdict", async () => {
  const image = await espOnly("EFI/BOOT/BOOTX64.EFI");
  await expect(inspectImage(image, { signal: AbortSignal.abort(new Error("Ctrl-C")) })).rejects.toThrow("Ctrl-C");
});
