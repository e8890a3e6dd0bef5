import type { DisposableBlockSource } from "./block-source.ts";
import type { ReportFileError } from "./errors.ts";

/** What can go wrong with a remote object, besides what can with a file. */
export type HttpErrorKind = "changed" | "http" | "timeout";

/** Makes an error of the package that bundles this one. */
export type ReportHttpError = (
  kind: HttpErrorKind | Parameters<ReportFileError>[0],
  ...rest: [message: string, facts: Parameters<ReportFileError>[2]]
) => Error;

/** How a remote object is read; everything is given. */
export interface HttpSettings {
  /** headers of every request, such as `authorization` */
  readonly headers: Readonly<Record<string, string>>;
  /** most time for one request and its answer in `milliseconds` */
  readonly timeoutMs: number;
  /** most that is kept of what was read, in `bytes` */
  readonly maxCacheBytes: number;
  readonly signal?: AbortSignal | undefined;
}

/** Opens a remote object. */
export type OpenHttp = (url: string, settings: HttpSettings) => Promise<DisposableBlockSource>;

const AUTHORIZATION_HINT = "give an authorization header: `headers`, or --header-file on the command line";
/** What a person can do about answers. */
const HINTS: Readonly<Record<number, string>> = {
  200: "the server does not answer requests for parts of a file: download it",
  401: AUTHORIZATION_HINT,
  403: AUTHORIZATION_HINT,
};

/** The unit that is requested and kept, in `bytes`. */
const CHUNK_SIZE = 128 * 1024;
/** Most that is requested ahead of somebody who reads on and on, in chunks. */
const MAX_AHEAD = 16;
/** Longer reads are not kept: nobody reads that much twice. */
const MAX_KEPT_READ = MAX_AHEAD * CHUNK_SIZE;
/** Most redirections of one request. */
const MAX_REDIRECTIONS = 5;
const REDIRECTIONS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
const RANGE = /^bytes (\d{1,16})-(\d{1,16})\/(\d{1,16})$/;
const EMPTY_RANGE = /^bytes \*\/0$/;

/** Tells a URL that can be read from a path. */
export function isHttpUrl(text: string): boolean {
  return /^https?:\/\//i.test(text);
}

/** Makes the opening of remote objects for one package. */
export function httpSources(report: ReportHttpError): OpenHttp {
  return async (url, settings) => {
    const remote = new RemoteObject(url, settings, report);
    try {
      await remote.open();
    } catch (error) {
      await remote.close();
      throw error;
    }
    return remote;
  };
}

/** What of an answer says which version of an object it is of. */
interface Version {
  readonly sizeBytes: number;
  readonly etag: string | null;
  readonly lastModified: string | null;
}

class RemoteObject implements DisposableBlockSource {
  readonly #url: URL;
  /** the address for people: what follows `?` may be a secret */
  readonly #name: string;
  readonly #settings: HttpSettings;
  readonly #report: ReportHttpError;
  readonly #closing = new AbortController();
  /** chunks by number, the one used last at the end; requested ones are promises */
  readonly #chunks = new Map<number, Promise<Uint8Array>>();
  #version: Version = { sizeBytes: 0, etag: null, lastModified: null };
  #nextExpected = -1;
  #ahead = 1;

  constructor(url: string, settings: HttpSettings, report: ReportHttpError) {
    this.#report = report;
    if (!isHttpUrl(url) || !URL.canParse(url)) {
      throw report("http", "expected an address that starts with http:// or https://, got another", {});
    }
    this.#url = new URL(url);
    this.#name = `${this.#url.origin}${this.#url.pathname}`;
    this.#settings = settings;
    if (this.#url.username !== "" || this.#url.password !== "") {
      throw report("http", `expected an address without a password, got one for ${this.#name}`, {
        hint: AUTHORIZATION_HINT,
      });
    }
  }

  get sizeBytes(): number {
    return this.#version.sizeBytes;
  }

