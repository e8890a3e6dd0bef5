import { access, constants } from "node:fs/promises";
import { resolve } from "node:path";
import { execa } from "execa";
import { NixGenError } from "../errors.ts";
import { quote, reasonOf } from "../internal/text.ts";
import type { Progress } from "../progress.ts";
import { buildError } from "./build-error.ts";
import { BuildLog, type ExpectedDownload } from "./build-log.ts";
import { decodeNixLogLine } from "./log.ts";
import { type Nix, noNix } from "./open.ts";

/** What {@link buildFlake} builds. */
export interface BuildFlakeOptions {
  /** directory with `flake.nix` */
  readonly directory: string;
  /** name below `packages.<system>` of the flake */
  readonly attribute: string;
  /** files that may have to be downloaded, so that progress can count them; see {@link debianDownloads} */
  readonly downloads?: readonly ExpectedDownload[];
  /** directories outside of the store that builds may read, such as a `file:` mirror */
  readonly readablePaths?: readonly string[];
  /** whether to build what is there already once more, and to fail unless the result is the same; `false` when not given */
  readonly rebuild?: boolean;
  /** link that keeps what was built from being collected */
  readonly outLink?: string;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: Progress | undefined;
}

// Nix ends its builders within this time, and is itself ended after it.
const KILL_DELAY_MS = 10_000;

/**
 * Builds one attribute of a flake with `nix build`. What an interrupted build has finished is kept, so that the next
 * one continues from there.
 *
 * @returns Store path of its first output.
 * @throws {NixGenError} `NIX_GEN_HASH_MISMATCH` for a download that is not what the lock says, `NIX_GEN_NOT_ON_MIRROR`
 *   for one that is gone, `NIX_GEN_MIRROR_UNREACHABLE` for one that failed, `NIX_GEN_DISK_FULL`, `NIX_GEN_NO_SANDBOX`
 *   where the kernel allows no user namespaces, `NIX_GEN_BAD_OPTIONS` for readable paths that Nix can't be told of,
 *   `NIX_GEN_NO_NIX` when the program is gone, `NIX_GEN_IO` when the directory is, `NIX_GEN_BUILD_FAILED` with the end
 *   of the log. The signal's reason when it aborts; no process of the build is left then.
 */
export async function buildFlake(nix: Nix, options: BuildFlakeOptions): Promise<string> {
  const { signal, onProgress, downloads = [] } = options;
  signal?.throwIfAborted();
  const log = new BuildLog(await missingDownloads(nix, downloads), onProgress);
  const child = execa(nix.program, buildArguments(options), {
    cwd: options.directory,
    env: nix.env,
    extendEnv: false,
    stdin: "ignore",
    reject: false,
    buffer: { stderr: false },
    forceKillAfterDelay: KILL_DELAY_MS,
    ...(signal === undefined ? {} : { cancelSignal: signal }),
  });
  for await (const line of child.iterable({ from: "stderr" })) {
    const event = decodeNixLogLine(line);
    if (event !== undefined) log.see(event);
  }
  const result = await child;
  signal?.throwIfAborted();
  if (result.exitCode === undefined && result.code !== undefined)
    throw await spawnError(nix, options.directory, result);
  if (result.exitCode !== 0) throw buildError(nix, log.failure(), result.exitCode);
  const built = JSON.parse(result.stdout) as { readonly outputs: Record<string, string> }[];
  const [path] = Object.values(built[0]?.outputs ?? {});
  if (path === undefined) throw new Error("bug: nix build reported a derivation without outputs");
  return path;
}

function buildArguments({ attribute, outLink, readablePaths = [], rebuild }: BuildFlakeOptions): string[] {
  return [
    "build",
    // Not with --print-build-logs: in Nix 2.8 that takes the format back.
    ...["--log-format", "internal-json"],
    "--json",
    "--no-write-lock-file",
    ...(rebuild === true ? ["--rebuild"] : []),
    ...(readablePaths.length === 0 ? [] : ["--option", "extra-sandbox-paths", sandboxPaths(readablePaths)]),
    ...(outLink === undefined ? ["--no-link"] : ["--out-link", resolve(outLink)]),
    // Relative, because Nix 2.8 has no way to write every path in a flake's URL.
    `path:.#${attribute}`,
  ];
}

// The setting is a list with blanks between, `inside=outside`, with a question mark after what need not be there.
function sandboxPaths(paths: readonly string[]): string {
  for (const [index, path] of paths.entries()) {
    if (!/[\s=]|\?$/.test(path)) continue;
    const message = `expected a directory without blanks and = in its path and ? at the end, got ${quote(path)}`;
    throw new NixGenError("NIX_GEN_BAD_OPTIONS", message, {
      path: `readablePaths[${index}]`,
      hint: "rename the directory",
    });
  }
  return paths.join(" ");
}

// Nothing was started; with a directory that is missing, the system says the same as with a program that is missing.
async function spawnError(
  nix: Nix,
  directory: string,
  cause: { readonly code?: string | undefined },
): Promise<NixGenError> {
  try {
    await access(directory, constants.X_OK);
  } catch (unusable) {
    const message = `expected a directory with flake.nix, got ${reasonOf(unusable)}`;
    return new NixGenError("NIX_GEN_IO", message, { path: directory, cause: unusable });
  }
  return noNix(nix.program, cause.code === "ENOENT" ? "found none" : `got ${cause.code}`, cause);
}

async function missingDownloads(nix: Nix, downloads: readonly ExpectedDownload[]): Promise<ExpectedDownload[]> {
  const missing = await Promise.all(
    downloads.map(({ storePath }) =>
      access(nix.realPath(storePath)).then(
        () => false,
        () => true,
      ),
    ),
  );
  return downloads.filter((_download, index) => missing[index]);
}
