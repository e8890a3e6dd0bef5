import { Transform, type TransformCallback } from "node:stream";

/** Bytes that must not get through, and what is there instead: the same number of bytes, so that no length changes. */
export interface Scrubbed {
  readonly find: Buffer;
  readonly mask: Buffer;
}

/** Text that must not get through, with as much of a mask in its place as it is long. */
export function scrubbed(text: string, mask: string): Scrubbed {
  const find = Buffer.from(text, "latin1");
  return { find, mask: Buffer.alloc(find.length, mask, "latin1") };
}

/**
 * Replaces some bytes in what goes through, wherever pieces of it begin and end. It holds back no more than what could be
 * the beginning of such bytes.
 */
export class Scrubber extends Transform {
  readonly #scrubbed: readonly Scrubbed[];
  #held: Buffer = Buffer.alloc(0);

  constructor(patterns: readonly Scrubbed[]) {
    super();
    // What is part of something else comes after that.
    this.#scrubbed = [...patterns].sort((one, other) => other.find.length - one.find.length);
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    // A copy: it is changed.
    const bytes = Buffer.concat([this.#held, chunk]);
    for (const { find, mask } of this.#scrubbed) {
      for (let at = bytes.indexOf(find); at >= 0; at = bytes.indexOf(find, at + find.length)) mask.copy(bytes, at);
    }
    const from = Math.min(...this.#scrubbed.map(({ find }) => beginningOf(find, bytes)), bytes.length);
    this.#held = bytes.subarray(from);
    done(null, from === 0 ? undefined : bytes.subarray(0, from));
  }

  override _flush(done: TransformCallback): void {
    done(null, this.#held.length === 0 ? undefined : this.#held);
  }
}

/** Where the end of some bytes can be the beginning of others. */
function beginningOf(find: Buffer, bytes: Buffer): number {
  const first = find[0] ?? 0;
  const from = Math.max(0, bytes.length - find.length + 1);
  for (let at = bytes.indexOf(first, from); at >= 0; at = bytes.indexOf(first, at + 1)) {
    if (bytes.subarray(at).equals(find.subarray(0, bytes.length - at))) return at;
  }
  return bytes.length;
}
