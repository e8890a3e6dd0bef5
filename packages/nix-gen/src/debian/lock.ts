import { readFile } from "node:fs/promises";
import { z } from "zod";
import { NixGenError } from "../errors.ts";
import { writeWhole } from "../internal/files.ts";
import { zRecord } from "../internal/options.ts";
import { reasonOf } from "../internal/text.ts";

const NAME = z.string().regex(/^[a-z0-9][a-z0-9+.-]*$/, "expected a Debian package name");

const LOCKED_PACKAGE = z.strictObject({
  version: z.string().regex(/^[A-Za-z0-9.+~:-]+$/, "expected a Debian version"),
  archive: z.enum(["main", "security"]),
  path: z.string().regex(/^pool\/(?!.*\.\.)[^\s?#]+\.deb$/, "expected a path below pool/ that ends in .deb"),
  sizeBytes: z.int().positive(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/, "expected 64 lower-case hexadecimal digits"),
});

const LOCK = z
  .strictObject({
    kind: z.literal("debian-lock"),
    version: z.literal(1),
    request: z.string().regex(/^[0-9a-f]{64}$/),
    suite: z.string(),
    architecture: z.enum(["amd64", "arm64"]),
    releases: z.array(
      z.strictObject({ archive: z.enum(["main", "security"]), suite: z.string(), date: z.iso.datetime() }),
    ),
    sets: zRecord(z.array(NAME)),
    packages: zRecord(LOCKED_PACKAGE, NAME),
  })
  .superRefine((lock, context) => {
    for (const [set, names] of Object.entries(lock.sets)) {
      for (const [index, name] of names.entries()) {
        if (Object.hasOwn(lock.packages, name)) continue;
        context.addIssue({ code: "custom", path: ["sets", set, index], message: `${name} is not in packages` });
      }
    }
  });

/**
 * Debian packages pinned by version, pool path and SHA-256. Paths are relative to a mirror, and no host is named, so
 * that one lock works with every mirror.
 */
export type DebianLock = z.output<typeof LOCK>;

/** One pinned package; `path` is relative to the archive that `archive` names. */
export type LockedPackage = z.output<typeof LOCKED_PACKAGE>;

/**
 * Parses a lock file.
 *
 * @param text - JSON as {@link renderDebianLock} writes it.
 * @throws {NixGenError} `NIX_GEN_BAD_LOCK` listing every problem with its path.
 */
export function parseDebianLock(text: string): DebianLock {
  const hint = "make it again: the lock is generated, and edits to it are lost";
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new NixGenError("NIX_GEN_BAD_LOCK", "expected a lock file in JSON, got something else", { cause, hint });
  }
  const parsed = LOCK.safeParse(json);
  if (parsed.success) return parsed.data;
  throw new NixGenError("NIX_GEN_BAD_LOCK", `expected a lock file, got:\n${z.prettifyError(parsed.error)}`, { hint });
}

/** Renders a lock file: two-space JSON, packages sorted by name, sets in the order in which they are installed. */
export function renderDebianLock(lock: DebianLock): string {
  const packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)));
  return `${JSON.stringify({ ...lock, packages }, null, 2)}\n`;
}

/**
 * Reads a lock file.
 *
 * @throws {NixGenError} `NIX_GEN_NO_LOCK` when there is none, `NIX_GEN_IO`, and as {@link parseDebianLock}.
 */
export async function readDebianLock(file: string): Promise<DebianLock> {
  const text = await readFile(file, "utf8").catch((cause) => {
    const reason = reasonOf(cause);
    if (reason === "ENOENT")
      throw new NixGenError("NIX_GEN_NO_LOCK", `expected locked packages in ${file}, found none`);
    throw new NixGenError("NIX_GEN_IO", `expected a readable lock file, got ${reason}`, { path: file, cause });
  });
  return parseDebianLock(text);
}

/**
 * Writes a lock file: whole, or not at all.
 *
 * @throws {NixGenError} `NIX_GEN_DISK_FULL`, `NIX_GEN_IO`; what was there is then left as it was.
 */
export async function writeDebianLock(file: string, lock: DebianLock): Promise<void> {
  await writeWhole(file, renderDebianLock(lock));
}

/**
 * The moment that a lock stands for: the newest of its archives' release dates, in whole seconds since 1970. Builds
 * from the lock take every time stamp from it.
 */
export function lockEpochSeconds(lock: DebianLock): number {
  return Math.max(0, ...lock.releases.map(({ date }) => Math.floor(Date.parse(date) / 1000)));
}
