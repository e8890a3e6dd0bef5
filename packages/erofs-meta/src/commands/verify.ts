import { type CommandIo, countText, escapeName, formatBytes, withProgress, writeJson } from "@leveret/command";
import type { Command } from "commander";
import { checkErofs, type ErofsReport } from "../check/check.ts";
import type { ErofsProblem } from "../check/problems.ts";
import { ErofsError } from "../errors.ts";
import { type ImageOptions, withImageOptions, withSource } from "./open.ts";

/** Problems that people are told of at most. */
const MAX_SHOWN = 20;

/** Adds `verify`. */
export function addVerifyCommand(program: Command, io: CommandIo): void {
  withImageOptions(program.command("verify").description("check all of an image, and say what is damaged and where"))
    .argument("<image>")
    .action((image: string, options: ImageOptions) => verify(io, image, options));
}

async function verify(io: CommandIo, path: string, options: ImageOptions): Promise<void> {
  const report = await withSource(io, path, options, (source, devices) =>
    withProgress(
      io,
      (update) =>
        checkErofs(source, {
          devices,
          signal: io.signal,
          onProgress: ({ names, contentBytes }) =>
            update({ step: "checking", item: `${names} names, ${formatBytes(contentBytes)}` }),
        }),
      { terminalOnly: true },
    ),
  );
  if (!report.ok) throw damaged(path, report);
  const { inodes, contentBytes } = report;
  if (options.json === true) writeJson(io, { kind: "erofs-report", version: 1, ...report });
  else
    io.stdout.write(
      `${path}: no damage in ${countText(inodes, "inode")} with ${formatBytes(contentBytes)} of content\n`,
    );
}

function damaged(path: string, { problems, isIncomplete }: ErofsReport): ErofsError {
  const shown = problems.slice(0, MAX_SHOWN).map(problemText);
  const left = problems.length - shown.length;
  if (left > 0 || isIncomplete) shown.push(`and ${isIncomplete ? "more than " : ""}${left} more`);
  const count =
    problems.length === 1 ? "one problem" : `${isIncomplete ? "more than " : ""}${problems.length} problems`;
  return new ErofsError("EROFS_DAMAGED", `expected an image without damage, got ${count} in ${path}`, {
    path,
    hint: shown.join("\n"),
    problems,
  });
}

function problemText({ message, offset, path }: ErofsProblem): string {
  const where = offset === undefined || message.endsWith(`at byte ${offset})`) ? "" : ` (at byte ${offset})`;
  const name = path === undefined || message.includes(path) ? "" : `${escapeName(path)}: `;
  return `${name}${escapeName(message)}${where}`;
}
