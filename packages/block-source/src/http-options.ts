import * as z from "zod";
import type { HttpSettings } from "./http.ts";

/** Most time for a request to a web server and its answer, in `milliseconds`. */
export const DEFAULT_HTTP_TIMEOUT_MS = 30_000;
/** Most that is kept of what was read from a web server, in `bytes`. */
export const DEFAULT_MAX_HTTP_CACHE_BYTES: number = 16 * 1024 * 1024;

/** How a file on a web server is read. */
export interface HttpSourceOptions {
  /** headers of every request, such as `authorization`; those of ranges and encodings are set by the source */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** most time for one request and its answer in `milliseconds`, {@link DEFAULT_HTTP_TIMEOUT_MS} */
  readonly timeoutMs?: number | undefined;
  /** most that is kept of what was read in `bytes`, {@link DEFAULT_MAX_HTTP_CACHE_BYTES} */
  readonly maxCacheBytes?: number | undefined;
  /** aborts every request */
  readonly signal?: AbortSignal | undefined;
}

const OWN_HEADERS = new Set(["accept-encoding", "if-range", "range"]);
const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** Whether a header can be sent, and is none that the source sets itself. */
export function isHeader(name: string, value: string): boolean {
  return HEADER_NAME.test(name) && !OWN_HEADERS.has(name.toLowerCase()) && HEADER_VALUE.test(value);
}

/** The schema of {@link HttpSourceOptions}; made when it is needed, so that packages without servers do without it. */
export function httpSourceOptions(): z.ZodType<HttpSettings, HttpSourceOptions> {
  const name = z
    .string()
    .regex(HEADER_NAME, "expected the name of a header")
    .refine((text) => !OWN_HEADERS.has(text.toLowerCase()), "expected a header that the source does not set itself");
  return z.strictObject({
    headers: z.record(name, z.string().regex(HEADER_VALUE, "expected the value of a header")).default({}),
    timeoutMs: z
      .int()
      .positive()
      .max(2 ** 31 - 1)
      .default(DEFAULT_HTTP_TIMEOUT_MS),
    maxCacheBytes: z.int().min(0).default(DEFAULT_MAX_HTTP_CACHE_BYTES),
    signal: z.instanceof(AbortSignal).optional(),
  });
}
