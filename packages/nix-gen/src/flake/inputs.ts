import { NixGenError } from "../errors.ts";
import { assertBindable } from "../internal/names.ts";
import { quote } from "../internal/text.ts";

/** Where an input comes from. Plain data only: Nix reads it before it evaluates anything. */
export interface FlakeInput {
  /** flake reference with its scheme: `github:owner/repo/ref`, `path:./sub`, `https://…/x.tar.gz` */
  readonly url?: string;
  /** whether the input is a flake itself; `true` when not given */
  readonly flake?: boolean;
  /** another input to take instead, as a path of input names: `nixpkgs`, `other/nixpkgs` */
  readonly follows?: string;
  /** changes to the inputs that this input has itself */
  readonly inputs?: { readonly [name: string]: FlakeInput };
}

/** Inputs of a flake by name. */
export type FlakeInputs = { readonly [name: string]: FlakeInput };

// Nix 2.8 `src/libexpr/flake/flakeref.hh`, flakeIdRegexS.
const INPUT_NAME = /^[A-Za-z][A-Za-z0-9_-]*$/;

// Schemes that every Nix since 2.8 knows. `flake:` and bare names go through a registry, which Nix ≥ 2.26 no longer
// consults when it locks.
const SCHEMES =
  /^(github|gitlab|sourcehut|path|git\+(https?|ssh|file|git)|hg\+(https?|ssh|file)|(tarball\+|file\+)?(https?|file)):./;

/**
 * Throws unless `inputs` can stand in a flake: names, references, and a follows graph without cycles or dangling ends.
 *
 * @throws {NixGenError} `NIX_GEN_BAD_IDENTIFIER` for a name, `NIX_GEN_BAD_OPTIONS` for a reference, `NIX_GEN_BAD_FOLLOWS`.
 */
export function assertInputs(inputs: FlakeInputs): void {
  for (const [name, input] of Object.entries(inputs)) {
    assertBindable(name, `inputs.${name}`);
    if (name === "self") {
      throw new NixGenError("NIX_GEN_BAD_OPTIONS", "expected an input other than self, which is the flake itself");
    }
    assertInput(inputs, input, [name]);
  }
}

function assertInput(all: FlakeInputs, input: FlakeInput, location: readonly string[]): void {
  const path = `inputs.${location.join(".inputs.")}`;
  const name = location.at(-1) ?? "";
  if (!INPUT_NAME.test(name)) {
    throw new NixGenError("NIX_GEN_BAD_IDENTIFIER", `expected the name of an input, got ${quote(name)}`, { path });
  }
  const isTop = location.length === 1;
  if (input.follows !== undefined) {
    if (input.url !== undefined || input.flake !== undefined || input.inputs !== undefined) {
      throw new NixGenError("NIX_GEN_BAD_FOLLOWS", "expected follows alone, got url, flake or inputs beside it", {
        path,
      });
    }
    assertFollows(all, input.follows, location, path);
  } else if (input.url === undefined && isTop) {
    const hint = "without a url Nix would look the name up in a registry";
    throw new NixGenError("NIX_GEN_BAD_OPTIONS", "expected url or follows, got neither", { path, hint });
  }
  if (input.url !== undefined && !SCHEMES.test(input.url)) {
    throw new NixGenError(
      "NIX_GEN_BAD_OPTIONS",
      `expected a flake reference with its scheme, got ${quote(input.url)}`,
      {
        path: `${path}.url`,
        hint: "for example github:owner/repo/ref, path:./sub, git+https://…, https://….tar.gz",
      },
    );
  }
  for (const [child, below] of Object.entries(input.inputs ?? {})) assertInput(all, below, [...location, child]);
}

function assertFollows(all: FlakeInputs, follows: string, location: readonly string[], path: string): void {
  // An empty path removes an input of an input.
  if (follows === "" && location.length > 1) return;
  let target = follows.split("/");
  if (!target.every((name) => INPUT_NAME.test(name))) {
    throw new NixGenError("NIX_GEN_BAD_FOLLOWS", `expected names joined by slashes, got ${quote(follows)}`, { path });
  }
  const seen = new Set([location.join("/")]);
  for (;;) {
    const key = target.join("/");
    if (seen.has(key)) {
      const round = [...seen, key].join(" → ");
      throw new NixGenError("NIX_GEN_BAD_FOLLOWS", `expected an end to what it follows, got ${round}`, { path });
    }
    seen.add(key);
    const next = step(all, target, path);
    if (next === undefined) return;
    target = next;
  }
}

/** `target` with its first replaced part replaced, or undefined when nothing on the way follows anything. */
function step(all: FlakeInputs, target: readonly string[], path: string): string[] | undefined {
  let level: FlakeInputs = all;
  for (const [index, name] of target.entries()) {
    const input: FlakeInput | undefined = Object.hasOwn(level, name) ? level[name] : undefined;
    if (input === undefined) {
      // Only the lock file knows what inputs an input has.
      if (index > 0) return undefined;
      const known = Object.keys(all).map(quote).join(", ");
      throw new NixGenError("NIX_GEN_BAD_FOLLOWS", `expected one of the inputs ${known}, got ${quote(name)}`, { path });
    }
    if (input.follows !== undefined && input.follows !== "")
      return [...input.follows.split("/"), ...target.slice(index + 1)];
    level = input.inputs ?? {};
  }
  return undefined;
}
