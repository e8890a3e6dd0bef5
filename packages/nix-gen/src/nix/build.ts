import { execa } from "execa";
import { NixGenError, type NixGenErrorCode } from "../errors.ts";
import type { Progress } from "../progress.ts";
import { decodeNixLogLine, type NixLogEvent } from "./log.ts";
import type { Nix } from "./open.ts";

/** What {@link buildFlake} builds. */
export interface BuildFlakeOptions {
  /** directory with `flake.nix` */
  readonly directory: string;
  /** name below `packages.<system>` of the flake */
  readonly attribute: string;
  /** bytes of downloads by store name, so that progress can count them; see {@link debStoreName} */
  readonly downloadSizes?: ReadonlyMap<string, number>;
  /** link that keeps what was built from being collected */
  readonly outLink?: string;
  readonly signal?: AbortSignal;
  readonly onProgress?: Progress;
}

const MAX_TAIL_LINES = 40;

/**
 * Builds one attribute of a flake with `nix build`.
 *
 * @returns Store path of its first output.
 * @throws {NixGenError} `NIX_GEN_HASH_MISMATCH` for a download that is not what the lock says,
 *   `NIX_GEN_MIRROR_UNREACHABLE` for one that failed, `NIX_GEN_DISK_FULL`, `NIX_GEN_NO_SANDBOX` where the kernel allows
 *   no user namespaces, `NIX_GEN_BUILD_FAILED` with the end of the log. The signal's reason when it aborts.
 */
export async function buildFlake(nix: Nix, options: BuildFlakeOptions): Promise<string> {
  const { directory, attribute, outLink, signal, onProgress } = options;
  const args = [
    "build",
    "--log-format",
    "internal-json",
    "--print-build-logs",
    "--json",
    "--no-write-lock-file",
    ...(outLink === undefined ? ["--no-link"] : ["--out-link", outLink]),
    `path:${directory}#${attribute}`,
  ];
  const progress = new BuildProgress(options.downloadSizes ?? new Map(), onProgress);
  const child = execa(nix.program, args, {
    env: nix.env,
    extendEnv: false,
    stdin: "ignore",
    reject: false,
    buffer: { stderr: false },
    forceKillAfterDelay: 10_000,
    ...(signal === undefined ? {} : { cancelSignal: signal }),
  });
  for await (const line of child.iterable({ from: "stderr" })) {
    const event = decodeNixLogLine(line);
    if (event !== undefined) progress.see(event);
  }
  const result = await child;
  signal?.throwIfAborted();
  if (result.exitCode !== 0) throw buildError(progress.tail, result.exitCode);
  const built = JSON.parse(result.stdout) as { readonly outputs: Record<string, string> }[];
  const [path] = Object.values(built[0]?.outputs ?? {});
  if (path === undefined) throw new Error("bug: nix build reported a derivation without outputs");
  return path;
}

class BuildProgress {
  /** what Nix and the builders said last */
  readonly tail: string[] = [];
  readonly #sizes: ReadonlyMap<string, number>;
  readonly #onProgress: Progress | undefined;
  readonly #running = new Map<number, string>();
  #builds = { done: 0, expected: 0 };
  #buildsActivity = -1;
  #doneBytes = 0;

  constructor(sizes: ReadonlyMap<string, number>, onProgress: Progress | undefined) {
    this.#sizes = sizes;
    this.#onProgress = onProgress;
  }

  see(event: NixLogEvent): void {
    switch (event.kind) {
      case "start":
        if (event.activity === "builds") this.#buildsActivity = event.id;
        if (event.activity === "build") {
          this.#running.set(event.id, derivationName(event.subject));
          this.#report(derivationName(event.subject));
        }
        return;
      case "stop": {
        const name = this.#running.get(event.id);
        if (name === undefined) return;
        this.#running.delete(event.id);
        this.#doneBytes += this.#sizes.get(name) ?? 0;
        this.#report(name);
        return;
      }
      case "progress":
        if (event.id === this.#buildsActivity) this.#builds = { done: event.done, expected: event.expected };
        return;
      case "line":
        this.#remember(event.text);
        this.#report(this.#running.get(event.id) ?? "", event.text);
        return;
      case "message":
        // Level 0 is an error, 1 a warning; the rest repeats what the activities say.
        if (event.level <= 1) this.#remember(event.text);
    }
  }

  #remember(text: string): void {
    this.tail.push(...text.split("\n"));
    this.tail.splice(0, Math.max(0, this.tail.length - MAX_TAIL_LINES));
  }

  #report(name: string, line?: string): void {
    const counts = { done: this.#builds.done, total: this.#builds.expected };
    if (this.#sizes.has(name)) {
      this.#onProgress?.({ step: "downloading", item: name, ...counts, doneBytes: this.#doneBytes });
    } else {
      this.#onProgress?.({ step: `building ${name}`, ...(line === undefined ? {} : { item: line }) });
    }
  }
}

function derivationName(storePath: string): string {
  return storePath.replace(/^.*\/[a-z0-9]{32}-/, "").replace(/\.drv$/, "");
}

const CAUSES: readonly (readonly [RegExp, NixGenErrorCode, string, string | undefined])[] = [
  [
    /hash mismatch/,
    "NIX_GEN_HASH_MISMATCH",
    "expected a download with the locked hash",
    "the mirror serves another file under this name: lock again, or use another mirror",
  ],
  [
    /No space left on device|disk quota exceeded/i,
    "NIX_GEN_DISK_FULL",
    "expected room on the disk, got none",
    "free some space, or set LEVERET_NIX_STORE to a store on another disk",
  ],
  [
    /unable to download|Could ?n.t resolve host|Failed to connect|HTTP error/i,
    "NIX_GEN_MIRROR_UNREACHABLE",
    "expected to download locked packages",
    "check the network; a file that is gone from the mirror (404) needs a new lock",
  ],
  [
    /unshare.*(Operation not permitted|failed)|cloning builder process|unable to (load seccomp|start build process)|setting up a private mount namespace|sandboxing builds/,
    "NIX_GEN_NO_SANDBOX",
    "expected user namespaces for the build's sandbox",
    "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1)",
  ],
];

function buildError(tail: readonly string[], exitCode: number | undefined): NixGenError {
  const text = tail.join("\n");
  for (const [pattern, code, message, hint] of CAUSES) {
    if (pattern.test(text)) return new NixGenError(code, `${message}:\n${relevant(tail, pattern)}`, { hint });
  }
  return new NixGenError(
    "NIX_GEN_BUILD_FAILED",
    `expected nix build to end with 0, got ${exitCode ?? "a signal"}:\n${text}`,
  );
}

function relevant(tail: readonly string[], pattern: RegExp): string {
  const index = tail.findIndex((line) => pattern.test(line));
  return tail.slice(Math.max(0, index - 1), index + 4).join("\n");
}
