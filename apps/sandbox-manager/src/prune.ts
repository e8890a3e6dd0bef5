import { existsSync } from "node:fs";
import { open, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { type CacheEntry, openTemplateCache } from "@leveret/qemu-harness";
import { listSandboxes } from "./find.ts";
import { lock } from "./lock.ts";
import { type Environment, openPlaces, type Places, templatesIn } from "./places.ts";
import { CONSOLE_FILE, LOG_FILE } from "./transcript.ts";

/** A template that was not used for so long, in `milliseconds`, is not needed often. */
const UNUSED_MS = 24 * 60 * 60 * 1000;

/** How {@link pruneSandboxes} goes about it. */
export interface PruneOptions {
  /** also templates that were used today; the next start makes them again */
  readonly all?: boolean | undefined;
  /** only looks */
  readonly dryRun?: boolean | undefined;
  /** default `process.env` */
  readonly env?: Environment | undefined;
}

/** What is not needed. */
export interface Pruned {
  /** machines that booted once, which others are started from */
  readonly templates: readonly Pick<CacheEntry, "id" | "sizeBytes" | "usedAt">[];
  /** sandboxes that have ended, whose consoles and logs are kept */
  readonly transcripts: readonly { readonly name: string; readonly sizeBytes: number }[];
}

/**
 * Removes what sandboxes have left that can be made again, or that nobody will look at. Sandboxes that run are not touched,
 * nor is what they use.
 *
 * @returns What was removed, or would be.
 * @throws {SandboxError} `SANDBOX_NOT_WRITABLE`, `SANDBOX_MISSING_TOOLS`. {QemuError} `QEMU_FILE`.
 * @example
 * const { templates } = await pruneSandboxes({ dryRun: true });
 */
export async function pruneSandboxes(options: PruneOptions = {}): Promise<Pruned> {
  const { all = false, dryRun = false, env = process.env } = options;
  const places = await openPlaces(env);
  // What killed ones have left goes by looking at which of them run.
  await listSandboxes({ env });
  const cache = openTemplateCache({ directory: templatesIn(places), env });
  const found = await cache.list();
  const templates = found.filter(({ usedAt }) => all || Date.now() - usedAt.getTime() > UNUSED_MS);
  if (!dryRun) for (const { id } of templates) await cache.remove(id);
  const names = await readdir(places.machines);
  const transcripts = await Promise.all(names.map((name) => forgetTranscript(places, name, dryRun)));
  return {
    templates: templates.map(({ id, sizeBytes, usedAt }) => ({ id, sizeBytes, usedAt })),
    transcripts: transcripts.filter((each) => each !== undefined),
  };
}

async function forgetTranscript(
  places: Places,
  name: string,
  dryRun: boolean,
): Promise<Pruned["transcripts"][number] | undefined> {
  const directory = join(places.machines, name);
  const files = [CONSOLE_FILE, LOG_FILE].map((file) => join(directory, file)).filter((path) => existsSync(path));
  if (files.length === 0) return undefined;
  // The lease itself stays: whoever has just opened it would have the lock of a file that is gone.
  await using lease = await open(join(directory, "lease"), "a");
  if (!(await lock(lease))) return undefined;
  const sizes = await Promise.all(files.map(async (path) => (await stat(path)).size));
  if (!dryRun) for (const path of files) await rm(path, { force: true });
  return { name, sizeBytes: sizes.reduce((sum, size) => sum + size, 0) };
}
