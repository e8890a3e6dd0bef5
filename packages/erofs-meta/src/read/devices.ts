import type { BlockSource } from "../block-source.ts";
import { ErofsError } from "../errors.ts";
import { DEVICE_SLOT, DEVICE_SLOT_SIZE, INCOMPAT_48BIT } from "../format/superblock.ts";
import { viewOf } from "../internal/bytes.ts";
import { ContentReader } from "./read-ahead.ts";
import type { Superblock } from "./superblock.ts";

/** One extra device, as the image describes it. */
interface DeviceSlot {
  readonly blocks: number;
  /** where its blocks are in the address space of the image; 0 when they are not */
  readonly mappedBlock: number;
}

/** A place on one of the devices: 0 is the image itself. */
export interface DevicePlace {
  readonly device: number;
  /** position in `bytes` */
  readonly position: number;
}

/** The devices that content may be on. */
export class Devices {
  readonly #slots: readonly DeviceSlot[];
  readonly #readers: readonly (ContentReader | undefined)[];
  readonly #sizes: readonly number[];
  readonly #blockSize: number;
  readonly #idMask: number;

  /** @param extra - where the extra devices are, in their order; none when they all lie behind the image in its file */
  constructor(image: BlockSource, slots: readonly DeviceSlot[], extra: readonly BlockSource[], blockSize: number) {
    this.#slots = slots;
    this.#readers = [image, ...extra].map((source) => new ContentReader(source));
    this.#sizes = [image, ...extra].map(({ sizeBytes }) => sizeBytes);
    this.#blockSize = blockSize;
    // Bits above those that number a device are reserved.
    this.#idMask = 2 ** Math.ceil(Math.log2(slots.length + 1)) - 1;
  }

  /** Where a block of a device, or of the address space of the image, lies. */
  place(id: number, block: number, offset: number): DevicePlace {
    const device = id & this.#idMask;
    const areGiven = this.#readers.length > 1;
    if (device > this.#slots.length) {
      throw new ErofsError("EROFS_CORRUPT", `expected a device in 0..${this.#slots.length}, got ${device}`, { offset });
    }
    if (device > 0) {
      const { mappedBlock = 0 } = this.#slots[device - 1] ?? {};
      const isInside = !areGiven && mappedBlock > 0;
      if (isInside) return { device: 0, position: (mappedBlock + block) * this.#blockSize };
      return { device, position: block * this.#blockSize };
    }
    return this.locate(block * this.#blockSize);
  }

  /** Where a position in the address space of the image lies. */
  locate(position: number): DevicePlace {
    if (this.#readers.length > 1) {
      for (const [index, { mappedBlock, blocks }] of this.#slots.entries()) {
        const start = mappedBlock * this.#blockSize;
        const isInside = mappedBlock > 0 && position >= start && position < start + blocks * this.#blockSize;
        if (isInside) return { device: index + 1, position: position - start };
      }
    }
    return { device: 0, position };
  }

  /** Refuses content that leaves its device, or that is on a device nobody has given. */
  assertInside({ device, position }: DevicePlace, length: number, offset: number): void {
    const size = this.#sizes[device];
    if (size === undefined) {
      throw new ErofsError("EROFS_NOT_FOUND", `expected extra device ${device} of the image, got none`, {
        offset,
        hint: "give the files the image was made with, in their order",
      });
    }
    if (position + length > size) {
      const what = device === 0 ? "an image" : `device ${device}`;
      const message = `expected content up to byte ${position + length}, got ${what} of ${size} bytes`;
      throw new ErofsError("EROFS_TRUNCATED", message, { offset });
    }
  }

  /** Reads content of a device. */
  reader(device: number): ContentReader {
    const reader = this.#readers[device];
    if (reader === undefined) throw new Error("bug: content of a device that is not there");
    return reader;
  }
}

/**
 * Reads the table of extra devices.
 *
 * @see Linux v6.12 `fs/erofs/erofs_fs.h`, `struct erofs_deviceslot`
 */
export async function readDevices(
  source: BlockSource,
  superblock: Superblock,
  extra: readonly BlockSource[],
): Promise<Devices> {
  const { extraDevices, deviceTableSlot, blockSize } = superblock;
  const slots: DeviceSlot[] = [];
  if (extraDevices > 0) {
    const start = deviceTableSlot * DEVICE_SLOT_SIZE;
    const length = extraDevices * DEVICE_SLOT_SIZE;
    if (start + length > source.sizeBytes) {
      const message = `expected a table of ${extraDevices} devices, got an image of ${source.sizeBytes} bytes`;
      throw new ErofsError("EROFS_TRUNCATED", message, { offset: start });
    }
    const view = viewOf(await source.read(start, length));
    const isWide = (superblock.rawFeatures.incompat & INCOMPAT_48BIT) !== 0;
    const high = (at: number): number => (isWide ? view.getUint16(at, true) * 2 ** 32 : 0);
    for (let at = 0; at < length; at += DEVICE_SLOT_SIZE) {
      slots.push({
        blocks: view.getUint32(at + DEVICE_SLOT.blocks, true) + high(at + DEVICE_SLOT.blocksHigh),
        mappedBlock: view.getUint32(at + DEVICE_SLOT.mappedBlock, true) + high(at + DEVICE_SLOT.mappedBlockHigh),
      });
    }
  }
  if (extra.length !== 0 && extra.length !== slots.length) {
    throw new ErofsError("EROFS_BAD_OPTIONS", `expected ${slots.length} extra devices, got ${extra.length}`);
  }
  return new Devices(source, slots, extra, blockSize);
}
