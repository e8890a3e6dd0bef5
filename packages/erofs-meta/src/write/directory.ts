import { DIRENT, DIRENT_SIZE, DIRENT_TYPES } from "../format/directory.ts";
import { viewOf } from "../internal/bytes.ts";
import type { Node } from "./node.ts";

/** A name in a directory. */
export interface NamedNode {
  readonly bytes: Uint8Array;
  readonly node: Node;
}

/** Encodes a directory's content with the node numbers its nodes have now; its size does not depend on them. */
export function encodeDirectory(names: readonly NamedNode[], blockSize: number): Uint8Array {
  const groups: { first: number; count: number; size: number }[] = [];
  let group = { first: 0, count: 0, size: 0 };
  for (const [index, { bytes }] of names.entries()) {
    const size = DIRENT_SIZE + bytes.byteLength;
    if (group.size + size > blockSize) {
      groups.push(group);
      group = { first: index, count: 0, size: 0 };
    }
    group.count += 1;
    group.size += size;
  }
  const content = new Uint8Array(groups.length * blockSize + group.size);
  for (const [index, { first, count }] of [...groups, group].entries()) {
    encodeBlock(content.subarray(index * blockSize, (index + 1) * blockSize), names.slice(first, first + count));
  }
  return content;
}

function encodeBlock(block: Uint8Array, names: readonly NamedNode[]): void {
  const view = viewOf(block);
  let nameOffset = names.length * DIRENT_SIZE;
  for (const [index, { bytes, node }] of names.entries()) {
    const at = index * DIRENT_SIZE;
    view.setBigUint64(at + DIRENT.nid, BigInt(node.nid), true);
    view.setUint16(at + DIRENT.nameOffset, nameOffset, true);
    view.setUint8(at + DIRENT.fileType, DIRENT_TYPES.indexOf(node.type));
    block.set(bytes, nameOffset);
    nameOffset += bytes.byteLength;
  }
}
