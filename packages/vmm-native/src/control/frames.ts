import { VmmError } from "../errors.ts";

// The frames of `native/core/src/control.rs`: length of the payload (4), kind (1), guest (1), tag (2), payload; numbers are
// little-endian.

/** What comes before a payload, in `bytes`. */
const HEADER_BYTES = 8;
/** Longest payload in `bytes`. */
export const MAX_PAYLOAD_BYTES = 32 * 1024;
/** What a console of a guest takes before anything of it has been read, in `bytes`. */
export const CONSOLE_BYTES = 4096;

/** Kinds of requests. */
export const REQUEST = {
  create: 1,
  loadLinux: 2,
  loadFlat: 3,
  read: 4,
  write: 5,
  run: 6,
  pause: 7,
  reset: 8,
  registers: 9,
  inject: 10,
  exits: 11,
  input: 12,
  destroy: 13,
  selfTest: 14,
  save: 15,
  restore: 16,
  pages: 17,
  fork: 18,
} as const;

/** Kinds of answers and events. */
export const ANSWER = { done: 0x80, failed: 0x81, output: 0xc0, taken: 0xc1, stopped: 0xc2 } as const;

/** A frame. */
export interface Frame {
  readonly kind: number;
  readonly guest: number;
  /** what an answer has in common with its request */
  readonly tag: number;
  readonly payload: Uint8Array;
}

/** Encodes a frame, of whose payload there are parts. */
export function encodeFrame({ kind, guest, tag }: Omit<Frame, "payload">, ...parts: readonly Uint8Array[]): Uint8Array {
  const payload = Buffer.concat(parts);
  if (payload.length > MAX_PAYLOAD_BYTES)
    throw new Error(`bug: a payload of ${payload.length} bytes is longer than ${MAX_PAYLOAD_BYTES}`);
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(payload.length, 0);
  header.writeUInt8(kind, 4);
  header.writeUInt8(guest, 5);
  header.writeUInt16LE(tag, 6);
  return Buffer.concat([header, payload]);
}

/** Puts frames together from bytes that come in pieces. */
export class FrameReader {
  readonly #pieces: Buffer[] = [];
  #bytes = 0;

  /**
   * Takes a piece.
   *
   * @returns The frames that end in it.
   * @throws {VmmError} `VMM_PROTOCOL` when a payload is said to be longer than any is.
   */
  push(piece: Uint8Array): Frame[] {
    this.#pieces.push(Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength));
    this.#bytes += piece.length;
    const frames: Frame[] = [];
    for (;;) {
      if (this.#bytes < HEADER_BYTES) return frames;
      const header = this.#join(HEADER_BYTES);
      const length = header.readUInt32LE(0);
      if (length > MAX_PAYLOAD_BYTES)
        throw new VmmError("VMM_PROTOCOL", `expected a payload of at most ${MAX_PAYLOAD_BYTES} bytes, got ${length}`);
      const end = HEADER_BYTES + length;
      if (this.#bytes < end) return frames;
      const whole = this.#join(end);
      frames.push({
        kind: whole.readUInt8(4),
        guest: whole.readUInt8(5),
        tag: whole.readUInt16LE(6),
        payload: Uint8Array.from(whole.subarray(HEADER_BYTES, end)),
      });
      this.#pieces[0] = whole.subarray(end);
      this.#bytes -= end;
    }
  }

  /** The first piece, made as long as is needed. */
  #join(length: number): Buffer {
    const [first = Buffer.alloc(0)] = this.#pieces;
    if (first.length >= length) return first;
    const joined = Buffer.concat(this.#pieces.splice(0));
    this.#pieces.push(joined);
    return joined;
  }
}
