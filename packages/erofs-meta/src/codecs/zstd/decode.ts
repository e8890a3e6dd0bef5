import { ErofsError } from "../../errors.ts";
import { viewOf } from "../../internal/bytes.ts";
import { ZstdDamage } from "./bits.ts";
import { decodeHuffman, type HuffmanTable, readHuffmanTable } from "./huffman.ts";
import { decodeSequences, type SequenceState } from "./sequences.ts";

const MAGIC = 0xfd2fb528;
const MAX_BLOCK_SIZE = 128 * 1024;
const BLOCK_HEADER_SIZE = 3;
const BLOCK = { raw: 0, run: 1, compressed: 2 } as const;
const LITERALS = { raw: 0, run: 1, compressed: 2 } as const;

/**
 * Decodes one Zstandard frame until `output` is full. The checksum of the frame is not looked at: an image says by
 * other means whether it is whole.
 *
 * @param offset - Position of `input` in the image, used in errors.
 * @see RFC 8878
 */
export function decodeZstd(input: Uint8Array, output: Uint8Array, offset: number): void {
  let at = 0;
  try {
    at = frameHeaderSize(input);
    const block = new BlockDecoder(output);
    for (let isLast = false; !isLast && !block.isFull; ) {
      if (input.byteLength - at < BLOCK_HEADER_SIZE) throw new ZstdDamage("expected a block, got the end of the frame");
      const header = (input[at] as number) | ((input[at + 1] as number) << 8) | ((input[at + 2] as number) << 16);
      isLast = (header & 1) === 1;
      const type = (header >>> 1) & 3;
      const size = header >>> 3;
      at += BLOCK_HEADER_SIZE;
      const stored = type === BLOCK.run ? 1 : size;
      if (size > MAX_BLOCK_SIZE || type > BLOCK.compressed || stored > input.byteLength - at) {
        throw new ZstdDamage(`expected a block of at most ${MAX_BLOCK_SIZE} bytes, got one of ${size}`);
      }
      block.decode(type, input.subarray(at, at + stored), size);
      at += stored;
    }
    if (!block.isFull) throw new ZstdDamage(`expected ${output.byteLength} bytes, got fewer`);
  } catch (error) {
    if (!(error instanceof ZstdDamage)) throw error;
    throw new ErofsError("EROFS_CORRUPT", `not a zstd frame: ${error.message}`, { offset: offset + at });
  }
}

/** Checks the frame's header and says where it ends. Its window does not matter: all of the output is at hand. */
function frameHeaderSize(input: Uint8Array): number {
  if (input.byteLength < 6 || viewOf(input).getUint32(0, true) !== MAGIC) {
    throw new ZstdDamage("expected its magic number, got something else");
  }
  const descriptor = input[4] as number;
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const sizeFlag = descriptor >>> 6;
  if ((descriptor & 0x08) !== 0) throw new ZstdDamage("expected a reserved bit of zero, got one");
  if ((descriptor & 0x03) !== 0) throw new ZstdDamage("expected no dictionary, got one");
  const sizeBytes = sizeFlag === 0 ? (isSingleSegment ? 1 : 0) : 2 ** sizeFlag;
  return 5 + (isSingleSegment ? 0 : 1) + sizeBytes;
}

/** Decodes blocks one after another into the same output. */
class BlockDecoder {
  readonly #output: Uint8Array;
  readonly #sequences: SequenceState = { tables: {}, recent: [1, 4, 8] };
  #huffman: HuffmanTable | undefined;
  #to = 0;

  constructor(output: Uint8Array) {
    this.#output = output;
  }

  get isFull(): boolean {
    return this.#to === this.#output.byteLength;
  }

