import { accessSync, constants, existsSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { describe } from "vitest";
import { type Nix, openNix } from "../../src/index.ts";

// Environment: LEVERET_NIX_INSTANTIATE_2 (a second, newer nix-instantiate, with nix beside it), REQUIRE_ORACLES.

/** Whether a program (or a file, by its absolute path) is there. */
function isThere(name: string): boolean {
  if (name.startsWith("/")) return existsSync(name);
  return (process.env.PATH ?? "").split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Tests that need foreign programs or files: skipped by name without them, or failing with REQUIRE_ORACLES=1. */
export function describeWith(title: string, needs: readonly string[], body: () => void): void {
  const missing = needs.filter((name) => !isThere(name));
  if (missing.length === 0) describe(title, body);
  else if (process.env.REQUIRE_ORACLES === "1") throw new Error(`${title}: expected ${missing.join(", ")}, found none`);
  else describe.skip(`${title} (skipped: ${missing.join(", ")} not found)`, body);
}

/** The programs `nix` to test with: this machine's, and the newer one if it is named. */
export function nixPrograms(): string[] {
  const second = process.env.LEVERET_NIX_INSTANTIATE_2 ?? "";
  return ["nix", ...(second === "" ? [] : [join(dirname(second), "nix")])];
}

/** A Nix with a store of its own in `directory`. */
export function nixIn(directory: string, program = "nix"): Promise<Nix> {
  const { PATH } = process.env;
  const env = { PATH, HOME: join(directory, "home"), TMPDIR: directory };
  return openNix({ env, program, store: `local?root=${encodeURI(join(directory, "store"))}` });
}
