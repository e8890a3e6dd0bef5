import { readlink, rename, rm, symlink } from "node:fs/promises";
import { join, resolve } from "node:path";
import { NixGenError } from "../errors.ts";
import { bind } from "../expression/bindings.ts";
import { ref } from "../expression/syntax.ts";
import { flake, renderFlake } from "../flake/flake.ts";
import { besideOf, fileError, writeWhole } from "../internal/files.ts";
import { buildFlake } from "../nix/build.ts";
import type { Nix } from "../nix/open.ts";
import type { Progress } from "../progress.ts";
import { type DebianArchitecture, nixSystem } from "./architecture.ts";
import { debianBuilders } from "./builders.ts";
import { debianDownloads } from "./fetch.ts";
import { type DebianLock, readDebianLock, writeDebianLock } from "./lock.ts";
import { type DebianMirror, mirrorDirectories } from "./mirror.ts";
import { assertReplaceable, GENERATED } from "./occupied.ts";
import { debianPackages } from "./packages.ts";
import { type DebianRequest, debianRequestDigest, resolveDebian } from "./resolve.ts";
import { BOOTSTRAP_PACKAGE, stageDebianBuilders } from "./stage.ts";
import { writeTreePrograms } from "./tree-command.ts";

/** What {@link makeDebianTree} makes a tree of. */
export interface DebianTreeRequest {
  /** release: `trixie`; `trixie-backports` is that with newer packages where there are any */
  readonly suite: string;
  /** components of the archive; `["main"]` when not given */
  readonly components?: readonly string[];
  /** `"amd64"` when not given */
  readonly architecture?: DebianArchitecture;
  /** names of packages; whatever they depend on comes along */
  readonly packages: readonly string[];
  /** whether Debian's essential packages come along too: a shell, coreutils, dpkg; `false` when not given */
  readonly essential?: boolean;
  /** further sets to lock with these packages, which don't become part of the tree */
  readonly sets?: DebianRequest["sets"];
}

/** How {@link makeDebianTree} works. */
export interface MakeTreeOptions {
  readonly nix: Nix;
  readonly mirror: DebianMirror;
  /** directory of the result; created */
  readonly directory: string;
  /** directory for everything that can be made again, to be shared between trees; `state` in the result when not given */
  readonly stateDirectory?: string | undefined;
  /** the archive's public keys; Debian's own when not given */
  readonly keyring?: string | undefined;
  /** environment of apt: `PATH`, and proxies; the process's own when not given */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: Progress | undefined;
}

/** Unpacked packages, ready to run. */
export interface DebianTree {
  /** the tree itself, in the store: real path of a directory with `usr` and `etc`, read-only */
  readonly directory: string;
  /** directory with one executable file for each program of the tree */
  readonly bin: string;
  /** file with what was locked */
  readonly lockFile: string;
  readonly lock: DebianLock;
}

const SETS = { bootstrap: "bootstrap", tree: "tree" } as const;

/**
 * Makes a directory of a Debian release's programs from package names, whatever release runs here: locks them (again
 * only when the request has changed, or when the mirror has lost a file), builds the tree in Nix's sandbox, and writes
 * `debian.lock.json`, `tree` (a link to it) and `bin/PROGRAM` into `directory`. Nothing is installed.
 *
 * @param request - Release and packages.
 * @param options - Nix, mirror, and where it goes.
 * @returns The tree; {@link treeCommand} starts its programs.
 * @throws {NixGenError} `NIX_GEN_OCCUPIED` when `directory` holds a `bin`, `tree`, `flake`, `result` or
 *   `debian.lock.json` that no earlier call has made; as {@link resolveDebian}, {@link stageDebianBuilders} and
 *   {@link buildFlake}. An earlier result is then left as it was.
 * @example
 * const env = process.env;
 * const [nix, mirror] = [await openNix({ env }), await findDebianMirror({ env })];
 * const tree = await makeDebianTree({ suite: "trixie", packages: ["erofs-utils"] }, { nix, mirror, directory: "tools" });
 * // tools/bin/mkfs.erofs --version
 */
