import { createHash } from "node:crypto";
import { resolve as resolvePath } from "node:path";
import { z } from "zod";
import { NixGenError } from "../errors.ts";
import { checkOptions, zRecord } from "../internal/options.ts";
import type { Progress } from "../progress.ts";
import { type Apt, aptComplaints, DEBIAN_KEYRING, openApt } from "./apt.ts";
import type { DebianLock, LockedPackage } from "./lock.ts";
import type { DebianMirror } from "./mirror.ts";
import { nearestNames } from "./suggest.ts";

const REQUEST = z.strictObject({
  suite: z.string().regex(/^[a-z][a-z0-9-]*$/, "expected the name of a Debian release, like trixie"),
  components: z
    .array(z.string().regex(/^[a-z][a-z-]*$/))
    .min(1)
    .default(["main"]),
  architecture: z.enum(["amd64", "arm64"]).default("amd64"),
  sets: zRecord(
    z.strictObject({
      essential: z.boolean().default(false),
      packages: z.array(z.string().regex(/^[a-z0-9][a-z0-9+.-]*$/, "expected a Debian package name")),
      provided: z.array(z.string().regex(/^[a-z0-9][a-z0-9+.-]*$/)).default([]),
    }),
  ),
});

/**
 * What to lock: a release and named sets of packages, each resolved on its own.
 *
 * The suite `trixie-backports` is the release `trixie`, with newer packages from its backports where there are any. A
 * set's `essential` adds Debian's essential packages (without apt itself); `provided` are virtual or real package
 * names whose dependants are to be satisfied without installing anything.
 */
export type DebianRequest = z.input<typeof REQUEST>;

/** How {@link resolveDebian} works. */
export interface ResolveOptions {
  readonly mirror: DebianMirror;
  /** directory for apt's private state, kept between calls */
  readonly stateDirectory: string;
  /** the archive's public keys; Debian's own when not given */
  readonly keyring?: string | undefined;
  /** environment of apt: `PATH`, and proxies; the process's own when not given */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: Progress | undefined;
}

/**
 * Resolves package names to exact versions, pool paths and SHA-256 with Debian's own resolver, on a private state and
 * with the archive's signature checked.
 *
 * @param request - Release and sets of packages.
 * @param options - Mirror, state directory, progress.
 * @returns The lock; its sets are in the order in which apt would unpack them.
 * @throws {NixGenError} `NIX_GEN_BAD_OPTIONS`, `NIX_GEN_NO_APT`, `NIX_GEN_MIRROR_UNREACHABLE`, `NIX_GEN_BAD_SIGNATURE`,
 *   `NIX_GEN_BAD_INDEX`, `NIX_GEN_UNKNOWN_PACKAGE` with the nearest names, `NIX_GEN_UNRESOLVABLE` with apt's reasons,
 *   `NIX_GEN_BUSY` while another call works in the same state directory, `NIX_GEN_DISK_FULL`, `NIX_GEN_IO`. The signal's
 *   reason when it aborts.
 * @example
 * const lock = await resolveDebian({ suite: "trixie", sets: { tools: { packages: ["zstd"] } } }, { mirror, stateDirectory })
 */
export async function resolveDebian(request: DebianRequest, options: ResolveOptions): Promise<DebianLock> {
  const { suite, components, architecture, sets } = checkOptions(REQUEST, request, "request");
  const { mirror, env = process.env, signal, onProgress } = options;
  const keyring = resolvePath(options.keyring ?? DEBIAN_KEYRING);
  const stateDirectory = resolvePath(options.stateDirectory);
  const apt = await openApt({ stateDirectory, mirror, suite, components, architecture, keyring, env, signal });
  await apt.update(onProgress);
  await assertKnown(apt, suite, sets);

  const packages: Record<string, LockedPackage> = {};
  const lockedSets: Record<string, string[]> = {};
  for (const [name, set] of Object.entries(sets)) {
    onProgress?.({ step: "resolving packages", item: name });
    const resolved = await resolveSet(apt, set, mirror, architecture);
    lockedSets[name] = resolved.map(([packageName]) => packageName);
    for (const [packageName, locked] of resolved) packages[packageName] = locked;
  }
  return {
    kind: "debian-lock",
    version: 1,
    request: debianRequestDigest(request),
    suite,
    architecture,
    releases: await apt.releases(),
    sets: lockedSets,
    packages,
  };
}

