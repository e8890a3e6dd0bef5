import { createHash } from "node:crypto";
import { lstat, mkdir, stat } from "node:fs/promises";
import { homedir, tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { SandboxError } from "./errors.ts";

/** Variables of the environment, as `process.env` has them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Where everything is that one user's sandboxes need. */
export interface Places {
  /** what is kept of each sandbox, by name */
  readonly machines: string;
  /** what is noted of changes to projects, while they are made */
  readonly journals: string;
  /** sockets, whose paths have to be short */
  readonly sockets: string;
  /** what can be made again: the guest's image, templates */
  readonly cache: string;
}

const OWNER_ONLY = 0o700;
/** In hexadecimal digits. */
const DIGEST_LENGTH = 32;

/**
 * Where the sandboxes of a user are: below `XDG_STATE_HOME`, `XDG_RUNTIME_DIR` and `XDG_CACHE_HOME`, or where these are
 * when they are not set; a path that is empty or relative counts as not set. Nobody else can look into them.
 *
 * @throws {SandboxError} `SANDBOX_NOT_WRITABLE`: one of them can't be made, or belongs to somebody else.
 * @see XDG Base Directory Specification
 */
export async function openPlaces(env: Environment): Promise<Places> {
  const home = absolute(env.HOME) ?? homedir();
  const state = absolute(env.XDG_STATE_HOME) ?? join(home, ".local", "state");
  const cache = absolute(env.XDG_CACHE_HOME) ?? join(home, ".cache");
  const runtime = absolute(env.XDG_RUNTIME_DIR) ?? (await openTemporary());
  const places = {
    machines: join(state, "leveret", "sandbox"),
    journals: join(state, "leveret", "sandbox-applies"),
    sockets: join(runtime, "leveret-sandbox"),
    cache: join(cache, "leveret", "sandbox"),
  };
  for (const path of Object.values(places)) await openDirectory(path);
  return places;
}

function absolute(path: string | undefined): string | undefined {
  return path?.startsWith("/") ? path : undefined;
}

// Everybody can write to the directory above it, and so may have made it before.
async function openTemporary(): Promise<string> {
  const { uid } = userInfo();
  const path = join(tmpdir(), `leveret-${uid}`);
  await openDirectory(path);
  const found = await lstat(path);
  if (!found.isDirectory() || found.uid !== uid) {
    throw new SandboxError("SANDBOX_NOT_WRITABLE", `expected a directory of user ${uid}, got another's: ${path}`, {
      path,
    });
  }
  return path;
}

async function openDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: OWNER_ONLY }).catch((cause: NodeJS.ErrnoException) => {
    throw new SandboxError("SANDBOX_NOT_WRITABLE", `expected to make ${path}, got ${cause.code}`, { path, cause });
  });
}

/** Where the templates of sandboxes are. */
export function templatesIn({ cache }: Places): string {
  return join(cache, "templates");
}

/** Where a sandbox is asked. */
export function socketPath(places: Places, name: string): string {
  return join(places.sockets, name);
}

/** Where is noted what is being done to a project. */
export function journalPath({ journals }: Places, directory: string): string {
  return join(journals, `${projectDigest(directory)}.json`);
}

/** What tells a directory from others that have its path later. */
export async function projectId(directory: string): Promise<string> {
  const { dev, ino } = await stat(directory);
  return `${dev} ${ino}`;
}

/** A name for a project that has no slashes. */
export function projectDigest(directory: string): string {
  return createHash("sha256").update(directory).digest("hex").slice(0, DIGEST_LENGTH);
}
