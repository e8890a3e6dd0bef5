import { inflateRaw } from "node:zlib";
import type { BlockSource, DisposableBlockSource } from "../block-source.ts";
import { DiskImageError } from "../errors.ts";
import {
  QCOW2_ALL_ZERO,
  QCOW2_COMPRESSED,
  QCOW2_ENTRY_SIZE,
  QCOW2_HEADER_SIZE,
  QCOW2_OFFSET_MASK,
  QCOW2_SECTOR_SIZE,
} from "../format/qcow2.ts";
import { viewOf } from "../internal/bytes.ts";
import { clusterOffset, decodeQcow2Header, type Qcow2Header } from "./header.ts";

/** L2 tables kept in memory, in `bytes`. */
const CACHE_BYTES = 16 * 1024 * 1024;

/** What stands for one cluster of the disk. */
type Mapping =
  | { readonly kind: "zero" }
  | { readonly kind: "data"; readonly offset: number }
  | { readonly kind: "compressed"; readonly offset: number; readonly maxBytes: number };

const ZERO: Mapping = { kind: "zero" };

/**
 * Opens the disk inside of a qcow2 image: versions 2 and 3, deflated clusters too. Backing files are never opened: an
 * image could name any file of this machine.
 *
 * @param image - The file; closed with the result.
 * @returns The disk as a source; unallocated clusters read as zeros.
 * @throws {DiskImageError} `DISK_BAD_MAGIC`, `DISK_TRUNCATED`, `DISK_CORRUPT`, `DISK_LIMIT`, and `DISK_UNSUPPORTED` for
 *   backing files, external data files, encryption, zstd and extended L2 entries; the same codes while reading.
 * @see QEMU, docs/interop/qcow2
 * @example
 * await using disk = await qcow2Source(await fileSource("os.qcow2"));
 */
export async function qcow2Source(image: BlockSource): Promise<DisposableBlockSource> {
  const header = decodeQcow2Header(await image.read(0, Math.min(QCOW2_HEADER_SIZE, image.sizeBytes)));
  const l1 = await readTable(image, header.l1TableOffset, header.l1Entries, "L1 table");
  const reader = new Qcow2Reader(image, header, l1);
  const close = (): Promise<void> => image.close();
  return {
    sizeBytes: header.sizeBytes,
    async read(offset, length) {
      const target = new Uint8Array(length);
      await reader.readInto(target, offset);
      return target;
    },
    readInto: (target, offset) => reader.readInto(target, offset),
    close,
    [Symbol.asyncDispose]: close,
  };
}

class Qcow2Reader {
  readonly #image: BlockSource;
  readonly #header: Qcow2Header;
  readonly #l1: DataView;
  /** by index; a `Map` remembers in which order its keys came */
  readonly #l2 = new Map<number, Promise<DataView>>();
  /** the compressed cluster read last: the next read often wants more of it */
  #inflated: { readonly offset: number; readonly bytes: Promise<Uint8Array> } | undefined;

  constructor(image: BlockSource, header: Qcow2Header, l1: DataView) {
    this.#image = image;
    this.#header = header;
    this.#l1 = l1;
  }

  async readInto(target: Uint8Array, offset: number): Promise<void> {
    const { clusterSize, sizeBytes } = this.#header;
    if (!Number.isSafeInteger(offset) || offset < 0 || offset + target.byteLength > sizeBytes) {
      const message = `expected ${target.byteLength} bytes, got a disk that ends at byte ${sizeBytes}`;
      throw new DiskImageError("DISK_TRUNCATED", message, { offset });
    }
    for (let done = 0; done < target.byteLength; ) {
      const at = offset + done;
      const within = at % clusterSize;
      const mapping = await this.#mapping(Math.floor(at / clusterSize));
      let length = Math.min(target.byteLength - done, clusterSize - within);
      // What lies one after the other in the file too is read at once.
      if (mapping.kind === "data")
        length = await this.#runLength(at, mapping.offset + within, target.byteLength - done);
      const piece = target.subarray(done, done + length);
      if (mapping.kind === "zero") piece.fill(0);
      else if (mapping.kind === "data") await this.#readData(piece, mapping.offset + within);
      else piece.set((await this.#compressed(mapping)).subarray(within, within + length));
      done += length;
    }
  }

  async #runLength(start: number, hostOffset: number, wanted: number): Promise<number> {
    const { clusterSize } = this.#header;
    let length = Math.min(wanted, clusterSize - (start % clusterSize));
    while (length < wanted) {
      const next = await this.#mapping(Math.floor((start + length) / clusterSize));
      if (next.kind !== "data" || next.offset !== hostOffset + length) break;
      length = Math.min(wanted, length + clusterSize);
    }
    return length;
  }

  async #mapping(cluster: number): Promise<Mapping> {
    const { clusterSize, version } = this.#header;
    const perTable = clusterSize / QCOW2_ENTRY_SIZE;
    const table = await this.#table(Math.floor(cluster / perTable));
    if (table === undefined) return ZERO;
    const entry = table.getBigUint64((cluster % perTable) * QCOW2_ENTRY_SIZE);
    if ((entry & QCOW2_COMPRESSED) !== 0n) return compressed(entry, clusterSize);
    const offset = entry & QCOW2_OFFSET_MASK;
    if (offset === 0n || (version === 3 && (entry & QCOW2_ALL_ZERO) !== 0n)) return ZERO;
    return { kind: "data", offset: clusterOffset(offset, clusterSize, `cluster ${cluster}`) };
  }

