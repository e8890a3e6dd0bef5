import { basename } from "node:path";
import { type CommandIo, style, table, UsageError } from "@leveret/command";
import { findAuthority } from "../authenticode/authority.ts";
import { secureBootVariableGuid } from "../efi/authenticated-variable.ts";
import { DEFAULT_MAX_VARIABLE_STORE_BYTES, decodeVariableStore } from "../efi/variable-store.ts";
import { toHex } from "../internal/bytes.ts";
import { predictPcr4 } from "../pcr/predict-pcr4.ts";
import { predictPcr5 } from "../pcr/predict-pcr5.ts";
import { predictPcr7 } from "../pcr/predict-pcr7.ts";
import { predictPcr11Measurements } from "../pcr/predict-pcr11.ts";
import type { PcrPrediction } from "../pcr/prediction.ts";
import { PCR_BANKS, type PcrBank } from "../pcr/register.ts";
import { describeEvent } from "../tcg/event-content.ts";
import { DEFAULT_MAX_EVENT_LOG_BYTES, decodeEventLog, type EventLog } from "../tcg/event-log.ts";
import { type ExplainedMeasurement, explainPcr, type PcrExplanation } from "../tcg/explain.ts";
import { predictPcrFromLog } from "../tcg/from-log.ts";
import { replayEventLog } from "../tcg/replay.ts";
import { measuredSections } from "../uki/inspect.ts";
import { shortLine } from "./arguments.ts";
import type { CommandFiles } from "./command-files.ts";

/** Flags that say what a machine should boot. */
export interface ExplainFlags {
  readonly program?: readonly string[];
  readonly vars?: string;
  readonly uki?: string;
  readonly profile?: number;
  readonly disk?: string;
  readonly loaderConf?: string;
  readonly reference?: string;
}

/** Compares a log with what the flags predict; undefined when they predict nothing. */
export async function explainLog(
  files: CommandFiles,
  log: EventLog,
  flags: ExplainFlags,
  banks: readonly PcrBank[] | undefined,
  pcrs: readonly number[] | undefined,
): Promise<PcrExplanation[] | undefined> {
  const { program = [], vars, uki, profile, disk, loaderConf } = flags;
  if (profile !== undefined && uki === undefined) throw new UsageError("expected --uki with --profile, got none");
  if (vars !== undefined && program.length === 0) {
    throw new UsageError(
      "expected --program with --vars: PCR 7 depends on whose signatures were needed, got --vars alone",
    );
  }
  if (loaderConf !== undefined && disk === undefined) {
    throw new UsageError("expected --disk with --loader-conf, got none");
  }
  if ([program[0], uki, disk, flags.reference].every((flag) => flag === undefined)) return undefined;
  const programs = await Promise.all(
    program.map(async (path) => ({ name: basename(path), image: await files.open(path) })),
  );
  const store =
    vars === undefined ? undefined : readVariables(await files.read(vars, DEFAULT_MAX_VARIABLE_STORE_BYTES));
  const authorities = store === undefined ? [] : programs.map(({ image }) => findAuthority(image, store));
  const sections = uki === undefined ? undefined : measuredSections(await files.open(uki), { profile });
  const bootDisk = disk === undefined ? undefined : await files.open(disk);
  const conf = loaderConf === undefined ? undefined : await files.read(loaderConf);
  const reference =
    flags.reference === undefined
      ? undefined
      : decodeEventLog(await files.read(flags.reference, DEFAULT_MAX_EVENT_LOG_BYTES));
  const logs = reference === undefined ? [log] : [log, reference];
  const known = PCR_BANKS.filter((bank) =>
    logs.every(({ algorithms }) => algorithms.some(({ name }) => name === bank)),
  );
  return (banks ?? known).flatMap((bank) => {
    const predictions: PcrPrediction[] = [];
    if (programs.length > 0) predictions.push(predictPcr4({ programs, bank }));
    if (store !== undefined) predictions.push(predictPcr7({ variables: store, authorities, bank }));
    if (sections !== undefined) predictions.push(predictPcr11Measurements({ sections, phases: [], bank }));
    if (bootDisk !== undefined) predictions.push(predictPcr5({ disk: bootDisk, loaderConf: conf, bank }));
    if (reference !== undefined) {
      const others = registersOf(logs).filter((pcr) => predictions.every((prediction) => prediction.pcr !== pcr));
      predictions.push(...others.map((pcr) => predictPcrFromLog(reference, pcr, bank)));
    }
    return predictions
      .filter(({ pcr }) => pcrs?.includes(pcr) ?? true)
      .sort((a, b) => a.pcr - b.pcr)
      .map((prediction) => explainPcr(log, prediction));
  });
}

/** Registers that some log extends, in order. */
function registersOf(logs: readonly EventLog[]): number[] {
  const numbers = logs.flatMap((log) => replayEventLog(log).map(({ pcr }) => pcr));
  return [...new Set(numbers)].sort((a, b) => a - b);
}

/** Prints each register: one line when it is as predicted, otherwise every step that is not. */
export function printExplanations(io: CommandIo, explanations: readonly PcrExplanation[]): void {
  for (const { pcr, bank, matches, value, predicted, measurements } of explanations) {
    const verdict = matches
      ? `${style(io.stdout, io.env, "green", "as predicted")}, ${measurements.length} measurements`
      : style(io.stdout, io.env, "red", "differs");
    io.stdout.write(`PCR ${pcr} ${bank}: ${verdict}\n`);
    if (matches) continue;
    io.stdout.write(`  predicted ${toHex(predicted)}\n  measured  ${toHex(value)}\n`);
    const rows = measurements.filter(({ kind }) => kind !== "same").map(describeStep);
    io.stdout.write(`${table(rows.map((row) => [" ", ...row]))}\n`);
  }
}

function describeStep(step: ExplainedMeasurement): string[] {
  const event = step.kind === "missing" ? "" : `event ${step.event.index}`;
  const type = step.kind === "missing" ? step.measurement.typeName : step.event.typeName;
  const found = step.kind === "missing" ? "" : shortLine(describeEvent(step.event));
  switch (step.kind) {
    case "changed":
      return ["changed", event, type, `${found}; predicted: ${shortLine(step.measurement.source)}`];
    case "missing":
      return ["missing", event, type, shortLine(step.measurement.source)];
    default:
      return [step.kind, event, type, found];
  }
}

/** The variables that firmware measures, as GetVariable returns them. */
function readVariables(image: Uint8Array): Record<"PK" | "KEK" | "db" | "dbx", Uint8Array> {
  const { variables } = decodeVariableStore(image);
  const value = (name: "PK" | "KEK" | "db" | "dbx"): Uint8Array =>
    variables.find((variable) => variable.name === name && variable.guid === secureBootVariableGuid(name))?.data ??
    new Uint8Array();
  return { PK: value("PK"), KEK: value("KEK"), db: value("db"), dbx: value("dbx") };
}
