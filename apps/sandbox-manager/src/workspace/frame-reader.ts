import { SandboxError } from "../errors.ts";
import { MAX_FRAME_SIZE, REQUEST_HEADER_SIZE } from "./format/fuse.ts";

/** Cuts what comes over a port into requests. */
export class FrameReader {
  readonly #onFrame: (frame: Buffer) => void;
  #pieces: Buffer[] = [];
  #length = 0;
  /** length of the request that is being received, 0 while that is not known */
  #wanted = 0;

  /**
   * @param onFrame - Called with every request, in order; it may keep the bytes for as long as it works on the request.
   */
  constructor(onFrame: (frame: Buffer) => void) {
    this.#onFrame = onFrame;
  }

  /**
   * Takes bytes.
   *
   * @throws {SandboxError} `SANDBOX_WORKSPACE_PROTOCOL` when they cannot be requests.
   */
  push(chunk: Buffer): void {
    let rest = chunk;
    while (rest.length > 0) {
      // Most requests are in one piece, and need no copy.
      if (this.#length === 0 && rest.length >= REQUEST_HEADER_SIZE) {
        const length = checkedLength(rest.readUInt32LE(0));
        if (rest.length >= length) {
          this.#onFrame(rest.subarray(0, length));
          rest = rest.subarray(length);
          continue;
        }
      }
      const missing = (this.#wanted === 0 ? REQUEST_HEADER_SIZE : this.#wanted) - this.#length;
      const piece = rest.subarray(0, missing);
      rest = rest.subarray(missing);
      this.#pieces.push(piece);
      this.#length += piece.length;
      if (this.#length < REQUEST_HEADER_SIZE) continue;
      if (this.#wanted === 0) {
        this.#pieces = [Buffer.concat(this.#pieces)];
        this.#wanted = checkedLength(this.#pieces[0]?.readUInt32LE(0) ?? 0);
      }
      if (this.#length < this.#wanted) continue;
      const frame = this.#pieces.length === 1 ? this.#pieces[0] : Buffer.concat(this.#pieces);
      this.#pieces = [];
      this.#length = 0;
      this.#wanted = 0;
      if (frame !== undefined) this.#onFrame(frame);
    }
  }
}

function checkedLength(length: number): number {
  if (length >= REQUEST_HEADER_SIZE && length <= MAX_FRAME_SIZE) return length;
  const expected = `expected a request of ${REQUEST_HEADER_SIZE} to ${MAX_FRAME_SIZE} bytes from the guest`;
  throw new SandboxError("SANDBOX_WORKSPACE_PROTOCOL", `${expected}, got a length of ${length}`);
}
