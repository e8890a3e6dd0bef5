import { createHash } from "node:crypto";
import type { ByteSink } from "../block-source.ts";
import { derivedUuid } from "../internal/bytes.ts";

/** Gives an image a UUID that follows from its bytes: the same for the same image, another one for every other. */
export class ImageUuid implements ByteSink {
  readonly #sink: ByteSink;
  readonly #hash = createHash("sha256");
  #position = 0;

  /** @param sink - gets everything that is written to this one */
  constructor(sink: ByteSink) {
    this.#sink = sink;
  }

  write(offset: number, bytes: Uint8Array): Promise<void> {
    // How bytes that follow each other were cut into pieces must not matter, only where they are.
    if (offset !== this.#position) this.#hash.update(`@${offset}`);
    this.#hash.update(bytes);
    this.#position = offset + bytes.byteLength;
    return this.#sink.write(offset, bytes);
  }

  /** @param head - first bytes of the image, with a UUID of zeros */
  derive(head: Uint8Array): string {
    return derivedUuid(this.#hash.update(head).digest());
  }
}
