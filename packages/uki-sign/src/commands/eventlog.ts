import { type CommandIo, table, writeJson } from "@leveret/command";
import type { Command } from "commander";
import { toHex } from "../internal/bytes.ts";
import type { PcrBank } from "../pcr/register.ts";
import { decodeEventContent, describeEvent, isContentMeasured } from "../tcg/event-content.ts";
import { DEFAULT_MAX_EVENT_LOG_BYTES, decodeEventLog, type EventLog, type TcgEvent } from "../tcg/event-log.ts";
import { replayEventLog } from "../tcg/replay.ts";
import { decodeUserspaceLog, replayUserspaceLog, type UserspaceEvent } from "../tcg/userspace-log.ts";
import { collect, parseBank, parseInteger, shortLine } from "./arguments.ts";
import { CommandFiles } from "./command-files.ts";
import { explainLog, printExplanations } from "./eventlog-explain.ts";

interface EventlogFlags {
  readonly bank?: readonly string[];
  readonly pcr?: readonly string[];
  readonly program?: readonly string[];
  readonly vars?: string;
  readonly uki?: string;
  readonly profile?: number;
  readonly userspace?: string;
  readonly disk?: string;
  readonly loaderConf?: string;
  readonly reference?: string;
  readonly json?: boolean;
}

/** `uki-sign eventlog` */
export function addEventlogCommand(program: Command, io: CommandIo): void {
  program
    .command("eventlog")
    .description(
      "show what a machine measured while it booted, and the register values that follow from it; or, given what it should boot, explain where they differ",
    )
    .argument("<log>", "TCG event log: /sys/kernel/security/tpm0/binary_bios_measurements")
    .option("--pcr <number>", "show this register only; several allowed, all by default", collect)
    .option("--bank <name>", "show this bank's registers only; several allowed, all by default", collect)
    .option("--program <file>", "program that firmware should load, in order: predicts PCR 4", collect)
    .option("--vars <file>", "variable store the machine should have: predicts PCR 7, with --program")
    .option("--uki <file>", "unified kernel image that should start: predicts PCR 11 up to the kernel")
    .option(
      "--profile <index>",
      "profile of --uki that should boot, counted from 0; the first by default",
      parseInteger,
    )
    .option("--disk <file>", "disk that should be booted from, raw: predicts PCR 5")
    .option("--loader-conf <file>", "loader.conf of systemd-boot on it, if there is one")
    .option("--reference <log>", "event log of a boot that was right: predicts every register that nothing else does")
    .option("--userspace <file>", "what systemd measured since then: /run/log/systemd/tpm2-measure.log")
    .option("--json", "print one JSON document")
    .addHelpText(
      "after",
      `
Examples:
  uki-sign eventlog binary_bios_measurements
  uki-sign eventlog --pcr 4 --pcr 7 --bank sha256 binary_bios_measurements
  uki-sign eventlog --pcr 11 --userspace tpm2-measure.log binary_bios_measurements
  uki-sign eventlog --program systemd-bootx64.efi --program linux.efi --vars OVMF_VARS.fd --uki linux.efi \\
    binary_bios_measurements
  uki-sign eventlog --reference yesterday.log --disk disk.raw --pcr 0 --pcr 1 --pcr 5 binary_bios_measurements`,
    )
    .action(async (path: string, flags: EventlogFlags) => {
      const pcrs = flags.pcr?.map(parseInteger);
      const banks: readonly PcrBank[] | undefined = flags.bank?.map(parseBank);
      await using files = new CommandFiles(io);
      const log = decodeEventLog(await files.read(path, DEFAULT_MAX_EVENT_LOG_BYTES));
      const explanations = await explainLog(files, log, flags, banks, pcrs);
      const events = log.events.filter(({ pcr }) => pcrs?.includes(pcr) ?? true);
      const later =
        flags.userspace === undefined
          ? []
          : decodeUserspaceLog(await files.read(flags.userspace, DEFAULT_MAX_EVENT_LOG_BYTES));
      const registers = replayUserspaceLog(later, replayEventLog(log)).filter(
        ({ pcr, bank }) => (pcrs?.includes(pcr) ?? true) && (banks?.includes(bank) ?? true),
      );
      const userspaceEvents = later.filter(({ pcr }) => pcrs?.includes(pcr) ?? true);
      if (flags.json) {
        const { format, algorithms, startupLocality } = log;
        const described = events.map(describeForJson);
        writeJson(io, {
          kind: "uki-eventlog",
          version: 1,
          format,
          algorithms,
          startupLocality,
          events: described,
          ...(flags.userspace !== undefined && { userspaceEvents }),
          registers,
          explanations,
        });
        return;
      }
      if (explanations !== undefined) {
        printExplanations(io, explanations);
        return;
      }
      printLog(io, log, events, userspaceEvents);
      const rows = registers.map(({ pcr, bank, value }) => [String(pcr), bank, toHex(value)]);
      io.stdout.write(`\n${table([["PCR", "bank", "value"], ...rows])}\n`);
    });
}

function describeForJson(event: TcgEvent): object {
  return { ...event, content: decodeEventContent(event), contentMeasured: isContentMeasured(event) ?? null };
}

function printLog(
  io: CommandIo,
  log: EventLog,
  events: readonly TcgEvent[],
  userspaceEvents: readonly UserspaceEvent[],
): void {
  const algorithms = log.algorithms.map(({ name }) => name).join(", ");
  io.stdout.write(`${log.format} log of ${log.events.length} events, ${algorithms}\n\n`);
  const rows = events.map((event) => [
    String(event.index),
    String(event.pcr),
    event.typeName,
    `${shortLine(describeEvent(event))}${isContentMeasured(event) === false ? " (not what was measured)" : ""}`,
  ]);
  // What the running system measured goes on where the firmware ended.
  for (const { index, pcr, eventType = "", text = "" } of userspaceEvents) {
    rows.push([`+${index}`, String(pcr), shortLine(eventType), shortLine(text)]);
  }
  io.stdout.write(`${table([["event", "PCR", "type", "what"], ...rows])}\n`);
}
