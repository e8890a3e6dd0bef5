import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { BUILDER_SCRIPTS, BUILDERS_DIRECTORY } from "../builders.ts";
import { NixGenError } from "../errors.ts";
import { flake, renderFlake } from "../flake/flake.ts";
import { writeWhole } from "../internal/files.ts";
import { buildFlake } from "../nix/build.ts";
import type { Nix } from "../nix/open.ts";
import type { Progress } from "../progress.ts";
import { nixSystem } from "./architecture.ts";
import { BUILDERS_LAYOUT } from "./builders.ts";
import { readDebFile } from "./deb.ts";
import { debianDownloads, debianPackage } from "./fetch.ts";
import type { DebianLock } from "./lock.ts";
import { type DebianMirror, mirrorDirectories } from "./mirror.ts";

/** Package with the first program of every build, to be in the lock's set that {@link stageDebianBuilders} takes. */
export const BOOTSTRAP_PACKAGE = "busybox-static";

/** What {@link stageDebianBuilders} works with. */
export interface StageOptions {
  readonly nix: Nix;
  /** lock with the package {@link BOOTSTRAP_PACKAGE} */
  readonly lock: DebianLock;
  readonly mirror: DebianMirror;
  /** directory of the flake; created */
  readonly directory: string;
  /** directory that keeps the first program between calls; created */
  readonly stateDirectory: string;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: Progress | undefined;
}

/**
 * Puts into a flake's directory what the derivations of {@link debianBuilders} start from. Nix's sandbox holds no
 * program at all, and Nix can't unpack a Debian package: so the first program, a static busybox, is taken out of its
 * locked and verified package here.
 *
 * @throws {NixGenError} `NIX_GEN_BAD_LOCK` without that package in the lock, `NIX_GEN_BAD_DEB`, `NIX_GEN_DISK_FULL`,
 *   `NIX_GEN_IO`, and as {@link buildFlake}.
 */
export async function stageDebianBuilders(options: StageOptions): Promise<void> {
  const { directory: name, bootstrap, program } = BUILDERS_LAYOUT;
  const directory = join(options.directory, name);
  const busybox = await readFile(await fetchBusybox(options));
  await writeWhole(join(directory, bootstrap, program), busybox, 0o755);
  for (const script of BUILDER_SCRIPTS) {
    await writeWhole(join(directory, script), await readFile(join(BUILDERS_DIRECTORY, script)));
  }
}

// Before and since the merge of /usr.
const BUSYBOX_PATHS = ["usr/bin/busybox", "bin/busybox"];

async function fetchBusybox(options: StageOptions): Promise<string> {
  const { nix, lock, mirror, stateDirectory, signal, onProgress } = options;
  const locked = Object.hasOwn(lock.packages, BOOTSTRAP_PACKAGE) ? lock.packages[BOOTSTRAP_PACKAGE] : undefined;
  if (locked === undefined) {
    const message = `expected ${BOOTSTRAP_PACKAGE} in the lock, found no such package`;
    throw new NixGenError("NIX_GEN_BAD_LOCK", message, { hint: "add a set with it to what is locked" });
  }
  const file = join(stateDirectory, `busybox-${locked.sha256.slice(0, 16)}`);
  if ((await stat(file).catch(() => undefined)) !== undefined) return file;

  const directory = join(stateDirectory, "bootstrap");
  const deb = debianPackage(lock, BOOTSTRAP_PACKAGE, mirror);
  const text = renderFlake(
    flake({
      description: "the first program of every build",
      outputs: { packages: { [nixSystem(lock.architecture)]: { deb } } },
    }),
  );
  await writeWhole(join(directory, "flake.nix"), text);
  const built = await buildFlake(nix, {
    directory,
    attribute: "deb",
    downloads: debianDownloads(lock, [BOOTSTRAP_PACKAGE]),
    readablePaths: mirrorDirectories(mirror),
    signal,
    onProgress,
  });
  const bytes = await readDebFile(await readFile(nix.realPath(built)), BUSYBOX_PATHS);
  await writeWhole(file, bytes, 0o755);
  return file;
}
