import { access, constants } from "node:fs/promises";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { ExecaError, execa } from "execa";
import { NixGenError } from "../errors.ts";

/** Oldest Nix that everything here works with. */
export const MIN_NIX_VERSION = "2.8";

/** How {@link openNix} finds Nix and its store. */
export interface OpenNixOptions {
  /** the `nix` program; else `LEVERET_NIX`, else `nix` on the `PATH` */
  readonly program?: string | undefined;
  /**
   * Nix store URL; else `LEVERET_NIX_STORE`, else the daemon when one runs, else a private store in the user's cache
   * directory, which needs no root and leaves the machine as it is
   */
  readonly store?: string | undefined;
  /** environment that is looked at and handed on: `PATH`, `HOME`, `XDG_CACHE_HOME`, `LEVERET_NIX`, `LEVERET_NIX_STORE` */
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** A Nix that works, with its settings in the environment and nothing configured system-wide. */
export interface Nix {
  readonly program: string;
  /** such as `2.8.0` */
  readonly version: string;
  /** store URL, as `NIX_REMOTE` takes it */
  readonly store: string;
  /** whole environment for every call of Nix */
  readonly env: Readonly<Record<string, string>>;
  /** Where a store path's bytes are: under the private store's root, or the path itself. */
  realPath(storePath: string): string;
}

const DAEMON_SOCKET = "/nix/var/nix/daemon-socket/socket";

/**
 * Finds Nix and chooses its store.
 *
 * @throws {NixGenError} `NIX_GEN_NO_NIX`, `NIX_GEN_NIX_TOO_OLD`.
 * @example
 * const nix = await openNix({ env: process.env });
 */
export async function openNix(options: OpenNixOptions): Promise<Nix> {
  const { env } = options;
  const program = options.program ?? (env.LEVERET_NIX || "nix");
  const version = await nixVersion(program, env);
  const store = options.store ?? (env.LEVERET_NIX_STORE || (await defaultStore(env)));
  const root = /^local\?(?:.*&)?root=([^&]+)/.exec(store)?.[1];
  return {
    program,
    version,
    store,
    env: nixEnvironment(env, store),
    realPath: (storePath) => (root === undefined ? storePath : join(root, storePath)),
  };
}

async function nixVersion(program: string, env: OpenNixOptions["env"]): Promise<string> {
  try {
    const { stdout } = await execa(program, ["--version"], { env: definedEntries(env), extendEnv: false });
    const version = /(\d+\.\d+(?:\.\d+)?)/.exec(stdout)?.[1] ?? "";
    if (version === "" || isOlder(version, MIN_NIX_VERSION)) {
      const message = `expected Nix ${MIN_NIX_VERSION} or newer, got ${JSON.stringify(stdout.trim())}`;
      throw new NixGenError("NIX_GEN_NIX_TOO_OLD", message, { hint: "install a newer nix, or set LEVERET_NIX to one" });
    }
    return version;
  } catch (cause) {
    if (!(cause instanceof ExecaError)) throw cause;
    throw new NixGenError("NIX_GEN_NO_NIX", `expected the program ${program} to run, it did not`, {
      cause,
      hint: "on Debian: apt-get install nix-bin",
    });
  }
}

function isOlder(version: string, than: string): boolean {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const [thanMajor = 0, thanMinor = 0] = than.split(".").map(Number);
  return major < thanMajor || (major === thanMajor && minor < thanMinor);
}

async function defaultStore(env: OpenNixOptions["env"]): Promise<string> {
  try {
    await access(DAEMON_SOCKET, constants.W_OK);
    return "daemon";
  } catch {
    const cache = env.XDG_CACHE_HOME || join(env.HOME || homedir(), ".cache");
    return `local?root=${resolve(cache, "leveret", "nix")}`;
  }
}

function nixEnvironment(env: OpenNixOptions["env"], store: string): Record<string, string> {
  const settings = [
    "experimental-features = nix-command flakes",
    // No cache is asked: sources come from the Debian mirror, and what is built stays here.
    "substituters =",
    "flake-registry =",
    // Single-user: builds run as whoever calls, inside of Nix's sandbox.
    "build-users-group =",
    "sandbox = true",
    "sandbox-fallback = false",
    "warn-dirty = false",
    "max-jobs = auto",
  ];
  // A daemon keeps its own settings: its caches and remote builders are why somebody runs one.
  const config = store === "daemon" ? settings.slice(0, 1) : settings;
  return { ...definedEntries(env), NIX_CONFIG: config.join("\n"), NIX_REMOTE: store };
}

function definedEntries(env: OpenNixOptions["env"]): Record<string, string> {
  return Object.fromEntries(Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined));
}
