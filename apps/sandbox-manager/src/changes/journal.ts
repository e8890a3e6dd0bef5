import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import * as z from "zod";
import { SandboxError } from "../errors.ts";

const journalSchema = z.object({
  kind: z.literal("sandbox-apply"),
  version: z.literal(1),
  /** the project, and what tells it from another one at its path */
  directory: z.string(),
  dev: z.number(),
  ino: z.number(),
  /** name of the directory in it that holds what comes and what has gone */
  staging: z.string().regex(/^\.leveret-apply-[0-9a-f]{12}$/),
  /** whether everything is done but for cleaning up */
  done: z.boolean(),
  /** directories that are made, each after the one that it is in */
  made: z.array(z.string()),
  /** what is done, in order */
  steps: z.array(
    z.object({
      path: z.string(),
      /** whether a new file takes its place; without one it goes */
      put: z.boolean(),
      /** state of the file that is there before, if one is */
      seen: z.string().optional(),
      /** state of the new file */
      staged: z.string().optional(),
    }),
  ),
});

/** What is being done to a project. */
export type Journal = z.output<typeof journalSchema>;

/** What becomes of one path. */
export type Step = Journal["steps"][number];

/** Puts a journal in the place of the one before, at once and on the disk. */
export function writeJournal(path: string, entry: Journal): void {
  const beside = `${path}.partial`;
  try {
    const descriptor = openSync(beside, "w", 0o600);
    try {
      writeFileSync(descriptor, JSON.stringify(entry));
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
    renameSync(beside, path);
  } catch (cause) {
    rmSync(beside, { force: true });
    throw unusable("write", path, cause);
  }
}

/** Reads a journal, if there is one. @throws {SandboxError} `SANDBOX_PROJECT_FILE`. */
export function readJournal(path: string): Journal | undefined {
  try {
    return journalSchema.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw unusable("read", path, cause);
  }
}

/** Gives a journal that is about something else another name. @returns Its path. */
export function setJournalAside(path: string): string {
  const aside = `${path}.${Date.now()}`;
  renameSync(path, aside);
  return aside;
}

function unusable(verb: string, path: string, cause: unknown): SandboxError {
  const { code = "something else" } = cause as NodeJS.ErrnoException;
  return new SandboxError("SANDBOX_PROJECT_FILE", `expected to ${verb} the journal ${path}, got ${code}`, {
    path,
    cause,
  });
}
