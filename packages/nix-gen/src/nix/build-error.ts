import { NixGenError, type NixGenErrorCode } from "../errors.ts";
import type { BuildFailure } from "./build-log.ts";
import type { Nix } from "./open.ts";

interface Cause {
  readonly pattern: RegExp;
  readonly code: NixGenErrorCode;
  readonly message: string;
  readonly hint: string;
}

const CAUSES: readonly Cause[] = [
  {
    pattern: /hash mismatch in (file|fixed-output derivation)/,
    code: "NIX_GEN_HASH_MISMATCH",
    message: "expected a download with the locked hash",
    hint: "the mirror serves another file under this name: lock again, or use another mirror",
  },
  // Before the disk: a kernel that has no namespaces left calls that "No space left on device" too.
  {
    pattern:
      /unshare.*(Operation not permitted|Invalid argument|No space)|cloning builder process|unable to start build process|setting up a private mount namespace|sandboxing builds|does not support (user|the kernel) namespaces/,
    code: "NIX_GEN_NO_SANDBOX",
    message: "expected user namespaces for the build's sandbox",
    hint: "allow unprivileged user namespaces: sysctl user.max_user_namespaces=15000, and where the kernel has it kernel.unprivileged_userns_clone=1",
  },
  {
    pattern: /No space left on device|disk quota exceeded|(database or )?disk is full|\bENOSPC\b/i,
    code: "NIX_GEN_DISK_FULL",
    message: "expected room on the disk, got none",
    hint: "free some space, or set LEVERET_NIX_STORE to a store (and TMPDIR to a directory) on another disk",
  },
  {
    pattern: /may not be deterministic/,
    code: "NIX_GEN_NOT_REPRODUCIBLE",
    message: "expected the same result as before",
    hint: "something in the build depends on time, order or chance; --keep-failed of nix build keeps both results",
  },
  {
    pattern: /HTTP error (404|410)|Couldn't read a file:\/\/ file/,
    code: "NIX_GEN_NOT_ON_MIRROR",
    message: "expected the locked packages on the mirror",
    hint: "mirrors keep only the newest version of a package: lock again, or use a mirror that keeps old ones",
  },
  {
    pattern: /unable to download|Could ?n.t resolve host|Failed to connect|HTTP error/i,
    code: "NIX_GEN_MIRROR_UNREACHABLE",
    message: "expected to download locked packages",
    hint: "check the network, or choose another mirror with LEVERET_DEBIAN_MIRROR",
  },
];

const MAX_SHOWN_LINES = 20;

/** The error for a `nix build` that failed. */
export function buildError(nix: Nix, failure: BuildFailure, exitCode: number | undefined): NixGenError {
  const { derivation, log, messages } = failure;
  const lines = [...log, ...messages];
  for (const { pattern, code, message, hint } of CAUSES) {
    const index = lines.findIndex((line) => pattern.test(line));
    if (index === -1) continue;
    // A mismatch names both hashes in the lines that follow.
    const shown = lines.slice(index, index + 3).map((line) => line.trim());
    return new NixGenError(code, `${message}:\n${indent(shown)}`, { hint, logTail: lines });
  }
  const what = derivation?.replace(/^.*\/[a-z0-9]{32}-/, "").replace(/\.drv$/, "") ?? "the flake";
  const said = [...log, ...messages.filter((line) => !/dependenc(y|ies) of .* failed/.test(line))];
  const shown = said.slice(-MAX_SHOWN_LINES);
  const message = `expected ${what} to build, nix build ended with ${exitCode ?? "a signal"}:\n${indent(shown)}`;
  const hint = derivation === undefined ? undefined : `the whole log: ${logCommand(nix, derivation)}`;
  return new NixGenError("NIX_GEN_BUILD_FAILED", message, { hint, logTail: lines });
}

function indent(lines: readonly string[]): string {
  return lines.map((line) => `  ${line}`.trimEnd()).join("\n");
}

/** A shell command that prints the log of a derivation. */
function logCommand(nix: Nix, derivation: string): string {
  const remote = `NIX_REMOTE='${nix.store.replaceAll("'", "'\\''")}'`;
  return `${remote} ${nix.program} --offline --extra-experimental-features nix-command log ${derivation}`;
}
