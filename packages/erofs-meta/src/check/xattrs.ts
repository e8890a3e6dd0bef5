import { XATTR_HEADER, XATTR_PREFIXES } from "../format/xattr.ts";
import { viewOf } from "../internal/bytes.ts";
import type { ErofsImage } from "../read/image.ts";
import { type Inode, inodeTail, isInMetabox } from "../read/inode.ts";
import { filterBit } from "../write/xattr-area.ts";
import type { ProblemList } from "./problems.ts";

/** Reads an inode's xattrs, and checks that each is there once and that the kernel finds it. */
export async function checkXattrs(
  image: ErofsImage,
  inode: Inode,
  hasFilter: boolean,
  path: string,
  problems: ProblemList,
): Promise<void> {
  const xattrs = await image.xattrs(inode);
  if (xattrs.length === 0) return;
  const start = inodeTail(inode) - inode.xattrSizeBytes;
  const bad = (message: string): void => problems.add({ code: "EROFS_CORRUPT", message, offset: start, path });
  const names = new Set<string>();
  for (const { name } of xattrs) {
    if (names.has(name)) bad(`expected each attribute once, got ${name} twice`);
    names.add(name);
    if (name.includes("\0")) bad("expected names of attributes without NUL, got one with it");
  }
  if (!hasFilter || isInMetabox(inode.nid)) return;
  const header = await image.source.read(start + XATTR_HEADER.nameFilter, 4);
  const filter = viewOf(header).getUint32(0, true);
  for (const name of names) {
    if ((filter & bitOf(name)) !== 0) bad(`expected a filter that lets ${name} be found, got 0x${filter.toString(16)}`);
  }
}

function bitOf(name: string): number {
  for (const [index, prefix] of XATTR_PREFIXES) {
    if (name.startsWith(prefix)) return filterBit({ index, suffix: Buffer.from(name.slice(prefix.length)) });
  }
  return 0;
}
