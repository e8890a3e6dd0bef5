import { readTar, type TreeEntry } from "@leveret/erofs-meta";
import { SandboxError } from "../errors.ts";

/** Most bytes of changed files that are read out of a sandbox at once. */
export const DEFAULT_MAX_CHANGED_BYTES: number = 256 * 1024 * 1024;
/** Most changed files and directories. */
export const DEFAULT_MAX_CHANGES = 200_000;
/** Directories in each other. */
const MAX_DEPTH = 200;

/** What the guest has put over something of the project. */
export type Change =
  | ChangedDirectory
  | ChangedFile
  | ChangedLink
  | { readonly kind: "removed" }
  /** what a project cannot have, or whose content was left where it is */
  | { readonly kind: "other" };

/** A directory that the guest has changed something in. */
export interface ChangedDirectory {
  readonly kind: "directory";
  /** whether it hides what the project has in its place */
  opaque: boolean;
  readonly entries: Map<string, Change>;
}

interface ChangedFile {
  readonly kind: "file";
  readonly executable: boolean;
  readonly content: Uint8Array;
}

interface ChangedLink {
  readonly kind: "symlink";
  readonly target: string;
}

/** The attribute with which overlayfs marks a directory that hides the one below. */
const OPAQUE = "trusted.overlay.opaque";

/**
 * Reads the upper layer of an overlay out of a tar archive. Nothing in there is taken on trust: it was written by the
 * guest.
 *
 * @returns The layer's root.
 * @throws {SandboxError} `SANDBOX_CHANGES_INVALID` for what is no such archive, has names that lead elsewhere, or is
 *   larger than {@link DEFAULT_MAX_CHANGED_BYTES} and {@link DEFAULT_MAX_CHANGES}.
 * @see Linux, `Documentation/filesystems/overlayfs.rst`, "whiteouts and opaque directories"
 */
export async function readChanges(archive: AsyncIterable<Uint8Array>): Promise<ChangedDirectory> {
  const root: ChangedDirectory = { kind: "directory", opaque: false, entries: new Map() };
  const room = new Room();
  try {
    for await (const entry of readTar(archive)) await add(root, entry, room);
  } catch (cause) {
    if (cause instanceof SandboxError || (cause as Error).name === "AbortError") throw cause;
    throw invalid(`expected an archive of changes, got: ${(cause as Error).message}`, cause);
  }
  return root;
}

/** What changes may take of this process's memory. */
class Room {
  #entries = DEFAULT_MAX_CHANGES;
  #bytes = DEFAULT_MAX_CHANGED_BYTES;

  takeEntry(): void {
    this.#entries -= 1;
    if (this.#entries < 0) throw invalid(`expected at most ${DEFAULT_MAX_CHANGES} changes, got more`);
  }

  takeBytes(count: number, path: string): void {
    this.#bytes -= count;
    if (this.#bytes >= 0) return;
    const message = `expected changes of at most ${DEFAULT_MAX_CHANGED_BYTES} bytes in all, got more at ${path}`;
    throw invalid(message, undefined, { hint: "name the files and directories that are wanted" });
  }
}

async function add(root: ChangedDirectory, entry: TreeEntry, room: Room): Promise<void> {
  room.takeEntry();
  const names = namesOf(entry.path);
  const name = names.pop();
  if (name === undefined) return;
  room.takeBytes(Buffer.byteLength(name), entry.path);
  const parent = directoryAt(root, names, room);
  const known = parent.entries.get(name);
  const change = await changeOf(root, entry, room);
  if (change.kind === "directory" && known?.kind === "directory") known.opaque = change.opaque;
  else parent.entries.set(name, change);
}

async function changeOf(root: ChangedDirectory, entry: TreeEntry, room: Room): Promise<Change> {
  switch (entry.type) {
    case "directory":
      return { kind: "directory", opaque: isOpaque(entry.xattrs?.[OPAQUE]), entries: new Map() };
    case "file":
      return { kind: "file", executable: ((entry.mode ?? 0) & 0o100) !== 0, content: await contentOf(entry, room) };
    case "symlink":
      room.takeBytes(Buffer.byteLength(entry.target), entry.path);
      return { kind: "symlink", target: entry.target };
    case "link":
      return linked(root, entry, room);
    case "char":
      return { kind: entry.device.major === 0 && entry.device.minor === 0 ? "removed" : "other" };
    default:
      return { kind: "other" };
  }
}

function isOpaque(value: Uint8Array | undefined): boolean {
  return value?.length === 1 && value[0] === "y".charCodeAt(0);
}

async function contentOf({ path, content }: Extract<TreeEntry, { type: "file" }>, room: Room): Promise<Uint8Array> {
  room.takeBytes(content instanceof Uint8Array ? content.byteLength : content.sizeBytes, path);
  if (content instanceof Uint8Array) return content;
  const pieces: Uint8Array[] = [];
  for await (const piece of content.read()) pieces.push(Uint8Array.from(piece));
  return pieces.length === 1 && pieces[0] !== undefined ? pieces[0] : Buffer.concat(pieces);
}

/** What another name of a file has, which an archive has before it. */
function linked(root: ChangedDirectory, { path, target }: Extract<TreeEntry, { type: "link" }>, room: Room): Change {
  const names = namesOf(target);
  const name = names.pop() ?? "";
  const change = directoryAt(root, names, room).entries.get(name);
  if (change === undefined || change.kind === "directory") throw invalid(`expected a file at ${target}, got none`);
  // It is one file inside, and two in a project.
  if (change.kind === "file") room.takeBytes(change.content.byteLength, path);
  return change;
}

function directoryAt(root: ChangedDirectory, names: readonly string[], room: Room): ChangedDirectory {
  let at = root;
  for (const name of names) {
    let next = at.entries.get(name);
    if (next === undefined) {
      room.takeEntry();
      room.takeBytes(Buffer.byteLength(name), names.join("/"));
      next = { kind: "directory", opaque: false, entries: new Map() };
      at.entries.set(name, next);
    }
    if (next.kind !== "directory") throw invalid(`expected a directory at ${names.join("/")}, got a ${next.kind}`);
    at = next;
  }
  return at;
}

function namesOf(path: string): string[] {
  const names = path.split("/").filter((name) => name !== "" && name !== ".");
  if (names.includes("..") || path.includes("\0"))
    throw invalid(`expected a path inside of the workspace, got ${path}`);
  if (names.length > MAX_DEPTH) throw invalid(`expected at most ${MAX_DEPTH} directories in each other, got more`);
  return names;
}

function invalid(message: string, cause?: unknown, details: { readonly hint?: string } = {}): SandboxError {
  return new SandboxError("SANDBOX_CHANGES_INVALID", message, { cause, ...details });
}
