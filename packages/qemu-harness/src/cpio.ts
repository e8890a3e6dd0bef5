/** A regular file in an archive. */
export interface CpioFile {
  /** path without a leading slash; directories above it come by themselves */
  readonly path: string;
  readonly data: Uint8Array;
  /** whether it may be started as a program */
  readonly executable?: boolean | undefined;
}

const MODE_DIRECTORY = 0o040755;
const MODE_FILE = 0o100644;
const MODE_PROGRAM = 0o100755;
const TRAILER = "TRAILER!!!";

/**
 * Encodes files as a `newc` cpio archive, which the kernel unpacks over an initrd that precedes it.
 *
 * @param files - Files, owned by root.
 * @param epochSeconds - Time stamp of every entry.
 * @returns The archive, a multiple of 512 bytes long.
 * @see Linux `Documentation/driver-api/early-userspace/buffer-format.rst`
 */
export function encodeCpio(files: readonly CpioFile[], epochSeconds: number): Uint8Array {
  const directories = new Set<string>();
  for (const { path } of files) {
    const parts = path.split("/").slice(0, -1);
    for (const index of parts.keys()) directories.add(parts.slice(0, index + 1).join("/"));
  }
  const nothing = new Uint8Array();
  const entries = [
    ...[...directories].sort().map((path) => ({ path, mode: MODE_DIRECTORY, data: nothing })),
    ...[...files]
      .sort((a, b) => (a.path < b.path ? -1 : 1))
      .map((file) => ({ ...file, mode: file.executable === true ? MODE_PROGRAM : MODE_FILE })),
  ];
  const chunks = entries.map((entry, index) => encodeEntry({ ...entry, inode: index + 1, epochSeconds }));
  chunks.push(encodeEntry({ path: TRAILER, mode: 0, data: nothing, inode: 0, epochSeconds: 0 }));
  const archive = Buffer.concat(chunks);
  return new Uint8Array(Buffer.concat([archive, Buffer.alloc(padding(archive.length, 512))]));
}

interface Entry {
  readonly path: string;
  readonly mode: number;
  readonly data: Uint8Array;
  readonly inode: number;
  readonly epochSeconds: number;
}

function encodeEntry({ path, mode, data, inode, epochSeconds }: Entry): Buffer {
  const name = Buffer.from(`${path}\0`);
  const links = (mode & 0o170000) === 0o040000 ? 2 : 1;
  // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
  const fields = [inode, mode, 0, 0, links, epochSeconds, data.length, 0, 0, 0, 0, name.length, 0];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`);
  const start = Buffer.concat([header, name]);
  return Buffer.concat([start, Buffer.alloc(padding(start.length, 4)), data, Buffer.alloc(padding(data.length, 4))]);
}

function padding(length: number, alignment: number): number {
  return (alignment - (length % alignment)) % alignment;
}
