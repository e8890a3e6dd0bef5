import { DIRENT, DIRENT_SIZE, DIRENT_TYPES } from "../format/directory.ts";
import { viewOf } from "../internal/bytes.ts";
import type { Node } from "./node.ts";

/** A name in a directory. */
export interface NamedNode {
  readonly bytes: Uint8Array;
  readonly node: Pick<Node, "nid" | "type">;
}

/** Names of a directory that fill one block. */
interface Group {
  readonly first: number;
  readonly count: number;
  /** length of entries and names in `bytes` */
  readonly size: number;
}

/** Divides a directory's names into blocks; every group but the last takes a block. */
export function groupNames(names: readonly Pick<NamedNode, "bytes">[], blockSize: number): Group[] {
  const groups: Group[] = [];
  let first = 0;
  let size = 0;
  for (const [index, { bytes }] of names.entries()) {
    const more = DIRENT_SIZE + bytes.byteLength;
    if (size + more > blockSize) {
      groups.push({ first, count: index - first, size });
      first = index;
      size = 0;
    }
    size += more;
  }
  groups.push({ first, count: names.length - first, size });
  return groups;
}

/** Length of a directory's content in `bytes`. */
function directorySize(groups: readonly Group[], blockSize: number): number {
  return (groups.length - 1) * blockSize + (groups.at(-1)?.size ?? 0);
}

/** Encodes a directory's content with the node numbers its nodes have now; its size does not depend on them. */
export function encodeDirectory(names: readonly NamedNode[], blockSize: number): Uint8Array {
  const groups = groupNames(names, blockSize);
  const content = new Uint8Array(directorySize(groups, blockSize));
  const view = viewOf(content);
  for (const [index, group] of groups.entries()) encodeBlock(content, view, index * blockSize, names, group);
  return content;
}

function encodeBlock(
  content: Uint8Array,
  view: DataView,
  start: number,
  names: readonly NamedNode[],
  { first, count }: Group,
): void {
  let nameOffset = count * DIRENT_SIZE;
  for (const [index, { bytes, node }] of names.slice(first, first + count).entries()) {
    const at = start + index * DIRENT_SIZE;
    view.setBigUint64(at + DIRENT.nid, BigInt(node.nid), true);
    view.setUint16(at + DIRENT.nameOffset, nameOffset, true);
    view.setUint8(at + DIRENT.fileType, DIRENT_TYPES.indexOf(node.type));
    content.set(bytes, start + nameOffset);
    nameOffset += bytes.byteLength;
  }
}
