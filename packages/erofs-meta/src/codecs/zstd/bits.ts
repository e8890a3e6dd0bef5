/** Says that input contradicts the format. */
export class ZstdDamage extends Error {}

/** Reads bits from the lowest of the first byte on. */
export class ForwardBits {
  readonly #bytes: Uint8Array;
  /** position in `bits` */
  #at: number;

  constructor(bytes: Uint8Array, start: number) {
    this.#bytes = bytes;
    this.#at = start * 8;
  }

  /** The byte behind the last one of which bits were read. */
  get end(): number {
    return Math.ceil(this.#at / 8);
  }

  /** @param count - At most 16. */
  read(count: number): number {
    const end = this.#at + count;
    if (end > this.#bytes.byteLength * 8) throw new ZstdDamage("expected more bits, got the end of them");
    const value = bitsAt(this.#bytes, this.#at, count);
    this.#at = end;
    return value;
  }

  unread(count: number): void {
    this.#at -= count;
  }
}

/** Reads bits from the highest of the last byte on, behind the bit that marks the end; what is missing is zero. */
export class BackwardBits {
  readonly #bytes: Uint8Array;
  /** bits that are left; below zero when more were read than there were */
  left: number;

  constructor(bytes: Uint8Array) {
    const last = bytes.at(-1) ?? 0;
    if (last === 0) throw new ZstdDamage("expected a bit that marks the end, got none");
    this.#bytes = bytes;
    this.left = bytes.byteLength * 8 - 8 + (31 - Math.clz32(last));
  }

  /** @param count - At most 32. */
  read(count: number): number {
    if (count > 16) return this.read(count - 16) * 2 ** 16 + this.read(16);
    this.left -= count;
    if (this.left >= 0) return bitsAt(this.#bytes, this.left, count);
    const present = count + this.left;
    return present <= 0 ? 0 : (bitsAt(this.#bytes, 0, present) << -this.left) >>> 0;
  }
}

function bitsAt(bytes: Uint8Array, bit: number, count: number): number {
  const at = bit >>> 3;
  const word = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16);
  return (word >>> (bit & 7)) & (2 ** count - 1);
}
