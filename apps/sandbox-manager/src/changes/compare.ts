import {
  closeSync,
  constants,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  type Stats,
} from "node:fs";
import { SandboxError } from "../errors.ts";
import type { Change, ChangedDirectory } from "./tree.ts";

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;

/** What a path has on one side, as git would have it. */
export interface Version {
  /** a file, a program, or a symbolic link, whose target is the content */
  readonly mode: "100644" | "100755" | "120000";
  readonly content: Uint8Array;
}

/** A file that is not the same in the sandbox and in the project. */
export interface Difference {
  /** from the project's directory on */
  readonly path: string;
  /** what the project has; absent for what is new */
  readonly before?: Version | undefined;
  /** what the sandbox has; absent for what was removed */
  readonly after?: Version | undefined;
  /** when the project's own was last changed, in `milliseconds` since 1970 */
  readonly changedAt?: number | undefined;
}

/** All differences, and what has no place in a project. */
export interface Comparison {
  readonly differences: readonly Difference[];
  /** devices, pipes and sockets, and names that sandboxes do not see */
  readonly leftOut: readonly string[];
}

/**
 * Compares what a guest has changed with the project as it is now. Every step is taken from a directory that is open, by
 * one name, and no link is followed: another sandbox may be changing the same project.
 *
 * @param directory - The project.
 * @param isHidden - Names that guests neither see nor make, with one character per byte.
 * @throws {SandboxError} `SANDBOX_PROJECT_FILE`.
 */
export function compareChanges(
  changes: ChangedDirectory,
  directory: string,
  isHidden: (name: string) => boolean,
): Comparison {
  const differences: Difference[] = [];
  const leftOut: string[] = [];
  const hides = (name: string): boolean => isHidden(Buffer.from(name).toString("latin1"));

  function note(difference: Difference): void {
    const { before, after } = difference;
    if (before === undefined && after === undefined) return;
    if (before !== undefined && after !== undefined && isSame(before, after)) return;
    differences.push(difference);
  }

  function remove(path: string, host: HostEntry | undefined, except?: ReadonlyMap<string, unknown>): void {
    if (!host?.isDirectory) {
      note({ path, ...host?.read() });
      return;
    }
    host.within((at) => {
      for (const name of readdirSync(placeOf(at))) {
        if (except?.has(name) || hides(name)) continue;
        remove(`${path}/${name}`, entryOf(at, name, `${path}/${name}`));
      }
    });
  }

  function compare(path: string, change: Change, host: HostEntry | undefined): void {
    if (change.kind === "other") leftOut.push(path);
    else if (change.kind === "removed") remove(path, host);
    else if (change.kind === "directory") {
      if (host === undefined) descend(path, change, undefined);
      else if (host.isDirectory) {
        if (change.opaque) remove(path, host, change.entries);
        host.within((at) => descend(path, change, at));
      } else {
        remove(path, host);
        descend(path, change, undefined);
      }
    } else {
      if (host?.isDirectory) remove(path, host);
      note({ path, ...(host?.isDirectory ? {} : host?.read()), after: versionOf(change) });
    }
  }

  function descend(path: string, { entries }: ChangedDirectory, at: number | undefined): void {
    for (const [name, change] of entries) {
      const below = path === "" ? name : `${path}/${name}`;
      if (hides(name)) leftOut.push(below);
      else compare(below, change, at === undefined ? undefined : entryOf(at, name, below));
    }
  }

  within(directory, directory, (root) => descend("", changes, root));
  return { differences: differences.sort(byPath), leftOut: leftOut.sort() };
}

/** Something in the project. */
interface HostEntry {
  readonly isDirectory: boolean;
  /** what it has; no version for what is neither file nor link */
  readonly read: () => Pick<Difference, "before" | "changedAt">;
  /** opens it as a directory for as long as `use` runs */
  readonly within: (use: (descriptor: number) => void) => void;
}

function entryOf(directory: number, name: string, path: string): HostEntry | undefined {
  const place = `${placeOf(directory)}/${name}`;
  const stats = lstatSync(place, { throwIfNoEntry: false });
  if (stats === undefined) return undefined;
  return {
    isDirectory: stats.isDirectory(),
    read: () => ({ before: versionAt(place, stats, path), changedAt: stats.ctimeMs }),
    within: (use) => within(place, path, use),
  };
}

function versionAt(place: string, stats: Stats, path: string): Version | undefined {
  try {
    if (stats.isSymbolicLink()) return { mode: "120000", content: readlinkSync(place, { encoding: "buffer" }) };
    if (!stats.isFile()) return undefined;
    const descriptor = openSync(place, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    try {
      return { mode: fileMode((stats.mode & 0o100) !== 0), content: readFileSync(descriptor) };
    } finally {
      closeSync(descriptor);
    }
  } catch (cause) {
    throw unreadable(path, cause);
  }
}

function within(place: string, path: string, use: (descriptor: number) => void): void {
  let descriptor: number;
  try {
    descriptor = openSync(place, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  } catch (cause) {
    throw unreadable(path, cause);
  }
  try {
    use(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function unreadable(path: string, cause: unknown): SandboxError {
  const { code } = cause as NodeJS.ErrnoException;
  return new SandboxError("SANDBOX_PROJECT_FILE", `expected to read ${path} of the project, got ${code}`, {
    path,
    cause,
  });
}

function placeOf(descriptor: number): string {
  return `/proc/self/fd/${descriptor}`;
}

function isSame(one: Version, other: Version): boolean {
  return one.mode === other.mode && Buffer.compare(one.content, other.content) === 0;
}

function versionOf(change: Extract<Change, { kind: "file" | "symlink" }>): Version {
  if (change.kind === "symlink") return { mode: "120000", content: Buffer.from(change.target) };
  return { mode: fileMode(change.executable), content: change.content };
}

function fileMode(executable: boolean): "100644" | "100755" {
  return executable ? "100755" : "100644";
}

function byPath(one: Difference, other: Difference): number {
  if (one.path === other.path) return 0;
  return one.path < other.path ? -1 : 1;
}
