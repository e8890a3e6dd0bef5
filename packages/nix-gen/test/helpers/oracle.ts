import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

// Environment: LEVERET_NIX_INSTANTIATE_2 (a second, newer nix-instantiate), REQUIRE_ORACLES, LEVERET_SEED.

/** One Nix to compare with. */
export interface Oracle {
  readonly command: string;
  /** as it says itself: `2.8.0` */
  readonly version: string;
}

/** Every Nix that is there. With REQUIRE_ORACLES=1 a missing one throws; otherwise tests have to skip. */
export function findOracles(): readonly Oracle[] {
  const commands = ["nix-instantiate", process.env.LEVERET_NIX_INSTANTIATE_2 ?? ""].filter((name) => name !== "");
  const found = commands.flatMap((command) => {
    const { stdout, status } = spawnSync(command, ["--version"], { encoding: "utf8" });
    return status === 0 ? [{ command, version: stdout.trim().split(" ").at(-1) ?? "" }] : [];
  });
  if (found.length < commands.length && process.env.REQUIRE_ORACLES === "1") {
    throw new Error(`expected all of ${commands.join(", ")}, got ${found.length} (REQUIRE_ORACLES=1)`);
  }
  return found;
}

/** Seed of this run's random tests; put it into every failure, and set LEVERET_SEED to see it again. */
export const SEED = Number(process.env.LEVERET_SEED ?? Date.now() % 2 ** 31);

/** Evaluates `source` strictly and returns the value that its JSON describes. */
export function evaluate(oracle: Oracle, source: string): unknown {
  return JSON.parse(instantiate(oracle, source, ["--eval", "--strict", "--json"]));
}

/** The syntax tree of `source`, as Nix prints it: fully parenthesised. */
export function parseTree(oracle: Oracle, source: string): string {
  return instantiate(oracle, source, ["--parse"]);
}

/** Environment in which Nix has no store, no settings and no network to fall back to. */
export function nixEnvironment(oracle: Oracle, home: string, store = "dummy://"): Record<string, string> {
  const config = [
    "experimental-features = nix-command flakes",
    "substituters =",
    "build-users-group =",
    "sandbox = false",
    // Debian's Nix puts a static shell into its sandbox, which need not be installed.
    "sandbox-paths =",
  ];
  // The hook for building elsewhere is started by a path that a Nix from a tool tree doesn't have; 2.8 must have one.
  if (!oracle.version.startsWith("2.8.")) config.push("build-hook =");
  return {
    PATH: process.env.PATH ?? "",
    HOME: home,
    NIX_REMOTE: store,
    NIX_CONFIG: config.join("\n"),
  };
}

function instantiate(oracle: Oracle, source: string, args: readonly string[]): string {
  const { command, version } = oracle;
  const directory = mkdtempSync(join(tmpdir(), "nix-gen-"));
  try {
    const file = join(directory, "test.nix");
    mkdirSync(join(directory, "home"));
    writeFileSync(file, source);
    const { stdout, stderr, status } = spawnSync(command, [...args, file], {
      encoding: "utf8",
      env: nixEnvironment(oracle, join(directory, "home")),
      maxBuffer: 1 << 28,
      timeout: 120_000,
    });
    // Relative paths come out absolute.
    if (status === 0) return stdout.replaceAll(directory, "/HERE");
    throw new Error(`Nix ${version} refused (seed ${SEED}): ${stderr.slice(0, 2000)}\n${source.slice(0, 4000)}`);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
