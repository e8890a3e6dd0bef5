import { fixedOutput } from "../derivation.ts";
import { NixGenError } from "../errors.ts";
import type { NixExpr } from "../internal/node.ts";
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
      {
        hint: "set LEVERET_DEBIAN_SECURITY_MIRROR",
      },
    );
  }
  return `${base}/${locked.path.split("/").map(encodeURIComponent).join("/")}`;
}

/**
 * Fixed-output derivations of a set's packages, in the order of the set.
 *
 * @param lock - The lock.
 * @param set - Name of one of its sets.
 * @param mirror - Where to fetch from; it has no influence on what is built.
 * @throws {NixGenError} `NIX_GEN_BAD_LOCK` when the lock has no such set, `NIX_GEN_NO_MIRROR`.
 */
export function debianPackages(lock: DebianLock, set: string, mirror: DebianMirror): NixExpr[] {
  const names = lock.sets[set];
  if (names === undefined) throw new NixGenError("NIX_GEN_BAD_LOCK", `expected a set ${set} in the lock, found none`);
  return names.map((name) => debianPackage(lock, name, mirror));
}

/**
 * Fixed-output derivation of one locked package.
 *
 * @throws {NixGenError} `NIX_GEN_BAD_LOCK` when the lock has no such package, `NIX_GEN_NO_MIRROR`.
 */
export function debianPackage(lock: DebianLock, name: string, mirror: DebianMirror): NixExpr {
  const locked = lock.packages[name];
  if (locked === undefined)
    throw new NixGenError("NIX_GEN_BAD_LOCK", `expected ${name} in the lock, found no such package`);
  return fixedOutput({
    name: debStoreName(name, locked.version),
    url: debianPackageUrl(locked, mirror),
    hash: locked.sha256,
  });
}

/** Store name of a locked package's file: `name_version.deb`. */
export function debStoreName(name: string, version: string): string {
  return toStoreName(`${name}_${version}.deb`);
}