  async #table(index: number): Promise<DataView | undefined> {
    const { clusterSize } = this.#header;
    const offset = this.#l1.getBigUint64(index * QCOW2_ENTRY_SIZE) & QCOW2_OFFSET_MASK;
    if (offset === 0n) return undefined;
    let table = this.#l2.get(index);
    if (table === undefined) {
      const what = `L2 table ${index}`;
      table = readTable(this.#image, clusterOffset(offset, clusterSize, what), clusterSize / QCOW2_ENTRY_SIZE, what);
    }
    // The last used one goes to the end, the longest unused one goes.
    this.#l2.delete(index);
    this.#l2.set(index, table);
    for (const oldest of this.#l2.keys()) {
      if (this.#l2.size <= Math.max(1, CACHE_BYTES / clusterSize)) break;
      this.#l2.delete(oldest);
    }
    return table;
  }

  // The last cluster of a file may be cut where the disk inside has nothing more to say.
  async #readData(target: Uint8Array, offset: number): Promise<void> {
    const there = Math.min(target.byteLength, this.#image.sizeBytes - offset);
    if (there <= 0) {
      const message = `expected a cluster, got an image that ends at byte ${this.#image.sizeBytes}`;
      throw new DiskImageError("DISK_TRUNCATED", message, { offset });
    }
    target.set(await this.#image.read(offset, there));
    target.fill(0, there);
  }

  #compressed(mapping: Extract<Mapping, { kind: "compressed" }>): Promise<Uint8Array> {
    if (this.#inflated?.offset !== mapping.offset) {
      this.#inflated = { offset: mapping.offset, bytes: this.#inflate(mapping) };
    }
    return this.#inflated.bytes;
  }

  async #inflate({ offset, maxBytes }: Extract<Mapping, { kind: "compressed" }>): Promise<Uint8Array> {
    const { clusterSize } = this.#header;
    // The count of sectors is rounded up, also beyond the end of the file.
    const length = Math.min(maxBytes, this.#image.sizeBytes - offset);
    if (length <= 0) {
      const message = `expected a compressed cluster, got an image that ends at byte ${this.#image.sizeBytes}`;
      throw new DiskImageError("DISK_TRUNCATED", message, { offset });
    }
    const bytes = await this.#image.read(offset, length);
    const inflated = await inflate(bytes, clusterSize).catch((cause: unknown) => {
      throw new DiskImageError("DISK_CORRUPT", `expected a deflated cluster of ${clusterSize} bytes, got no such`, {
        offset,
        cause,
      });
    });
    if (inflated.byteLength === clusterSize) return inflated;
    const message = `expected a deflated cluster of ${clusterSize} bytes, got one of ${inflated.byteLength}`;
    throw new DiskImageError("DISK_CORRUPT", message, { offset });
  }
}

/** The bits of the offset end where those of the count of further sectors begin. */
function compressed(entry: bigint, clusterSize: number): Mapping {
  const offsetBits = 62n - BigInt(Math.log2(clusterSize) - 8);
  const offset = Number(entry & ((1n << offsetBits) - 1n));
  const sectors = Number((entry & (QCOW2_COMPRESSED - 1n)) >> offsetBits) + 1;
  return { kind: "compressed", offset, maxBytes: sectors * QCOW2_SECTOR_SIZE - (offset % QCOW2_SECTOR_SIZE) };
}

async function readTable(image: BlockSource, offset: number, entries: number, what: string): Promise<DataView> {
  const length = entries * QCOW2_ENTRY_SIZE;
  if (offset + length > image.sizeBytes) {
    const message = `expected ${length} bytes of ${what}, got an image that ends at byte ${image.sizeBytes}`;
    throw new DiskImageError("DISK_TRUNCATED", message, { offset });
  }
  return viewOf(await image.read(offset, length));
}

function inflate(bytes: Uint8Array, maxOutputLength: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    // What follows the stream up to the end of its sectors belongs to the next one.
    inflateRaw(bytes, { maxOutputLength }, (error, result) => (error === null ? resolve(result) : reject(error)));
  });
}
