import * as z from "zod";
import { digestDecoded } from "../authenticode/digest.ts";
import { type Bytes, bytesOrSourceSchema } from "../bytes/byte-source.ts";
import { UkiSignError } from "../errors.ts";
import * as tcg from "../format/tcg.ts";
import { bytesSchema, parseOptions } from "../internal/options.ts";
import { decodePe } from "../pe/image.ts";
import { measurementOf, type PcrMeasurement, type PcrPrediction, predict } from "./prediction.ts";
import { PCR_BANKS, PCR_BYTES, type PcrBank } from "./register.ts";

const programSchema = z.strictObject({
  name: z.string().min(1),
  image: bytesOrSourceSchema.optional(),
  digest: bytesSchema.optional(),
});
const optionsSchema = z.strictObject({
  programs: z.array(programSchema).readonly(),
  earlierAttempts: z.array(z.array(programSchema).readonly()).readonly().default([]),
  bank: z.enum(PCR_BANKS).default("sha256"),
});

/** A program that firmware loads: its file, or the digest of it. */
export interface BootProgram {
  /** what it is called in explanations: the file's name */
  readonly name: string;
  /** the whole file; required without `digest` */
  readonly image?: Bytes | undefined;
  /** Authenticode digest in the bank's algorithm; required without `image` */
  readonly digest?: Uint8Array | undefined;
}

/** Options of {@link predictPcr4}. */
export interface PredictPcr4Options {
  /** what is loaded, in order: boot loader, unified kernel image, and whatever those load through firmware */
  readonly programs: readonly BootProgram[];
  /** what boot options before had loaded when they gave up, one entry an option; none by default */
  readonly earlierAttempts?: readonly (readonly BootProgram[])[] | undefined;
  /** bank; `sha256` when absent */
  readonly bank?: PcrBank | undefined;
}

/**
 * Predicts PCR 4, into which firmware measures each program it loads on the way to the system.
 *
 * @param options - Programs in the order in which they are loaded.
 * @returns The value, and the measurements it is made of, for `explainPcr`.
 * @throws {UkiSignError} `UKI_SIGN_BAD_OPTIONS` for a program with neither or both of image and digest, or a digest that
 *   is not the bank's; any code of `authenticodeDigest`.
 * @see TCG PC Client Platform Firmware Profile 1.06 sections 3.3.4.5 and 10.4.4; UEFI 2.10 section 3.1 for attempts
 * @example
 * const programs = [{ name: "systemd-boot", image: loader }, { name: "linux.efi", image: uki }];
 * const { value } = predictPcr4({ programs });
 */
export function predictPcr4(options: PredictPcr4Options): PcrPrediction {
  const { programs, earlierAttempts, bank } = parseOptions(optionsSchema, options);
  const action = (text: string) => measurementOf("EV_EFI_ACTION", bank, new TextEncoder().encode(text), `"${text}"`);
  const measurements = [...earlierAttempts, programs].flatMap((attempt, index): PcrMeasurement[] => [
    ...(index > 0 ? [action(tcg.RETURNING_FROM_EFI_APPLICATION)] : []),
    action(tcg.CALLING_EFI_APPLICATION),
    // Once, between what firmware does by itself and the first program.
    ...(index === 0 ? [measurementOf("EV_SEPARATOR", bank, new Uint8Array(4), "separator")] : []),
    ...attempt.map((program) => measureProgram(program, bank)),
  ]);
  return predict(4, bank, measurements);
}

function measureProgram({ name, image, digest }: BootProgram, bank: PcrBank): PcrMeasurement {
  const typeName = "EV_EFI_BOOT_SERVICES_APPLICATION";
  if ((image === undefined) === (digest === undefined)) {
    const message = `expected an image or a digest of ${JSON.stringify(name)}, got ${image ? "both" : "neither"}`;
    throw new UkiSignError("UKI_SIGN_BAD_OPTIONS", message, { field: "programs" });
  }
  if (image !== undefined) {
    return { typeName, digest: digestDecoded(image, decodePe(image), bank, "none"), source: name };
  }
  const size = PCR_BYTES[bank];
  if (digest?.length !== size) {
    const message = `expected a ${bank} digest of ${size} bytes for ${JSON.stringify(name)}, got ${digest?.length}`;
    throw new UkiSignError("UKI_SIGN_BAD_OPTIONS", message, { field: "programs" });
  }
  return { typeName, digest: new Uint8Array(digest), source: name };
}
