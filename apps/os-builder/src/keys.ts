import { type KeyRole, type KeySet, loadKeys, UkiSignError } from "@leveret/uki-sign";
import { OsBuilderError } from "./errors.ts";

/** Whose private keys an image is signed with; the others may be kept elsewhere. */
export const SIGNING_ROLES = ["db", "verity"] as const;

/**
 * Loads and checks a project's keys.
 *
 * @param directory - Where they are.
 * @param roles - Whose private keys are needed.
 * @throws {OsBuilderError} `OS_BAD_KEYS` with one line for each file that is missing or wrong.
 */
export async function loadProjectKeys<R extends KeyRole>(directory: string, roles: readonly R[]): Promise<KeySet<R>> {
  try {
    return await loadKeys(directory, { roles });
  } catch (cause) {
    if (!(cause instanceof UkiSignError)) throw cause;
    throw new OsBuilderError("OS_BAD_KEYS", cause.message, {
      cause,
      path: cause.path ?? directory,
      hint:
        "leveret-os init makes new keys where there are none and never overwrites any: put back what is missing, " +
        `or move ${directory} away first (machines that trust the old keys will not trust new ones)`,
    });
  }
}
