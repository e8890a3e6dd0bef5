// Requests of HTTP/1.1, RFC 9112: message format (section 2), request line (3), fields (5), body length (6).
import { malformed } from "./packet.ts";

/** Longest head of a request that is read, in `bytes`. */
const MAX_HEAD_BYTES = 64 * 1024;
const MAX_FIELDS = 200;
const END_OF_HEAD = "\r\n\r\n";
const REQUEST_LINE = /^([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}) ([\x21-\x7e]+) HTTP\/1\.([01])$/;
const FIELD = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)$/;
const AUTHORITY = /^([^:/?#@[\]]+)(?::(\d{1,5}))?$/;
const ABSOLUTE = /^(https?):\/\/([^/?#]*)(.*)$/i;
/** Ports of URLs that name none. */
export const DEFAULT_PORT = { http: 80, https: 443 } as const;
/** Fields between two ends of one connection, which is not the one that the request goes on with. @see RFC 9110, section 7.6.1 */
const OF_CONNECTION = ["connection", "keep-alive", "proxy-connection", "upgrade", "http2-settings", "te"];

/** How a request comes: as it is, or through TLS. */
export type Scheme = keyof typeof DEFAULT_PORT;

/** What ends a request's body. */
export type BodyLength = { readonly kind: "bytes"; readonly bytes: number } | { readonly kind: "chunked" };

/** The head of a request. */
export interface RequestHead {
  readonly method: string;
  /** path and query */
  readonly target: string;
  readonly minorVersion: number;
  /** whom it is for, lower case */
  readonly host: string;
  readonly port: number;
  /** names as they were written, and values */
  readonly fields: readonly (readonly [string, string])[];
  readonly body: BodyLength;
  /** whether it asks for the connection to be one of WebSocket from then on */
  readonly isUpgrade: boolean;
  /** length of the head in `bytes` */
  readonly length: number;
}

/** Whether bytes can be the beginning of a request: letters of a method. */
export function mayBeRequest(bytes: Uint8Array): boolean {
  return /^[A-Z]{1,20}(?: |$)/.test(Buffer.from(bytes.subarray(0, 21)).toString("latin1"));
}

/**
 * Decodes the head of a request. What the standard allows a server to take in one way or another is refused: two readers
 * could disagree about it.
 *
 * @param bytes - What has come so far; what follows the head is not looked at.
 * @returns Undefined while there is more to come.
 * @throws {SandboxError} `SANDBOX_NETWORK_MALFORMED`.
 */
export function decodeRequestHead(bytes: Uint8Array, scheme: Scheme = "http"): RequestHead | undefined {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, MAX_HEAD_BYTES)).toString("latin1");
  const end = text.indexOf(END_OF_HEAD);
  if (end < 0) {
    if (bytes.length >= MAX_HEAD_BYTES) throw malformed("a request's head", `${bytes.length} bytes`);
    return undefined;
  }
  const [first = "", ...lines] = text.slice(0, end).split("\r\n");
  const [, method, written, minor] = REQUEST_LINE.exec(first) ?? [];
  if (method === undefined || written === undefined) throw malformed("a line of a request", JSON.stringify(first));
  if (lines.length > MAX_FIELDS) throw malformed(`at most ${MAX_FIELDS} fields`, lines.length);
  const fields = lines.map((line) => {
    const [, name, value] = FIELD.exec(line) ?? [];
    if (name === undefined || value === undefined) throw malformed("a field of a request", JSON.stringify(line));
    return [name, trimBlanks(value)] as const;
  });
  const [, form, authority, rest] = ABSOLUTE.exec(written) ?? [];
  if (form !== undefined && form.toLowerCase() !== scheme)
    throw malformed(`a URL of ${scheme}`, JSON.stringify(written));
  const target = authority === undefined ? written : rest?.startsWith("/") ? rest : `/${rest}`;
  const isPath = target.startsWith("/") || (target === "*" && method === "OPTIONS");
  if (!isPath) throw malformed("a path", JSON.stringify(written));
  const { host, port } = authorityOf(only(fields, "host"), scheme);
  if (authority !== undefined) {
    const named = authorityOf(authority, scheme);
    if (named.host !== host || named.port !== port) throw malformed("one host", `${named.host} and ${host}`);
  }
  const length = end + END_OF_HEAD.length;
  const body = bodyOf(fields, minor);
  const isUpgrade = method === "GET" && minor === "1" && hasNoBody(body) && asksForWebSocket(fields);
  return { method, target, minorVersion: Number(minor), host, port, fields, body, isUpgrade, length };
}

/** Encodes a request's head again, as one that its connection ends with, or that ends HTTP in it. */
export function encodeLastRequestHead({ method, target, minorVersion, fields, isUpgrade }: RequestHead): Uint8Array {
  const named = optionsOf(fields, "connection");
  const dropped = new Set([...OF_CONNECTION, ...named.filter((name) => !KEPT.includes(name))]);
  const kept = fields.filter(([name]) => !dropped.has(name.toLowerCase()));
  const end = isUpgrade ? UPGRADE : CLOSE;
  const lines = [...kept, ...end].map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.from(`${method} ${target} HTTP/1.${minorVersion}\r\n${lines.join("")}\r\n`, "latin1");
}

const CLOSE = [["Connection", "close"]] as const;
/** @see RFC 6455, section 4.1 */
const UPGRADE = [
  ["Connection", "Upgrade"],
  ["Upgrade", "websocket"],
] as const;

function asksForWebSocket(fields: RequestHead["fields"]): boolean {
  const [protocol, ...others] = optionsOf(fields, "upgrade");
  return protocol === "websocket" && others.length === 0 && optionsOf(fields, "connection").includes("upgrade");
}

function hasNoBody(body: BodyLength): boolean {
  return body.kind === "bytes" && body.bytes === 0;
}

function optionsOf(fields: RequestHead["fields"], name: string): string[] {
  return valuesOf(fields, name).flatMap((value) => value.toLowerCase().split(",").map(trimBlanks));
}

/** Fields that a request cannot do without, whatever it says of its connection. */
const KEPT = ["host", "content-length", "transfer-encoding"];

function bodyOf(fields: RequestHead["fields"], minor: string | undefined): BodyLength {
  const codings = valuesOf(fields, "transfer-encoding");
  const lengths = valuesOf(fields, "content-length");
  if (codings.length + lengths.length > 1) throw malformed("one length of a body", "several");
  const [coding] = codings;
  const [length = "0"] = lengths;
  if (coding !== undefined) {
    if (coding.toLowerCase() !== "chunked") throw malformed("a body in chunks", coding);
    // Of such a request the standard says that it may be another one for whoever reads it next: RFC 9112, section 6.1.
    if (minor === "0") throw malformed("a length of a body in HTTP/1.0", coding);
    return { kind: "chunked" };
  }
  if (!/^\d{1,15}$/.test(length)) throw malformed("a length of a body", length);
  return { kind: "bytes", bytes: Number(length) };
}

/** Without blanks around it. By hand: an expression would try all of them again from each. */
function trimBlanks(text: string): string {
  let start = 0;
  let end = text.length;
  while (start < end && isBlank(text[start])) start += 1;
  while (end > start && isBlank(text[end - 1])) end -= 1;
  return text.slice(start, end);
}

function isBlank(character: string | undefined): boolean {
  return character === " " || character === "\t";
}

function authorityOf(text: string, scheme: Scheme): { host: string; port: number } {
  const [, host, port = `${DEFAULT_PORT[scheme]}`] = AUTHORITY.exec(text) ?? [];
  if (host === undefined) throw malformed("a host, and maybe a port", JSON.stringify(text));
  return { host: host.toLowerCase(), port: Number(port) };
}

function only(fields: RequestHead["fields"], name: string): string {
  const [value, ...more] = valuesOf(fields, name);
  if (value === undefined || more.length > 0) throw malformed(`one field ${name}`, value === undefined ? 0 : "several");
  return value;
}

function valuesOf(fields: RequestHead["fields"], name: string): string[] {
  return fields.filter(([key]) => key.toLowerCase() === name).map(([, value]) => value);
}

/** How a server answers who changes the protocol. */
const SWITCHED = "HTTP/1.1 101 ";

/** Whether a response says that the connection is no longer one of HTTP; undefined while there is more to come. */
export function isSwitched(bytes: Uint8Array): boolean | undefined {
  const begin = Buffer.from(bytes.subarray(0, SWITCHED.length)).toString("latin1");
  if (!SWITCHED.startsWith(begin)) return false;
  return begin.length < SWITCHED.length ? undefined : true;
}

const CR = 0x0d;
const LF = 0x0a;
const MAX_CHUNK_LINE_BYTES = 1024;
const MAX_TRAILER_BYTES = 16 * 1024;
const CHUNK_SIZE = /^([0-9A-Fa-f]{1,12})(?:[ \t]*;[\t\x20-\x7e]*)?$/;

/** Finds the end of a request's body. */
export class BodyReader {
  #left: number;
  #step: "data" | "size" | "end of data" | "trailer" | "done";
  #line = "";
  #trailerBytes = 0;

  constructor(body: BodyLength) {
    this.#left = body.kind === "bytes" ? body.bytes : 0;
    this.#step = body.kind === "chunked" ? "size" : this.#left > 0 ? "data" : "done";
    this.#isChunked = body.kind === "chunked";
  }

  readonly #isChunked: boolean;

  get isDone(): boolean {
    return this.#step === "done";
  }

  /**
   * Takes what comes next.
   *
   * @returns How many bytes of it belong to the body.
   * @throws {SandboxError} `SANDBOX_NETWORK_MALFORMED`.
   */
  take(bytes: Uint8Array): number {
    let at = 0;
    while (at < bytes.length && this.#step !== "done") {
      if (this.#step === "data") {
        const length = Math.min(this.#left, bytes.length - at);
        this.#left -= length;
        at += length;
        if (this.#left === 0) this.#step = this.#isChunked ? "end of data" : "done";
      } else {
        this.#character(bytes[at] ?? 0);
        at += 1;
      }
    }
    return at;
  }

  #character(byte: number): void {
    this.#line += String.fromCharCode(byte);
    if (this.#line.length > MAX_CHUNK_LINE_BYTES) throw malformed("a line between chunks", "a longer one");
    if (byte !== LF) return;
    if (this.#line.charCodeAt(this.#line.length - 2) !== CR) throw malformed("CR before LF", "LF alone");
    const line = this.#line.slice(0, -2);
    this.#line = "";
    if (this.#step === "size") this.#size(line);
    else if (this.#step === "end of data") {
      if (line !== "") throw malformed("the end of a chunk", JSON.stringify(line));
      this.#step = "size";
    } else {
      this.#trailerBytes += line.length;
      if (this.#trailerBytes > MAX_TRAILER_BYTES) throw malformed("a trailer", `${this.#trailerBytes} bytes`);
      if (line === "") this.#step = "done";
      else if (!FIELD.test(line)) throw malformed("a field of a trailer", JSON.stringify(line));
    }
  }

  #size(line: string): void {
    const [, size] = CHUNK_SIZE.exec(line) ?? [];
    if (size === undefined) throw malformed("the size of a chunk", JSON.stringify(line));
    this.#left = Number.parseInt(size, 16);
    this.#step = this.#left === 0 ? "trailer" : "data";
  }
}
