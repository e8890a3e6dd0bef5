import { fixedOutput } from "../derivation.ts";
import { NixGenError } from "../errors.ts";
import type { NixExpr } from "../internal/node.ts";
import type { ExpectedDownload } from "../nix/build-log.ts";
import { fixedOutputStorePath } from "../nix/store-path.ts";
import { toStoreName } from "../store-name.ts";
import type { DebianLock, LockedPackage } from "./lock.ts";
import type { DebianMirror } from "./mirror.ts";

/**
 * URL of a locked package on a mirror.
 *
 * @throws {NixGenError} `NIX_GEN_NO_MIRROR` for a package of the security archive when the mirror has none.
 */
export function debianPackageUrl(locked: LockedPackage, mirror: DebianMirror): string {
  const base = locked.archive === "security" ? mirror.security : mirror.main;
  if (base === undefined) {
    throw new NixGenError(
      "NIX_GEN_NO_MIRROR",
      `expected a mirror of the security archive for ${locked.path}, got none`,
      { hint: "set LEVERET_DEBIAN_SECURITY_MIRROR" },
    );
  }
  return `${base}/${locked.path.split("/").map(encodeURIComponent).join("/")}`;
}

/**
 * Fixed-output derivation of one locked package.
 *
 * @param lock - The lock.
 * @param name - Name of one of its packages.
 * @param mirror - Where to fetch from; it has no influence on what is built.
 * @throws {NixGenError} `NIX_GEN_BAD_LOCK` when the lock has no such package, `NIX_GEN_NO_MIRROR`.
 */
export function debianPackage(lock: DebianLock, name: string, mirror: DebianMirror): NixExpr {
  const locked = lockedPackage(lock, name);
  return fixedOutput({
    name: storeName(name, locked),
    url: debianPackageUrl(locked, mirror),
    hash: locked.sha256,
  });
}

/**
 * The files of a lock's packages, so that {@link buildFlake} can count what it has to download.
 *
 * @param lock - The lock.
 * @param names - Some of its packages; all when not given.
 */
export function debianDownloads(
  lock: DebianLock,
  names: readonly string[] = Object.keys(lock.packages),
): ExpectedDownload[] {
  return names.map((name) => {
    const locked = lockedPackage(lock, name);
    return { storePath: fixedOutputStorePath(storeName(name, locked), locked.sha256), sizeBytes: locked.sizeBytes };
  });
}

function lockedPackage(lock: DebianLock, name: string): LockedPackage {
  const locked = Object.hasOwn(lock.packages, name) ? lock.packages[name] : undefined;
  if (locked !== undefined) return locked;
  throw new NixGenError("NIX_GEN_BAD_LOCK", `expected ${name} in the lock, found no such package`);
}

function storeName(name: string, { version }: LockedPackage): string {
  return toStoreName(`${name}_${version}.deb`);
}
