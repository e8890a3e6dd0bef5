import { NixGenError } from "./errors.ts";
import { quote } from "./internal/text.ts";

/** Length of the longest name of a derivation in `bytes`: 211 for a store path's name, less `.drv`. */
export const MAX_STORE_NAME_LENGTH = 207;

/**
 * Throws unless `name` can be the name of a derivation, in every version of Nix.
 *
 * @param name - 1 to 207 letters, digits and `+-._?=`, not beginning with a dot and not ending in `.drv`.
 * @param path - Where the name stands in a larger value, for the error.
 * @throws {NixGenError} `NIX_GEN_BAD_STORE_NAME`.
 * @see Nix 2.8 `src/libstore/path.cc`, checkName
 */
export function assertStoreName(name: string, path?: string): void {
  const problem = problemOf(name);
  if (problem === undefined) return;
  throw new NixGenError("NIX_GEN_BAD_STORE_NAME", `expected a store path's name, got ${quote(name)}: ${problem}`, {
    path,
    hint: "toStoreName() makes a valid name of any text",
  });
}

/**
 * The nearest valid store path's name: other characters become `-`, and what is too long loses its middle.
 *
 * @param text - Any text, such as the file name of a Debian package.
 * @example
 * toStoreName("libc6_2.36-9+deb12u4_amd64.deb") // the same
 * toStoreName("gcc_4%3a12.2.0~rc1_amd64.deb") // "gcc_4-3a12.2.0-rc1_amd64.deb"
 */
export function toStoreName(text: string): string {
  const clean = text.replace(/[^A-Za-z0-9+\-._?=]/gu, "-").replace(/^\.+/, "");
  const long = clean.replace(/(\.drv)+$/, "");
  const name = long === "" ? "unnamed" : long;
  if (name.length <= MAX_STORE_NAME_LENGTH) return name;
  const half = Math.floor((MAX_STORE_NAME_LENGTH - 1) / 2);
  return `${name.slice(0, half)}-${name.slice(-half)}`;
}

function problemOf(name: string): string | undefined {
  if (name === "") return "it is empty";
  const bad = /[^A-Za-z0-9+\-._?=]/u.exec(name);
  if (bad !== null) return `it contains ${quote(bad[0])}`;
  if (name.startsWith(".")) return "it begins with a dot";
  if (name.endsWith(".drv")) return "it ends in .drv";
  if (name.length > MAX_STORE_NAME_LENGTH) {
    return `it is ${name.length} bytes long, at most ${MAX_STORE_NAME_LENGTH} are possible`;
  }
  return undefined;
}
