import { QemuError } from "../errors.ts";

const LINE_FEED = 0x0a;

/** Splits a byte stream into lines of bounded length; empty lines are left out. */
export class LineReader {
  readonly #maxLineBytes: number;
  #parts: Uint8Array[] = [];
  #length = 0;

  constructor(maxLineBytes: number) {
    this.#maxLineBytes = maxLineBytes;
  }

  /**
   * Takes the next bytes, which are kept until their line is complete.
   *
   * @throws {QemuError} `QEMU_QMP_PROTOCOL` when a line gets too long.
   */
  *push(chunk: Uint8Array): Generator<string> {
    let rest = chunk;
    for (let end = rest.indexOf(LINE_FEED); end !== -1; end = rest.indexOf(LINE_FEED)) {
      this.#keep(rest.subarray(0, end));
      const line = Buffer.concat(this.#parts, this.#length).toString("utf8").trim();
      this.#parts = [];
      this.#length = 0;
      rest = rest.subarray(end + 1);
      if (line !== "") yield line;
    }
    this.#keep(rest);
  }

  #keep(part: Uint8Array): void {
    this.#length += part.length;
    if (this.#length > this.#maxLineBytes) {
      throw new QemuError("QEMU_QMP_PROTOCOL", `expected a line of at most ${this.#maxLineBytes} bytes, got more`);
    }
    if (part.length > 0) this.#parts.push(part);
  }
}
