import { type CommandIo, escapeName, escapeText, style, writeJson } from "@leveret/command";
import type { SandboxChanges } from "../changes/changes.ts";
import type { Difference } from "../changes/compare.ts";
import { find, fromProject } from "./find.ts";

interface DiffFlags {
  readonly name?: string;
  readonly stat?: true;
  readonly json?: true;
}

interface ApplyFlags {
  readonly name?: string;
  readonly force?: true;
  readonly json?: true;
}

export async function diff(given: readonly string[], flags: DiffFlags, io: CommandIo): Promise<void> {
  const sandbox = await find(flags.name, io);
  const paths = await fromProject(sandbox, given, io);
  const changes = await sandbox.diff({ paths, signal: io.signal });
  if (flags.json) {
    writeJson(io, { kind: "sandbox-diff", version: 1, name: sandbox.name, ...document(changes) });
    return;
  }
  if (flags.stat) io.stdout.write(summary(changes.differences));
  else {
    const { patchPieces } = await import("../changes/patch.ts");
    for (const piece of patchPieces(printed(changes, paths))) {
      io.stdout.write(io.stdout.isTTY ? shown(piece, io) : piece);
    }
  }
  remarks(changes, io);
}

export async function apply(given: readonly string[], flags: ApplyFlags, io: CommandIo): Promise<void> {
  const sandbox = await find(flags.name, io);
  const paths = await fromProject(sandbox, given, io);
  const { applied, notes, ...rest } = await sandbox.apply({ paths, force: flags.force, signal: io.signal });
  for (const note of notes) io.stderr.write(`${escapeText(note)}\n`);
  if (flags.json) {
    const changes = document({ differences: applied, ...rest });
    writeJson(io, { kind: "sandbox-applied", version: 1, name: sandbox.name, notes, ...changes });
    return;
  }
  io.stdout.write(applied.length === 0 ? "nothing to apply\n" : summary(applied));
  remarks(rest, io);
}

/** What a patch has: git refuses one that is about a repository itself, unless that is what somebody wants to see. */
function printed({ differences, heldBack }: SandboxChanges, paths: readonly string[]): readonly Difference[] {
  if (paths.length > 0) return differences;
  const inside = new Set(heldBack.filter(({ root }) => /(?:^|\/)\.git(?:\/|$)/i.test(root)).map(({ path }) => path));
  return differences.filter(({ path }) => !inside.has(path));
}

function document({ differences, heldBack, leftOut }: SandboxChanges): object {
  const changes = differences.map((difference) => ({ path: difference.path, change: wordOf(difference) }));
  return { changes, heldBack, leftOut };
}

function summary(differences: readonly Difference[]): string {
  return differences.map((each) => `${wordOf(each).charAt(0).toUpperCase()} ${escapeName(each.path)}\n`).join("");
}

function wordOf({ before, after }: Difference): "added" | "modified" | "deleted" {
  if (before === undefined) return "added";
  return after === undefined ? "deleted" : "modified";
}

/** What a person should know besides, on the standard error so that a patch stays one. */
function remarks({ heldBack, leftOut }: Omit<SandboxChanges, "differences">, io: CommandIo): void {
  if (heldBack.length > 0) {
    io.stderr.write("held back by apply, unless they are named:\n");
    const roots = new Map(heldBack.map(({ root, reason }) => [root, reason]));
    for (const [root, reason] of roots) io.stderr.write(`  ${escapeName(root)}: ${reason}\n`);
  }
  if (leftOut.length > 0) io.stderr.write(`left out: ${leftOut.map(escapeName).join(", ")}\n`);
}

/** A patch for a person: its text is the guest's, and may not drive the terminal. */
function shown(patch: string, io: CommandIo): string {
  const coloured = (name: Parameters<typeof style>[2], line: string): string => style(io.stdout, io.env, name, line);
  return escapeText(patch)
    .split("\n")
    .map((line) => {
      if (/^(?:diff|index|---|\+\+\+|new file|deleted file|old mode|new mode)(?: |$)/.test(line))
        return coloured("bold", line);
      if (line.startsWith("@@")) return coloured("cyan", line);
      if (line.startsWith("+")) return coloured("green", line);
      return line.startsWith("-") ? coloured("red", line) : line;
    })
    .join("\n");
}