  /** Asks for the first chunk, which says how long the object is. */
  async open(): Promise<void> {
    const first = await this.#guarded(0, (signal) => this.#first(signal));
    if (first.byteLength > 0) this.#chunks.set(0, Promise.resolve(first));
    this.#nextExpected = 1;
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const { sizeBytes } = this;
    if (!(Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0)) {
      throw this.#report("truncated", `expected a range of bytes, got ${length} bytes from ${offset}`, {});
    }
    if (offset + length > sizeBytes) {
      const message = `expected ${length} bytes, got a source that ends at byte ${sizeBytes}`;
      throw this.#report("truncated", message, { offset });
    }
    if (length === 0) return new Uint8Array(0);
    if (length > MAX_KEPT_READ) return await this.#request(offset, length);
    const first = Math.floor(offset / CHUNK_SIZE);
    const last = Math.floor((offset + length - 1) / CHUNK_SIZE);
    this.#fetchMissing(first, last);
    const target = new Uint8Array(length);
    const chunks = Array.from({ length: last - first + 1 }, (_, index) => this.#chunk(first + index));
    for (const [index, bytes] of (await Promise.all(chunks)).entries()) {
      const start = (first + index) * CHUNK_SIZE;
      const from = Math.max(offset, start);
      target.set(bytes.subarray(from - start, offset + length - start), from - offset);
    }
    return target;
  }

  async close(): Promise<void> {
    this.#closing.abort(this.#report("http", `expected ${this.#name} to be open, got a read after it was closed`, {}));
    this.#chunks.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #chunk(number: number): Promise<Uint8Array> {
    const chunk = this.#chunks.get(number);
    if (chunk === undefined) throw new Error("bug: a chunk that was not requested");
    this.#chunks.delete(number);
    this.#chunks.set(number, chunk);
    return chunk;
  }

  /** Requests what is not there yet, and more of it the longer somebody reads on. */
  #fetchMissing(first: number, last: number): void {
    const isSequential = first === this.#nextExpected || first === this.#nextExpected - 1;
    const end = Math.ceil(this.sizeBytes / CHUNK_SIZE);
    for (let number = first; number <= last; number += 1) {
      if (this.#chunks.has(number)) continue;
      this.#ahead = isSequential ? Math.min(MAX_AHEAD, this.#ahead * 2) : 1;
      const most = Math.min(end, Math.max(last + 1, number + this.#ahead));
      let behind = number + 1;
      while (behind < most && !this.#chunks.has(behind)) behind += 1;
      this.#fetch(number, behind);
    }
    this.#nextExpected = last + 1;
    this.#evict(last - first + 1);
  }

  /** Requests chunks in one piece. */
  #fetch(first: number, behind: number): void {
    const offset = first * CHUNK_SIZE;
    const length = Math.min(behind * CHUNK_SIZE, this.sizeBytes) - offset;
    const all = this.#request(offset, length);
    for (let number = first; number < behind; number += 1) {
      const start = (number - first) * CHUNK_SIZE;
      const chunk = all.then((bytes) => bytes.subarray(start, start + CHUNK_SIZE));
      this.#chunks.set(number, chunk);
      // What failed is requested again when somebody asks for it again; nobody may be waiting for it now.
      chunk.catch(() => {
        if (this.#chunks.get(number) === chunk) this.#chunks.delete(number);
      });
    }
  }

  /** Forgets what was used longest ago; what is being read stays. */
  #evict(inUse: number): void {
    const most = Math.max(inUse + MAX_AHEAD, Math.floor(this.#settings.maxCacheBytes / CHUNK_SIZE));
    for (const number of this.#chunks.keys()) {
      if (this.#chunks.size <= most) return;
      this.#chunks.delete(number);
    }
  }

  #request(offset: number, length: number): Promise<Uint8Array> {
    return this.#guarded(offset, async (signal) => {
      const answer = await this.#send(offset, length, signal);
      await this.#assertSame(answer, offset, length);
      return await this.#body(answer, offset, length);
    });
  }

  /** The first chunk; what an answer to it says is what all others are compared with. */
  async #first(signal: AbortSignal): Promise<Uint8Array> {
    const answer = await this.#send(0, CHUNK_SIZE, signal);
    const { status, headers } = answer;
    const isEmpty = status === 416 && EMPTY_RANGE.test(headers.get("content-range") ?? "");
    if (isEmpty || (status === 200 && headers.get("content-length") === "0")) {
      await answer.body?.cancel();
      return new Uint8Array(0);
    }
    const { start, end, total } = await this.#rangeOf(answer, 0);
    if (start !== 0 || end !== Math.min(CHUNK_SIZE, total)) throw await this.#wrongRange(answer, 0);
    this.#version = { sizeBytes: total, etag: headers.get("etag"), lastModified: headers.get("last-modified") };
    return await this.#body(answer, 0, end);
  }

  /** Follows redirections itself: what was given as headers is for the server it was given for. */
  async #send(offset: number, length: number, signal: AbortSignal): Promise<Response> {
    const { etag } = this.#version;
    // A weak tag is not allowed here, and would not vouch for single bytes.
    const condition = etag?.startsWith('"') === true ? { "if-range": etag } : {};
    const range = `bytes=${offset}-${offset + length - 1}`;
    let url = this.#url;
    for (let count = 0; count <= MAX_REDIRECTIONS; count += 1) {
      const given = url.origin === this.#url.origin ? this.#settings.headers : {};
      // With a range, fetch asks for an answer that is not compressed.
      const answer = await fetch(url, { headers: { ...given, range, ...condition }, signal, redirect: "manual" });
      const location = REDIRECTIONS.has(answer.status) ? answer.headers.get("location") : null;
      if (location === null) return answer;
      await answer.body?.cancel();
      url = this.#redirected(url, location);
    }
    const message = `expected at most ${MAX_REDIRECTIONS} redirections of ${this.#name}, got more`;
    throw this.#report("http", message, { path: this.#name });
  }

  /** Where a redirection leads; never out of TLS. */
  #redirected(from: URL, location: string): URL {
    const to = URL.canParse(location, from.href) ? new URL(location, from) : undefined;
    const isAllowed = to?.protocol === "https:" || (to?.protocol === "http:" && from.protocol === "http:");
    if (to !== undefined && isAllowed && to.username === "" && to.password === "") return to;
    const message = `expected ${this.#name} to redirect to another address with ${from.protocol}//, got something else`;
    throw this.#report("http", message, { path: this.#name });
  }

