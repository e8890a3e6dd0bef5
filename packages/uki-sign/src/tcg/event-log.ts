import { UkiSignError } from "../errors.ts";
import * as tcg from "../format/tcg.ts";
import { TPM_ALG_ID } from "../format/tpm.ts";
import { copyBytes, viewOf } from "../internal/bytes.ts";

/** Largest event log that is decoded, in bytes. */
export const DEFAULT_MAX_EVENT_LOG_BYTES = 16 * 1024 * 1024;

/** Most events of a log that are decoded. */
export const DEFAULT_MAX_EVENTS = 16384;

/** Most hash algorithms that a log may announce. */
export const DEFAULT_MAX_EVENT_LOG_ALGORITHMS = 16;

/** A hash algorithm that a log has digests of. */
export interface EventLogAlgorithm {
  /** `sha1`, `sha256`, `sha384`, `sha512`, `sm3-256`, `sha3-…`; `0x` and four digits for any other */
  readonly name: string;
  /** TPM_ALG_ID */
  readonly id: number;
  /** size of a digest, in `bytes` */
  readonly sizeBytes: number;
}

/** One event of a log: something that firmware, boot loader or kernel stub says it extended a register with. */
export interface TcgEvent {
  /** position in the log, counted from 0 */
  readonly index: number;
  /** position in the input, in `bytes` */
  readonly offset: number;
  /** register */
  readonly pcr: number;
  /** number of the event's type */
  readonly type: number;
  /** name of the type: `EV_SEPARATOR`; its number in hexadecimal when it has none */
  readonly typeName: string;
  /** what the register was extended with, by algorithm; meaningless for EV_NO_ACTION */
  readonly digests: Readonly<Record<string, Uint8Array>>;
  /** what the event says about itself; nothing but some types' digests binds it to what was measured */
  readonly data: Uint8Array;
}

/** A decoded event log. */
export interface EventLog {
  /** `crypto-agile` of TPM 2.0, or `sha1` of TPM 1.2 and of old firmware */
  readonly format: "crypto-agile" | "sha1";
  /** algorithms in the order of the header */
  readonly algorithms: readonly EventLogAlgorithm[];
  /** locality from which the TPM was started: the last byte of PCR 0 before the first event */
  readonly startupLocality: number;
  /** events in order, the header included */
  readonly events: readonly TcgEvent[];
}

/**
 * Decodes a TCG event log, as Linux shows it in `/sys/kernel/security/tpm0/binary_bios_measurements`.
 *
 * Nothing in a log is true because it is there: replay it and compare with a quote of the TPM.
 *
 * @param log - The whole log; copied.
 * @returns The events in order.
 * @throws {UkiSignError} `UKI_SIGN_EVENT_LOG_INVALID` with the offset when the log ends in the middle of an event, or when an
 *   event names a register or digests that cannot be, `UKI_SIGN_TOO_LARGE` beyond {@link DEFAULT_MAX_EVENT_LOG_BYTES},
 *   {@link DEFAULT_MAX_EVENTS} or {@link DEFAULT_MAX_EVENT_LOG_ALGORITHMS}.
 * @see TCG PC Client Platform Firmware Profile 1.06 sections 10.2 and 10.4.5.1
 * @example
 * const { events } = decodeEventLog(await readFile("binary_bios_measurements"));
 */
export function decodeEventLog(log: Uint8Array): EventLog {
  if (log.length > DEFAULT_MAX_EVENT_LOG_BYTES) {
    const message = `expected at most ${DEFAULT_MAX_EVENT_LOG_BYTES} bytes of event log, got ${log.length}`;
    throw new UkiSignError("UKI_SIGN_TOO_LARGE", message);
  }
  const first = readSha1Event(log, 0, 0);
  const agile = readSpecId(first.event);
  const algorithms = agile ?? [{ name: "sha1", id: TPM_ALG_ID.sha1, sizeBytes: tcg.SHA1_BYTES }];
  const byId = new Map(algorithms.map((algorithm) => [algorithm.id, algorithm]));
  const events = [first.event];
  for (let offset = first.next; offset < log.length; ) {
    if (events.length >= DEFAULT_MAX_EVENTS) {
      const message = `expected at most ${DEFAULT_MAX_EVENTS} events, got more (at byte ${offset})`;
      throw new UkiSignError("UKI_SIGN_TOO_LARGE", message, { offset });
    }
    const { event, next } =
      agile === undefined
        ? readSha1Event(log, offset, events.length)
        : readAgileEvent(log, offset, events.length, byId);
    events.push(event);
    offset = next;
  }
  return {
    format: agile === undefined ? "sha1" : "crypto-agile",
    algorithms,
    startupLocality: findStartupLocality(events),
    events,
  };
}

interface Read {
  readonly event: TcgEvent;
  /** where the next event starts */
  readonly next: number;
}

function readSha1Event(log: Uint8Array, offset: number, index: number): Read {
  need(log, offset, tcg.SHA1_EVENT_HEADER_BYTES, "an event header");
  const view = viewOf(log);
  const digest = offset + tcg.SHA1_EVENT_DIGEST_OFFSET;
  const digests = { sha1: copyBytes(log, digest, digest + tcg.SHA1_BYTES) };
  return readEvent(log, { offset, index, digests, sizeOffset: offset + tcg.SHA1_EVENT_SIZE_OFFSET, view });
}

