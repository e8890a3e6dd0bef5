import type { Stats } from "node:fs";
import { lstat, readlink, realpath, stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { ReportFileError } from "./errors.ts";
import { kindOf } from "./kind.ts";

/** As many links as Linux follows in one path. */
const MAX_LINKS = 40;

/** Where an output goes. */
export interface OutputPlace {
  /** the file itself, behind all symbolic links */
  readonly path: string;
  /** the regular file that is there */
  readonly existing?: Stats;
}

/**
 * Finds the file that an output's name stands for. Links are followed, also to a file that is yet to be made; anything
 * that is no regular file (a device, say, which a rename would replace) is refused.
 */
export async function outputPlace(path: string, report: ReportFileError): Promise<OutputPlace> {
  // The system follows first: it may forbid what lies in a directory that everybody writes to.
  const existing = await stat(path).catch(absent);
  if (existing !== undefined) {
    if (existing.isFile()) return { path: await realpath(path), existing };
    const message = `expected a regular file or nothing at ${path}, got ${kindOf(existing)}`;
    throw report("wrong-type", message, { path, hint: "it is written out of order, so it has to be a file" });
  }
  let place = path;
  for (let links = 0; links < MAX_LINKS; links++) {
    const found = await lstat(place).catch(absent);
    if (found === undefined || !found.isSymbolicLink()) break;
    const target = await readlink(place);
    // No `join`: what `..` means is for the system to say, behind whatever links come before it.
    place = target.startsWith("/") ? target : `${await realpath(dirname(place))}/${target}`;
  }
  return { path: place };
}

function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== "ENOENT") throw error;
}
