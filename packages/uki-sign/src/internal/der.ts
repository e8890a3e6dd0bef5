import { UkiSignError } from "../errors.ts";
import { concat, plainView } from "./bytes.ts";

/**
 * Distinguished Encoding Rules, ITU-T X.690 (02/2021): a strict reader with offsets and a writer.
 * Strict means: one-octet tags, definite minimal lengths, nothing left over. The reader never recurses; callers walk
 * the structure they expect.
 */

/** Identifier octets used by X.509 and CMS. */
export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utf8String: 0x0c,
  printableString: 0x13,
  t61String: 0x14,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  bmpString: 0x1e,
  sequence: 0x30,
  set: 0x31,
} as const;

/** `[n]`, primitive. */
export const contextPrimitive = (n: number): number => 0x80 | n;
/** `[n]`, constructed. */
export const contextConstructed = (n: number): number => 0xa0 | n;

/** One tag-length-value; `bytes` and `contents` alias the input. */
export interface DerElement {
  readonly tag: number;
  /** offset of the identifier octet in the outermost input, in `bytes` */
  readonly offset: number;
  /** the whole element, header included */
  readonly bytes: Uint8Array;
  readonly contents: Uint8Array;
  /** offset of the first content octet in the outermost input, in `bytes` */
  readonly contentsOffset: number;
}

/** The error for input that is not the expected DER. */
export function badDer(message: string, offset: number): UkiSignError {
  return new UkiSignError("UKI_SIGN_DER_INVALID", `${message} (at byte ${offset})`, { offset });
}

const hex = (octet: number): string => `0x${octet.toString(16).padStart(2, "0")}`;

/** Reads the elements of one constructed value in order. */
export class DerReader {
  readonly #bytes: Uint8Array;
  readonly #base: number;
  #position = 0;

  /** @param base - offset of `bytes[0]` in the outermost input, for messages */
  constructor(bytes: Uint8Array, base = 0) {
    this.#bytes = plainView(bytes);
    this.#base = base;
  }

  /** offset of the next element in the outermost input */
  get offset(): number {
    return this.#base + this.#position;
  }

  get done(): boolean {
    return this.#position >= this.#bytes.length;
  }

  /** Next identifier octet, undefined at the end. */
  peek(): number | undefined {
    return this.#bytes[this.#position];
  }

  /** Reads the next element; `what` names it in errors. */
  next(what: string, tag?: number): DerElement {
    const start = this.#position;
    const identifier = this.#bytes[start];
    if (identifier === undefined) throw badDer(`expected ${what}, got the end`, this.offset);
    if (tag !== undefined && identifier !== tag) {
      throw badDer(`expected ${what} (tag ${hex(tag)}), got tag ${hex(identifier)}`, this.offset);
    }
    if ((identifier & 0x1f) === 0x1f)
      throw badDer(`expected a one-octet tag in ${what}, got a longer one`, this.offset);
    const { length, headerBytes } = this.#length(start + 1, what);
    const contentsStart = start + 1 + headerBytes;
    const end = contentsStart + length;
    if (end > this.#bytes.length) {
      const left = this.#bytes.length - contentsStart;
      throw badDer(`expected ${length} content bytes in ${what}, got ${left}`, this.offset);
    }
    this.#position = end;
    return {
      tag: identifier,
      offset: this.#base + start,
      bytes: this.#bytes.subarray(start, end),
      contents: this.#bytes.subarray(contentsStart, end),
      contentsOffset: this.#base + contentsStart,
    };
  }

  /** Reads the next element when its tag is `tag`. */
  optional(what: string, tag: number): DerElement | undefined {
    return this.peek() === tag ? this.next(what, tag) : undefined;
  }

  /** Reads a SEQUENCE (or another constructed `tag`) and returns a reader of its contents. */
  enter(what: string, tag: number = TAG.sequence): DerReader {
    return into(this.next(what, tag));
  }

