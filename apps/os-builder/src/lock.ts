import { join, relative } from "node:path";
import {
  type DebianLock,
  debianRequestDigest,
  findDebianMirror,
  NixGenError,
  type Progress,
  readDebianLock,
  resolveDebian,
  writeDebianLock,
} from "@leveret/nix-gen";
import type { Project } from "./config/load.ts";
import { OsBuilderError } from "./errors.ts";
import { debianRequest } from "./plan.ts";

/** Name of the lock file, beside the description. */
export const LOCK_FILE = "os.lock.json";

/** How {@link lockProject} works. */
export interface LockOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** directory of the project's state, absolute */
  readonly stateDirectory: string;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: Progress | undefined;
}

/**
 * Resolves a description's packages and writes `os.lock.json`.
 *
 * @throws {NixGenError} As `resolveDebian` and `findDebianMirror`; an existing lock is then left as it was.
 */
export async function lockProject(project: Project, options: LockOptions): Promise<DebianLock> {
  const { env, stateDirectory, signal, onProgress } = options;
  const lock = await resolveDebian(debianRequest(project.config), {
    mirror: await findDebianMirror({ env }),
    stateDirectory: join(stateDirectory, "apt"),
    env,
    signal,
    onProgress,
  });
  await writeDebianLock(join(project.directory, LOCK_FILE), lock);
  return lock;
}

/**
 * Reads `os.lock.json` and checks that it was made from this description.
 *
 * @throws {OsBuilderError} `OS_NO_LOCK`, `OS_STALE_LOCK`. {NixGenError} `NIX_GEN_BAD_LOCK`, `NIX_GEN_IO`.
 */
export async function readLock(project: Project): Promise<DebianLock> {
  const file = join(project.directory, LOCK_FILE);
  const hint = `leveret-os lock ${relative(process.cwd(), project.directory)}`.trim();
  const lock = await readDebianLock(file).catch((cause) => {
    if (!(cause instanceof NixGenError) || cause.code !== "NIX_GEN_NO_LOCK") throw cause;
    throw new OsBuilderError("OS_NO_LOCK", `expected locked packages in ${file}, found none`, {
      cause,
      hint,
      path: file,
    });
  });
  if (lock.request !== debianRequestDigest(debianRequest(project.config))) {
    const message = `expected a lock of the packages in ${project.configFile}, got one that is older than it`;
    throw new OsBuilderError("OS_STALE_LOCK", message, { hint, path: file });
  }
  return lock;
}
