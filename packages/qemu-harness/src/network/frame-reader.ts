/** Largest frame that QEMU passes on (`NET_BUFSIZE`), in `bytes`. */
const MAX_FRAME_BYTES = 4096 + 65_536;
/** Each frame comes after its length, 32 bits, most significant byte first. */
export const LENGTH_BYTES = 4;

/** Splits what QEMU writes to a socket network into Ethernet frames. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0);

  /**
   * Takes the next bytes, which have to stay as they are.
   *
   * @returns The frames that are complete now; undefined when what comes is not a sequence of frames.
   */
  push(chunk: Uint8Array): Buffer[] | undefined {
    const own = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const bytes = this.#rest.length === 0 ? own : Buffer.concat([this.#rest, own]);
    const frames: Buffer[] = [];
    let at = 0;
    while (bytes.length - at >= LENGTH_BYTES) {
      const length = bytes.readUInt32BE(at);
      if (length > MAX_FRAME_BYTES) return undefined;
      const end = at + LENGTH_BYTES + length;
      if (end > bytes.length) break;
      frames.push(bytes.subarray(at + LENGTH_BYTES, end));
      at = end;
    }
    this.#rest = bytes.subarray(at);
    return frames;
  }
}
