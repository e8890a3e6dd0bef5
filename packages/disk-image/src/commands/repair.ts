import { resolve } from "node:path";
import { type CommandIo, writeJson } from "@leveret/command";
import { type Command, Option } from "commander";
import { repairDiskImage } from "../in-place/repair.ts";

interface RepairFlags {
  readonly from?: "primary" | "backup";
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

/** Adds `repair`. */
export function addRepairCommand(program: Command, io: CommandIo): void {
  program
    .command("repair")
    .description(
      "mend the partition table of a raw disk: one copy from the other, or the backup after the disk has grown",
    )
    .argument("<image>", "raw image or block device; nothing but the table is written")
    .addOption(
      new Option("--from <copy>", "the copy to believe when both are valid but differ").choices(["primary", "backup"]),
    )
    .option("--dry-run", "only say what is wrong")
    .option("--json", "print one JSON document")
    .action((image: string, flags: RepairFlags) => repair(io, image, flags));
}

async function repair(io: CommandIo, image: string, { from, dryRun = false, json }: RepairFlags): Promise<void> {
  const { damages, table } = await repairDiskImage(resolve(io.cwd, image), { from, dryRun });
  const isRepaired = damages.length > 0 && !dryRun;
  if (json === true) {
    const { sectorSize, diskGuid } = table;
    writeJson(io, { kind: "disk-repair", version: 1, image, isRepaired, sectorSize, diskGuid, damages });
    return;
  }
  if (damages.length === 0) io.stdout.write("nothing to repair\n");
  for (const { part, reason } of damages)
    io.stdout.write(`${isRepaired ? "repaired" : "damaged"} ${part}: ${reason}\n`);
}
