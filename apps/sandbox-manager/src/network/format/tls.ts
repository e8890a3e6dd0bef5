// The first message of TLS: RFC 8446, sections 4.1.2 and 5.1; server_name, RFC 6066, section 3.
import { createHash } from "node:crypto";
import { malformed } from "./packet.ts";

const RECORD_HEADER_BYTES = 5;
const MAX_RECORD_BYTES = 1 << 14;
const CHANGE_CIPHER_SPEC = 20;
const ALERT = 21;
const HANDSHAKE = 22;
const APPLICATION_DATA = 23;
const CLIENT_HELLO = 1;
const SERVER_HELLO = 2;
/** Nobody sends a ClientHello in so many. */
const MAX_RECORDS = 64;
const HANDSHAKE_HEADER_BYTES = 4;
/** Longest message that is read, in `bytes`; post-quantum keys take some thousand. */
export const DEFAULT_MAX_CLIENT_HELLO_BYTES: number = 64 * 1024;
const EXTENSION = { serverName: 0, encryptedClientHello: 0xfe0d } as const;
const HOST_NAME = 0;
const RANDOM_BYTES = 32;
const VERSION_BYTES = 2;
/** In place of a server's random number: it wants to be told once more. @see RFC 8446, section 4.1.3 */
const RETRY_RANDOM = createHash("sha256").update("HelloRetryRequest").digest();
/** `access_denied`. @see RFC 8446, section 6.2 */
const ACCESS_DENIED = 49;
const FATAL = 2;

/** The first byte of a connection that speaks TLS. */
export const TLS_FIRST_BYTE: number = HANDSHAKE;
/** What ends a handshake: somebody has decided not to go on. */
export const TLS_ACCESS_DENIED: Uint8Array = Uint8Array.of(ALERT, 3, 3, 0, 2, FATAL, ACCESS_DENIED);

/** What a client says before anything is secret. */
export interface ClientHello {
  /** lower case, absent when the client does not say */
  readonly serverName?: string | undefined;
  /** whether it has another name that only the server can read */
  readonly isEncrypted: boolean;
  /** length of the records that it is in, in `bytes` */
  readonly length: number;
}

/**
 * Decodes the first message of a connection.
 *
 * @param bytes - What has come so far; whatever follows the message is not looked at.
 * @returns Undefined while there is more to come.
 * @throws {SandboxError} `SANDBOX_NETWORK_MALFORMED`.
 */
export function decodeClientHello(bytes: Uint8Array): ClientHello | undefined {
  return decodeHello(bytes, []);
}

/**
 * Decodes what a client sends who was asked to begin once more. Before it may come what was sent too early, and what TLS 1.2
 * had there.
 *
 * @returns Undefined while there is more to come.
 * @throws {SandboxError} `SANDBOX_NETWORK_MALFORMED`.
 * @see RFC 8446, section 4.1.2; appendix D.4
 */
export function decodeSecondClientHello(bytes: Uint8Array): ClientHello | undefined {
  return decodeHello(bytes, [CHANGE_CIPHER_SPEC, APPLICATION_DATA]);
}

/** Whether a server asks a client to begin once more; undefined while there is more to come. */
export function isHelloRetryRequest(bytes: Uint8Array): boolean | undefined {
  const parts: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = ((bytes[at + 3] ?? 0) << 8) | (bytes[at + 4] ?? 0);
    if (bytes[at] !== HANDSHAKE || parts.length > MAX_RECORDS) return false;
    parts.push(bytes.subarray(at + RECORD_HEADER_BYTES, at + RECORD_HEADER_BYTES + length));
    at += RECORD_HEADER_BYTES + length;
  }
  const message = Buffer.concat(parts);
  const random = HANDSHAKE_HEADER_BYTES + VERSION_BYTES;
  if (message.length > 0 && message[0] !== SERVER_HELLO) return false;
  if (message.length < random + RANDOM_BYTES) return undefined;
  return message.subarray(random, random + RANDOM_BYTES).equals(RETRY_RANDOM);
}

function decodeHello(bytes: Uint8Array, skipped: readonly number[]): ClientHello | undefined {
  const found = handshake(bytes, skipped);
  return found && { ...decodeBody(new Fields(found.message)), length: found.length };
}

