import { type BlockSource, planDisk, planFat } from "@leveret/disk-image";
import { verityGeometry } from "@leveret/erofs-meta";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { OsConfig } from "../../src/config/schema.ts";
import { OsBuilderError } from "../../src/errors.ts";
import { assertFits, diskBytes, diskLayout } from "../../src/image/layout.ts";
import { configOf, TINY } from "../support/system.ts";

const MIB = 1024 * 1024;

function withDisk(disk: Partial<OsConfig["disk"]>): OsConfig {
  return configOf({ ...TINY, disk: { espMiB: 33, usrMiB: 1, rootMiB: 64, ...disk } });
}

function refusal(config: OsConfig, sizes: Partial<Parameters<typeof assertFits>[1]>): OsBuilderError | undefined {
  try {
    assertFits(diskLayout(config), { usrBytes: MIB, ukiBytes: MIB, bootLoaderBytes: 100_000, ...sizes });
    return undefined;
  } catch (error) {
    if (error instanceof OsBuilderError) return error;
    throw error;
  }
}

/** The number in `set disk.espMiB to 42 or more`. */
function suggestion(error: OsBuilderError | undefined): number {
  return Number(/^set disk\.\w+ to (\d+) or more/.exec(error?.hint ?? "")?.[1]);
}

/** Something of a size; nobody reads it. */
function ofSize(sizeBytes: number): { source: BlockSource } {
  return { source: { sizeBytes, read: () => Promise.reject(new Error("bug: read")), close: async () => {} } };
}

describe("the layout of a disk", () => {
  test("has two slots, room for the root file system, and two partition tables", () => {
    const layout = diskLayout(withDisk({ espMiB: 256, usrMiB: 512, rootMiB: 100 }));
    expect(layout).toEqual({
      espBytes: 256 * MIB,
      usrSlotBytes: 512 * MIB,
      veritySlotBytes: 5 * MIB,
      signatureSlotBytes: MIB,
      rootBytes: 100 * MIB,
    });
    expect(diskBytes(layout)).toBe((256 + 2 * (512 + 5 + 1) + 100 + 2) * MIB);
  });

  test("has room for every hash tree", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1024 * 1024 }), (usrMiB) => {
        const { usrSlotBytes, veritySlotBytes } = diskLayout(withDisk({ usrMiB }));
        const { treeSizeBytes } = verityGeometry({
          uuid: "00112233-4455-6677-8899-aabbccddeeff",
          algorithm: "sha256",
          dataBlockSize: 4096,
          hashBlockSize: 4096,
          dataBlocks: BigInt(usrSlotBytes / 4096),
          salt: new Uint8Array(32),
        });
        expect(veritySlotBytes).toBeGreaterThanOrEqual(treeSizeBytes);
        expect(veritySlotBytes - treeSizeBytes).toBeLessThan(MIB);
      }),
    );
  });

  test("is one that disk-image can make", async () => {
    const layout = diskLayout(withDisk({}));
    const sizes = [layout.espBytes, layout.usrSlotBytes, layout.veritySlotBytes, layout.signatureSlotBytes];
    const plan = await planDisk({
      seed: "x",
      sizeBytes: diskBytes(layout),
      partitions: [...sizes, ...sizes.slice(1), layout.rootBytes].map((sizeBytes) => ({
        label: "x",
        type: "var",
        sizeBytes,
      })),
    });
    expect(plan.sizeBytes).toBe(diskBytes(layout));
  });
});

describe("a /usr", () => {
  test("that is too large for its slot is refused with the arithmetic", () => {
    const error = refusal(withDisk({ usrMiB: 2 }), { usrBytes: 2 * MIB + 4096 });
    expect(error).toMatchObject({
      code: "OS_SLOT_TOO_SMALL",
      message: "expected a /usr of at most 2097152 bytes (disk.usrMiB 2), got 2101248 bytes: 4096 too many",
      hint: "set disk.usrMiB to 3 or more; what later versions may grow to has to fit too",
    });
    expect(refusal(withDisk({ usrMiB: suggestion(error) }), { usrBytes: 2 * MIB + 4096 })).toBeUndefined();
  });

  test("that fills its slot is not refused", () => {
    expect(refusal(withDisk({ usrMiB: 2 }), { usrBytes: 2 * MIB })).toBeUndefined();
  });
});

describe("an EFI system partition", () => {
  test("without room for two kernel images is refused with the arithmetic", () => {
    const error = refusal(withDisk({ espMiB: 40 }), { ukiBytes: 20_000_000 });
    expect(error).toMatchObject({
      code: "OS_ESP_TOO_SMALL",
      message:
        "expected an ESP for two kernel images: 2 × 20000000 + 2 × 100000 (boot loader) + 2177552 (file system) = " +
        "42377552 bytes, got 41943040 (disk.espMiB 40): 434512 too few",
      hint: "set disk.espMiB to 41 or more",
    });
    expect(refusal(withDisk({ espMiB: 41 }), { ukiBytes: 20_000_000 })).toBeUndefined();
  });

  test("of the size that the refusal names has room for two versions, whatever their size", async () => {
    const sizes = fc.record({
      ukiBytes: fc.integer({ min: 1, max: 2 ** 32 - 2 }),
      bootLoaderBytes: fc.integer({ min: 1, max: 4 * MIB }),
    });
    await fc.assert(
      fc.asyncProperty(sizes, async ({ ukiBytes, bootLoaderBytes }) => {
        const error = refusal(withDisk({ espMiB: 33 }), { ukiBytes, bootLoaderBytes });
        const espMiB = error === undefined ? 33 : suggestion(error);
        expect(refusal(withDisk({ espMiB }), { ukiBytes, bootLoaderBytes })).toBeUndefined();
        const files = {
          "EFI/BOOT/BOOTX64.EFI": ofSize(bootLoaderBytes),
          "EFI/systemd/systemd-bootx64.efi": ofSize(bootLoaderBytes),
          "EFI/Linux/os_1.efi": ofSize(ukiBytes),
          "EFI/Linux/os_2+3-0.efi": ofSize(ukiBytes),
          "loader/loader.conf": ofSize(100),
          "loader/random-seed": ofSize(32),
        };
        await planFat({ sizeBytes: espMiB * MIB, label: "ESP", volumeId: 1, time: new Date("2026-01-01"), files });
      }),
      { numRuns: 200 },
    );
  });
});
