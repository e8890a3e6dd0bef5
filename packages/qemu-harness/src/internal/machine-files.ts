import { closeSync, openSync, writeSync } from "node:fs";
import { resolve } from "node:path";
import { type FileDisk, isThrownAway, type ResolvedMachine } from "../description.ts";
import { QemuError } from "../errors.ts";
import type { Run } from "./runs.ts";
import { openMemoryFile, openUnnamedFile } from "./unnamed-file.ts";

const MEBIBYTE = 1024 * 1024;
const SECTOR_SIZE = 512;

/** Unnamed files that a forkable machine writes and its forks read; descriptors of this process. */
export interface MachineFiles {
  readonly memory: number;
  /** where in the memory of a template anything other than zeros can be; anywhere unless given */
  readonly data?: readonly Run[] | undefined;
  /** per disk, each on top of the one before; none for a disk that is not thrown away */
  readonly overlays: readonly (readonly number[])[];
}

/**
 * Makes the memory and the overlays of a forkable machine.
 *
 * @param cwd - Directory that relative paths of disks start from.
 * @throws {QemuError} `QEMU_START_FAILED` for a disk that cannot be read or is not of its format.
 */
export async function createFiles(machine: ResolvedMachine, cwd: string | undefined): Promise<MachineFiles> {
  const memory = openMemoryFile(machine.memoryMiB * MEBIBYTE);
  try {
    return { memory, overlays: await createLayers(machine, cwd) };
  } catch (error) {
    closeSync(memory);
    throw error;
  }
}

/**
 * The files of a fork: the same memory, and a new overlay on top of each disk's.
 *
 * @returns The files, and the descriptors among them that are the fork's own.
 */
export async function forkFiles(
  { memory, data, overlays }: MachineFiles,
  machine: ResolvedMachine,
  cwd: string | undefined,
): Promise<{ readonly files: MachineFiles; readonly own: readonly number[] }> {
  const layers = await createLayers(machine, cwd);
  const stacked = overlays.map((below, index) => [...below, ...(layers[index] ?? [])]);
  return { files: { memory, data, overlays: stacked }, own: layers.flat() };
}

/** Descriptors of files, in the order in which a plan numbers them. */
export function descriptorsOf({ memory, overlays }: MachineFiles): readonly number[] {
  return [memory, ...overlays.flat()];
}

export function closeAll(descriptors: readonly number[]): void {
  for (const descriptor of descriptors) closeSync(descriptor);
}

/** Opens an open file once more, to be read from its beginning. */
export function reopen(descriptor: number): number {
  return openSync(`/proc/self/fd/${descriptor}`, "r");
}

/** One empty overlay for each disk that is thrown away. */
async function createLayers(machine: ResolvedMachine, cwd: string | undefined): Promise<number[][]> {
  const layers: number[][] = [];
  try {
    for (const disk of machine.disks) {
      layers.push(isThrownAway(disk) ? [await createOverlay(disk, cwd)] : []);
    }
    return layers;
  } catch (error) {
    closeAll(layers.flat());
    throw error;
  }
}

async function createOverlay(disk: FileDisk, cwd: string | undefined): Promise<number> {
  // Machines without disks don't pay for loading it.
  const { fileSource, qcow2Sink, qcow2Source } = await import("@leveret/disk-image");
  const descriptor = openUnnamedFile();
  try {
    await using file = await fileSource(resolve(cwd ?? "", disk.path));
    const { sizeBytes } = disk.format === "qcow2" ? await qcow2Source(file) : file;
    const write = async (offset: number, bytes: Uint8Array): Promise<void> => {
      for (let done = 0; done < bytes.length; ) done += writeSync(descriptor, bytes, done, undefined, offset + done);
    };
    await qcow2Sink({ write }, Math.ceil(sizeBytes / SECTOR_SIZE) * SECTOR_SIZE).finish();
    return descriptor;
  } catch (cause) {
    closeSync(descriptor);
    const reason = cause instanceof Error ? cause.message : String(cause);
    const message = `expected a disk image of format ${disk.format}, got: ${reason}`;
    throw new QemuError("QEMU_START_FAILED", message, { path: disk.path, cause });
  }
}
