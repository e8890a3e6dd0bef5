import { access, constants, stat } from "node:fs/promises";
import { availableParallelism, homedir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { ExecaError, execa } from "execa";
import { NixGenError } from "../errors.ts";
import { quote } from "../internal/text.ts";

/** Oldest Nix that everything here works with. */
export const MIN_NIX_VERSION = "2.8";

// Each download is a job too, and mostly waits.
const MIN_JOBS = 8;
const CONNECT_TIMEOUT_S = 15;
const STALLED_TIMEOUT_S = 60;

/** How {@link openNix} finds Nix and its store. */
export interface OpenNixOptions {
  /** the `nix` program; else `LEVERET_NIX`, else `nix` on the `PATH` */
  readonly program?: string | undefined;
  /**
   * Nix store URL, or the path of a directory for a private store; else `LEVERET_NIX_STORE`, else the daemon when one runs, else a private store in the user's cache
   * directory, which needs no root and leaves the machine as it is
   */
  readonly store?: string | undefined;
  /** environment that is looked at and handed on: `PATH`, `HOME`, `XDG_CACHE_HOME`, `LEVERET_NIX`, `LEVERET_NIX_STORE` */
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** A Nix that works, with its settings in the environment and nothing configured system-wide. */
export interface Nix {
  /** the program, as it is started: an absolute path when it was found */
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
 * Finds Nix and chooses its store. Nothing is created yet, and nothing system-wide is needed: no `/nix`, no daemon, no
 * users for building, no settings in files.
 *
 * @param options - Program, store and environment.
 * @returns What every call of Nix takes.
 * @throws {NixGenError} `NIX_GEN_NO_NIX`, `NIX_GEN_NIX_TOO_OLD`, `NIX_GEN_BAD_OPTIONS` for a store that is no URL.
 * @example
 * const nix = await openNix({ env: process.env });
 */
export async function openNix(options: OpenNixOptions): Promise<Nix> {
  const { env } = options;
  const program = await findProgram(options.program ?? (env.LEVERET_NIX || "nix"), env.PATH);
  const version = await nixVersion(program, env);
  const store = storeUrl(options.store ?? (env.LEVERET_NIX_STORE || (await defaultStore(env))));
  const root = storeRoot(store);
  return {
    program,
    version,
    store,
    env: { ...definedEntries(env), NIX_CONFIG: nixSettings(version, store).join("\n"), NIX_REMOTE: store },
    realPath: (storePath) => (root === undefined ? storePath : join(root, storePath)),
  };
}

/** Whether the version `version` comes before `than`; only the first two numbers count. */
export function isOlderNix(version: string, than: string): boolean {
  const [major = 0, minor = 0] = version.split(".").map((part) => Number.parseInt(part, 10));
  const [thanMajor = 0, thanMinor = 0] = than.split(".").map((part) => Number.parseInt(part, 10));
  return major < thanMajor || (major === thanMajor && minor < thanMinor);
}

// Builds run in other directories, where a relative path, or a relative directory on the PATH, would be another one.
async function findProgram(program: string, path = ""): Promise<string> {
  if (program.includes("/")) return resolve(program);
  for (const directory of path.split(delimiter)) {
    const candidate = resolve(directory, program);
    if (await isExecutable(candidate)) return candidate;
  }
  return program;
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}

async function nixVersion(program: string, env: OpenNixOptions["env"]): Promise<string> {
  let stdout: string;
  try {
    ({ stdout } = await execa(program, ["--version"], { env: definedEntries(env), extendEnv: false }));
  } catch (cause) {
    if (!(cause instanceof ExecaError)) throw cause;
    const why = cause.code === "ENOENT" ? "found none" : `got ${cause.shortMessage}`;
    throw noNix(program, why, cause);
  }
  // "nix (Nix) 2.8.0"; others put a name and a number of their own before it.
  const version = /(\d+\.\d+[\w.]*)\s*$/.exec(stdout)?.[1] ?? "";
  if (version === "" || isOlderNix(version, MIN_NIX_VERSION)) {
    const message = `expected Nix ${MIN_NIX_VERSION} or newer, got ${quote(stdout.trim())} from ${program}`;
    throw new NixGenError("NIX_GEN_NIX_TOO_OLD", message, { hint: "install a newer nix, or set LEVERET_NIX to one" });
  }
  return version;
}

/** The error for a `nix` that can't be started. */
export function noNix(program: string, why: string, cause: unknown): NixGenError {
  return new NixGenError("NIX_GEN_NO_NIX", `expected the program ${program}, ${why}`, {
    cause,
    hint: "on Debian: apt-get install nix-bin; or set LEVERET_NIX to the program",
  });
}

async function defaultStore(env: OpenNixOptions["env"]): Promise<string> {
  try {
    await access(DAEMON_SOCKET, constants.W_OK);
    return "daemon";
  } catch {
    const cache = env.XDG_CACHE_HOME || join(env.HOME || homedir(), ".cache");
    const root = resolve(cache, "leveret", "nix");
    return storeIn(root);
  }
}

// Nix takes what has a slash, and no "://", for the root of a local store. As a URL, it means the same in every working
// directory, and it says where the store's files are.
function storeUrl(store: string): string {
  if (!store.includes("/") || store.includes("://") || /^\w+\?/.test(store)) return store;
  const [path = "", ...parameters] = store.split("?");
  return [storeIn(resolve(path)), ...parameters].join("&");
}

function storeIn(root: string): string {
  return `local?root=${root.split("/").map(encodeURIComponent).join("/")}`;
}

function storeRoot(store: string): string | undefined {
  const root = /^local(?::\/\/)?\?(?:.*&)?root=([^&]+)/.exec(store)?.[1];
  try {
    return root === undefined ? undefined : decodeURIComponent(root);
  } catch (cause) {
    throw new NixGenError("NIX_GEN_BAD_OPTIONS", `expected a store URL, got ${quote(store)}`, { path: "store", cause });
  }
}

function nixSettings(version: string, store: string): string[] {
  const features = "experimental-features = nix-command flakes";
  // A daemon keeps its own settings: its caches and remote builders are why somebody runs one.
  if (store === "daemon") return [features];
  return [
    features,
    // No cache is asked: sources come from the Debian mirror, and what is built stays here.
    "substituters =",
    "flake-registry =",
    // Single-user: builds run as whoever calls, inside of Nix's sandbox.
    "build-users-group =",
    "sandbox = true",
    "sandbox-fallback = false",
    // Builds bring their own first program; Debian's Nix expects a shell that need not be installed.
    "sandbox-paths =",
    // The program that asks other machines to build is found by a path which a Nix out of a tool tree doesn't have.
    // Nix 2.8 can't do without it.
    ...(isOlderNix(version, "2.26") ? [] : ["build-hook ="]),
    "warn-dirty = false",
    `max-jobs = ${Math.max(MIN_JOBS, availableParallelism())}`,
    `connect-timeout = ${CONNECT_TIMEOUT_S}`,
    `stalled-download-timeout = ${STALLED_TIMEOUT_S}`,
  ];
}

function definedEntries(env: OpenNixOptions["env"]): Record<string, string> {
  return Object.fromEntries(Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined));
}
