/** Reads a stream of pieces by counts of bytes. */
export class ByteReader {
  readonly #pieces: AsyncIterator<Uint8Array> | Iterator<Uint8Array>;
  #piece: Uint8Array = new Uint8Array(0);
  /** bytes read so far */
  offset = 0;

  constructor(stream: AsyncIterable<Uint8Array> | Iterable<Uint8Array>) {
    this.#pieces = Symbol.asyncIterator in stream ? stream[Symbol.asyncIterator]() : stream[Symbol.iterator]();
  }

  /** @returns The next `length` bytes, or fewer at the end of the stream, which stay to be read. */
  async peek(length: number): Promise<Uint8Array> {
    const pieces = [this.#piece];
    let found = this.#piece.byteLength;
    while (found < length) {
      const { value, done } = await this.#pieces.next();
      if (done === true) break;
      pieces.push(value);
      found += value.byteLength;
    }
    if (pieces.length > 1) this.#piece = Uint8Array.from(Buffer.concat(pieces));
    return this.#piece.subarray(0, length);
  }

  /** @returns `length` bytes, or fewer at the end of the stream. */
  async take(length: number): Promise<Uint8Array> {
    const taken = new Uint8Array(length);
    let filled = 0;
    for await (const piece of this.stream(length)) {
      taken.set(piece, filled);
      filled += piece.byteLength;
    }
    return taken.subarray(0, filled);
  }

  /** Streams `length` bytes, or fewer at the end of the stream. */
  async *stream(length: number): AsyncGenerator<Uint8Array> {
    for (let left = length; left > 0; ) {
      if (this.#piece.byteLength === 0) {
        const { value, done } = await this.#pieces.next();
        if (done === true) return;
        this.#piece = value;
        continue;
      }
      const part = this.#piece.subarray(0, left);
      this.#piece = this.#piece.subarray(part.byteLength);
      this.offset += part.byteLength;
      left -= part.byteLength;
      yield part;
    }
  }

  /** Lets the stream go. */
  async close(): Promise<void> {
    await this.#pieces.return?.();
  }
}
