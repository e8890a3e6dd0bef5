import { type CommandIo, table, writeJson } from "@leveret/command";
import type { Command } from "commander";
import { readInput } from "../internal/files.ts";
import { BOOT_PHASES, PCR_BANKS, predictPcr11Table } from "../measure.ts";
import { measuredSections } from "../uki/inspect.ts";
import { collect, parseBank, parseInteger } from "./arguments.ts";

interface MeasureFlags {
  readonly bank?: readonly string[];
  readonly phases?: string;
  readonly dtbauto?: number;
  readonly efifw?: number;
  readonly json?: boolean;
}

/** `uki-sign measure` */
export function addMeasureCommand(program: Command, io: CommandIo): void {
  program
    .command("measure")
    .description("Predict PCR 11 of a machine that boots a unified kernel image, at the end of each phase.")
    .argument("<image>", "unified kernel image")
    .option("--bank <name>", `${PCR_BANKS.join(", ")}; several allowed, all by default`, collect)
    .option("--phases <path>", "phases of the boot, joined by colons", BOOT_PHASES.join(":"))
    .option("--dtbauto <index>", "device tree the machine picks; none by default", parseInteger)
    .option("--efifw <index>", "firmware the machine picks; none by default", parseInteger)
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      `
Examples:
  uki-sign measure linux.efi
  uki-sign measure --bank sha256 --phases enter-initrd linux.efi`,
    )
    .action(async (path: string, flags: MeasureFlags) => {
      const banks = flags.bank?.map(parseBank);
      const { dtbauto, efifw } = flags;
      const sections = measuredSections(await readInput(io.cwd, path), { dtbauto, efifw });
      const predictions = predictPcr11Table({ sections, banks, phases: flags.phases?.split(":") });
      if (flags.json) {
        const measured = sections.map(({ name }) => name);
        writeJson(io, { kind: "uki-measure", version: 1, pcr: 11, sections: measured, predictions });
        return;
      }
      const rows = predictions.map(({ phasePath, bank, value }) => [
        phasePath,
        bank,
        Buffer.from(value).toString("hex"),
      ]);
      io.stdout.write(`${table([["phases", "bank", "PCR 11"], ...rows])}\n`);
    });
}
