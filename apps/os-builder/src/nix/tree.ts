import { cp, lstat, readdir, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { badConfig, type Project } from "../config/load.ts";
import type { OsBuilderError } from "../errors.ts";
import { overlap } from "../internal/paths.ts";
import { STATE_DIRECTORY } from "../places.ts";

/**
 * Copies a description's own files to where Nix reads them. All that is copied comes into the Nix store, which
 * everybody may read: keys are refused by whatever path, link or second name they would get there.
 *
 * @throws {OsBuilderError} `OS_BAD_CONFIG` when there is no tree, when it has to do with the keys or the builder's own
 *   directory, or has something in it that is neither file, directory nor symbolic link.
 */
export async function copyTree(project: Project, destination: string): Promise<void> {
  const { directory, config } = project;
  const from = join(directory, config.tree ?? "");
  const tree = await realpath(from).catch(() => undefined);
  if (tree === undefined || !(await stat(tree)).isDirectory()) {
    throw badTree(project, `expected a directory, found none at ${from}`);
  }
  const keys = await realpath(join(directory, config.keys)).catch(() => undefined);
  const state = await realpath(join(directory, STATE_DIRECTORY)).catch(() => undefined);
  for (const apart of [keys, state]) {
    if (apart === undefined || !overlap(apart, tree)) continue;
    throw badTree(project, `expected ${tree} and ${apart} to lie apart`);
  }
  const secret = await identities(keys);
  await cp(tree, destination, {
    recursive: true,
    verbatimSymlinks: true,
    preserveTimestamps: true,
    filter: async (path) => {
      const entry = await lstat(path, { bigint: true });
      if (!(entry.isFile() || entry.isDirectory() || entry.isSymbolicLink())) {
        throw badTree(project, `expected files, directories and symbolic links, found something else at ${path}`);
      }
      if (secret.has(identity(entry))) throw badTree(project, `expected no key among the files, found ${path}`);
      return true;
    },
  });
}

/** What the files of a directory are, whatever else they are called. */
async function identities(directory: string | undefined): Promise<ReadonlySet<string>> {
  if (directory === undefined) return new Set();
  const names = await readdir(directory);
  return new Set(
    await Promise.all(names.map(async (name) => identity(await stat(join(directory, name), { bigint: true })))),
  );
}

function identity({ dev, ino }: { readonly dev: bigint; readonly ino: bigint }): string {
  return `${dev}:${ino}`;
}

function badTree({ configFile }: Project, message: string): OsBuilderError {
  return badConfig(configFile, [{ path: "tree", message }]);
}
