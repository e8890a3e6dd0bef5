import type { OsConfig } from "../config/schema.ts";
import { OsBuilderError } from "../errors.ts";

const MIB = 1024 * 1024;
/** Size of a slot's signature partition in `bytes`; systemd needs 16 KiB, disks like whole mebibytes. */
const SIGNATURE_SLOT_BYTES = MIB;
/** What the ESP's file system itself takes, at most, in `bytes`: directories, half-filled clusters, FATs of a small ESP. */
const ESP_OVERHEAD_BYTES = 2 * MIB;
/** From 256 MiB on there are 8 bytes of FATs for each cluster of 4096 bytes: a little less than one in this many. */
const ESP_BYTES_PER_FAT_BYTE = 500;

/** Sizes of an image's partitions, in `bytes`. */
export interface DiskLayout {
  readonly espBytes: number;
  readonly usrSlotBytes: number;
  readonly veritySlotBytes: number;
  readonly signatureSlotBytes: number;
  readonly rootBytes: number;
}

/** Sizes of the partitions that a description asks for. */
export function diskLayout(config: OsConfig): DiskLayout {
  const usrSlotBytes = config.disk.usrMiB * MIB;
  return {
    espBytes: config.disk.espMiB * MIB,
    usrSlotBytes,
    veritySlotBytes: veritySlotBytes(usrSlotBytes),
    signatureSlotBytes: SIGNATURE_SLOT_BYTES,
    rootBytes: config.disk.rootMiB * MIB,
  };
}

/** Size of the whole disk: both slots, room for the root file system, and a mebibyte for each copy of the GPT. */
export function diskBytes({
  espBytes,
  usrSlotBytes,
  veritySlotBytes,
  signatureSlotBytes,
  rootBytes,
}: DiskLayout): number {
  return espBytes + 2 * (usrSlotBytes + veritySlotBytes + signatureSlotBytes) + rootBytes + 2 * MIB;
}

// Each level of the tree has one SHA-256 of 32 bytes for each 4096-byte block of the level below, and a superblock.
function veritySlotBytes(dataBytes: number): number {
  let blocks = Math.ceil(dataBytes / 4096);
  let tree = 1;
  while (blocks > 1) {
    blocks = Math.ceil(blocks / 128);
    tree += blocks;
  }
  return Math.ceil((tree * 4096) / MIB) * MIB;
}

/**
 * Refuses artefacts that don't fit, before anything is written.
 *
 * @throws {OsBuilderError} `OS_SLOT_TOO_SMALL`, `OS_ESP_TOO_SMALL`, with the arithmetic.
 */
export function assertFits(
  layout: DiskLayout,
  sizes: { readonly usrBytes: number; readonly ukiBytes: number; readonly bootLoaderBytes: number },
): void {
  const { usrBytes, ukiBytes, bootLoaderBytes } = sizes;
  if (usrBytes > layout.usrSlotBytes) {
    const needed = Math.ceil(usrBytes / MIB);
    throw new OsBuilderError(
      "OS_SLOT_TOO_SMALL",
      `expected a /usr of at most ${layout.usrSlotBytes} bytes (disk.usrMiB ${layout.usrSlotBytes / MIB}), ` +
        `got ${usrBytes} bytes: ${usrBytes - layout.usrSlotBytes} too many`,
      { hint: `set disk.usrMiB to ${needed} or more; what later versions may grow to has to fit too` },
    );
  }
  // While an update is installed, the ESP holds two versions; the boot loader is there twice as well.
  const files = 2 * ukiBytes + 2 * bootLoaderBytes;
  const overhead = ESP_OVERHEAD_BYTES + Math.ceil(files / ESP_BYTES_PER_FAT_BYTE);
  const needed = files + overhead;
  if (needed > layout.espBytes) {
    throw new OsBuilderError(
      "OS_ESP_TOO_SMALL",
      `expected an ESP for two kernel images: 2 × ${ukiBytes} + 2 × ${bootLoaderBytes} (boot loader) + ` +
        `${overhead} (file system) = ${needed} bytes, ` +
        `got ${layout.espBytes} (disk.espMiB ${layout.espBytes / MIB}): ${needed - layout.espBytes} too few`,
      { hint: `set disk.espMiB to ${Math.ceil(needed / MIB)} or more` },
    );
  }
}
