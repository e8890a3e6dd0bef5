import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { type FileLockOptions, lockOpenFile } from "@leveret/block-source";
import { SandboxError } from "./errors.ts";
import { type Places, projectDigest } from "./places.ts";

/**
 * Locks a file that is open. @returns Whether it is locked now.
 *
 * @throws {SandboxError} `SANDBOX_MISSING_TOOLS`.
 */
export async function lock(file: FileHandle, options: FileLockOptions = {}): Promise<boolean> {
  return lockOpenFile(file.fd, options).catch((cause: Error) => {
    options.signal?.throwIfAborted();
    const hint = "apt-get install util-linux, which has flock";
    throw new SandboxError("SANDBOX_MISSING_TOOLS", `expected to lock a file, got: ${cause.message}`, { cause, hint });
  });
}

/** Opens a directory, and waits until nobody else has locked it; closing it ends that. @throws As {@link lock}. */
export async function lockDirectory(path: string, signal?: AbortSignal): Promise<FileHandle> {
  return locked(await open(path, constants.O_RDONLY | constants.O_DIRECTORY), signal);
}

/** Waits until nobody else starts a sandbox for a project; closing the file ends that. @throws As {@link lock}. */
export async function lockProject(places: Places, directory: string, signal?: AbortSignal): Promise<FileHandle> {
  return lockNamed(places, `starts-${projectDigest(directory)}`, signal);
}

/** Waits until nobody else builds the image that a directory describes; closing the file ends that. @throws As {@link lock}. */
export async function lockImage(places: Places, directory: string, signal?: AbortSignal): Promise<FileHandle> {
  return lockNamed(places, `builds-${projectDigest(directory)}`, signal);
}

async function lockNamed({ sockets }: Places, name: string, signal: AbortSignal | undefined): Promise<FileHandle> {
  return locked(await open(join(sockets, name), "a", 0o600), signal);
}

async function locked(file: FileHandle, signal?: AbortSignal): Promise<FileHandle> {
  try {
    await lock(file, { wait: true, signal });
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}