  async #assertSame(answer: Response, offset: number, length: number): Promise<void> {
    const { sizeBytes, etag, lastModified } = this.#version;
    // What the server would not send a part of any more has another version, if it ever sent one.
    if (answer.status === 200 || answer.status === 412 || answer.status === 416)
      throw await this.#changed(answer, offset);
    const { start, end, total } = await this.#rangeOf(answer, offset);
    const isSame = answer.headers.get("etag") === etag && answer.headers.get("last-modified") === lastModified;
    if (!isSame || total !== sizeBytes) throw await this.#changed(answer, offset);
    if (start !== offset || end !== offset + length) throw await this.#wrongRange(answer, offset);
  }

  /** What an answer is a part of: first byte, byte behind the last one, length of the whole. */
  async #rangeOf(answer: Response, offset: number): Promise<{ start: number; end: number; total: number }> {
    const { status, headers } = answer;
    if (status === 404 || status === 410) {
      await answer.body?.cancel();
      throw this.#report("not-found", `expected a file at ${this.#name}, got status ${status}`, { path: this.#name });
    }
    if (status !== 206) {
      await answer.body?.cancel();
      const hint = HINTS[status];
      const message = `expected a part of ${this.#name} with status 206, got status ${status}`;
      throw this.#report("http", message, { offset, path: this.#name, ...(hint !== undefined && { hint }) });
    }
    const encoding = headers.get("content-encoding") ?? "identity";
    const match = RANGE.exec(headers.get("content-range") ?? "");
    const [start, last, total] = (match ?? []).slice(1).map(Number);
    const isWhole = start !== undefined && last !== undefined && total !== undefined;
    if (encoding !== "identity" || !isWhole || start > last || last >= total || !Number.isSafeInteger(total)) {
      throw await this.#wrongRange(answer, offset);
    }
    return { start, end: last + 1, total };
  }

  /** Reads exactly as much as was asked for: a server may send less, or not stop sending. */
  async #body(answer: Response, offset: number, length: number): Promise<Uint8Array> {
    const target = new Uint8Array(length);
    let filled = 0;
    for await (const piece of answer.body ?? []) {
      if (filled + piece.byteLength > length) throw await this.#wrongRange(answer, offset);
      target.set(piece, filled);
      filled += piece.byteLength;
    }
    if (filled === length) return target;
    const message = `expected ${length} bytes from ${this.#name}, got ${filled}`;
    throw this.#report("truncated", message, { offset: offset + filled, path: this.#name });
  }

  async #wrongRange(answer: Response, offset: number): Promise<Error> {
    if (answer.body?.locked === false) await answer.body.cancel();
    const got = answer.headers.get("content-range");
    const encoding = answer.headers.get("content-encoding");
    const what = `${got === null ? "no content-range" : JSON.stringify(got)}${encoding === null ? "" : `, encoded as ${JSON.stringify(encoding)}`}`;
    const message = `expected the part of ${this.#name} that was asked for, got ${what}, or more than it`;
    return this.#report("http", message, { offset, path: this.#name });
  }

  async #changed(answer: Response, offset: number): Promise<Error> {
    await answer.body?.cancel();
    const message = `expected ${this.#name} to stay as it is while it is read, got another version of it`;
    return this.#report("changed", message, { offset, path: this.#name });
  }

  /** Runs a request with its deadline, and turns what fails on the way into errors of the package. */
  async #guarded<T>(offset: number, action: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { timeoutMs, signal } = this.#settings;
    signal?.throwIfAborted();
    this.#closing.signal.throwIfAborted();
    const deadline = AbortSignal.timeout(timeoutMs);
    try {
      return await action(AbortSignal.any([deadline, this.#closing.signal, ...(signal === undefined ? [] : [signal])]));
    } catch (error) {
      if (signal?.aborted === true) throw signal.reason;
      if (this.#closing.signal.aborted) throw this.#closing.signal.reason;
      if (deadline.aborted) {
        const message = `expected an answer from ${this.#name} within ${timeoutMs} ms, got none`;
        throw this.#report("timeout", message, { offset, path: this.#name, cause: error });
      }
      // What fetch says of a connection that fails is a TypeError, whose cause has the reason.
      if (!(error instanceof TypeError)) throw error;
      const reason = error.cause instanceof Error ? error.cause.message : error.message;
      const message = `cannot read ${this.#name}: ${reason}`;
      throw this.#report("io", message, { offset, path: this.#name, cause: error });
    }
  }
}
