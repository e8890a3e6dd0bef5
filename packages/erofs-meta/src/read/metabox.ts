import type { BlockSource } from "../block-source.ts";
import { ErofsError } from "../errors.ts";
import { safeNumber } from "../internal/bytes.ts";
import { finish, type Steps } from "../internal/steps.ts";
import { PackedContent } from "./compressed.ts";
import { extentsOf, type ImageParts } from "./content.ts";
import { type Inode, inodeSteps, isInMetabox } from "./inode.ts";
import { MetadataCache } from "./metadata-cache.ts";

/** The metadata box: content of an inode, compressed or not, that other inodes are a part of. */
export class Metabox {
  readonly #image: ImageParts;
  #cache: MetadataCache | undefined;

  constructor(image: ImageParts) {
    this.#image = image;
  }

  /** Reads through the box, after finding out where its content lies. */
  *open(): Steps<MetadataCache> {
    this.#cache ??= new MetadataCache(yield* boxSource(this.#image));
    return this.#cache;
  }

  /** Where the bytes around an inode are read: in the image, or in the box, which was opened for the inode. */
  around(inode: Inode): MetadataCache {
    if (!isInMetabox(inode.nid)) return this.#image.metadata;
    if (this.#cache === undefined) throw new Error("bug: an inode of a metadata box that was not opened");
    return this.#cache;
  }
}

function* boxSource(image: ImageParts): Steps<BlockSource> {
  const { metaboxNid } = image.superblock;
  if (metaboxNid === 0n) {
    throw new ErofsError("EROFS_CORRUPT", "expected a metadata box for a node, got an image without one");
  }
  const inode = yield* inodeSteps(image, metaboxNid);
  const content = new PackedContent(image, inode, () => extentsOf(image, inode));
  return {
    sizeBytes: safeNumber(inode.sizeBytes, "a content size", inode.offset),
    async read(offset, length) {
      const bytes = new Uint8Array(length);
      await finish(content.read(offset, bytes));
      return bytes;
    },
    async close() {},
  };
}
