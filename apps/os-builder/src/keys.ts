import { type KeyRole, type KeySet, loadKeys, UkiSignError } from "@leveret/uki-sign";
import { OsBuilderError } from "./errors.ts";

/** Whose private keys an image is signed with; the others may be kept elsewhere. */
export const SIGNING_ROLES = ["db", "verity"] as const;

/**
 * Loads and checks a project's keys.
 *
 * @param directory - Where they are.
 * @param roles - Whose private keys are needed.
 * @throws {OsBuilderError} `OS_BAD_KEYS` with one line for each file that is missing or wrong, and for private keys that
 *   others may read.
 */
export async function loadProjectKeys<R extends KeyRole>(directory: string, roles: readonly R[]): Promise<KeySet<R>> {
  const keys = await loadKeys(directory, { roles }).catch((cause: unknown) => {
    if (!(cause instanceof UkiSignError)) throw cause;
    throw new OsBuilderError("OS_BAD_KEYS", cause.message, {
      cause,
      path: cause.path ?? directory,
      hint:
        "leveret-os init makes new keys where there are none and never overwrites any: put back what is missing, " +
        `or move ${directory} away first (machines that trust the old keys will not trust new ones)`,
    });
  });
  if (keys.exposedPaths.length === 0) return keys;
  const paths = keys.exposedPaths.join(", ");
  throw new OsBuilderError("OS_BAD_KEYS", `expected keys that only their owner may read, got: ${paths}`, {
    path: directory,
    hint: `chmod go= ${directory}/*.key, if nobody can have copied them; whoever has can sign for your machines`,
  });
}
