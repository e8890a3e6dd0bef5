import type { BlockSource } from "@leveret/disk-image";
import * as z from "zod";
import { parseOptions } from "../description.ts";
import { QemuError } from "../errors.ts";
import { seededRandom } from "../network/random.ts";
import type { DiskImpairment } from "./impairment.ts";
import { emptyGround, imageGround } from "./layer.ts";
import { SECTOR_BYTES } from "./nbd-server.ts";
import { MIN_REQUEST_COST_BYTES, NodeDisk } from "./node-disk.ts";
import type { BlockRequest, PowerCutOptions, SectorRange, WriteCache } from "./power-cut.ts";

/** Largest disk that a {@link BlockDevice} can be, in `bytes`. */
export const DEFAULT_MAX_DEVICE_BYTES: number = 256 * 1024 ** 3;
/** What a {@link BlockDevice} keeps of what was written, in `bytes`; a request counts as 4096 at least. */
export const DEFAULT_MAX_WRITTEN_BYTES: number = 1024 ** 3;

const optionsSchema = z
  .strictObject({
    /** raw image that the disk begins as; it is only read */
    path: z.string().min(1).optional(),
    /** anything else that the disk begins as, such as a qcow2 image or a partition; it stays the caller's to close */
    source: z.custom<BlockSource>((value) => typeof value === "object" && value !== null && "read" in value).optional(),
    /** size of a disk that begins with nothing but zeros, in `bytes` */
    sizeBytes: z.number().int().min(SECTOR_BYTES).max(DEFAULT_MAX_DEVICE_BYTES).multipleOf(SECTOR_BYTES).optional(),
    /** decides what goes wrong; the same seed decides the same for the same requests */
    seed: z.number().int().min(0).max(0xffff_ffff).default(0),
    /** when the disk says that it is full, in `bytes` that were written, default {@link DEFAULT_MAX_WRITTEN_BYTES} */
    maxWrittenBytes: z
      .number()
      .int()
      .min(MIN_REQUEST_COST_BYTES)
      .max(64 * 1024 ** 3)
      .default(DEFAULT_MAX_WRITTEN_BYTES),
  })
  .refine(
    ({ path, source, sizeBytes }) => [path, source, sizeBytes].filter((each) => each !== undefined).length === 1,
    "expected exactly one of path, source and sizeBytes",
  );

/** How {@link createBlockDevice} makes a disk. */
export type BlockDeviceOptions = z.input<typeof optionsSchema>;

/** When power fails, and how. */
export interface PowerCutPlan extends PowerCutOptions {
  /** which write from now on it fails at, from 1; zeros that are written and trims count as writes */
  readonly atWrite: number;
}

/** What a power cut did to a disk. */
export interface PowerCut {
  readonly writeCache: WriteCache;
  /** the last write that reached the disk, counted from the one before or from the beginning; 0 when there was none */
  readonly afterWrite: number;
  /** writes of which nothing, or not everything, is there: ranges of sectors that are */
  readonly damaged: readonly { readonly request: BlockRequest; readonly kept: readonly SectorRange[] }[];
}

/** How many requests a disk got. */
export interface BlockDeviceCounts {
  readonly reads: number;
  readonly writes: number;
  readonly flushes: number;
  readonly trims: number;
  /** requests that ended with an error that was asked for */
  readonly failed: number;
}

/** A disk in this process, for one machine at a time. What is written to it ends with it. */
export interface BlockDevice extends AsyncDisposable, BlockSource {
  readonly counts: BlockDeviceCounts;
  /** every write, trim and flush since the beginning or the last power cut, in the order in which they came */
  readonly requests: readonly BlockRequest[];
  /** what the last power cut did, when there was one */
  readonly lastPowerCut: PowerCut | undefined;
  /**
   * Makes the disk bad, or with nothing good again.
   *
   * @throws {QemuError} `QEMU_BAD_OPTIONS`.
   * @example
   * disk.impair({ errors: [{ on: "read", sectors: { first: 2048 } }], delayMs: 20 });
   */
  readonly impair: (impairment?: DiskImpairment) => void;
  /**
   * Has the power fail at a write that is to come: the machine ends when the write has reached the disk and before it is
   * answered, with `power-cut` as the reason. The disk is then what the cut left of it, for the next machine.
   *
   * @throws {QemuError} `QEMU_BAD_OPTIONS`.
   * @example
   * disk.cutPower({ atWrite: 120, writeCache: "torn" });
   */
  readonly cutPower: (plan: PowerCutPlan) => void;
  /** Reads what the disk holds, flushed or not; as any source does. */
  readonly read: (offset: number, length: number) => Promise<Uint8Array>;
  /** Forgets what was written. A machine that has the disk should have ended. Idempotent. */
  readonly close: () => Promise<void>;
}

/**
 * Makes a disk for machines of this process, which can go wrong in all the ways disks do. What it begins as is never
 * changed.
 *
 * @param options - What it begins as, and the seed.
 * @throws {QemuError} `QEMU_BAD_OPTIONS`, `QEMU_START_FAILED` for an image that cannot be read.
 * @example
 * await using data = await createBlockDevice({ path: "data.raw" });
 * const disks = [{ type: "device" as const, name: "data" }];
 * await using machine = await startMachine({ boot, disks }, { devices: { data } });
 */
export async function createBlockDevice(options: BlockDeviceOptions): Promise<BlockDevice> {
  const { path, source, sizeBytes, seed, maxWrittenBytes } = parseOptions("disk", optionsSchema, options);
  const random = seededRandom(seed);
  if (sizeBytes !== undefined) return new NodeDisk(emptyGround(sizeBytes), { random, maxWrittenBytes });
  const opened = source ?? (await openImage(path ?? ""));
  const close = source === undefined ? () => opened.close() : async () => {};
  const ground = imageGround(opened);
  if (ground.sizeBytes > 0 && ground.sizeBytes <= DEFAULT_MAX_DEVICE_BYTES) {
    return new NodeDisk(ground, { random, maxWrittenBytes, close });
  }
  await close();
  const message = `expected a disk of at most ${DEFAULT_MAX_DEVICE_BYTES} bytes and not empty, got ${opened.sizeBytes}`;
  throw new QemuError("QEMU_BAD_OPTIONS", message, { path, issues: [{ path: "path", message }] });
}

async function openImage(path: string): Promise<BlockSource> {
  // Machines without disks don't pay for loading it.
  const { fileSource } = await import("@leveret/disk-image");
  return fileSource(path).catch((cause: unknown) => {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new QemuError("QEMU_START_FAILED", `expected a disk image, got: ${reason}`, { path, cause });
  });
}
