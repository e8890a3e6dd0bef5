import { resolve } from "node:path";
import { type CommandIo, withProgress, writeJson } from "@leveret/command";
import { type Command, Option } from "commander";
import { atomic } from "../internal/files.ts";
import type { ImageFormat } from "../options.ts";
import { planDisk } from "../plan.ts";
import { writeDiskImage } from "../write.ts";
import { readDescription } from "./description.ts";
import { partitionTable } from "./text.ts";

interface CreateOptions {
  readonly format: ImageFormat;
  readonly plan?: boolean;
  readonly json?: boolean;
}

/** Adds `create`. */
export function addCreateCommand(program: Command, io: CommandIo): void {
  program
    .command("create")
    .description("write a disk image from a JSON description")
    .argument("<description>", "JSON file")
    .argument("<image>", "file to write")
    .addOption(new Option("--format <name>", "how the disk lies in the file").choices(["raw", "qcow2"]).default("raw"))
    .option("--plan", "show what would be written, and write nothing")
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      `
Example of a description:
  {
    "seed": "my os 1.0",
    "partitions": [
      { "label": "esp", "type": "esp", "size": "64M",
        "fat": { "volumeId": 1, "time": "2026-01-01T00:00:00Z",
                 "files": { "EFI/BOOT/BOOTX64.EFI": "os.efi" } } },
      { "label": "usr", "type": "usr-x86-64", "file": "usr.erofs", "attributes": ["read-only"] },
      { "label": "swap", "type": "swap", "size": "1G" }
    ]
  }`,
    )
    .action((description: string, image: string, options: CreateOptions) => create(io, description, image, options));
}

async function create(io: CommandIo, description: string, image: string, options: CreateOptions): Promise<void> {
  await atomic.assertNoInput(resolve(io.cwd, image), [resolve(io.cwd, description)]);
  const disk = await readDescription(resolve(io.cwd, description), io.signal);
  const plan =
    options.plan === true
      ? await planDisk(disk)
      : await withProgress(
          io,
          (update) =>
            writeDiskImage(resolve(io.cwd, image), {
              ...disk,
              format: options.format,
              signal: io.signal,
              onProgress: ({ partition, ...event }) => update({ step: "writing", item: partition, ...event }),
            }),
          { terminalOnly: true },
        );
  if (options.json === true)
    writeJson(io, { kind: "disk-plan", version: 1, image, isWritten: options.plan !== true, ...plan });
  else io.stdout.write(`${partitionTable(plan.partitions)}\n`);
}
