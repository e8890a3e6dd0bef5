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
import { inDirectory, inDirectoryOf, inProject, type Place, projectFile } from "./steps.ts";
import { stateOf } from "./transaction.ts";
import type { Change, ChangedDirectory } from "./tree.ts";

const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;

/** What a path has on one side, as git would have it. */
export interface Version {
  /** a file, a program, or a symbolic link, whose target is the content */
  readonly mode: "100644" | "100755" | "120000";
  /** length of the content */
  readonly sizeBytes: number;
  /** the content; the project's is read only now. @throws {SandboxError} `SANDBOX_PROJECT_FILE` */
  readonly read: () => Uint8Array;
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
  /** what tells this state of the project's own from another one */
  readonly seen?: string | undefined;
}

/** All differences, and what has no place in a project. */
export interface Comparison {
  readonly differences: readonly Difference[];
  /** devices, pipes and sockets, names that sandboxes do not see, and heavy directories */
  readonly leftOut: readonly string[];
}

/**
 * Compares what a guest has changed with the project as it is now.
 *
 * @param directory - The project.
 * @param isHidden - Names that guests neither see nor make, with one character per byte.
 * @param isHeavy - Names of directories that stay as they are on either side.
 * @throws {SandboxError} `SANDBOX_PROJECT_FILE`.
 */
export function compareChanges(
  changes: ChangedDirectory,
  directory: string,
  isHidden: (name: string) => boolean,
  isHeavy: (name: string) => boolean = () => false,
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
      note({ path, ...host?.facts });
      return;
    }
    host.within((at) => {
      for (const name of readdirSync(at)) {
        if (except?.has(name) || hides(name)) continue;
        if (isHeavy(name)) {
          leftOut.push(`${path}/${name}`);
          continue;
        }
        remove(`${path}/${name}`, entryOf(directory, at, name, `${path}/${name}`));
      }
    });
  }

  /** @param hidden - Whether it is in a directory that hides what the project has: it does so as well. */
  function compare(path: string, change: Change, host: HostEntry | undefined, hidden: boolean): void {
    if (change.kind === "other") leftOut.push(path);
    else if (change.kind === "removed") remove(path, host);
    else if (change.kind === "directory") {
      const hides = hidden || change.opaque;
      if (host === undefined) descend(path, change, undefined, hides);
      else if (host.isDirectory) {
        if (hides) remove(path, host, change.entries);
        host.within((at) => descend(path, change, at, hides));
      } else {
        remove(path, host);
        descend(path, change, undefined, hides);
      }
    } else {
      if (host?.isDirectory) remove(path, host);
      note({ path, ...(host?.isDirectory ? {} : host?.facts), after: changedTo(change) });
    }
  }

  function descend(path: string, { entries }: ChangedDirectory, at: Place | undefined, hidden: boolean): void {
    for (const [name, change] of entries) {
      const below = path === "" ? name : `${path}/${name}`;
      const host = at === undefined ? undefined : entryOf(directory, at, name, below);
      const isDirectory = change.kind === "directory" || change.kind === "removed" || host?.isDirectory;
      if (hides(name) || (isDirectory && isHeavy(name))) leftOut.push(below);
      else compare(below, change, host, hidden);
    }
  }

  inProject(directory, (root) => descend("", changes, root, false));
  return { differences: differences.sort(byPath), leftOut: leftOut.sort() };
}

/** Something in the project. */
interface HostEntry {
  readonly isDirectory: boolean;
  /** what it has; no version for what is neither file nor link */
  readonly facts: Pick<Difference, "before" | "changedAt" | "seen">;
  /** opens it as a directory for as long as `use` runs */
  readonly within: (use: (place: Place) => void) => void;
}

function entryOf(project: string, parent: Place, name: string, path: string): HostEntry | undefined {
  const stats = statsOf(`${parent}/${name}`, path);
  if (stats === undefined) return undefined;
  return {
    isDirectory: stats.isDirectory(),
    facts: { before: versionOf(project, path, stats), changedAt: stats.ctimeMs, seen: stateOf(stats) },
    within: (use) => inDirectory(parent, name, path, use),
  };
}

function statsOf(place: string, path: string): Stats | undefined {
  try {
    return lstatSync(place, { throwIfNoEntry: false });
  } catch (cause) {
    throw projectFile("read", path, cause);
  }
}

function versionOf(project: string, path: string, stats: Stats): Version | undefined {
  const read = (): Uint8Array => inProject(project, (root) => inDirectoryOf(root, path, readAt(path)));
  if (stats.isSymbolicLink()) return { mode: "120000", sizeBytes: stats.size, read };
  if (!stats.isFile()) return undefined;
  return { mode: fileMode((stats.mode & 0o100) !== 0), sizeBytes: stats.size, read };
}

function readAt(path: string): (parent: Place, name: string) => Uint8Array {
  return (parent, name) => {
    const place = `${parent}/${name}`;
    try {
      if (lstatSync(place).isSymbolicLink()) return readlinkSync(place, { encoding: "buffer" });
      const descriptor = openSync(place, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
      try {
        return readFileSync(descriptor);
      } finally {
        closeSync(descriptor);
      }
    } catch (cause) {
      throw projectFile("read", path, cause);
    }
  };
}

function isSame(one: Version, other: Version): boolean {
  if (one.mode !== other.mode || one.sizeBytes !== other.sizeBytes) return false;
  return Buffer.compare(one.read(), other.read()) === 0;
}

function changedTo(change: Extract<Change, { kind: "file" | "symlink" }>): Version {
  const isLink = change.kind === "symlink";
  const content = isLink ? Buffer.from(change.target) : change.content;
  const mode = isLink ? "120000" : fileMode(change.executable);
  return { mode, sizeBytes: content.byteLength, read: () => content };
}

function fileMode(executable: boolean): "100644" | "100755" {
  return executable ? "100755" : "100644";
}

function byPath(one: Difference, other: Difference): number {
  if (one.path === other.path) return 0;
  return one.path < other.path ? -1 : 1;
}