  /** @param size - what the block's header says: the length of its content unless it is compressed */
  decode(type: number, bytes: Uint8Array, size: number): void {
    if (type === BLOCK.raw) this.#append(bytes);
    else if (type === BLOCK.run) {
      const end = Math.min(this.#output.byteLength, this.#to + size);
      this.#output.fill(bytes[0] ?? 0, this.#to, end);
      this.#to = end;
    } else this.#decodeCompressed(bytes);
  }

  #decodeCompressed(bytes: Uint8Array): void {
    const { literals, end } = this.#literals(bytes);
    let from = 0;
    decodeSequences(bytes.subarray(end), this.#sequences, (count, length, distance) => {
      if (count > literals.byteLength - from) throw new ZstdDamage("expected more literals, got the end of them");
      this.#append(literals.subarray(from, from + count));
      from += count;
      if (this.isFull) return false;
      if (distance <= 0 || distance > this.#to) {
        throw new ZstdDamage(`expected a match 1..${this.#to} bytes back, got ${distance}`);
      }
      this.#copy(length, distance);
      return !this.isFull;
    });
    this.#append(literals.subarray(from));
  }

  /** @see RFC 8878, section 3.1.1.3.1 */
  #literals(bytes: Uint8Array): { literals: Uint8Array; end: number } {
    const [first = 0, second = 0, third = 0, fourth = 0, fifth = 0] = bytes;
    const type = first & 3;
    const format = (first >>> 2) & 3;
    if (type === LITERALS.raw || type === LITERALS.run) {
      const start = format === 1 ? 2 : format === 3 ? 3 : 1;
      const size = start === 1 ? first >>> 3 : (first >>> 4) | (second << 4) | (start === 3 ? third << 12 : 0);
      const end = start + (type === LITERALS.raw ? size : 1);
      if (end > bytes.byteLength || size > MAX_BLOCK_SIZE) throw new ZstdDamage("expected literals, got the end");
      if (type === LITERALS.raw) return { literals: bytes.subarray(start, end), end };
      return { literals: new Uint8Array(size).fill(bytes[start] as number), end };
    }
    const width = format < 2 ? 10 : format === 2 ? 14 : 18;
    const start = format < 2 ? 3 : format === 2 ? 4 : 5;
    const header = first + second * 2 ** 8 + third * 2 ** 16 + fourth * 2 ** 24 + fifth * 2 ** 32;
    const size = Math.floor(header / 2 ** 4) % 2 ** width;
    const end = start + (Math.floor(header / 2 ** (4 + width)) % 2 ** width);
    if (end > bytes.byteLength || size > MAX_BLOCK_SIZE) throw new ZstdDamage("expected literals, got the end");
    let at = start;
    if (type === LITERALS.compressed) {
      const found = readHuffmanTable(bytes.subarray(0, end), start);
      this.#huffman = found.table;
      at = found.end;
    }
    if (this.#huffman === undefined) throw new ZstdDamage("expected a Huffman tree to use again, got none");
    const literals = new Uint8Array(size);
    decodeStreams(this.#huffman, bytes.subarray(at, end), literals, format === 0 ? 1 : 4);
    return { literals, end };
  }

  #append(bytes: Uint8Array): void {
    const part = bytes.subarray(0, this.#output.byteLength - this.#to);
    this.#output.set(part, this.#to);
    this.#to += part.byteLength;
  }

  #copy(length: number, distance: number): void {
    const output = this.#output;
    const end = Math.min(output.byteLength, this.#to + length);
    let to = this.#to;
    for (let from = to - distance; to < end; from += 1, to += 1) output[to] = output[from] as number;
    this.#to = to;
  }
}

/** Four streams share the literals evenly, the last one has what is left. */
function decodeStreams(table: HuffmanTable, bytes: Uint8Array, literals: Uint8Array, streams: 1 | 4): void {
  if (streams === 1) {
    decodeHuffman(table, bytes, literals);
    return;
  }
  const jumpTable = 6;
  const share = Math.ceil(literals.byteLength / streams);
  if (bytes.byteLength < jumpTable || share * (streams - 1) > literals.byteLength) {
    throw new ZstdDamage("expected four streams of literals, got fewer");
  }
  const view = viewOf(bytes);
  let at = jumpTable;
  for (let index = 0; index < streams; index += 1) {
    const isLast = index === streams - 1;
    const end = isLast ? bytes.byteLength : at + view.getUint16(index * 2, true);
    if (end > bytes.byteLength) throw new ZstdDamage("expected a stream of literals, got the end");
    decodeHuffman(
      table,
      bytes.subarray(at, end),
      literals.subarray(index * share, isLast ? undefined : (index + 1) * share),
    );
    at = end;
  }
}
