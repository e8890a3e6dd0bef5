import {
  type CommandIo,
  type ExitCodes,
  escapeName,
  type InputFlags,
  withInputOptions,
  writeJson,
} from "@leveret/command";
import type { Command } from "commander";
import { type DiffField, diffErofs, type ErofsDiff } from "../diff.ts";
import { withImage } from "./open.ts";

interface DiffOptions extends InputFlags {
  readonly times: boolean;
  readonly json?: boolean;
}

/** Exit codes as those of diff(1). */
const DIFFERENT = 1;
const TROUBLE = 2;

/** Adds `diff`. @param codes - what the program returns, which the command changes */
export function addDiffCommand(program: Command, io: CommandIo, codes: ExitCodes): void {
  withInputOptions(program.command("diff"))
    .description("say what differs between two images, and how much of the second is in the first")
    .argument("<before>")
    .argument("<after>")
    .option("--no-times", "do not compare modification times, and when the images were built")
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      `
Returns 0 when nothing differs, 1 when something does, and 2 when it cannot tell.`,
    )
    .action(async (before: string, after: string, options: DiffOptions) => {
      codes.failed = TROUBLE;
      const { isSame } = await diff(io, before, after, options);
      if (!isSame) codes.done = DIFFERENT;
    });
}

/** Fields by the names that `dump` gives them. */
const NAMES: Readonly<Record<DiffField, string>> = {
  uuid: "uuid",
  volumeName: "name",
  buildTime: "build time",
  blockSize: "block size",
  compatFeatures: "compatible features",
  incompatFeatures: "incompatible features",
  compressionAlgorithms: "compression",
};

async function diff(io: CommandIo, before: string, after: string, options: DiffOptions): Promise<ErofsDiff> {
  const found = await withImage(io, before, { ...options, offset: 0 }, (old) =>
    withImage(io, after, { ...options, offset: 0 }, (now) =>
      diffErofs(old, now, { times: options.times, signal: io.signal }),
    ),
  );
  if (options.json === true) {
    writeJson(io, { kind: "erofs-diff", version: 1, ...found });
    return found;
  }
  const { superblock, added, removed, changed, blocks } = found;
  const lines = [
    ...(superblock.length === 0 ? [] : [`~ superblock: ${superblock.map((field) => NAMES[field]).join(", ")}`]),
    ...removed.map((path) => `- ${escapeName(path)}`),
    ...added.map((path) => `+ ${escapeName(path)}`),
    ...changed.map(({ path, aspects }) => `~ ${escapeName(path)}: ${aspects.join(", ")}`),
    `${blocks.known} of ${blocks.total} blocks of 4 KiB are in ${escapeName(before)} already, ${blocks.inPlace} at the same place`,
  ];
  io.stdout.write(`${lines.join("\n")}\n`);
  return found;
}
