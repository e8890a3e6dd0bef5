import { NixGenError } from "../errors.ts";
import { attrs, type Binding, bind } from "../expression/bindings.ts";
import { ref } from "../expression/syntax.ts";
import type { NixExpr } from "../internal/node.ts";
import { debianPackage } from "./fetch.ts";
import type { DebianLock } from "./lock.ts";
import type { DebianMirror } from "./mirror.ts";

/** The packages of a lock, as one variable of a flake that everything built from them refers to. */
export interface DebianPackages {
  /** for the flake's `bindings` */
  readonly bindings: readonly Binding[];
  /**
   * One package's file.
   *
   * @throws {NixGenError} `NIX_GEN_BAD_LOCK` when the lock has no such package.
   */
  get(name: string): NixExpr;
  /**
   * The files of a set's packages, in the order of the set.
   *
   * @throws {NixGenError} `NIX_GEN_BAD_LOCK` when the lock has no such set.
   */
  set(name: string): readonly NixExpr[];
}

/**
 * The packages of a lock as fixed-output derivations, each by its name in one attribute set.
 *
 * @param lock - The lock.
 * @param mirror - Where to fetch from; it has no influence on what is built.
 * @param options - `binding` is the variable's name, for a flake with packages of more than one lock: `debian` when not
 *   given.
 * @throws {NixGenError} `NIX_GEN_NO_MIRROR` for a lock with security updates and a mirror without them.
 * @example
 * const packages = debianPackages(lock, mirror);
 * flake({ bindings: [...packages.bindings, …], … }); // packages.get("bash") prints as debian.bash
 */
export function debianPackages(
  lock: DebianLock,
  mirror: DebianMirror,
  options: { readonly binding?: string } = {},
): DebianPackages {
  const { binding = "debian" } = options;
  const names = Object.keys(lock.packages).sort();
  const value = attrs(names.map((name) => bind(name, debianPackage(lock, name, mirror))));
  const get = (name: string): NixExpr => {
    if (Object.hasOwn(lock.packages, name)) return ref(binding, name);
    throw new NixGenError("NIX_GEN_BAD_LOCK", `expected ${name} in the lock, found no such package`);
  };
  return {
    bindings: [bind(binding, value)],
    get,
    set(name) {
      if (Object.hasOwn(lock.sets, name)) return (lock.sets[name] ?? []).map(get);
      throw new NixGenError("NIX_GEN_BAD_LOCK", `expected a set ${name} in the lock, found none`);
    },
  };
}
