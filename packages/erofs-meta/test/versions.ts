import type { TreeEntry } from "../src/index.ts";
import { mixedContent } from "./trees.ts";

const MIXED = mixedContent(4 * 1024 * 1024, 1);

/** A file of a tree of which there are versions. */
export interface VersionedFile {
  readonly id: number;
  readonly path: string;
  readonly size: number;
  /** what its content depends on besides */
  readonly revision: number;
}

/** A tree of files of many sizes, and what becomes of it from version to version. */
export class Versions {
  readonly #directories: number;
  #files: VersionedFile[];
  #seed: number;
  #made = 0;

  constructor(files: number, seed: number) {
    this.#seed = seed;
    this.#directories = Math.ceil(files / 20);
    this.#files = Array.from({ length: files }, () => this.#make());
  }

  /** The files of the version that there is now. */
  get files(): readonly VersionedFile[] {
    return this.#files;
  }

  /** Goes on to the next version: shares of files change their length, are removed, and are added. */
  next(share: { readonly changed: number; readonly removed: number; readonly added: number }): void {
    const count = this.#files.length;
    const kept = this.#files.filter(() => this.#random() >= share.removed);
    const changed = kept.map((file) => {
      if (this.#random() >= share.changed) return file;
      return { ...file, size: Math.ceil(file.size * (0.6 + this.#random() * 0.9)), revision: file.revision + 1 };
    });
    this.#files = [...changed, ...Array.from({ length: Math.round(count * share.added) }, () => this.#make())];
  }

  /** The entries of the version that there is now, in the order of their paths. */
  entries(): TreeEntry[] {
    return this.#files
      .toSorted((a, b) => (a.path < b.path ? -1 : 1))
      .map(({ id, path, size, revision }) => {
        const start = (id * 4099 + revision * 65_537) % (MIXED.byteLength / 2);
        const label = new TextEncoder().encode(`system_u:object_r:type${id % 40}_t:s0`);
        return {
          type: "file",
          path,
          content: MIXED.subarray(start, start + size),
          mtime: BigInt(1_600_000_000 + id + 100 * revision),
          xattrs: { "security.selinux": label },
        };
      });
  }

  #make(): VersionedFile {
    const id = this.#made;
    this.#made += 1;
    // Half of the files are smaller than 2 KiB, some are larger than 100 KiB.
    const size = Math.ceil(Math.exp(7.5 + (this.#random() + this.#random() + this.#random() - 1.5) * 3.2));
    return { id, path: `/usr/${Math.floor(this.#random() * this.#directories)}/file ${id}`, size, revision: 0 };
  }

  #random(): number {
    this.#seed = (Math.imul(this.#seed, 1664525) + 1013904223) >>> 0;
    return this.#seed / 2 ** 32;
  }
}
