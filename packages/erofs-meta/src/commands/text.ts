import type { FileType, Inode } from "../read/inode.ts";

const LETTERS: Readonly<Record<FileType, string>> = {
  file: "-",
  directory: "d",
  symlink: "l",
  char: "c",
  block: "b",
  fifo: "p",
  socket: "s",
};

/** `drwxr-xr-t`, as `ls -l` prints it. */
export function modeText(inode: Inode): string {
  const set = (bit: number, letter: string): string => ((inode.mode & bit) === 0 ? "-" : letter);
  const execute = (bit: number, special: number, letter: string): string => {
    if ((inode.mode & special) === 0) return set(bit, "x");
    return (inode.mode & bit) === 0 ? letter.toUpperCase() : letter;
  };
  return [
    LETTERS[inode.type],
    set(0o400, "r"),
    set(0o200, "w"),
    execute(0o100, 0o4000, "s"),
    set(0o040, "r"),
    set(0o020, "w"),
    execute(0o010, 0o2000, "s"),
    set(0o004, "r"),
    set(0o002, "w"),
    execute(0o001, 0o1000, "t"),
  ].join("");
}

/** `2026-01-31 12:00:00`, in UTC; the number itself where a date cannot hold it. */
export function timeText(seconds: bigint): string {
  const date = new Date(Number(seconds) * 1000);
  return Number.isNaN(date.getTime()) ? `${seconds}` : date.toISOString().slice(0, 19).replace("T", " ");
}

/** Size, or the device numbers where there is no size. */
export function sizeText(inode: Inode): string {
  return inode.device === undefined ? `${inode.sizeBytes}` : `${inode.device.major},${inode.device.minor}`;
}
