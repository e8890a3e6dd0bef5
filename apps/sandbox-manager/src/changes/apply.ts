import { randomBytes } from "node:crypto";
import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
  rmdirSync,
  type Stats,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { SandboxError } from "../errors.ts";
import type { Difference, Version } from "./compare.ts";

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_RDONLY, O_WRONLY } = constants;

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
 * Makes a project what the sandbox has. Each file is replaced at once; what is gone goes first, with the directories that
 * are empty then. Every step is taken from a directory that is open, by one name, and no link is followed.
 *
 * @param directory - The project.
 * @param onApplied - Told of each path when it is done, with the time that its file has now.
 * @throws {SandboxError} `SANDBOX_PROJECT_FILE`; what was told until then is done.
 */
export function applyDifferences(
  directory: string,
  differences: readonly Difference[],
  onApplied: (path: string, changedAt: number | undefined) => void,
): void {
  const root = openSync(directory, O_RDONLY | O_DIRECTORY);
  try {
    // The deepest first, so that a directory is empty when its turn comes.
    for (const { path, before, after } of [...differences].reverse()) {
      if (before !== undefined && (after === undefined || isLink(before) !== isLink(after))) remove(root, path);
      if (after === undefined) onApplied(path, undefined);
    }
    for (const { path, after } of differences) if (after !== undefined) onApplied(path, put(root, path, after));
  } finally {
    closeSync(root);
  }
}

function put(root: number, path: string, version: Version): number {
  return inDirectoryOf(root, path, true, (parent, name) => {
    const place = `${parent}/${name}`;
    const beside = `${parent}/.leveret-${randomBytes(6).toString("hex")}`;
    try {
      if (isLink(version)) symlinkSync(Buffer.from(version.content), beside);
      else writeWhole(beside, version, lstatSync(place, { throwIfNoEntry: false }));
      renameSync(beside, place);
    } catch (error) {
      removeIfThere(beside);
      throw error;
    }
    return lstatSync(place).ctimeMs;
  });
}

/** @param old - What it takes the place of: whoever might not read that may not read this. */
function writeWhole(path: string, { mode, content }: Version, old: Stats | undefined): void {
  const descriptor = openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, old?.isFile() ? 0o600 : 0o666);
  try {
    writeFileSync(descriptor, content);
    const given = (old?.isFile() ? old.mode : fstatSync(descriptor).mode) & 0o666;
    // Whoever may read a program may run it.
    fchmodSync(descriptor, mode === "100755" ? given | ((given & 0o444) >> 2) : given);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function remove(root: number, path: string): void {
  inDirectoryOf(root, path, false, (parent, name) => removeIfThere(`${parent}/${name}`));
  const names = path.split("/");
  for (names.pop(); names.length > 0; names.pop()) {
    try {
      inDirectoryOf(root, names.join("/"), false, (parent, name) => rmdirSync(`${parent}/${name}`));
    } catch {
      // There is more in it, and so in all above it.
      return;
    }
  }
}

/** Does something in the directory that a path is in, which is given as a path of its own. */
function inDirectoryOf<T>(root: number, path: string, make: boolean, use: (parent: string, name: string) => T): T {
  const names = path.split("/");
  const name = names.pop() ?? "";
  const open: number[] = [];
  let parent = `/proc/self/fd/${root}`;
  try {
    for (const each of names) {
      if (make && lstatSync(`${parent}/${each}`, { throwIfNoEntry: false }) === undefined)
        mkdirSync(`${parent}/${each}`);
      const descriptor = openSync(`${parent}/${each}`, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      open.push(descriptor);
      parent = `/proc/self/fd/${descriptor}`;
    }
    return use(parent, name);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new SandboxError("SANDBOX_PROJECT_FILE", `expected to change ${path} of the project, got ${code}`, {
      path,
      cause,
    });
  } finally {
    for (const descriptor of open) closeSync(descriptor);
  }
}

function removeIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

function isLink({ mode }: Version): boolean {
  return mode === "120000";
}