/** The message, out of as many records as it takes, after those that are skipped. */
function handshake(
  bytes: Uint8Array,
  skipped: readonly number[],
): { readonly message: Uint8Array; readonly length: number } | undefined {
  const parts: Uint8Array[] = [];
  let have = 0;
  let want = HANDSHAKE_HEADER_BYTES;
  for (let at = 0; ; ) {
    const header = bytes.subarray(at, at + RECORD_HEADER_BYTES);
    const [type, major] = header;
    const isSkipped = type !== undefined && parts.length === 0 && skipped.includes(type);
    if (type !== undefined && type !== HANDSHAKE && !isSkipped) throw malformed("a TLS handshake", type);
    if (major !== undefined && major !== 3) throw malformed("TLS", `version ${major}`);
    if (header.length < RECORD_HEADER_BYTES) return undefined;
    const length = ((header[3] ?? 0) << 8) | (header[4] ?? 0);
    // What is encrypted is a little longer. @see RFC 8446, section 5.2
    const longest = isSkipped ? MAX_RECORD_BYTES + 256 : MAX_RECORD_BYTES;
    if (length === 0 || length > longest) throw malformed("a TLS record", `${length} bytes`);
    at += RECORD_HEADER_BYTES;
    if (isSkipped) {
      at += length;
      if (at > bytes.length) return undefined;
      continue;
    }
    const part = bytes.subarray(at, at + length);
    parts.push(part);
    if (parts.length > MAX_RECORDS) throw malformed("a ClientHello", `more than ${MAX_RECORDS} records`);
    have += part.length;
    at += length;
    if (want === HANDSHAKE_HEADER_BYTES && have >= HANDSHAKE_HEADER_BYTES) {
      const [kind, high = 0, middle = 0, low = 0] = Buffer.concat(parts, HANDSHAKE_HEADER_BYTES);
      if (kind !== CLIENT_HELLO) throw malformed("a ClientHello", kind);
      want = HANDSHAKE_HEADER_BYTES + ((high << 16) | (middle << 8) | low);
      if (want > DEFAULT_MAX_CLIENT_HELLO_BYTES) throw malformed("a ClientHello", `${want} bytes`);
    }
    if (want > HANDSHAKE_HEADER_BYTES && have >= want) {
      if (have > want || part.length < length) throw malformed("the end of a record after a ClientHello", "more");
      return { message: Buffer.concat(parts, want).subarray(HANDSHAKE_HEADER_BYTES), length: at };
    }
    if (part.length < length) return undefined;
  }
}

function decodeBody(body: Fields): Omit<ClientHello, "length"> {
  body.take(VERSION_BYTES + RANDOM_BYTES);
  body.vector(1);
  body.vector(2);
  body.vector(1);
  let serverName: string | undefined;
  let isEncrypted = false;
  const seen = new Set<number>();
  const extensions = body.isEmpty ? undefined : body.vector(2);
  while (extensions !== undefined && !extensions.isEmpty) {
    const type = extensions.number(2);
    const data = extensions.vector(2);
    if (seen.has(type)) throw malformed("each TLS extension once", `${type} twice`);
    seen.add(type);
    if (type === EXTENSION.serverName) serverName = decodeServerName(data);
    if (type === EXTENSION.encryptedClientHello) isEncrypted = true;
  }
  if (!body.isEmpty) throw malformed("the end of a ClientHello", "more");
  return { serverName, isEncrypted };
}

function decodeServerName(data: Fields): string {
  const list = data.vector(2);
  const type = list.number(1);
  const name = list.vector(2);
  if (type !== HOST_NAME || !list.isEmpty || !data.isEmpty) throw malformed("one host name in server_name", "another");
  return String.fromCharCode(...name.take(Math.min(name.left, 256))).toLowerCase();
}

/** Numbers and vectors, one after the other. @see RFC 8446, section 3 */
class Fields {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  get isEmpty(): boolean {
    return this.left === 0;
  }

  take(length: number): Uint8Array {
    if (length > this.left) throw malformed(`${length} bytes of a ClientHello`, this.left);
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  number(bytes: number): number {
    return this.take(bytes).reduce((number, byte) => number * 256 + byte, 0);
  }

  /** What comes after its length. */
  vector(lengthBytes: number): Fields {
    return new Fields(this.take(this.number(lengthBytes)));
  }
}
