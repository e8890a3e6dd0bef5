import type { ByteSink } from "../block-source.ts";
import { QCOW2_COPIED, QCOW2_ENTRY_SIZE, QCOW2_REFCOUNT_ORDER } from "../format/qcow2.ts";
import { isZero, viewOf } from "../internal/bytes.ts";
import { encodeQcow2Header, entriesNeeded } from "./header.ts";

/** Size of a cluster, QEMU's own choice, in `bytes`. */
const CLUSTER_SIZE = 64 * 1024;
const ENTRIES_PER_TABLE = CLUSTER_SIZE / QCOW2_ENTRY_SIZE;
const REFCOUNTS_PER_BLOCK = (CLUSTER_SIZE * 8) >> QCOW2_REFCOUNT_ORDER;

/** A disk being written as qcow2. */
export interface Qcow2Sink extends ByteSink {
  /**
   * Writes the tables, which follow the data.
   *
   * @returns Length of the image in `bytes`.
   */
  finish(): Promise<number>;
}

/**
 * Writes a disk as a qcow2 image of version 3. Clusters get their place when something other than zeros first comes to
 * them, so the same writes in the same order give the same bytes.
 *
 * @param file - What the image goes to.
 * @param sizeBytes - Size of the disk inside.
 * @see QEMU, docs/interop/qcow2
 */
export function qcow2Sink(file: ByteSink, sizeBytes: number): Qcow2Sink {
  /** the file's cluster for each of the disk's that has one; the header has the first */
  const places = new Map<number, number>();
  return {
    async write(offset, bytes) {
      for (let done = 0; done < bytes.byteLength; ) {
        const cluster = Math.floor((offset + done) / CLUSTER_SIZE);
        const within = (offset + done) % CLUSTER_SIZE;
        const piece = bytes.subarray(done, done + CLUSTER_SIZE - within);
        done += piece.byteLength;
        let place = places.get(cluster);
        if (place === undefined) {
          if (isZero(piece)) continue;
          place = places.size + 1;
          places.set(cluster, place);
        }
        await file.write(place * CLUSTER_SIZE + within, piece);
      }
    },

    async finish() {
      const l1 = new Uint8Array(Math.max(1, entriesNeeded(sizeBytes, CLUSTER_SIZE)) * QCOW2_ENTRY_SIZE);
      let next = places.size + 1;
      for (const [index, table] of l2Tables(places)) {
        viewOf(l1).setBigUint64(index * QCOW2_ENTRY_SIZE, copied(next));
        await file.write(next * CLUSTER_SIZE, table);
        next += 1;
      }
      const l1TableOffset = next * CLUSTER_SIZE;
      await file.write(l1TableOffset, l1);
      next += Math.ceil(l1.byteLength / CLUSTER_SIZE);

      const { blocks, tableClusters } = refcountSize(next);
      const refcountTable = new Uint8Array(tableClusters * CLUSTER_SIZE);
      const clusters = next + tableClusters + blocks;
      for (let block = 0; block < blocks; block += 1) {
        const place = next + tableClusters + block;
        viewOf(refcountTable).setBigUint64(block * QCOW2_ENTRY_SIZE, BigInt(place * CLUSTER_SIZE));
        await file.write(place * CLUSTER_SIZE, refcountBlock(clusters - block * REFCOUNTS_PER_BLOCK));
      }
      const refcountTableOffset = next * CLUSTER_SIZE;
      await file.write(refcountTableOffset, refcountTable);
      const layout = { sizeBytes, clusterSize: CLUSTER_SIZE, l1Entries: l1.byteLength / QCOW2_ENTRY_SIZE };
      await file.write(
        0,
        encodeQcow2Header({ ...layout, l1TableOffset, refcountTableOffset, refcountTableClusters: tableClusters }),
      );
      return clusters * CLUSTER_SIZE;
    },
  };
}

function copied(cluster: number): bigint {
  return BigInt(cluster * CLUSTER_SIZE) | QCOW2_COPIED;
}

/** The tables that have entries, in the order of the disk. */
function l2Tables(places: ReadonlyMap<number, number>): [number, Uint8Array][] {
  const tables = new Map<number, Uint8Array>();
  for (const [cluster, place] of places) {
    const index = Math.floor(cluster / ENTRIES_PER_TABLE);
    const table = tables.get(index) ?? new Uint8Array(CLUSTER_SIZE);
    tables.set(index, table);
    viewOf(table).setBigUint64((cluster % ENTRIES_PER_TABLE) * QCOW2_ENTRY_SIZE, copied(place));
  }
  return [...tables].sort(([a], [b]) => a - b);
}

/** Refcounts count their own clusters too: more of them may need more of them. */
function refcountSize(others: number): { readonly blocks: number; readonly tableClusters: number } {
  let blocks = 1;
  let tableClusters = 1;
  for (;;) {
    const needed = Math.ceil((others + tableClusters + blocks) / REFCOUNTS_PER_BLOCK);
    const tableNeeded = Math.ceil(needed / ENTRIES_PER_TABLE);
    if (needed === blocks && tableNeeded === tableClusters) return { blocks, tableClusters };
    blocks = needed;
    tableClusters = tableNeeded;
  }
}

/** Every cluster is used once. */
function refcountBlock(remaining: number): Uint8Array {
  const block = new Uint8Array(CLUSTER_SIZE);
  const view = viewOf(block);
  for (let index = 0; index < Math.min(remaining, REFCOUNTS_PER_BLOCK); index += 1) view.setUint16(index * 2, 1);
  return block;
}
