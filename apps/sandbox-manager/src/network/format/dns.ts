// Domain names, RFC 1035, section 4; EDNS, RFC 6891, whose records are passed over.
import { malformed, viewOf } from "./packet.ts";

/** Types of records that are told apart. */
export const DNS_TYPE = { a: 1, aaaa: 28, https: 65 } as const;
/** How a query is answered. */
export const DNS_CODE = { ok: 0, noSuchName: 3, refused: 5 } as const;

const HEADER_BYTES = 12;
const CLASS_INTERNET = 1;
const MAX_LABEL_BYTES = 63;
const MAX_NAME_BYTES = 255;
const FLAG_RESPONSE = 0x8000;
const FLAG_AUTHORITATIVE = 0x0400;
const FLAG_RECURSION_DESIRED = 0x0100;
const FLAG_RECURSION_AVAILABLE = 0x0080;
const OPCODE = 0x7800;
const ANSWER_BYTES = 16;
/** The name of an answer is that of the question. */
const NAME_OF_QUESTION = 0xc000 | HEADER_BYTES;

/** One question. */
export interface DnsQuery {
  readonly id: number;
  /** lower case, labels with dots between them, no dot at the end */
  readonly name: string;
  readonly type: number;
  readonly flags: number;
  /** the question as it was written; aliases the query */
  readonly question: Uint8Array;
}

/** Decodes a query of one question, about the Internet. @throws {SandboxError} `SANDBOX_NETWORK_MALFORMED`. */
export function decodeDnsQuery(bytes: Uint8Array): DnsQuery {
  const view = viewOf(bytes, "a DNS query", HEADER_BYTES);
  const flags = view.getUint16(2);
  if ((flags & (FLAG_RESPONSE | OPCODE)) !== 0) throw malformed("a standard DNS query", flags);
  const [questions, answers] = [view.getUint16(4), view.getUint16(6)];
  if (questions !== 1 || answers !== 0) throw malformed("one DNS question", `${questions}, and ${answers} answers`);
  const labels: string[] = [];
  let at = HEADER_BYTES;
  for (;;) {
    const length = bytes[at];
    if (length === undefined) throw malformed("a DNS name that ends", "the end of the query");
    at += 1;
    if (length === 0) break;
    // A pointer would be longer; a question has nothing to point to.
    if (length > MAX_LABEL_BYTES) throw malformed("a DNS label", length);
    if (at + length > bytes.length) throw malformed("a DNS label that ends", "the end of the query");
    labels.push(String.fromCharCode(...bytes.subarray(at, at + length)));
    at += length;
    if (at - HEADER_BYTES >= MAX_NAME_BYTES) throw malformed("a DNS name of at most 255 bytes", at - HEADER_BYTES);
  }
  if (at + 4 > bytes.length) throw malformed("type and class of a DNS question", "the end of the query");
  if (view.getUint16(at + 2) !== CLASS_INTERNET) throw malformed("a question of the Internet", view.getUint16(at + 2));
  return {
    id: view.getUint16(0),
    name: labels.join(".").toLowerCase(),
    type: view.getUint16(at),
    flags,
    question: bytes.subarray(HEADER_BYTES, at + 4),
  };
}

/** What is answered: a code, and an address if there is one. */
export interface DnsAnswer {
  readonly code: number;
  readonly address?: number | undefined;
  /** how long it may be remembered, in `seconds` */
  readonly ttl?: number | undefined;
}

/** Encodes the answer to a query. */
export function encodeDnsAnswer({ id, flags, question }: DnsQuery, { code, address, ttl = 0 }: DnsAnswer): Uint8Array {
  const end = HEADER_BYTES + question.length;
  const bytes = new Uint8Array(end + (address === undefined ? 0 : ANSWER_BYTES));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, id);
  const kept = flags & FLAG_RECURSION_DESIRED;
  view.setUint16(2, FLAG_RESPONSE | FLAG_AUTHORITATIVE | FLAG_RECURSION_AVAILABLE | kept | code);
  view.setUint16(4, 1);
  bytes.set(question, HEADER_BYTES);
  if (address === undefined) return bytes;
  view.setUint16(6, 1);
  view.setUint16(end, NAME_OF_QUESTION);
  view.setUint16(end + 2, DNS_TYPE.a);
  view.setUint16(end + 4, CLASS_INTERNET);
  view.setUint32(end + 6, ttl);
  view.setUint16(end + 10, 4);
  view.setUint32(end + 12, address);
  return bytes;
}
