import {
  accessSync,
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  fsyncSync,
  lstatSync,
  openSync,
  readdirSync,
  type Stats,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { SandboxError } from "../errors.ts";
import type { Difference, Version } from "./compare.ts";
import type { Step } from "./journal.ts";
import { inDirectory, inDirectoryOf, inProject, type Place, projectFile } from "./steps.ts";
import { runTransaction } from "./transaction.ts";

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY, W_OK, X_OK } = constants;
/** Longest name of a file, in `bytes`. */
const MAX_NAME = 255;

/** When a project's file was last changed by us, by path, in `milliseconds` since 1970. */
export type AppliedTimes = Readonly<Record<string, number>>;

/**
 * Differences whose file the project itself has changed since the sandbox saw it.
 *
 * @param since - When the sandbox began, in `milliseconds` since 1970.
 * @param applied - What was brought back since then.
 */
export function conflictsAmong(
  differences: readonly Difference[],
  since: number,
  applied: AppliedTimes,
): readonly string[] {
  return differences
    .filter(({ path, changedAt }) => changedAt !== undefined && changedAt > since && applied[path] !== changedAt)
    .map(({ path }) => path);
}

/**
 * Makes a project what the sandbox has: all of it, or nothing. Directories that become empty go, too.
 *
 * @param directory - The project.
 * @param journal - Where it is noted what to take back if this process is killed; see {@link runTransaction}.
 * @returns The time that each file has now, by path; none for what has gone.
 * @throws {SandboxError} `SANDBOX_PROJECT_FILE`, `SANDBOX_CONFLICT`; nothing is done then.
 */
export function applyDifferences(
  directory: string,
  differences: readonly Difference[],
  journal: string,
): Map<string, number | undefined> {
  return inProject(directory, (root) => {
    const made = expectPossible(root, differences);
    const versions = new Map(differences.map(({ path, after }) => [path, after]));
    // What goes, goes first, the deepest of it before what it is in.
    const gone = differences.filter(({ after }) => after === undefined).reverse();
    const come = differences.filter(({ after }) => after !== undefined);
    const steps: Step[] = [...gone, ...come].map(({ path, after, seen }) => ({ path, put: after !== undefined, seen }));
    const stage = ({ path }: Step, place: string): void => {
      const version = versions.get(path);
      if (version !== undefined) write(place, version, known(root, path));
    };
    return runTransaction(directory, journal, { made, steps, stage });
  });
}

/**
 * Looks at everything that could be in the way before anything is done.
 *
 * @returns Directories that have to be made, each after the one that it is in.
 */
function expectPossible(root: Place, differences: readonly Difference[]): string[] {
  const gone = new Set(differences.filter(({ after }) => after === undefined).map(({ path }) => path));
  const made = new Set<string>();
  const { dev } = statSync(root);

  function walk(parent: Place, names: readonly string[], depth: number, after: Version | undefined): void {
    const path = names.slice(0, depth + 1).join("/");
    const name = names[depth] ?? "";
    const isLast = depth === names.length - 1;
    const stats = lstatSync(`${parent}/${name}`, { throwIfNoEntry: false });
    if (!isLast && stats?.isDirectory()) {
      inDirectory(parent, name, path, (place) => walk(place, names, depth + 1, after));
      return;
    }
    // From here on something is made, or goes.
    if (statSync(parent).dev !== dev) throw refused(path, "another file system");
    access(parent, path);
    if (isLast) {
      if (after === undefined && stats === undefined) throw refused(path, "ENOENT");
      if (stats?.isDirectory()) expectEmptied(parent, name, path);
      return;
    }
    if (stats !== undefined && !gone.has(path)) throw refused(path, "ENOTDIR");
    for (let end = depth + 1; end < names.length; end += 1) made.add(names.slice(0, end).join("/"));
  }

  /** A file may take the place of a directory if all that is in there goes. */
  function expectEmptied(parent: Place, name: string, path: string): void {
    inDirectory(parent, name, path, (place) => {
      access(place, path);
      for (const each of readdirSync(place)) {
        const below = `${path}/${each}`;
        if (lstatSync(`${place}/${each}`).isDirectory()) expectEmptied(place, each, below);
        else if (!gone.has(below)) throw refused(path, `a directory with ${below}, which stays`);
      }
    });
  }

  for (const { path, after } of differences) {
    const names = path.split("/");
    if (names.some((name) => Buffer.byteLength(name) > MAX_NAME)) throw refused(path, "ENAMETOOLONG");
    walk(root, names, 0, after);
  }
  return [...made];
}

function access(place: Place, path: string): void {
  try {
    accessSync(place, W_OK | X_OK);
  } catch (cause) {
    throw projectFile("change", path, cause);
  }
}

function refused(path: string, got: string): SandboxError {
  return new SandboxError("SANDBOX_PROJECT_FILE", `expected to change ${path} of the project, got ${got}`, { path });
}

/** What a project has at a path, if it has something. */
function known(root: Place, path: string): Stats | undefined {
  try {
    return inDirectoryOf(root, path, (parent, name) => lstatSync(`${parent}/${name}`, { throwIfNoEntry: false }));
  } catch {
    // What it is in is not there, or is no directory.
    return undefined;
  }
}

/** @param old - What it takes the place of: whoever might not read that may not read this. */
function write(path: string, version: Version, old: Stats | undefined): void {
  if (version.mode === "120000") {
    symlinkSync(Buffer.from(version.read()), path);
    return;
  }
  const descriptor = openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, old?.isFile() ? 0o600 : 0o666);
  try {
    writeFileSync(descriptor, version.read());
    const given = (old?.isFile() ? old.mode : fstatSync(descriptor).mode) & 0o666;
    // Whoever may read a program may run it.
    fchmodSync(descriptor, version.mode === "100755" ? given | ((given & 0o444) >> 2) : given);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
