import type { Duplex } from "node:stream";
import { SandboxError } from "../errors.ts";

/**
 * What goes over the socket of a sandbox, in frames: the payload's length (u32, little-endian), the kind (u8), the
 * payload. A connection has one request, JSON, and then whatever that request's program reads and writes.
 */
export const KIND = {
  /** JSON: a request; from the supervisor what came of it */
  json: 0,
  /** bytes for standard input, or of standard output */
  data: 1,
  /** bytes of standard error */
  error: 2,
  /** standard input ends */
  end: 3,
  /** JSON: a signal's name or a terminal's size */
  control: 4,
} as const;

type Kind = (typeof KIND)[keyof typeof KIND];

const HEADER = 5;
/** Longest payload in `bytes`. */
const MAX_PAYLOAD = 1024 * 1024;

/** One frame as it came. */
export interface Frame {
  readonly kind: number;
  readonly payload: Buffer;
}

/** Encodes a frame of any kind. */
export function encodeFrame(kind: Kind, payload: Uint8Array = new Uint8Array()): Buffer {
  const frame = Buffer.alloc(HEADER + payload.length);
  frame.writeUInt32LE(payload.length, 0);
  frame.writeUInt8(kind, 4);
  frame.set(payload, HEADER);
  return frame;
}

/** Encodes bytes in as many frames as they take. */
export function encodeData(bytes: Uint8Array): Buffer {
  const frames: Buffer[] = [];
  for (let offset = 0; offset < bytes.length; offset += MAX_PAYLOAD) {
    frames.push(encodeFrame(KIND.data, bytes.subarray(offset, offset + MAX_PAYLOAD)));
  }
  return Buffer.concat(frames);
}

/** Encodes a frame with JSON in it. */
export function encodeJson(value: unknown, kind: Kind = KIND.json): Buffer {
  return encodeFrame(kind, Buffer.from(JSON.stringify(value)));
}

/** Decodes the JSON of a frame. @throws {SandboxError} `SANDBOX_PROTOCOL`. */
export function decodeJson({ payload }: Frame): unknown {
  try {
    return JSON.parse(payload.toString("utf8"));
  } catch (cause) {
    throw new SandboxError("SANDBOX_PROTOCOL", "expected JSON over the socket of a sandbox, got something else", {
      cause,
    });
  }
}

/**
 * The frames of a connection, one after the other; it is not read faster than they are taken.
 *
 * @throws {SandboxError} `SANDBOX_PROTOCOL` for a frame that is too long, or ends in the middle.
 */
export async function* framesOf(socket: Duplex): AsyncGenerator<Frame, void, void> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    while (rest.length >= HEADER) {
      const length = rest.readUInt32LE(0);
      if (length > MAX_PAYLOAD) {
        throw new SandboxError("SANDBOX_PROTOCOL", `expected frames of at most ${MAX_PAYLOAD} bytes, got ${length}`);
      }
      if (rest.length < HEADER + length) break;
      yield { kind: rest.readUInt8(4), payload: rest.subarray(HEADER, HEADER + length) };
      rest = rest.subarray(HEADER + length);
    }
  }
  if (rest.length > 0)
    throw new SandboxError("SANDBOX_PROTOCOL", "expected whole frames, got a part of one at the end");
}