  /** Refuses anything left over. */
  end(what: string): void {
    if (!this.done)
      throw badDer(`expected the end of ${what}, got ${this.#bytes.length - this.#position} more bytes`, this.offset);
  }

  #length(at: number, what: string): { length: number; headerBytes: number } {
    const first = this.#bytes[at];
    if (first === undefined) throw badDer(`expected a length in ${what}, got the end`, this.#base + at);
    if (first < 0x80) return { length: first, headerBytes: 1 };
    const count = first & 0x7f;
    if (count === 0) throw badDer(`expected a definite length in ${what}, got an indefinite one`, this.#base + at);
    if (count > 4) throw badDer(`expected a length of at most 4 octets in ${what}, got ${count}`, this.#base + at);
    let length = 0;
    for (let i = 1; i <= count; i++) {
      const octet = this.#bytes[at + i];
      if (octet === undefined) throw badDer(`expected a length in ${what}, got the end`, this.#base + at);
      length = length * 256 + octet;
    }
    if (length < 0x80 || length < 256 ** (count - 1)) {
      throw badDer(`expected the shortest form of the length in ${what}`, this.#base + at);
    }
    return { length, headerBytes: 1 + count };
  }
}

/** A reader of the contents of `element`. */
export function into(element: DerElement): DerReader {
  return new DerReader(element.contents, element.contentsOffset);
}

/** The dotted text of an OBJECT IDENTIFIER. */
export function readOid(element: DerElement): string {
  const octets = element.contents;
  const last = octets.at(-1);
  if (last === undefined || (last & 0x80) !== 0) throw badDer("expected a complete object identifier", element.offset);
  const arcs: number[] = [];
  let value = 0;
  let fresh = true;
  for (const octet of octets) {
    if (fresh && octet === 0x80) throw badDer("expected the shortest form of an object identifier", element.offset);
    // Arcs beyond 2^46 have no use here, and a number has to hold them exactly.
    if (value >= 2 ** 46) throw badDer("expected an object identifier with arcs below 2^53", element.offset);
    value = value * 128 + (octet & 0x7f);
    fresh = (octet & 0x80) === 0;
    if (fresh) {
      arcs.push(value);
      value = 0;
    }
  }
  const [first = 0, ...rest] = arcs;
  const root = Math.min(2, Math.floor(first / 40));
  return [root, first - root * 40, ...rest].join(".");
}

/** Longest INTEGER that is read, in octets: a modulus of 16384 bits and its sign octet. */
const MAX_INTEGER_OCTETS = 2049;

/** A BOOLEAN, in one of its two DER forms. */
export function readBoolean(element: DerElement): boolean {
  const [octet] = element.contents;
  if (element.contents.length !== 1 || (octet !== 0x00 && octet !== 0xff)) {
    throw badDer("expected a boolean of 0x00 or 0xff", element.offset);
  }
  return octet === 0xff;
}

/** An INTEGER, shortest form required. */
export function readInteger(element: DerElement): bigint {
  const octets = element.contents;
  if (octets.length > MAX_INTEGER_OCTETS) {
    throw badDer(`expected an integer of at most ${MAX_INTEGER_OCTETS} octets, got ${octets.length}`, element.offset);
  }
  const [first, second] = octets;
  if (first === undefined) throw badDer("expected an integer of at least one octet", element.offset);
  if (second !== undefined && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80))) {
    throw badDer("expected the shortest form of an integer", element.offset);
  }
  const unsigned = BigInt(`0x${Buffer.from(octets).toString("hex")}`);
  return first < 0x80 ? unsigned : unsigned - (1n << BigInt(8 * octets.length));
}

/** The octets of a BIT STRING without unused bits. */
export function readBitString(element: DerElement): Uint8Array {
  if (element.contents[0] !== 0) throw badDer("expected a bit string of whole octets", element.offset);
  return element.contents.subarray(1);
}

/** UTCTime or GeneralizedTime as RFC 5280 4.1.2.5 restricts them: to the second, in UTC. */
export function readTime(reader: DerReader, what: string): Date {
  const element = reader.next(what);
  const text = Buffer.from(element.contents).toString("latin1");
  const pattern =
    element.tag === TAG.utcTime
      ? /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/
      : element.tag === TAG.generalizedTime
        ? /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/
        : undefined;
  const match = pattern?.exec(text);
  if (!match) throw badDer(`expected a UTC time to the second in ${what}`, element.offset);
  const [year = 0, month = 0, day = 0, hours = 0, minutes = 0, seconds = 0] = match.slice(1).map(Number);
  const fullYear = element.tag === TAG.utcTime ? year + (year < 50 ? 2000 : 1900) : year;
  const time = new Date(0);
  time.setUTCFullYear(fullYear, month - 1, day);
  time.setUTCHours(hours, minutes, seconds);
  if (time.getUTCMonth() !== month - 1 || time.getUTCDate() !== day || hours > 23 || minutes > 59 || seconds > 59) {
    throw badDer(`expected a time that exists in ${what}`, element.offset);
  }
  return time;
}

/** One element from its tag and the concatenation of `parts`. */
export function der(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const size: number[] = [];
  if (length < 0x80) size.push(length);
  else {
    for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) size.unshift(rest % 256);
    size.unshift(0x80 | size.length);
  }
  return concat(Uint8Array.of(tag, ...size), ...parts);
}

export const derSequence = (...parts: readonly Uint8Array[]): Uint8Array => der(TAG.sequence, ...parts);
export const derNull = (): Uint8Array => der(TAG.null);
export const derOctetString = (octets: Uint8Array): Uint8Array => der(TAG.octetString, octets);
export const derBitString = (octets: Uint8Array): Uint8Array => der(TAG.bitString, Uint8Array.of(0), octets);
export const derUtf8 = (text: string): Uint8Array => der(TAG.utf8String, new TextEncoder().encode(text));
export const derPrintable = (text: string): Uint8Array => der(TAG.printableString, new TextEncoder().encode(text));
export const derTrue = (): Uint8Array => der(TAG.boolean, Uint8Array.of(0xff));

/** SET OF: elements in ascending order of their encodings (X.690 11.6). */
export function derSetOf(elements: readonly Uint8Array[], tag: number = TAG.set): Uint8Array {
  return der(tag, ...[...elements].sort((a, b) => Buffer.compare(a, b)));
}

/** INTEGER, two's complement, shortest form. */
export function derInteger(value: bigint | number): Uint8Array {
  let rest = BigInt(value);
  const octets: number[] = [];
  do {
    octets.unshift(Number(BigInt.asUintN(8, rest)));
    rest >>= 8n;
  } while (!(rest === 0n && (octets[0] ?? 0) < 0x80) && !(rest === -1n && (octets[0] ?? 0) >= 0x80));
  return der(TAG.integer, Uint8Array.from(octets));
}

/** OBJECT IDENTIFIER from dotted text; the caller has checked that it is one. */
export function derOid(dotted: string): Uint8Array {
  const [root = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  const octets: number[] = [];
  for (const arc of [root * 40 + second, ...rest]) {
    const group = [arc % 128];
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128)) group.unshift(0x80 | (left % 128));
    octets.push(...group);
  }
  return der(TAG.oid, Uint8Array.from(octets));
}

/** Time as RFC 5280 4.1.2.5 wants it: UTCTime for 1950 to 2049, else GeneralizedTime. */
export function derTime(time: Date): Uint8Array {
  const digits = time
    .toISOString()
    .replace(/\.\d+Z$/, "Z")
    .replaceAll(/[-:T]/g, "");
  const year = time.getUTCFullYear();
  if (!(year >= 0 && year <= 9999)) {
    throw new UkiSignError("UKI_SIGN_BAD_OPTIONS", `expected a time in the years 0 to 9999, got ${year}`);
  }
  const utc = year >= 1950 && year < 2050;
  return der(utc ? TAG.utcTime : TAG.generalizedTime, new TextEncoder().encode(utc ? digits.slice(2) : digits));
}
