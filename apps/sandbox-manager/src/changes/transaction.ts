import { randomBytes } from "node:crypto";
import {
  closeSync,
  fsyncSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import * as z from "zod";
import { inDirectoryOf, inProject, type Place, projectFile } from "./steps.ts";

const journalSchema = z.object({
  kind: z.literal("sandbox-apply"),
  version: z.literal(1),
  /** the project */
  directory: z.string(),
  /** name of the directory in it that holds what comes and what has gone */
  staging: z.string().regex(/^\.leveret-apply-[0-9a-f]{12}$/),
  /** directories that are made, each after the one that it is in */
  made: z.array(z.string()),
  /** what is done, in order */
  steps: z.array(z.object({ path: z.string(), put: z.boolean() })),
});

type Journal = z.output<typeof journalSchema>;

/** What becomes of one path: a staged file takes its place, or it goes. */
export type Step = Journal["steps"][number];

/** Everything that is done to a project at once. */
export interface Transaction {
  readonly made: readonly string[];
  readonly steps: readonly Step[];
  /** writes what takes the place of a step's path as a new file */
  readonly stage: (step: Step, place: string) => void;
}

/**
 * Does all steps, or none: new files are written beside first, and what they replace is kept until the last one is in its
 * place. The journal says what to take back when this process is killed in between.
 *
 * @param journal - Path of the journal, in a directory that nobody but the user can write to.
 * @throws {SandboxError} `SANDBOX_PROJECT_FILE`; the project is what it was.
 */
export function runTransaction(directory: string, journal: string, { made, steps, stage }: Transaction): void {
  const staging = `.leveret-apply-${randomBytes(6).toString("hex")}`;
  const entry: Journal = { kind: "sandbox-apply", version: 1, directory, staging, made: [], steps: [] };
  inProject(directory, (root) => {
    writeJournal(journal, entry);
    try {
      atPath(staging, () => mkdirSync(`${root}/${staging}`, 0o700));
      for (const [index, step] of steps.entries()) {
        if (step.put) atPath(step.path, () => stage(step, `${root}/${staging}/new-${index}`));
      }
      writeJournal(journal, { ...entry, made: [...made], steps: [...steps] });
      for (const [index, step] of steps.entries()) commit(root, `${root}/${staging}`, index, step);
      // From here on there is nothing to take back.
      writeJournal(journal, entry);
    } catch (error) {
      takeBack(root, { ...entry, made: [...made], steps: [...steps] });
      unlinkSync(journal);
      throw error;
    }
    rmSync(`${root}/${staging}`, { recursive: true, force: true });
    unlinkSync(journal);
  });
}

/**
 * Takes back what was being done when the process that did it was killed.
 *
 * @returns Whether there was something.
 * @throws {SandboxError} `SANDBOX_PROJECT_FILE`.
 */
export function recoverTransaction(directory: string, journal: string): boolean {
  const entry = readJournal(journal);
  if (entry === undefined) return false;
  inProject(directory, (root) => takeBack(root, entry));
  unlinkSync(journal);
  return true;
}

function commit(root: Place, staging: string, index: number, { path, put }: Step): void {
  const old = `${staging}/old-${index}`;
  atPath(path, () =>
    inDirectoryOf(
      root,
      path,
      (parent, name) => {
        const place = `${parent}/${name}`;
        if (!put) {
          renameSync(place, old);
          return;
        }
        const stats = lstatSync(place, { throwIfNoEntry: false });
        if (stats?.isDirectory()) removeEmpty(place);
        else if (stats !== undefined) keep(place, old);
        renameSync(`${staging}/new-${index}`, place);
      },
      put ? makeMissing : undefined,
    ),
  );
  if (!put) removeEmptyAbove(root, path);
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

function takeBack(root: Place, { staging, steps, made }: Journal): void {
  const place = `${root}/${staging}`;
  // It is made before anything else is done: without it, this is another directory of the same name.
  if (!isThere(place)) return;
  for (const [index, step] of [...steps.entries()].reverse()) {
    const old = `${place}/old-${index}`;
    if (isThere(old)) {
      const restore = (parent: Place, name: string): void => {
        if (isDirectory(`${parent}/${name}`)) removeEmpty(`${parent}/${name}`);
        renameSync(old, `${parent}/${name}`);
      };
      atPath(step.path, () => inDirectoryOf(root, step.path, restore, makeMissing));
    } else if (step.put && !isThere(`${place}/new-${index}`)) {
      inDirectoryOf(root, step.path, (parent, name) => rmSync(`${parent}/${name}`, { force: true }));
    }
  }
  for (const path of [...made].reverse()) {
    try {
      inDirectoryOf(root, path, (parent, name) => rmdirSync(`${parent}/${name}`));
    } catch {
      // It was never made, or somebody has put something into it.
    }
  }
  rmSync(place, { recursive: true, force: true });
}

function makeMissing(place: string): void {
  if (!isThere(place)) mkdirSync(place);
}

/** Removes a directory in which there are at most directories. */
function removeEmpty(place: string): void {
  for (const name of readdirSync(place)) removeEmpty(`${place}/${name}`);
  rmdirSync(place);
}

function removeEmptyAbove(root: Place, path: string): void {
  const names = path.split("/");
  for (names.pop(); names.length > 0; names.pop()) {
    try {
      inDirectoryOf(root, names.join("/"), (parent, name) => rmdirSync(`${parent}/${name}`));
    } catch {
      // There is more in it, and so in all above it.
      return;
    }
  }
}

function isThere(place: string): boolean {
  return lstatSync(place, { throwIfNoEntry: false }) !== undefined;
}

function isDirectory(place: string): boolean {
  return lstatSync(place, { throwIfNoEntry: false })?.isDirectory() === true;
}

function atPath<T>(path: string, use: () => T): T {
  try {
    return use();
  } catch (cause) {
    throw (cause as NodeJS.ErrnoException).syscall === undefined ? cause : projectFile("change", path, cause);
  }
}

function writeJournal(path: string, entry: Journal): void {
  const beside = `${path}.partial`;
  const descriptor = openSync(beside, "w", 0o600);
  try {
    writeSync(descriptor, JSON.stringify(entry));
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  renameSync(beside, path);
}

function readJournal(path: string): Journal | undefined {
  try {
    return journalSchema.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
