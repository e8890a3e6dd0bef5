import { resolve } from "node:path";
import type { DisposableBlockSource } from "./block-source.ts";
import { httpSources, isHttpUrl, type ReportHttpError } from "./http.ts";
import { DEFAULT_HTTP_TIMEOUT_MS, DEFAULT_MAX_HTTP_CACHE_BYTES, isHeader } from "./http-options.ts";
import { sources } from "./sources.ts";
import { wholeFiles } from "./whole-file.ts";

/** More than any server takes. */
const MAX_HEADER_FILE_BYTES = 64 * 1024;

/** Where and how a command line opens what a person named. */
export interface InputOptions {
  /** directory that paths are relative to */
  readonly cwd: string;
  readonly signal: AbortSignal;
  /** file with headers for a web server, a line `name: value` each: so no secret is among the arguments */
  readonly headerFile?: string | undefined;
}

/** Opens a file, or one on a web server by its address. */
export type OpenInput = (path: string, options: InputOptions) => Promise<DisposableBlockSource>;

/** Makes the opening of what a person named for one package. */
export function inputs(report: ReportHttpError): OpenInput {
  const { file } = sources(report);
  const readWhole = wholeFiles(report);
  const openHttp = httpSources(report);
  return async (path, { cwd, signal, headerFile }) => {
    if (!isHttpUrl(path)) {
      const [scheme] = /^[a-z][a-z0-9+.-]*:\/\//i.exec(path) ?? [];
      if (scheme === undefined) return file(resolve(cwd, path));
      const message = `expected a path, or an address that starts with http:// or https://, got one that starts with ${scheme}`;
      throw report("http", message, { hint: `a file of that name is ./${scheme}…` });
    }
    const headers: Record<string, string> = {};
    if (headerFile !== undefined) {
      const bytes = await readWhole(resolve(cwd, headerFile), { maxBytes: MAX_HEADER_FILE_BYTES, signal });
      for (const [index, line] of Buffer.from(bytes).toString("latin1").split(/\r?\n/).entries()) {
        if (line === "") continue;
        const [, name = "", value = ""] = /^([^:]+):[\t ]*(.*)$/.exec(line) ?? [];
        // What is in the line may be a secret.
        if (!isHeader(name, value)) {
          throw report("http", `expected a header such as 'authorization: …' in line ${index + 1}, got another line`, {
            path: headerFile,
          });
        }
        headers[name] = value;
      }
    }
    const settings = { timeoutMs: DEFAULT_HTTP_TIMEOUT_MS, maxCacheBytes: DEFAULT_MAX_HTTP_CACHE_BYTES };
    return openHttp(path, { ...settings, headers, signal });
  };
}
