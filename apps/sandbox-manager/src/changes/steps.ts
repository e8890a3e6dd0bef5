import { closeSync, constants, openSync } from "node:fs";
import { SandboxError } from "../errors.ts";

const { O_DIRECTORY, O_NOFOLLOW, O_RDONLY } = constants;

/** An open directory of a project, as the path that its names can be put behind. */
export type Place = string;

/**
 * Opens a project for as long as `use` runs. From here on every step is taken from a directory that is open, by one name,
 * and no link is followed: another sandbox may be changing the same project.
 *
 * @throws {SandboxError} `SANDBOX_PROJECT_FILE`.
 */
export function inProject<T>(directory: string, use: (root: Place) => T): T {
  return opened(directory, directory, use);
}

/** Opens a directory by its name in another one. @param path - From the project on, for what is said. @throws As above. */
export function inDirectory<T>(parent: Place, name: string, path: string, use: (place: Place) => T): T {
  return opened(`${parent}/${name}`, path, use);
}

/**
 * Opens the directory that a path is in.
 *
 * @param onMissing - Makes a directory that is not there, or throws.
 * @throws As {@link inProject}.
 */
export function inDirectoryOf<T>(
  root: Place,
  path: string,
  use: (parent: Place, name: string) => T,
  onMissing?: (place: string, path: string) => void,
): T {
  const names = path.split("/");
  const last = names.pop() ?? "";
  const step = (parent: Place, depth: number): T => {
    const name = names[depth];
    if (name === undefined) return use(parent, last);
    const here = names.slice(0, depth + 1).join("/");
    onMissing?.(`${parent}/${name}`, here);
    return inDirectory(parent, name, here, (place) => step(place, depth + 1));
  };
  return step(root, 0);
}

/** That a file of the project could not be used. */
export function projectFile(verb: "read" | "change", path: string, cause: unknown): SandboxError {
  const { code = String(cause) } = cause as NodeJS.ErrnoException;
  return new SandboxError("SANDBOX_PROJECT_FILE", `expected to ${verb} ${path} of the project, got ${code}`, {
    path,
    cause,
  });
}

function opened<T>(place: string, path: string, use: (place: Place) => T): T {
  let descriptor: number;
  try {
    descriptor = openSync(place, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  } catch (cause) {
    throw projectFile("read", path, cause);
  }
  try {
    return use(`/proc/self/fd/${descriptor}`);
  } finally {
    closeSync(descriptor);
  }
}
