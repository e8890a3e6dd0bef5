import { createHash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { atomicFiles } from "@leveret/block-source";
import type { ControlConnection } from "./control/connection.ts";
import { MAX_PAYLOAD_BYTES, REQUEST } from "./control/frames.ts";
import { VmmError } from "./errors.ts";
import { assertFile } from "./guest-files.ts";
import { numbers, readNumbers } from "./load-guest.ts";
import type { ResolvedVm } from "./options.ts";

// A guest as a file: magic (8), parts, SHA-256 of everything before (32). A part is a guest physical address (8), a length (4)
// and bytes; numbers are little-endian. The first part is the description, JSON in UTF-8, and the second the state, as
// `native/core/src/state.rs` has it, both of no address; the others are memory, and what is in none of them is zero.

const MAGIC = Buffer.from("LVTSAVE1");
const PART_HEADER_BYTES = 12;
const DIGEST_BYTES = 32;
/** Least bytes of a file: those of one without memory. */
const MIN_BYTES = MAGIC.length + 2 * PART_HEADER_BYTES + DIGEST_BYTES;
/** Longest part in `bytes`. */
const MAX_PART_BYTES = 1 << 20;
/** Address of what is not in memory. */
const NOWHERE = 0xffff_ffff_ffff_ffffn;
const WINDOW_BYTES = 1 << 20;

const { write: writeAtomically } = atomicFiles(
  (_kind, message, { path, hint, cause }) => new VmmError("VMM_UNWRITABLE", message, { path, hint, cause }),
);

/** A part of a guest's memory. */
interface MemoryPart {
  /** guest physical address */
  readonly address: bigint;
  readonly bytes: Uint8Array;
}

/** A guest in a file whose digest is right. */
export interface SavedGuest extends AsyncDisposable {
  /** what {@link saveGuest} was given; nobody has checked it */
  readonly description: unknown;
  readonly state: Uint8Array;
  /** Reads its memory. */
  readonly memory: () => AsyncIterable<MemoryPart>;
}

/** Writes a guest that stands still to a file, which appears when all of it has been written. */
export async function saveGuest(
  connection: ControlConnection,
  guest: number,
  description: ResolvedVm,
  path: string,
): Promise<void> {
  const state = await connection.request(REQUEST.save, guest);
  await writeAtomically(path, async (_sink, file) => {
    const hash = createHash("sha256");
    const write = async (...parts: readonly Uint8Array[]): Promise<void> => {
      const bytes = Buffer.concat(parts);
      hash.update(bytes);
      await file.writeFile(bytes);
    };
    const writePart = (address: bigint, bytes: Uint8Array): Promise<void> =>
      write(numbers(address), new Uint8Array(Uint32Array.of(bytes.length).buffer), bytes);
    await write(MAGIC);
    await writePart(NOWHERE, Buffer.from(JSON.stringify(description)));
    await writePart(NOWHERE, state);
    const end = BigInt(description.memoryMiB) << 20n;
    for (let at = 0n; at < end; ) {
      const answer = await connection.request(REQUEST.pages, guest, numbers(at));
      const [address = end] = readNumbers(answer.subarray(0, 8));
      const pages = answer.subarray(8);
      if (pages.length > 0) await writePart(address, pages);
      at = address + BigInt(pages.length);
    }
    await file.writeFile(hash.digest());
  });
}

/**
 * Opens a guest that has been saved, and checks that all of it is there.
 *
 * @throws {VmmError} `VMM_UNREADABLE`, `VMM_BAD_STATE`.
 */
export async function openSavedGuest(path: string): Promise<SavedGuest> {
  const size = await assertFile("saved guest", path);
  const file = await open(path);
  try {
    await verify(file, path, size);
    const parts = new PartReader(file, path, size - DIGEST_BYTES);
    const description = await parts.next();
    const state = await parts.next();
    if (description?.address !== NOWHERE || state?.address !== NOWHERE || state.bytes.length > MAX_PAYLOAD_BYTES)
      throw badState(path, "expected a description and a state");
    return {
      description: parseJson(path, description.bytes),
      state: state.bytes,
      memory: () => parts.rest(),
      [Symbol.asyncDispose]: () => file.close(),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function verify(file: FileHandle, path: string, size: number): Promise<void> {
  if (size < MIN_BYTES) throw badState(path, `expected at least ${MIN_BYTES} bytes, got ${size}`);
  const hash = createHash("sha256");
  const window = Buffer.alloc(WINDOW_BYTES);
  const end = size - DIGEST_BYTES;
  for (let at = 0; at < end; ) {
    const { bytesRead } = await file.read(window, 0, Math.min(WINDOW_BYTES, end - at), at);
    if (bytesRead === 0) throw badState(path, `expected ${size} bytes, got ${at}`);
    if (at === 0 && !window.subarray(0, MAGIC.length).equals(MAGIC))
      throw badState(path, `expected the first bytes to be ${MAGIC}`);
    hash.update(window.subarray(0, bytesRead));
    at += bytesRead;
  }
  const { buffer } = await file.read(Buffer.alloc(DIGEST_BYTES), 0, DIGEST_BYTES, end);
  if (!hash.digest().equals(buffer)) throw badState(path, "expected the SHA-256 at its end to be that of the rest");
}

/** Reads one part after the other. */
class PartReader {
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #end: number;
  #at = MAGIC.length;

  constructor(file: FileHandle, path: string, end: number) {
    this.#file = file;
    this.#path = path;
    this.#end = end;
  }

  /** The next part; undefined at the end. */
  async next(): Promise<MemoryPart | undefined> {
    if (this.#at === this.#end) return undefined;
    const header = await this.#read(PART_HEADER_BYTES);
    const length = header.readUInt32LE(8);
    if (length > MAX_PART_BYTES)
      throw badState(this.#path, `expected a part of at most ${MAX_PART_BYTES} bytes, got ${length}`);
    return { address: header.readBigUInt64LE(), bytes: await this.#read(length) };
  }

  async *rest(): AsyncGenerator<MemoryPart> {
    for (let part = await this.next(); part !== undefined; part = await this.next()) yield part;
  }

  async #read(length: number): Promise<Buffer> {
    if (this.#at + length > this.#end) throw badState(this.#path, `expected ${length} bytes (at byte ${this.#at})`);
    const { buffer } = await this.#file.read(Buffer.alloc(length), 0, length, this.#at);
    this.#at += length;
    return buffer;
  }
}

function parseJson(path: string, bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString());
  } catch (cause) {
    throw badState(path, "expected a description in JSON", cause);
  }
}

function badState(path: string, expected: string, cause?: unknown): VmmError {
  const hint = "save the guest again: this file is none, or only a part of one, or has been changed";
  return new VmmError("VMM_BAD_STATE", `${expected} in ${path}`, { path, hint, cause });
}
