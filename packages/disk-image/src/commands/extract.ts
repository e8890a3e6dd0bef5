import { resolve } from "node:path";
import { type CommandIo, formatBytes, type InputFlags, withInputOptions, writeJson } from "@leveret/command";
import type { Command } from "commander";
import { memorySource } from "../block-source.ts";
import { extractTo } from "../extract.ts";
import { openFat } from "../fat/read.ts";
import { atomic } from "../internal/files.ts";
import { openInput } from "./input.ts";
import { parsePartition } from "./text.ts";

interface ExtractOptions extends InputFlags {
  readonly path?: string;
  readonly json?: boolean;
}

/** Adds `extract`. */
export function addExtractCommand(program: Command, io: CommandIo): void {
  withInputOptions(program.command("extract"))
    .description("copy a partition, or a file of a FAT partition, out of a disk")
    .argument("<image>")
    .argument("<partition>", "number, label, UUID or type")
    .argument("<output>", "file to write")
    .option("--path <path>", "file inside the FAT file system of the partition")
    .option("--json", "print one JSON document")
    .action((image: string, partition: string, output: string, options: ExtractOptions) =>
      extract(io, image, partition, output, options),
    );
}

async function extract(
  io: CommandIo,
  image: string,
  which: string,
  output: string,
  options: ExtractOptions,
): Promise<void> {
  await atomic.assertNoInput(resolve(io.cwd, output), [resolve(io.cwd, image)]);
  await using disk = await openInput(io, image, options);
  const partition = disk.partition(parsePartition(which));
  const window = disk.open(partition.number);
  const { signal } = io;
  const source =
    options.path === undefined
      ? window
      : memorySource(await (await openFat(window)).readFile(options.path, { signal }));
  await extractTo(source, resolve(io.cwd, output), { signal });
  const { sizeBytes } = source;
  if (options.json === true)
    writeJson(io, {
      kind: "extracted",
      version: 1,
      partition: partition.number,
      path: options.path,
      output,
      sizeBytes,
    });
  else io.stdout.write(`${output}: ${formatBytes(sizeBytes)}\n`);
}
