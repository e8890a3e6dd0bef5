import { resolve } from "node:path";
import { type CommandIo, withProgress, writeJson } from "@leveret/command";
import { type Command, InvalidArgumentError, Option } from "commander";
import { GPT_ATTRIBUTES } from "../format/gpt.ts";
import type { PartitionAttribute } from "../gpt/table.ts";
import { replacePartition } from "../in-place/replace.ts";
import { parsePartition, partitionTable } from "./text.ts";

interface ReplaceFlags {
  readonly label?: string;
  readonly type?: string;
  readonly uuid?: string;
  readonly attributes?: PartitionAttribute[];
  readonly json?: boolean;
}

const HELP = `
The content is written first and the table last. An interruption leaves the old entry over a content that is partly new:
replace what nothing uses, as the free one of two slots.

Examples:
  disk-image replace os.raw _empty usr.erofs --label os_2 --uuid 0a1b2c3d-0000-4000-8000-000000000001
  disk-image replace os.raw 3 --label _empty --attributes no-auto`;

/** Adds `replace`. */
export function addReplaceCommand(program: Command, io: CommandIo): void {
  program
    .command("replace")
    .description("replace a partition of a raw disk in place: what fills it, its entry in the table, or both")
    .argument("<image>", "raw image or block device")
    .argument("<partition>", "number, label, UUID or type")
    .argument("[file]", "what fills the partition; the rest becomes zeros")
    .option("--label <text>", "new label")
    .option("--type <type>", "new type, by name or as GUID")
    .option("--uuid <uuid>", "new UUID")
    .addOption(
      new Option("--attributes <names>", "all attributes, separated by commas; an empty text clears them").argParser(
        parseAttributes,
      ),
    )
    .option("--json", "print one JSON document")
    .addHelpText("after", HELP)
    .action((image: string, partition: string, file: string | undefined, flags: ReplaceFlags) =>
      replace(io, image, partition, file, flags),
    );
}

async function replace(
  io: CommandIo,
  image: string,
  which: string,
  file: string | undefined,
  { json, ...entry }: ReplaceFlags,
): Promise<void> {
  const replaced = await withProgress(
    io,
    (update) =>
      replacePartition(resolve(io.cwd, image), parsePartition(which), {
        ...entry,
        ...(file !== undefined && { content: { file: resolve(io.cwd, file) } }),
        signal: io.signal,
        onProgress: ({ partition, ...event }) => update({ step: "writing", item: partition, ...event }),
      }),
    { terminalOnly: true },
  );
  if (json === true) writeJson(io, { kind: "replaced", version: 1, image, partition: replaced });
  else io.stdout.write(`${partitionTable([replaced])}\n`);
}

function parseAttributes(text: string): PartitionAttribute[] {
  const names = text.split(",").filter((name) => name !== "");
  const unknown = names.filter((name) => !Object.hasOwn(GPT_ATTRIBUTES, name));
  if (unknown.length === 0) return names as PartitionAttribute[];
  throw new InvalidArgumentError(
    `expected some of ${Object.keys(GPT_ATTRIBUTES).join(", ")}, got ${unknown.join(", ")}`,
  );
}
