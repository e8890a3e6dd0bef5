import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import type { SandboxProcess } from "../control/connection.ts";
import { SandboxError } from "../errors.ts";
import { replaceJson } from "../files.ts";
import { lockDirectory } from "../lock.ts";
import { projectId } from "../places.ts";
import type { SandboxState } from "../state.ts";
import { ALWAYS_HIDDEN, DEFAULT_HIDDEN, hiddenNames } from "../workspace/hidden.ts";
import { applyDifferences, conflictsAmong } from "./apply.ts";
import { compareChanges, type Difference } from "./compare.ts";
import { type HeldBack, heldBack, isWithin } from "./guarded.ts";
import { APPLIED_FILE, archiveChanges, isHeavy } from "./layer.ts";
import { recoverTransaction } from "./transaction.ts";
import { type ChangedDirectory, readChanges } from "./tree.ts";

/** What is not the same in a sandbox and in its project. */
export interface SandboxChanges {
  /** by path */
  readonly differences: readonly Difference[];
  /** those of them that are not brought back unless they are named */
  readonly heldBack: readonly HeldBack[];
  /**
   * what is not brought back: devices, pipes, sockets, names that sandboxes do not see, such as `.env`, and directories
   * such as `node_modules` that nobody has named
   */
  readonly leftOut: readonly string[];
}

/** What {@link Sandbox.apply} is told. */
export interface SandboxApplyOptions {
  /** files and directories from the project on; everything that is not held back unless given */
  readonly paths?: readonly string[] | undefined;
  /** also what the project has changed since the sandbox was started */
  readonly force?: boolean | undefined;
  /** ends it before anything is done */
  readonly signal?: AbortSignal | undefined;
}

/** What was brought back. */
export interface SandboxApplied extends Omit<SandboxChanges, "differences"> {
  readonly applied: readonly Difference[];
  /** what became of an apply before this one that was cut off */
  readonly notes: readonly string[];
}

const appliedSchema = z
  .string()
  .transform((text) => JSON.parse(text) as unknown)
  .pipe(z.record(z.string(), z.number()))
  // Without it, what was brought back counts as the project's: nothing is lost by that.
  .catch({});
/** Most of what tar says that is repeated, in `bytes`. */
const MAX_SAID = 2000;

/** A sandbox whose workspace is isolated, as far as its changes matter. */
export interface Isolated {
  readonly state: SandboxState;
  /** directory of what is kept of it on the host */
  readonly directory: string;
  /** where is noted what is being done to its project */
  readonly journal: string;
  readonly spawn: (argv: readonly string[], options: { readonly cwd: string }) => Promise<SandboxProcess>;
}

/** Reads what is different. @throws {SandboxError} As `Sandbox.diff`. */
export async function changesOf(
  sandbox: Isolated,
  paths: readonly string[],
  signal?: AbortSignal,
): Promise<SandboxChanges> {
  const { name, workspace, directory } = sandbox.state;
  if (workspace !== "isolated") {
    throw new SandboxError("SANDBOX_BAD_OPTIONS", `expected a sandbox with an isolated workspace, got ${name}`, {
      sandbox: name,
      hint: "what is changed in a live one is in the project already; leveret-sandbox start --isolated keeps it apart",
    });
  }
  const named = paths.map(normalized);
  // The project itself is everything, and no name of what is held back in it.
  const all = named.length === 0 || named.includes("");
  const root = await readLayer(sandbox, all ? [] : named, signal);
  const isLeft = (each: string): boolean => isHeavy(each, named);
  const { differences, leftOut } = compareChanges(
    root,
    directory,
    hiddenNames([...DEFAULT_HIDDEN, ...ALWAYS_HIDDEN]),
    isLeft,
  );
  const isWanted = (path: string): boolean => all || named.some((each) => isWithin(path, each));
  const wanted = differences.filter(({ path }) => isWanted(path));
  for (const each of named) {
    if (each === "" || wanted.some(({ path }) => isWithin(path, each))) continue;
    throw new SandboxError("SANDBOX_BAD_OPTIONS", `expected changes at ${each}, got none`, { path: each });
  }
  const held = wanted.map((difference) => heldBack(difference, named)).filter((each) => each !== undefined);
  return { differences: wanted, heldBack: held, leftOut: leftOut.filter(isWanted) };
}