function readAgileEvent(
  log: Uint8Array,
  offset: number,
  index: number,
  algorithms: ReadonlyMap<number, EventLogAlgorithm>,
): Read {
  need(log, offset, tcg.EVENT2_DIGESTS_OFFSET, "an event header");
  const view = viewOf(log);
  const count = view.getUint32(offset + 8, true);
  if (count === 0 || count > algorithms.size) {
    throw invalid(`1 to ${algorithms.size} digests, got ${count}`, offset + 8);
  }
  const digests: Record<string, Uint8Array> = {};
  let at = offset + tcg.EVENT2_DIGESTS_OFFSET;
  for (let done = 0; done < count; done++) {
    need(log, at, 2, "a digest's algorithm");
    const id = view.getUint16(at, true);
    const algorithm = algorithms.get(id);
    if (algorithm === undefined) throw invalid(`an algorithm that the header announces, got 0x${id.toString(16)}`, at);
    if (Object.hasOwn(digests, algorithm.name)) throw invalid(`one ${algorithm.name} digest, got two`, at);
    need(log, at + 2, algorithm.sizeBytes, `a ${algorithm.name} digest`);
    digests[algorithm.name] = copyBytes(log, at + 2, at + 2 + algorithm.sizeBytes);
    at += 2 + algorithm.sizeBytes;
  }
  need(log, at, 4, "an event's size");
  return readEvent(log, { offset, index, digests, sizeOffset: at, view });
}

/** The parts that both kinds of events have in the same form. */
function readEvent(
  log: Uint8Array,
  known: Pick<TcgEvent, "offset" | "index" | "digests"> & { readonly sizeOffset: number; readonly view: DataView },
): Read {
  const { offset, index, digests, sizeOffset, view } = known;
  const pcr = view.getUint32(offset, true);
  const type = view.getUint32(offset + 4, true);
  const size = view.getUint32(sizeOffset, true);
  const start = sizeOffset + 4;
  // EV_NO_ACTION extends nothing, and firmware gives it any register.
  if (type !== tcg.EV_NO_ACTION && pcr >= tcg.PCR_COUNT) {
    throw invalid(`a register below ${tcg.PCR_COUNT}, got ${pcr}`, offset);
  }
  need(log, start, size, "an event's data");
  const typeName = tcg.EVENT_TYPE_NAMES.get(type) ?? `0x${type.toString(16).padStart(8, "0")}`;
  const data = copyBytes(log, start, start + size);
  return { event: { index, offset, pcr, type, typeName, digests, data }, next: start + size };
}

/** The algorithms of a TCG_EfiSpecIDEvent; undefined for any other event, with which a SHA-1 log starts. */
function readSpecId({ type, data }: TcgEvent): EventLogAlgorithm[] | undefined {
  const base = tcg.SHA1_EVENT_HEADER_BYTES;
  if (type !== tcg.EV_NO_ACTION || !startsWith(data, tcg.SPEC_ID_SIGNATURE)) return undefined;
  need(data, 0, tcg.SPEC_ID_ALGORITHMS_OFFSET, "the log's header", base);
  const view = viewOf(data);
  const count = view.getUint32(tcg.SPEC_ID_ALGORITHM_COUNT_OFFSET, true);
  if (count > DEFAULT_MAX_EVENT_LOG_ALGORITHMS) {
    const message = `expected at most ${DEFAULT_MAX_EVENT_LOG_ALGORITHMS} hash algorithms, got ${count}`;
    throw new UkiSignError("UKI_SIGN_TOO_LARGE", message, { offset: base + tcg.SPEC_ID_ALGORITHM_COUNT_OFFSET });
  }
  if (count === 0) throw invalid("a hash algorithm, got none", base + tcg.SPEC_ID_ALGORITHM_COUNT_OFFSET);
  need(data, tcg.SPEC_ID_ALGORITHMS_OFFSET, count * 4, "the header's hash algorithms", base);
  const algorithms = Array.from({ length: count }, (_, index) => {
    const at = tcg.SPEC_ID_ALGORITHMS_OFFSET + index * 4;
    const id = view.getUint16(at, true);
    const name = tcg.HASH_ALGORITHMS.get(id)?.name ?? `0x${id.toString(16).padStart(4, "0")}`;
    const sizeBytes = view.getUint16(at + 2, true);
    const expected = tcg.HASH_ALGORITHMS.get(id)?.sizeBytes ?? sizeBytes;
    if (sizeBytes !== expected || sizeBytes === 0 || sizeBytes > tcg.MAX_DIGEST_BYTES) {
      const wanted = tcg.HASH_ALGORITHMS.has(id) ? `${expected}` : `1 to ${tcg.MAX_DIGEST_BYTES}`;
      throw invalid(`${name} digests of ${wanted} bytes, got ${sizeBytes}`, base + at + 2);
    }
    return { name, id, sizeBytes };
  });
  if (new Set(algorithms.map(({ id }) => id)).size < count) {
    throw invalid("each hash algorithm once, got one twice", base + tcg.SPEC_ID_ALGORITHMS_OFFSET);
  }
  return algorithms;
}

function findStartupLocality(events: readonly TcgEvent[]): number {
  const found = events.find(
    ({ type, data }) =>
      type === tcg.EV_NO_ACTION &&
      data.length === tcg.STARTUP_LOCALITY_BYTES &&
      startsWith(data, tcg.STARTUP_LOCALITY_SIGNATURE),
  );
  return found?.data.at(-1) ?? 0;
}

function startsWith(data: Uint8Array, text: string): boolean {
  return Buffer.from(data.subarray(0, text.length)).toString("latin1") === text;
}

/** @param base - where `bytes` starts in the log, for the error */
function need(bytes: Uint8Array, offset: number, size: number, what: string, base = 0): void {
  if (offset + size <= bytes.length) return;
  throw invalid(`${what} of ${size} bytes, got ${Math.max(0, bytes.length - offset)}`, base + offset);
}

function invalid(expectation: string, offset: number): UkiSignError {
  return new UkiSignError("UKI_SIGN_EVENT_LOG_INVALID", `expected ${expectation} (at byte ${offset})`, { offset });
}
