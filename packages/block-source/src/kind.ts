import type { Stats } from "node:fs";

/** What something that is no regular file is, for people. */
export function kindOf(stat: Stats): string {
  if (stat.isDirectory()) return "a directory";
  if (stat.isFIFO()) return "a FIFO";
  if (stat.isSocket()) return "a socket";
  if (stat.isBlockDevice()) return "a block device";
  return stat.isCharacterDevice() ? "a character device" : "something else";
}