async function readLayer(sandbox: Isolated, named: readonly string[], signal?: AbortSignal): Promise<ChangedDirectory> {
  signal?.throwIfAborted();
  const program = await sandbox.spawn(archiveChanges(named), { cwd: "/" });
  const close = (): void => program.close();
  signal?.addEventListener("abort", close, { once: true });
  try {
    program.stdin.end();
    const said = tail(program.stderr);
    const root = await readChanges(program.stdout);
    const { exitCode, signal: killer } = await program.exit;
    if (exitCode === 0) return root;
    const end = `${exitCode ?? killer}: ${(await said).trim()}`;
    throw new SandboxError("SANDBOX_CHANGES_INVALID", `expected tar to print all changes, it ended with ${end}`);
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener("abort", close);
    program.close();
  }
}

/** The last part of what a program says. */
async function tail(output: AsyncIterable<Uint8Array>): Promise<string> {
  let kept = Buffer.alloc(0);
  try {
    for await (const chunk of output) kept = Buffer.concat([kept, chunk]).subarray(-MAX_SAID);
  } catch {
    // How it ended says more.
  }
  return kept.toString("utf8");
}

/** Brings changes back. @throws {SandboxError} As `Sandbox.apply`. */
export async function applyChanges(sandbox: Isolated, options: SandboxApplyOptions): Promise<SandboxApplied> {
  const { paths = [], force = false, signal } = options;
  const { name, directory, since } = sandbox.state;
  // One after the other, whichever sandbox of the project they are of.
  await using _ = await lockDirectory(directory, signal);
  const notes = recoverTransaction(directory, sandbox.journal);
  await expectSameProject(sandbox);
  const { differences, ...rest } = await changesOf(sandbox, paths, signal);
  const held = new Set(rest.heldBack.map(({ path }) => path));
  const wanted = differences.filter(({ path }) => !held.has(path));
  const record = join(sandbox.directory, APPLIED_FILE);
  const times = await readApplied(record, since);
  const conflicts = force ? [] : conflictsAmong(wanted, since, times);
  if (conflicts.length > 0) {
    const message = `expected files that only ${name} has changed, got changes of the project too: ${conflicts.join(", ")}`;
    throw new SandboxError("SANDBOX_CONFLICT", message, {
      sandbox: name,
      path: conflicts[0],
      hint: "nothing was done; name the others, or take the sandbox's versions with --force",
    });
  }
  for (const [path, changedAt] of applyDifferences(directory, wanted, sandbox.journal)) {
    if (changedAt === undefined) delete times[path];
    else times[path] = changedAt;
  }
  await replaceJson(record, times);
  return { applied: wanted, notes, ...rest };
}

/** What has taken the place of the project's directory is another project. */
async function expectSameProject({ state: { name, directory, project } }: Isolated): Promise<void> {
  if ((await projectId(directory)) === project) return;
  const message = `expected the directory that ${name} was started for, got another one at ${directory}`;
  throw new SandboxError("SANDBOX_CONFLICT", message, { sandbox: name, path: directory });
}

/** What was brought back since the sandbox began; a file of one that had its name before says nothing of this one. */
async function readApplied(path: string, since: number): Promise<Record<string, number>> {
  const text = await readFile(path, "utf8").catch(() => "{}");
  const times = appliedSchema.parse(text);
  return Object.fromEntries(Object.entries(times).filter(([, time]) => time > since));
}

function normalized(path: string): string {
  const names = path.split("/").filter((name) => name !== "" && name !== ".");
  if (path.startsWith("/") || names.includes("..") || path === "") {
    throw new SandboxError("SANDBOX_BAD_OPTIONS", `expected a path from the project on, got ${path}`, { path });
  }
  return names.join("/");
}
