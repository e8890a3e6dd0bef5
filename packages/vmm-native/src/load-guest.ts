import { type FileHandle, open } from "node:fs/promises";
import type { ControlConnection } from "./control/connection.ts";
import { MAX_PAYLOAD_BYTES, REQUEST } from "./control/frames.ts";
import { kindOf, LINUX_HEADER_BYTES, readHeader } from "./guest-files.ts";
import type { ResolvedVm } from "./options.ts";

/** How much of a file is on its way at a time, in `bytes`. */
const WINDOW_BYTES = 1 << 20;
const ADDRESS_BYTES = 8;

/** Encodes 64-bit numbers as frames have them. */
export function numbers(...values: readonly (number | bigint)[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(values.map(BigInt)).buffer);
}

/** Decodes them. */
export function readNumbers(payload: Uint8Array): bigint[] {
  return [...new BigUint64Array(Uint8Array.from(payload).buffer)];
}

/** Puts a guest's kernel, and what belongs to it, into its memory. */
export async function loadGuest(connection: ControlConnection, guest: number, description: ResolvedVm): Promise<void> {
  const { kernelPath, initrdPath, commandLine } = description;
  await using files = new Files();
  const kernel = await files.open(kernelPath);
  const header = await readHeader(kernelPath);
  if (kindOf(header) === "flat") {
    const [address = 0n] = readNumbers(await connection.request(REQUEST.loadFlat, guest));
    await copy(connection, guest, kernel.file, { address, offset: 0n, length: BigInt(kernel.size) });
    return;
  }
  const initrd = initrdPath === undefined ? undefined : await files.open(initrdPath);
  const answer = await connection.request(
    REQUEST.loadLinux,
    guest,
    numbers(kernel.size, initrd?.size ?? 0),
    header.subarray(0, LINUX_HEADER_BYTES),
    Buffer.from(commandLine),
  );
  const [address = 0n, offset = 0n, length = 0n, ...rest] = readNumbers(answer);
  await copy(connection, guest, kernel.file, { address, offset, length });
  if (initrd === undefined) return;
  const [initrdAddress = 0n, initrdOffset = 0n, initrdLength = 0n] = rest;
  await copy(connection, guest, initrd.file, { address: initrdAddress, offset: initrdOffset, length: initrdLength });
}

/** Files that are closed in the end. */
class Files {
  readonly #open: FileHandle[] = [];

  async open(path: string): Promise<{ readonly file: FileHandle; readonly size: number }> {
    const file = await open(path);
    this.#open.push(file);
    return { file, size: (await file.stat()).size };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const file of this.#open) await file.close();
  }
}

interface Place {
  readonly address: bigint;
  readonly offset: bigint;
  readonly length: bigint;
}

/** Copies a part of a file to a guest's memory. */
async function copy(connection: ControlConnection, guest: number, file: FileHandle, place: Place): Promise<void> {
  const end = Number(place.length);
  for (let at = 0; at < end; at += WINDOW_BYTES) {
    const window = new Uint8Array(Math.min(WINDOW_BYTES, end - at));
    await file.read(window, 0, window.length, Number(place.offset) + at);
    await writeMemory(connection, guest, place.address + BigInt(at), window);
  }
}

/** Writes to a guest's memory, in pieces that are on their way at the same time. */
export async function writeMemory(
  connection: ControlConnection,
  guest: number,
  address: bigint,
  bytes: Uint8Array,
): Promise<void> {
  const size = MAX_PAYLOAD_BYTES - ADDRESS_BYTES;
  const pieces: Promise<Uint8Array>[] = [];
  for (let at = 0; at < bytes.length; at += size) {
    const piece = bytes.subarray(at, at + size);
    pieces.push(connection.request(REQUEST.write, guest, numbers(address + BigInt(at)), piece));
  }
  await Promise.all(pieces);
}
