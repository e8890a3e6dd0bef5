import * as z from "zod";
import { bytesOrSourceSchema, sizeOf } from "../bytes/byte-source.ts";
import { UkiSignError } from "../errors.ts";
import { MEASURED_SECTION_NAMES } from "../format/uki.ts";
import { parseOptions } from "../internal/options.ts";
import type { MeasuredSection } from "../uki/inspect.ts";
import { measurementOf, type PcrMeasurement, type PcrPrediction, predict } from "./prediction.ts";
import { extendPcr, PCR_BANKS, type PcrBank } from "./register.ts";

/** What systemd 257 measures during a boot, in order. */
export const BOOT_PHASES: readonly string[] = ["enter-initrd", "leave-initrd", "sysinit", "ready"];

const optionsSchema = z.strictObject({
  sections: z.array(z.strictObject({ name: z.enum(MEASURED_SECTION_NAMES), data: bytesOrSourceSchema })).readonly(),
  phases: z
    .array(z.string().regex(/^[^:\0]+$/, "a phase name without colon"))
    .readonly()
    .default(BOOT_PHASES),
  bank: z.enum(PCR_BANKS).default("sha256"),
});

/** Options of {@link predictPcr11}. */
export interface PredictPcr11Options {
  /** what the stub measures, in any order, each name once; see `measuredSections` */
  readonly sections: readonly MeasuredSection[];
  /** phases measured so far, in order; a whole boot, {@link BOOT_PHASES}, when absent; `[]` for the stub alone */
  readonly phases?: readonly string[] | undefined;
  /** bank; `sha256` when absent */
  readonly bank?: PcrBank | undefined;
}

/**
 * Predicts PCR 11 after systemd-stub has measured a unified kernel image and userspace has measured boot phases.
 *
 * @param options - Sections, phases and bank.
 * @returns The register's value, as long as the bank's hash.
 * @throws {UkiSignError} `UKI_SIGN_BAD_OPTIONS` when a section is not one the stub measures or is given twice.
 * @see systemd 257 systemd-measure(1); UAPI Group "Unified Kernel Image (UKI)" 1.0, "UKI TPM PCR Measurements"
 * @example
 * const sections = measuredSections(await readFile("linux.efi"));
 * const inInitrd = predictPcr11({ sections, phases: ["enter-initrd"] });
 */
export function predictPcr11(options: PredictPcr11Options): Uint8Array {
  return predictPcr11Measurements(options).value;
}

/**
 * Predicts PCR 11 like {@link predictPcr11}, measurement by measurement.
 *
 * @param options - As for {@link predictPcr11}. Firmware's event log has what the stub measures, so `phases: []` is what
 *   `explainPcr` can compare with.
 * @returns The value, and the measurements it is made of.
 * @throws {UkiSignError} As {@link predictPcr11}.
 * @see systemd 257 systemd-stub(7)
 * @example
 * const prediction = predictPcr11Measurements({ sections: measuredSections(image), phases: [] });
 */
export function predictPcr11Measurements(options: PredictPcr11Options): PcrPrediction {
  const { sections, phases, bank } = parseOptions(optionsSchema, options);
  return predict(11, bank, [...measureSections(sections, bank), ...phases.map((phase) => measurePhase(phase, bank))]);
}

/** PCR 11 after each of several phase paths, hashing each section once. */
export function predictPcr11Paths(
  sections: readonly MeasuredSection[],
  paths: readonly (readonly string[])[],
  bank: PcrBank,
): Uint8Array[] {
  const parsed = parseOptions(optionsSchema.pick({ sections: true }), { sections });
  const { value: start } = predict(11, bank, measureSections(parsed.sections, bank));
  return paths.map((path) => {
    const { phases } = parseOptions(optionsSchema.pick({ phases: true }), { phases: path });
    return phases.reduce((value, phase) => extendPcr(bank, value, measurePhase(phase, bank).digest), start);
  });
}

/** One line of {@link predictPcr11Table}. */
export interface Pcr11Prediction {
  readonly bank: PcrBank;
  /** phases measured so far, joined by colons as systemd writes them */
  readonly phasePath: string;
  /** value of the register */
  readonly value: Uint8Array;
}

/**
 * Predicts PCR 11 at the end of every phase of a boot, for several banks, hashing each section once per bank.
 *
 * @param options - Sections as for {@link predictPcr11}; `phases` of the whole boot; `banks`, all four when absent.
 * @returns Predictions by phase, then by bank.
 * @throws {UkiSignError} As {@link predictPcr11}.
 */
export function predictPcr11Table(
  options: Omit<PredictPcr11Options, "bank"> & { readonly banks?: readonly PcrBank[] | undefined },
): Pcr11Prediction[] {
  const { banks = PCR_BANKS, ...rest } = options;
  const { sections, phases } = parseOptions(optionsSchema, rest);
  const prefixes = phases.map((_, index) => phases.slice(0, index + 1));
  const byBank = parseOptions(z.array(z.enum(PCR_BANKS)).readonly(), banks).map((bank) =>
    predictPcr11Paths(sections, prefixes, bank).map(
      (value, index): Pcr11Prediction => ({ bank, phasePath: prefixes[index]?.join(":") ?? "", value }),
    ),
  );
  return prefixes.flatMap((_, index) => byBank.flatMap((predictions) => predictions[index] ?? []));
}

function measureSections(sections: readonly MeasuredSection[], bank: PcrBank): PcrMeasurement[] {
  return inOrder(sections).flatMap(({ name, data }) => [
    // The name is measured with its terminating NUL, so that content cannot pass for the next name.
    measurementOf("EV_IPL", bank, new TextEncoder().encode(`${name}\0`), `name of section ${name}`),
    measurementOf("EV_IPL", bank, data, `section ${name}, ${sizeOf(data)} bytes`),
  ]);
}

function measurePhase(phase: string, bank: PcrBank): PcrMeasurement {
  return measurementOf("EV_IPL", bank, new TextEncoder().encode(phase), `phase ${phase}`);
}

function inOrder(sections: readonly MeasuredSection[]): MeasuredSection[] {
  return MEASURED_SECTION_NAMES.flatMap((name) => {
    const found = sections.filter((candidate) => candidate.name === name);
    if (found.length <= 1) return found;
    throw new UkiSignError("UKI_SIGN_BAD_OPTIONS", `expected section ${name} once, got it ${found.length} times`, {
      field: "sections",
    });
  });
}
