import { type CommandIo, escapeName, writeJson } from "@leveret/command";
import type { Command } from "commander";
import { diffErofs } from "../diff.ts";
import { withImage } from "./open.ts";

interface DiffOptions {
  readonly times: boolean;
  readonly json?: boolean;
}

/** Adds `diff`. */
export function addDiffCommand(program: Command, io: CommandIo): void {
  program
    .command("diff")
    .description("say what differs between two images, and how much of the second is in the first")
    .argument("<before>")
    .argument("<after>")
    .option("--no-times", "do not compare modification times")
    .option("--json", "print one JSON document")
    .action((before: string, after: string, options: DiffOptions) => diff(io, before, after, options));
}

async function diff(io: CommandIo, before: string, after: string, options: DiffOptions): Promise<void> {
  const found = await withImage(io, before, { offset: 0 }, (old) =>
    withImage(io, after, { offset: 0 }, (now) => diffErofs(old, now, { times: options.times, signal: io.signal })),
  );
  if (options.json === true) {
    writeJson(io, { kind: "erofs-diff", version: 1, ...found });
    return;
  }
  const { added, removed, changed, blocks } = found;
  const lines = [
    ...removed.map((path) => `- ${escapeName(path)}`),
    ...added.map((path) => `+ ${escapeName(path)}`),
    ...changed.map(({ path, aspects }) => `~ ${escapeName(path)}: ${aspects.join(", ")}`),
    `${blocks.known} of ${blocks.total} blocks of 4 KiB are in ${escapeName(before)} already`,
  ];
  io.stdout.write(`${lines.join("\n")}\n`);
}
