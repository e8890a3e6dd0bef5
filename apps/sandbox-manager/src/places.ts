import { mkdir } from "node:fs/promises";
import { homedir, tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { SandboxError } from "./errors.ts";

/** Variables of the environment, as `process.env` has them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Where everything is that one user's sandboxes need. */
export interface Places {
  /** what is kept of each sandbox, by name */
  readonly machines: string;
  /** sockets, whose paths have to be short */
  readonly sockets: string;
  /** what can be made again: the guest's image, templates */
  readonly cache: string;
}

const OWNER_ONLY = 0o700;

/**
 * Where the sandboxes of a user are: below `XDG_STATE_HOME`, `XDG_RUNTIME_DIR` and `XDG_CACHE_HOME`, or where these are
 * when they are not set. Nobody else can look into them.
 *
 * @throws {SandboxError} `SANDBOX_NOT_WRITABLE`.
 */
export async function openPlaces(env: Environment): Promise<Places> {
  const home = env.HOME ?? homedir();
  const state = env.XDG_STATE_HOME ?? join(home, ".local", "state");
  const cache = env.XDG_CACHE_HOME ?? join(home, ".cache");
  const runtime = env.XDG_RUNTIME_DIR ?? join(tmpdir(), `leveret-${userInfo().uid}`);
  const places = {
    machines: join(state, "leveret", "sandbox"),
    sockets: join(runtime, "leveret-sandbox"),
    cache: join(cache, "leveret", "sandbox"),
  };
  for (const path of Object.values(places)) {
    await mkdir(path, { recursive: true, mode: OWNER_ONLY }).catch((cause: NodeJS.ErrnoException) => {
      throw new SandboxError("SANDBOX_NOT_WRITABLE", `expected to make ${path}, got ${cause.code}`, { path, cause });
    });
  }
  return places;
}
