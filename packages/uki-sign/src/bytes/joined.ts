import { type ByteSource, type Bytes, partOf, sizeOf } from "./byte-source.ts";

/** Something that lies at a position of {@link joinBytes}; what nothing covers are zeros. */
export interface PlacedBytes {
  /** position in `bytes` */
  readonly offset: number;
  readonly bytes: Bytes;
}

/** Bytes that are put together when they are read. Parts are in ascending order and do not overlap. */
export class JoinedBytes implements ByteSource {
  readonly sizeBytes: number;
  /** parts in ascending order, none of them empty or itself joined */
  readonly parts: readonly PlacedBytes[];

  constructor(parts: readonly PlacedBytes[], sizeBytes: number) {
    this.sizeBytes = sizeBytes;
    this.parts = parts.flatMap(flatten).filter(({ bytes }) => sizeOf(bytes) > 0);
  }

  readIntoSync(target: Uint8Array, offset: number): void {
    const end = offset + target.length;
    if (end > this.sizeBytes) throw new Error("bug: a read beyond joined bytes");
    let at = offset;
    for (let index = this.#firstAfter(offset); at < end; index++) {
      const part = this.parts[index];
      const start = Math.min(part?.offset ?? end, end);
      if (start > at) {
        target.fill(0, at - offset, start - offset);
        at = start;
      }
      if (part === undefined || at === end) continue;
      const stop = Math.min(part.offset + sizeOf(part.bytes), end);
      copyInto(target.subarray(at - offset, stop - offset), part.bytes, at - part.offset);
      at = stop;
    }
  }

  /** Index of the first part that ends after `offset`. */
  #firstAfter(offset: number): number {
    let low = 0;
    let high = this.parts.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const part = this.parts[middle];
      if (part !== undefined && part.offset + sizeOf(part.bytes) <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function flatten(placed: PlacedBytes): PlacedBytes[] {
  const { offset, bytes } = placed;
  if (!(bytes instanceof JoinedBytes)) return [placed];
  return bytes.parts.map((part) => ({ offset: offset + part.offset, bytes: part.bytes }));
}

function copyInto(target: Uint8Array, bytes: Bytes, offset: number): void {
  if (bytes instanceof Uint8Array) target.set(bytes.subarray(offset, offset + target.length));
  else bytes.readIntoSync(target, offset);
}

/** The parts of `bytes` up to `end`, with `patches`, which are in ascending order, in place of what is there. */
export function patchBytes(bytes: Bytes, end: number, patches: readonly PlacedBytes[]): PlacedBytes[] {
  const parts: PlacedBytes[] = [];
  let at = 0;
  for (const patch of [...patches, { offset: end, bytes: new Uint8Array() }]) {
    parts.push({ offset: at, bytes: partOf(bytes, at, patch.offset - at) }, patch);
    at = patch.offset + sizeOf(patch.bytes);
  }
  return parts;
}
