import { randomBytes } from "node:crypto";
import { linkSync, lstatSync, mkdirSync, readdirSync, renameSync, rmdirSync, type Stats, unlinkSync } from "node:fs";
import { SandboxError } from "../errors.ts";
import { type Journal, readJournal, type Step, setJournalAside, writeJournal } from "./journal.ts";
import { inDirectory, inDirectoryOf, inProject, type Place, projectFile } from "./steps.ts";

/** Everything that is done to a project at once. */
export interface Transaction {
  /** directories that are made, each after the one that it is in */
  readonly made: readonly string[];
  readonly steps: readonly Step[];
  /** writes what takes the place of a step's path as a new file */
  readonly stage: (step: Step, place: string) => void;
}

/** What tells one state of a file from another; undefined for nothing, and for a directory. */
export function stateOf(stats: Stats | undefined): string | undefined {
  if (stats === undefined || stats.isDirectory()) return undefined;
  // Not the time of its last change of any kind: that is also changed by other names that it has.
  return `${stats.ino} ${stats.size} ${stats.mtimeMs} ${stats.mode}`;
}

/**
 * Does all steps, or none: new files are written beside first, and what they replace is kept until the last one is in its
 * place. The journal says what to take back when this process is killed in between.
 *
 * @param journal - Path of the journal, in a directory that nobody but the user can write to.
 * @returns The time of last change that each file has now, by path; none for what has gone.
 * @throws {SandboxError} `SANDBOX_PROJECT_FILE`, `SANDBOX_CONFLICT` when somebody changes the same file meanwhile; the
 *   project is what it was.
 */
export function runTransaction(
  directory: string,
  journal: string,
  { made, steps, stage }: Transaction,
): Map<string, number | undefined> {
  return inProject(directory, (root) => {
    const staging = `.leveret-apply-${randomBytes(6).toString("hex")}`;
    const { dev, ino } = lstatSync(`${root}/.`);
    let entry: Journal = {
      kind: "sandbox-apply",
      version: 1,
      directory,
      dev,
      ino,
      staging,
      done: false,
      made: [],
      steps: [],
    };
    writeJournal(journal, entry);
    const times = new Map<string, number | undefined>();
    try {
      atPath(staging, () => mkdirSync(`${root}/${staging}`, 0o700));
      inDirectory(root, staging, staging, (place) => {
        const staged = steps.map((step, index) => {
          if (!step.put) return step;
          atPath(step.path, () => stage(step, `${place}/new-${index}`));
          return { ...step, staged: stateOf(lstatSync(`${place}/new-${index}`)) };
        });
        entry = { ...entry, made: [...made], steps: staged };
        writeJournal(journal, entry);
        for (const [index, step] of steps.entries()) times.set(step.path, commit(root, place, index, step));
      });
      // From here on there is nothing to take back.
      writeJournal(journal, { ...entry, done: true, made: [], steps: [] });
    } catch (error) {
      const notes = takeBack(root, entry);
      unlinkSync(journal);
      throw withNotes(error, notes);
    }
    for (const { path, put } of steps) if (!put) removeEmptyAbove(root, path);
    removeStaging(root, staging);
    unlinkSync(journal);
    return times;
  });
}

/**
 * Takes back what was being done when the process that did it was killed. What somebody has changed since then stays, with
 * what was there before beside it.
 *
 * @returns What a person should know of it; nothing when nothing was cut off.
 * @throws {SandboxError} `SANDBOX_PROJECT_FILE`.
 */
export function recoverTransaction(directory: string, journal: string): string[] {
  const entry = readJournal(journal);
  if (entry === undefined) return [];
  return inProject(directory, (root) => {
    const { dev, ino } = lstatSync(`${root}/.`);
    if (dev !== entry.dev || ino !== entry.ino) {
      const aside = setJournalAside(journal);
      return [
        `another directory was at ${directory} when an apply to it was cut off; ${aside} says how far it had come`,
      ];
    }
    const notes = takeBack(root, entry);
    unlinkSync(journal);
    if (entry.done) return ["an apply was cut off when all was done; only directories that it emptied may be left"];
    return ["an apply was cut off; what it had done is taken back", ...notes];
  });
}

/** An error, and what could not be made as it was before. */
function withNotes(error: unknown, notes: readonly string[]): unknown {
  if (notes.length === 0 || !(error instanceof SandboxError)) return error;
  return new SandboxError(error.code, error.message, { path: error.path, hint: notes.join("; "), cause: error });
}

/** @returns When the file was last changed, which is now; nothing for what has gone. */
function commit(root: Place, staging: Place, index: number, { path, put, seen }: Step): number | undefined {
  const old = `${staging}/old-${index}`;
  const use = (parent: Place, name: string): number | undefined => {
    const place = `${parent}/${name}`;
    const stats = statsOf(place);
    if (stateOf(stats) !== seen || (!put && stats === undefined)) {
      throw new SandboxError("SANDBOX_CONFLICT", `expected ${path} to stay as it was, somebody has changed it`, {
        path,
        hint: "nothing was done; do it again",
      });
    }
    if (!put) {
      if (stats?.isDirectory()) throw projectFile("change", path, { code: "a directory" });
      renameSync(place, old);
      return undefined;
    }
    if (stats?.isDirectory()) {
      expectNoFiles(parent, name, path);
      renameSync(place, old);
    } else if (stats !== undefined) keep(place, old);
    renameSync(`${staging}/new-${index}`, place);
    return lstatSync(place).ctimeMs;
  };
  return atPath(path, () => inDirectoryOf(root, path, use, put ? makeMissing : undefined));
}

