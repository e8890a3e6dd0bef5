import * as z from "zod";
import { type Bytes, bytesOrSourceSchema, readBytes, sizeOf } from "../bytes/byte-source.ts";
import { UkiSignError } from "../errors.ts";
import * as gpt from "../format/gpt.ts";
import * as tcg from "../format/tcg.ts";
import { concat, viewOf } from "../internal/bytes.ts";
import { parseOptions } from "../internal/options.ts";
import { measurementOf, type PcrPrediction, predict } from "./prediction.ts";
import { PCR_BANKS, type PcrBank } from "./register.ts";

/** Largest array of partition entries that is read, in bytes. */
export const DEFAULT_MAX_GPT_ENTRIES_BYTES = 1024 * 1024;

const optionsSchema = z.strictObject({
  disk: bytesOrSourceSchema,
  loaderConf: bytesOrSourceSchema.optional(),
  bank: z.enum(PCR_BANKS).default("sha256"),
});

/** Options of {@link predictPcr5}. */
export interface PredictPcr5Options {
  /** the disk that is booted from, or as much of it as its first partition table takes */
  readonly disk: Bytes;
  /** the file `loader/loader.conf` that systemd-boot reads, and measures; none when absent */
  readonly loaderConf?: Bytes | undefined;
  /** bank; `sha256` when absent */
  readonly bank?: PcrBank | undefined;
}

/**
 * Predicts PCR 5, into which firmware measures the partition table of the disk it boots from.
 *
 * @param options - The disk, and what the boot loader is configured with.
 * @returns The value, and the measurements it is made of, for `explainPcr`.
 * @throws {UkiSignError} `UKI_SIGN_GPT_INVALID` when the disk has no partition table, or one that is beyond its end or
 *   {@link DEFAULT_MAX_GPT_ENTRIES_BYTES}.
 * @see TCG PC Client Platform Firmware Profile 1.06 sections 3.3.4.6 and 10.2.4; systemd 257 systemd-boot(7)
 * @example
 * await using disk = await fileSource("particle.raw");
 * const { value } = predictPcr5({ disk });
 */
export function predictPcr5(options: PredictPcr5Options): PcrPrediction {
  const { disk, loaderConf, bank } = parseOptions(optionsSchema, options);
  const action = (text: string) => measurementOf("EV_EFI_ACTION", bank, new TextEncoder().encode(text), `"${text}"`);
  return predict(5, bank, [
    measurementOf("EV_SEPARATOR", bank, new Uint8Array(4), "separator"),
    measurementOf("EV_EFI_GPT_EVENT", bank, readGptData(disk), "partition table of the disk"),
    ...(loaderConf === undefined ? [] : [measurementOf("EV_EVENT_TAG", bank, loaderConf, "loader.conf")]),
    action(tcg.EXIT_BOOT_SERVICES_INVOCATION),
    action(tcg.EXIT_BOOT_SERVICES_SUCCEEDED),
  ]);
}

/** UEFI_GPT_DATA: the header, how many entries are used (u64), and these. */
function readGptData(disk: Bytes): Uint8Array {
  const { blockSize, header } = findHeader(disk);
  const view = viewOf(header);
  const [count, size] = [view.getUint32(gpt.GPT_ENTRY_COUNT, true), view.getUint32(gpt.GPT_ENTRY_SIZE, true)];
  const start = view.getBigUint64(gpt.GPT_ENTRIES_LBA, true) * BigInt(blockSize);
  if (size < gpt.GPT_TYPE_BYTES || count * size > DEFAULT_MAX_GPT_ENTRIES_BYTES) {
    throw invalid(`entries of at most ${DEFAULT_MAX_GPT_ENTRIES_BYTES} bytes`, `${count} of ${size} bytes`, blockSize);
  }
  if (start + BigInt(count * size) > BigInt(sizeOf(disk))) {
    throw invalid("entries within the disk", `${count * size} bytes from ${start}`, blockSize);
  }
  const entries = readBytes(disk, Number(start), count * size);
  const used = Array.from({ length: count }, (_, index) => entries.subarray(index * size, (index + 1) * size)).filter(
    (entry) => entry.subarray(0, gpt.GPT_TYPE_BYTES).some((octet) => octet !== 0),
  );
  const number = new Uint8Array(8);
  viewOf(number).setBigUint64(0, BigInt(used.length), true);
  return concat(header, number, ...used);
}

function findHeader(disk: Bytes): { blockSize: number; header: Uint8Array } {
  for (const blockSize of gpt.GPT_BLOCK_SIZES) {
    if (sizeOf(disk) < blockSize + gpt.GPT_HEADER_BYTES) continue;
    const header = readBytes(disk, blockSize, gpt.GPT_HEADER_BYTES);
    if (Buffer.from(header.subarray(0, 8)).toString("latin1") === gpt.GPT_SIGNATURE) return { blockSize, header };
  }
  throw invalid("a partition table", "none", undefined);
}

function invalid(expected: string, got: string, offset: number | undefined): UkiSignError {
  return new UkiSignError("UKI_SIGN_GPT_INVALID", `expected ${expected}, got ${got}`, { offset });
}