export async function makeDebianTree(request: DebianTreeRequest, options: MakeTreeOptions): Promise<DebianTree> {
  const directory = resolve(options.directory);
  const lockFile = join(directory, "debian.lock.json");
  const stateDirectory = resolve(options.stateDirectory ?? join(directory, "state"));
  const wanted = debianRequest(request);
  await assertReplaceable(directory);
  const lockAgain = async (): Promise<DebianLock> => {
    const lock = await resolveDebian(wanted, {
      ...options,
      stateDirectory: join(stateDirectory, `apt-${wanted.suite}`),
    });
    await writeDebianLock(lockFile, lock);
    return lock;
  };
  const kept = await keptLock(lockFile, debianRequestDigest(wanted));
  let lock = kept ?? (await lockAgain());
  const place = { directory, stateDirectory };
  let built: string;
  try {
    built = await buildTree(lock, options, place);
  } catch (error) {
    // A mirror keeps only the newest version of a package, and a tool tree is content with that.
    const isGone = error instanceof NixGenError && error.code === "NIX_GEN_NOT_ON_MIRROR";
    if (!isGone || kept === undefined) throw error;
    lock = await lockAgain();
    built = await buildTree(lock, options, place);
  }
  const bin = join(directory, "bin");
  const link = join(directory, "tree");
  if ((await readlink(link).catch(() => "")) !== built) {
    await writeTreePrograms({ directory: built, architecture: lock.architecture }, bin);
    await replaceLink(link, built);
  }
  return { directory: built, bin, lockFile, lock };
}

function debianRequest({
  suite,
  components,
  architecture,
  packages,
  essential,
  sets,
}: DebianTreeRequest): DebianRequest {
  return {
    suite,
    ...(components === undefined ? {} : { components: [...components] }),
    ...(architecture === undefined ? {} : { architecture }),
    sets: {
      ...sets,
      [SETS.bootstrap]: { packages: [BOOTSTRAP_PACKAGE] },
      [SETS.tree]: { packages: [...packages], essential: essential ?? false },
    },
  };
}

async function keptLock(file: string, digest: string): Promise<DebianLock | undefined> {
  try {
    const lock = await readDebianLock(file);
    return lock.request === digest ? lock : undefined;
  } catch (error) {
    // A lock that is missing, or not of this version, is made anew.
    if (error instanceof NixGenError && ["NIX_GEN_NO_LOCK", "NIX_GEN_BAD_LOCK"].includes(error.code)) return undefined;
    throw error;
  }
}

interface Place {
  readonly directory: string;
  readonly stateDirectory: string;
}

async function buildTree(lock: DebianLock, options: MakeTreeOptions, place: Place): Promise<string> {
  const { nix, mirror, signal, onProgress } = options;
  const at = join(place.directory, "flake");
  await stageDebianBuilders({ ...place, nix, lock, mirror, directory: at, signal, onProgress });
  const packages = debianPackages(lock, mirror);
  const builders = debianBuilders({ architecture: lock.architecture });
  const tree = builders.tree({ name: `debian-${lock.suite}-tree`, packages: packages.set(SETS.tree) });
  const text = renderFlake(
    flake({
      comment: GENERATED,
      bindings: [...packages.bindings, ...builders.bindings, bind("tree", tree)],
      outputs: { packages: { [nixSystem(lock.architecture)]: { tree: ref("tree") } } },
    }),
  );
  await writeWhole(join(at, "flake.nix"), text);
  const built = await buildFlake(nix, {
    directory: at,
    attribute: "tree",
    downloads: debianDownloads(lock, lock.sets[SETS.tree]),
    readablePaths: mirrorDirectories(mirror),
    outLink: join(place.directory, "result"),
    signal,
    onProgress,
  });
  return nix.realPath(built);
}

async function replaceLink(link: string, target: string): Promise<void> {
  const beside = besideOf(link);
  try {
    await symlink(target, beside);
    await rename(beside, link);
  } catch (cause) {
    await rm(beside, { force: true });
    throw fileError(link, cause);
  }
}
