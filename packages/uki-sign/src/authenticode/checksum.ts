/**
 * The checksum of a PE file: the one's complement sum of its 16-bit words with the checksum field as 0, plus its size.
 *
 * @see PE Format, "Optional Header Windows-Specific Fields", CheckSum
 */
export class PeChecksum {
  #sum = 0;
  #size = 0;

  update(chunk: Uint8Array): void {
    const { byteOffset, length } = chunk;
    let start = 0;
    // A word that began in the chunk before.
    if (this.#size % 2 === 1 && length > 0) {
      this.#sum += (chunk[0] ?? 0) * 256;
      start = 1;
    }
    const view = new DataView(chunk.buffer, byteOffset, length);
    const even = start + ((length - start) & ~1);
    // Far below 2^53 for any file that a PE image can be.
    for (let offset = start; offset < even; offset += 2) this.#sum += view.getUint16(offset, true);
    if (even < length) this.#sum += view.getUint8(even);
    this.#size += length;
  }

  get value(): number {
    let sum = this.#sum;
    while (sum > 0xffff) sum = (sum % 0x1_0000) + Math.floor(sum / 0x1_0000);
    return (sum + this.#size) >>> 0;
  }
}
