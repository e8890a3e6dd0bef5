import { QemuError } from "../errors.ts";

// The numbers of guest/src/protocol.rs, which describes them.

/** Version of the protocol that this side speaks. */
export const PROTOCOL_VERSION = 1;
/** Longest payload, in `bytes`. */
export const MAX_PAYLOAD = 64 * 1024;
/** What either side may send on a stream before the other has taken some, in `bytes`. */
export const WINDOW = 64 * 1024;
const HEADER_SIZE = 12;

export const REQUEST = {
  hello: 1,
  start: 2,
  data: 3,
  end: 4,
  signal: 5,
  taken: 6,
  resize: 7,
  read: 8,
  write: 9,
  close: 10,
  connect: 11,
} as const;

export const REPLY = {
  hello: 128,
  started: 129,
  output: 130,
  error: 131,
  ended: 132,
  taken: 133,
  failed: 134,
} as const;

/** One message. */
export interface Frame {
  readonly stream: number;
  readonly kind: number;
  readonly payload: Buffer;
}

/** Encodes a message. */
export function encodeFrame(stream: number, kind: number, ...payload: readonly Uint8Array[]): Buffer {
  const length = payload.reduce((sum, part) => sum + part.length, 0);
  return Buffer.concat([numbers(length, stream, kind), ...payload]);
}

/** Encodes 32-bit numbers. */
export function numbers(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) bytes.writeUInt32LE(value >>> 0, index * 4);
  return bytes;
}

/** Encodes texts, a NUL after each. */
export function texts(...values: readonly string[]): Buffer {
  return Buffer.concat(values.map((value) => Buffer.from(`${value}\0`)));
}

/** The number at a place of a payload, 0 where it ends before. */
export function numberAt(payload: Buffer, index: number): number {
  return payload.length >= index * 4 + 4 ? payload.readUInt32LE(index * 4) : 0;
}

/** Cuts what a guest sends into messages; holds one message at most. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0);

  /**
   * @param chunk - What came; not kept beyond the messages that it completes.
   * @throws {QemuError} `QEMU_AGENT_PROTOCOL` for a message that is longer than any may be.
   */
  *push(chunk: Uint8Array): Generator<Frame> {
    let bytes = this.#rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#rest, chunk]);
    while (bytes.length >= HEADER_SIZE) {
      const length = bytes.readUInt32LE(0);
      if (length > MAX_PAYLOAD) {
        throw new QemuError(
          "QEMU_AGENT_PROTOCOL",
          `expected an agent's message of at most ${MAX_PAYLOAD} bytes, got ${length}`,
        );
      }
      const end = HEADER_SIZE + length;
      if (bytes.length < end) break;
      const payload = bytes.subarray(HEADER_SIZE, end);
      yield { stream: bytes.readUInt32LE(4), kind: bytes.readUInt32LE(8), payload };
      bytes = bytes.subarray(end);
    }
    this.#rest = bytes;
  }
}
