import {
  COMPOSEFS_BLOCK_SIZE,
  COMPOSEFS_FLAG_HAS_ACL,
  COMPOSEFS_HEADER,
  COMPOSEFS_HEADER_VERSION,
  COMPOSEFS_MAGIC,
} from "../format/composefs.ts";
import { INODE_SLOT_SIZE } from "../format/inode.ts";
import { COMPAT_MTIME, COMPAT_XATTR_FILTER, SUPERBLOCK_OFFSET } from "../format/superblock.ts";
import { XATTR_UNIT } from "../format/xattr.ts";
import { viewOf } from "../internal/bytes.ts";
import { encodeDirectory } from "../write/directory.ts";
import { encodeInodeFields, encodeSuperblockFields } from "../write/encode.ts";
import { encodeXattrArea } from "../write/xattr-area.ts";
import { chunksOf } from "./chunks.ts";
import type { ComposefsEntry } from "./entry.ts";
import { breadthFirst, type ComposefsLayout, layOut, type PlacedNode } from "./layout.ts";
import { makeTree, type Node, typeOf } from "./tree.ts";
import { SharedXattrs } from "./xattrs.ts";

/** modification times, and name filters of extended attributes */
const FEATURES = COMPAT_MTIME | COMPAT_XATTR_FILTER;

/**
 * Makes a metadata-only image, byte for byte as `mkcomposefs --from-file` does: an EROFS image whose regular files have
 * no data but say where it lies and what its fs-verity digest is, for overlayfs to mount above a directory of objects.
 *
 * @param entries - Nodes and hard links; a directory comes before what is in it.
 * @returns The image; {@link fsVerityDigest} of it is what a kernel command line or a signature vouches for.
 * @throws {ErofsError} `EROFS_BAD_TREE` for entries that make no tree, `EROFS_NOT_REPRESENTABLE` for what no image holds.
 * @see composefs 1.0.8; Linux v6.12 `Documentation/filesystems/overlayfs.rst`, "Metadata only copy up"
 * @example
 * const image = encodeComposefs(parseComposefsDump(await readFile("os.dump")));
 */
export function encodeComposefs(entries: Iterable<ComposefsEntry>): Uint8Array {
  const { root, version } = makeTree(entries);
  const nodes = breadthFirst(root);
  const shared = new SharedXattrs(nodes);
  const layout = layOut(nodes, shared);
  const dataStart = Math.ceil((layout.inodesEnd + shared.bytes.byteLength) / COMPOSEFS_BLOCK_SIZE);
  const dataBlocks = layout.nodes.reduce((sum, { blocks }) => sum + blocks, 0);
  const image = new Uint8Array((dataStart + dataBlocks) * COMPOSEFS_BLOCK_SIZE);

  const hasAcl = nodes.some(
    ({ xattrs }) => xattrs.has("system.posix_acl_access") || xattrs.has("system.posix_acl_default"),
  );
  const header = viewOf(image);
  header.setUint32(COMPOSEFS_HEADER.magic, COMPOSEFS_MAGIC, true);
  header.setUint32(COMPOSEFS_HEADER.version, COMPOSEFS_HEADER_VERSION, true);
  header.setUint32(COMPOSEFS_HEADER.flags, hasAcl ? COMPOSEFS_FLAG_HAS_ACL : 0, true);
  header.setUint32(COMPOSEFS_HEADER.composefsVersion, version, true);
  encodeSuperblock(image, layout, dataStart + dataBlocks);

  let block = dataStart;
  for (const place of layout.nodes) {
    const content = contentOf(place, layout);
    encodeNode(image, place, layout, content, block);
    image.set(content.subarray(0, place.blocks * COMPOSEFS_BLOCK_SIZE), block * COMPOSEFS_BLOCK_SIZE);
    block += place.blocks;
  }
  image.set(shared.bytes, layout.inodesEnd);
  return image;
}

function encodeSuperblock(image: Uint8Array, { nodes, time, inodesEnd }: ComposefsLayout, blocks: number): void {
  const [root] = nodes;
  encodeSuperblockFields(viewOf(image.subarray(SUPERBLOCK_OFFSET)), {
    blockSize: COMPOSEFS_BLOCK_SIZE,
    compat: FEATURES,
    rootNid: root === undefined ? 0 : nidOf(root),
    inodes: nodes.length,
    buildTime: time.mtime,
    buildTimeNsec: time.mtimeNsec,
    blocks,
    xattrBlock: Math.floor(inodesEnd / COMPOSEFS_BLOCK_SIZE),
  });
}

function encodeNode(
  image: Uint8Array,
  place: PlacedNode,
  { inodesEnd }: ComposefsLayout,
  content: Uint8Array,
  block: number,
): void {
  const { node, offset, headSize, xattrs, xattrSize, tailSize, blocks, isCompact, number } = place;
  const { mode, links, uid, gid, mtime, mtimeNsec } = node;
  encodeInodeFields(viewOf(image.subarray(offset)), {
    isCompact,
    layout: isMap(node) ? "chunk" : tailSize > 0 ? "inline" : "plain",
    xattrSize,
    mode,
    links,
    size: typeOf(node) === "directory" ? blocks * COMPOSEFS_BLOCK_SIZE + tailSize : node.sizeBytes,
    data: dataField(place, block),
    ino: number,
    uid,
    gid,
    mtime,
    mtimeNsec,
  });
  if (xattrs !== undefined) {
    // Ids count from the start of the block that the shared area starts in.
    const base = (inodesEnd % COMPOSEFS_BLOCK_SIZE) / XATTR_UNIT;
    const area = { ...xattrs, shared: xattrs.shared.map((id) => base + id) };
    image.set(encodeXattrArea(area), offset + headSize - xattrSize);
  }
  image.set(content.subarray(blocks * COMPOSEFS_BLOCK_SIZE), offset + headSize);
}

/** `i_u`: the first block, the device number, or how a map is cut. */
function dataField({ node, blocks }: PlacedNode, block: number): number {
  if (isMap(node)) return chunksOf(node.sizeBytes).bits - Math.log2(COMPOSEFS_BLOCK_SIZE);
  const type = typeOf(node);
  if (type === "char" || type === "block") return node.device;
  return blocks > 0 ? block : 0;
}

/** A file without data has a map in which every chunk is a hole. */
function isMap(node: Node): boolean {
  return typeOf(node) === "file" && node.sizeBytes > 0 && node.data === undefined;
}

/** What lies in the node's blocks and behind its inode. */
function contentOf({ node, tailSize, blocks }: PlacedNode, { placeOf }: ComposefsLayout): Uint8Array {
  if (typeOf(node) === "directory") {
    const names = node.children.map(({ name, node: child }) => {
      const place = placeOf.get(child);
      return { bytes: name, node: { nid: place === undefined ? 0 : nidOf(place), type: typeOf(child) } };
    });
    return encodeDirectory(names, COMPOSEFS_BLOCK_SIZE);
  }
  if (isMap(node)) return new Uint8Array(blocks * COMPOSEFS_BLOCK_SIZE + tailSize).fill(0xff);
  return node.data ?? new Uint8Array(0);
}

function nidOf({ offset }: PlacedNode): number {
  return offset / INODE_SLOT_SIZE;
}