/** Keeps a file under another name too, so that it is there until another one takes its place. */
function keep(place: string, old: string): void {
  try {
    linkSync(place, old);
  } catch {
    // Not every file system has several names for a file.
    renameSync(place, old);
  }
}

/** @returns What could not be what it was, because somebody has changed it. */
function takeBack(root: Place, { staging, steps, made }: Journal): string[] {
  const notes: string[] = [];
  // It is made before anything else is done.
  if (statsOf(`${root}/${staging}`) === undefined) return notes;
  inDirectory(root, staging, staging, (place) => {
    for (const [index, step] of [...steps.entries()].reverse()) {
      const [old, fresh] = [`${place}/old-${index}`, `${place}/new-${index}`];
      // What is in the project goes back to where it came from first: that is how the next one knows, if this is cut off.
      if (step.put && !isThere(fresh)) withdraw(root, step, fresh, made);
      if (isThere(old)) notes.push(...restore(root, step.path, old));
    }
  });
  for (const path of [...made].reverse()) removeDirectory(root, path);
  removeStaging(root, staging);
  return notes;
}

/** Takes a file out of the project again, if it still is the one that was put there. */
function withdraw(root: Place, { path, staged }: Step, fresh: string, made: readonly string[]): void {
  const use = (parent: Place, name: string): void => {
    if (staged !== undefined && stateOf(statsOf(`${parent}/${name}`)) === staged)
      renameSync(`${parent}/${name}`, fresh);
  };
  try {
    inDirectoryOf(root, path, use);
  } catch (error) {
    // Somebody has removed what it is in.
    if (!(error instanceof SandboxError)) throw error;
  }
  // A directory that was made may be where a file was before.
  for (const directory of [...made].reverse()) if (path.startsWith(`${directory}/`)) removeDirectory(root, directory);
}

/** Puts what was there before back, beside what is there now if that is somebody else's. */
function restore(root: Place, path: string, old: string): string[] {
  const use = (parent: Place, name: string): string[] => {
    const place = `${parent}/${name}`;
    const [now, before] = [statsOf(place), lstatSync(old)];
    if (now === undefined) renameSync(old, place);
    // Of two names of one file, one goes with what is removed at the end.
    if (now === undefined || (now.ino === before.ino && now.dev === before.dev)) return [];
    const beside = `${name}.before-apply-${randomBytes(4).toString("hex")}`;
    renameSync(old, `${parent}/${beside}`);
    return [`${path} was changed since then and stays; what it was before is beside it: ${beside}`];
  };
  return atPath(path, () => inDirectoryOf(root, path, use, makeMissing));
}

function makeMissing(place: string): void {
  if (!isThere(place)) mkdirSync(place);
}

/** A directory goes only if there is nothing but directories in it. */
function expectNoFiles(parent: Place, name: string, path: string): void {
  inDirectory(parent, name, path, (place) => {
    for (const each of readdirSync(place)) {
      if (!statsOf(`${place}/${each}`)?.isDirectory()) throw projectFile("change", path, { code: "ENOTEMPTY" });
      expectNoFiles(place, each, `${path}/${each}`);
    }
  });
}

/** Removes a directory if it is empty. */
function removeDirectory(root: Place, path: string): boolean {
  try {
    inDirectoryOf(root, path, (parent, name) => rmdirSync(`${parent}/${name}`));
    return true;
  } catch {
    // It was never made, or there is something in it.
    return false;
  }
}

function removeEmptyAbove(root: Place, path: string): void {
  const names = path.split("/");
  for (names.pop(); names.length > 0; names.pop()) if (!removeDirectory(root, names.join("/"))) return;
}

/** Removes the files of a staging directory, and it; a directory in there into which somebody has put something stays. */
function removeStaging(root: Place, staging: string): void {
  if (statsOf(`${root}/${staging}`) === undefined) return;
  inDirectory(root, staging, staging, (place) => {
    for (const name of readdirSync(place)) {
      if (statsOf(`${place}/${name}`)?.isDirectory()) removeEmptyTree(place, name);
      else unlinkSync(`${place}/${name}`);
    }
  });
  removeDirectory(root, staging);
}

function removeEmptyTree(parent: Place, name: string): void {
  inDirectory(parent, name, name, (place) => {
    for (const each of readdirSync(place)) {
      if (statsOf(`${place}/${each}`)?.isDirectory()) removeEmptyTree(place, each);
    }
  });
  removeDirectory(parent, name);
}

function statsOf(place: string): Stats | undefined {
  return lstatSync(place, { throwIfNoEntry: false });
}

function isThere(place: string): boolean {
  return statsOf(place) !== undefined;
}

function atPath<T>(path: string, use: () => T): T {
  try {
    return use();
  } catch (cause) {
    throw (cause as NodeJS.ErrnoException).syscall === undefined ? cause : projectFile("change", path, cause);
  }
}