/**
 * Digest of a request, as a lock made from it carries it: when they differ, the lock is older than the request.
 *
 * @returns 64 hexadecimal digits.
 */
export function debianRequestDigest(request: DebianRequest): string {
  const checked = checkOptions(REQUEST, request, "request");
  const sets = Object.entries(checked.sets).map(([name, set]) => [
    name,
    { ...set, packages: [...set.packages].sort(), provided: [...set.provided].sort() },
  ]);
  return createHash("sha256")
    .update(JSON.stringify({ ...checked, sets }))
    .digest("hex");
}

type CheckedSet = z.output<typeof REQUEST>["sets"][string];

// apt counts itself as essential; an image that is never changed by apt does without.
const ESSENTIAL = "?and(?essential,?not(?exact-name(apt)))";

async function resolveSet(apt: Apt, set: CheckedSet, mirror: DebianMirror, architecture: string) {
  const wanted = [...(set.essential ? [ESSENTIAL] : []), ...set.packages];
  const args = ["install", "--yes", "--print-uris", "--no-install-recommends", ...wanted];
  const result = await apt.get(args, providedStatus(set.provided, architecture));
  if (result.exitCode !== 0) throw unresolvable(result.stdout, result.stderr);
  const resolved: [string, LockedPackage][] = [];
  for (const line of result.stdout.split("\n")) {
    if (line.startsWith("'")) resolved.push(parsePrintedUri(line, mirror));
  }
  return resolved;
}

/**
 * The dpkg status in which one placeholder package provides `names`.
 *
 * @internal
 */
export function providedStatus(names: readonly string[], architecture: string): string {
  if (names.length === 0) return "";
  return [
    "Package: leveret-provided",
    "Status: install ok installed",
    "Maintainer: leveret",
    `Architecture: ${architecture}`,
    "Version: 1",
    `Provides: ${names.join(", ")}`,
    "Description: stands for what the image has from elsewhere",
    "\n",
  ].join("\n");
}

// 'URI' file_version_arch.deb 1234 SHA256:…   (apt-get(8), --print-uris)
const PRINTED_URI = /^'(\S+)' ([a-z0-9+.-]+)_(\S+)_[a-z0-9]+\.deb (\d+) SHA256:([0-9a-f]{64})$/;

function parsePrintedUri(line: string, mirror: DebianMirror): [string, LockedPackage] {
  const [, printed = "", name = "", version = "", size = "", sha256 = ""] = PRINTED_URI.exec(line) ?? [];
  // apt leaves out the empty host.
  const uri = printed.replace(/^file:\/(?!\/)/, "file:///");
  const security = mirror.security !== undefined && uri.startsWith(`${mirror.security}/`);
  // With one mirror's URL a prefix of the other's, the longer one is meant.
  const longer =
    security && !(uri.startsWith(`${mirror.main}/`) && mirror.main.length > (mirror.security ?? "").length);
  const base = longer ? (mirror.security ?? "") : mirror.main;
  if (name === "" || !uri.startsWith(`${base}/`)) throw new Error(`bug: apt printed a line of another form: ${line}`);
  return [
    name,
    {
      version: decodeURIComponent(version),
      archive: longer ? "security" : "main",
      path: decodeURIComponent(uri.slice(base.length + 1)),
      sizeBytes: Number(size),
      sha256,
    },
  ];
}

async function assertKnown(apt: Apt, suite: string, sets: Record<string, CheckedSet>): Promise<void> {
  const known = new Set(await apt.names());
  const problems: string[] = [];
  for (const [setName, set] of Object.entries(sets)) {
    for (const name of set.packages) {
      if (known.has(name)) continue;
      const near = nearestNames(name, known);
      problems.push(`${name} (in ${setName})${near.length === 0 ? "" : `: did you mean ${near.join(", ")}?`}`);
    }
  }
  if (problems.length === 0) return;
  throw new NixGenError(
    "NIX_GEN_UNKNOWN_PACKAGE",
    `expected packages of Debian ${suite}, got\n  ${problems.join("\n  ")}`,
  );
}

function unresolvable(stdout: string, stderr: string): NixGenError {
  const unmet = stdout.split("\n").filter((line) => /(Depends|PreDepends|Conflicts|Breaks):/.test(line));
  const errors = aptComplaints(stderr);
  const reasons = [...unmet, ...errors].map((line) => line.trim()).slice(0, 12);
  return new NixGenError("NIX_GEN_UNRESOLVABLE", `expected packages that fit together:\n  ${reasons.join("\n  ")}`);
}
