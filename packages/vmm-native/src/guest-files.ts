import { access, constants, type FileHandle, open, stat } from "node:fs/promises";
import { VmmError } from "./errors.ts";
import { planLinux } from "./linux-plan.ts";
import type { ResolvedVm } from "./options.ts";

/** Where a flat binary is loaded, in `bytes`. */
const FLAT_START = 1 << 20;
/** How much of a kernel tells what it is, in `bytes`. */
export const LINUX_HEADER_BYTES = 656;
const LINUX_MAGIC = { offset: 0x202, text: "HdrS" } as const;
const ELF_MAGIC = "\u007fELF";

/**
 * Refuses what cannot start before anything does: files that are missing, kernels that cannot be loaded or do not fit.
 *
 * @throws {VmmError} `VMM_UNREADABLE`, `VMM_BAD_KERNEL`.
 */
export async function assertLoadable(guest: ResolvedVm): Promise<void> {
  const { kernelPath, initrdPath, commandLine, memoryMiB } = guest;
  const kernelBytes = await assertFile("kernel", kernelPath);
  const initrdBytes = initrdPath === undefined ? 0 : await assertFile("initrd", initrdPath);
  const header = await readHeader(kernelPath);
  const memoryBytes = memoryMiB * 2 ** 20;
  const refuse = (message: string): VmmError => new VmmError("VMM_BAD_KERNEL", message, { path: kernelPath });
  if (kindOf(header) === "elf") throw refuse("expected a Linux bzImage or a flat binary, got an ELF file");
  if (kindOf(header) === "flat") {
    const needed = FLAT_START + kernelBytes;
    if (needed > memoryBytes)
      throw refuse(`expected ${needed} bytes of memory for the flat binary, got ${memoryBytes}`);
    return;
  }
  const { maxCommandLineBytes } = planLinux(header, { kernelBytes, initrdBytes, memoryBytes });
  const lineBytes = Buffer.byteLength(commandLine);
  if (lineBytes > maxCommandLineBytes)
    throw refuse(`expected a command line of at most ${maxCommandLineBytes} bytes, got ${lineBytes}`);
}

/** What a kernel is by its first bytes; whatever is nothing else is a flat binary. */
export function kindOf(header: Uint8Array): "linux" | "elf" | "flat" {
  const bytes = Buffer.from(header.buffer, header.byteOffset, header.byteLength);
  const has = (offset: number, text: string): boolean =>
    bytes.toString("latin1", offset, offset + text.length) === text;
  if (has(LINUX_MAGIC.offset, LINUX_MAGIC.text)) return "linux";
  return has(0, ELF_MAGIC) ? "elf" : "flat";
}

/** The first bytes of a kernel, with zeros behind the end of a shorter one. */
export async function readHeader(path: string): Promise<Uint8Array> {
  const file: FileHandle = await open(path);
  try {
    const header = new Uint8Array(LINUX_HEADER_BYTES);
    await file.read(header, 0, LINUX_HEADER_BYTES, 0);
    return header;
  } finally {
    await file.close();
  }
}

/** Refuses what is no file with bytes in it, and returns its size: a file without an end would never start, and one without a beginning is no kernel and no disk. */
export async function assertFile(what: string, path: string): Promise<number> {
  const refuse = (actual: string, cause?: unknown): VmmError =>
    new VmmError("VMM_UNREADABLE", `expected a readable ${what}, got ${actual}`, { path, cause });
  const found = await access(path, constants.R_OK)
    .then(() => stat(path))
    .catch((cause: Error) => {
      throw refuse(cause.message, cause);
    });
  if (!found.isFile()) throw refuse(`${path}, which is no regular file`);
  if (found.size === 0) throw refuse(`${path}, which is empty`);
  return found.size;
}
