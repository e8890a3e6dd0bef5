import { DIRENT, DIRENT_SIZE, DIRENT_TYPES } from "../format/directory.ts";
import { type DirectoryEntry, decodeDirectoryBlock } from "../read/directory.ts";
import type { ErofsImage } from "../read/image.ts";
import type { Inode } from "../read/inode.ts";
import type { ProblemList } from "./problems.ts";

/** A name that leads somewhere. */
export interface NamedChild {
  readonly name: string;
  readonly nid: bigint;
  readonly type: (typeof DIRENT_TYPES)[number];
}

/**
 * Reads a directory block by block, so that one that is damaged does not hide the others, and checks that its names are
 * in order, each there once, with `.` and `..` leading where they should.
 */
export async function checkDirectory(
  image: ErofsImage,
  directory: Inode,
  parent: bigint,
  path: string,
  problems: ProblemList,
): Promise<NamedChild[]> {
  const children: NamedChild[] = [];
  const dots = new Map([
    [".", directory.nid],
    ["..", parent],
  ]);
  let before: DirectoryEntry | undefined;
  let isWhole = true;
  const bad = (message: string): void => problems.add({ code: "EROFS_CORRUPT", message, path });
  await problems.try(path, async () => {
    for await (const block of blocksOf(image, directory)) {
      const entries = await problems.try(path, async () => decodeDirectoryBlock(block.bytes, block.start));
      isWhole &&= entries !== undefined;
      for (const [index, entry] of (entries ?? []).entries()) {
        const { name, nid, type, nameBytes } = entry;
        const number = block.bytes[index * DIRENT_SIZE + DIRENT.fileType] ?? 0;
        if (number >= DIRENT_TYPES.length) bad(`expected a type of ${name} in 0..7, got ${number}`);
        if (before !== undefined && Buffer.compare(before.nameBytes, nameBytes) >= 0) {
          bad(`expected names in the order of their bytes, got ${name} behind ${before.name}`);
        }
        before = entry;
        const expected = dots.get(name);
        if (expected === undefined) {
          children.push({ name, nid, type });
          continue;
        }
        dots.delete(name);
        if (nid !== expected) bad(`expected ${name} to be node ${expected}, got node ${nid}`);
      }
    }
  });
  if (directory.lacksDot === true) dots.delete(".");
  if (isWhole) for (const name of dots.keys()) bad(`expected the name ${name}, got none`);
  return children;
}

/** Content comes in pieces of any size. */
async function* blocksOf(
  image: ErofsImage,
  directory: Inode,
): AsyncGenerator<{ readonly bytes: Uint8Array; readonly start: number }> {
  const { blockSize } = image.superblock;
  let rest: Uint8Array = new Uint8Array(0);
  let start = 0;
  for await (const piece of image.content(directory)) {
    const bytes = rest.byteLength === 0 ? piece : new Uint8Array(Buffer.concat([rest, piece]));
    const whole = bytes.byteLength - (bytes.byteLength % blockSize);
    for (let at = 0; at < whole; at += blockSize) {
      yield { bytes: bytes.subarray(at, at + blockSize), start };
      start += blockSize;
    }
    rest = bytes.subarray(whole);
  }
  if (rest.byteLength > 0) yield { bytes: rest, start };
}
