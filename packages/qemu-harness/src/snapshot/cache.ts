// Environment read (the caller's): LEVERET_TEMPLATES, XDG_CACHE_HOME, HOME.
import { createHash } from "node:crypto";
import { mkdir, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { join, resolve } from "node:path";
import * as z from "zod";
import { type MachineDescription, parseOptions } from "../description.ts";
import { QemuError } from "../errors.ts";
import { cacheDirectory } from "../internal/cache-directory.ts";
import { lockFile } from "../internal/file-lock.ts";
import type { Machine } from "../machine.ts";
import { planMachine } from "../plan.ts";
import { type StartOptions, startMachine } from "../start.ts";
import type { Template } from "../template.ts";
import { fileError } from "./files.ts";
import { ingredientsOf } from "./ingredients.ts";
import { MANIFEST } from "./manifest.ts";
import { openSnapshot, readSnapshot, type SnapshotInfo } from "./open.ts";
import { assertNoSecrets } from "./secrets.ts";

/** Most that cached templates take together, in `bytes`. */
export const DEFAULT_MAX_TEMPLATE_CACHE_BYTES: number = 10 * 1024 * 1024 * 1024;

/** Where templates are kept, and how many. */
export interface TemplateCacheOptions {
  /**
   * directory of the templates; default `LEVERET_TEMPLATES`, else `leveret/templates` in `XDG_CACHE_HOME` or `~/.cache`
   */
  readonly directory?: string | undefined;
  /** most that they take together, in `bytes`, default {@link DEFAULT_MAX_TEMPLATE_CACHE_BYTES} */
  readonly maxBytes?: number | undefined;
  /** environment, default `process.env` */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
}

/** What a template is of, beside its machine. */
export interface TemplateRequest extends Omit<StartOptions, "env"> {
  /** the machine; `forkable` goes without saying */
  readonly description: MachineDescription;
  /** what else the template depends on that cannot be seen: change it, and the template is made again */
  readonly key?: string | readonly string[] | undefined;
  /** brings the started machine to where its forks begin; its text is part of the key, what it refers to is not */
  readonly prepare: (machine: Machine) => Promise<unknown>;
}

/** A template that may have been made by another process. */
export interface CachedTemplate extends Template {
  /** its name in the cache, 32 hexadecimal digits */
  readonly id: string;
  /** whether it was there already */
  readonly cached: boolean;
}

/** One template of a cache. */
export interface CacheEntry extends SnapshotInfo {
  readonly id: string;
  /** its directory */
  readonly path: string;
  readonly usedAt: Date;
}

const keySchema = z.union([z.string(), z.array(z.string())]).default([]);
const optionsSchema = z.strictObject({
  maxBytes: z.number().int().positive().default(DEFAULT_MAX_TEMPLATE_CACHE_BYTES),
});

const ID = /^[0-9a-f]{32}$/;
const ID_LENGTH = 32;
/** What processes that were killed have left: `id.pid.random.partial` and `id.pid.gone` */
const LEFT = /^[0-9a-f]{32}\.\d+\.(gone|[0-9a-f]{8}\.partial)$/;
/** Younger remains may be those of a process that is at work, in `milliseconds`. */
const LEFT_MS = 60 * 60 * 1000;
/** What is not there, or not as it has to be, is made again. */
const REMAKE = new Set(["QEMU_SNAPSHOT_NOT_FOUND", "QEMU_SNAPSHOT_CORRUPT", "QEMU_SNAPSHOT_MISMATCH"]);

/**
 * Templates that all processes of a user share: made once, found by what they were made of, and forgotten when others
 * have been used more recently and there is no room for all.
 *
 * @example
 * await using template = await openTemplateCache().template({
 *   description: { boot, disks: [{ path: "os.raw" }] },
 *   prepare: (machine) => machine.serial.waitFor("login:"),
 * });
 * await using fork = await template.fork();
 */
export interface TemplateCache {
  readonly directory: string;
  /**
   * Opens a template, or makes it. Of several processes that want the same one, one makes it, and the others wait.
   * It is found again by everything that a snapshot is bound to (see {@link openSnapshot}), `key`, and the text of
   * `prepare`. What was damaged is made again.
   *
   * @param request - What to make it of; `signal` also calls off waiting for another process.
   * @returns The template, which stays usable when the cache forgets it.
   * @throws {QemuError} `QEMU_SNAPSHOT_SECRET`, `QEMU_FILE`, and all codes of {@link startMachine}; whatever `prepare`
   *   throws.
   */
  readonly template: (request: TemplateRequest) => Promise<CachedTemplate>;
  /** What is there, the least recently used last; what is damaged is left out. */
  readonly list: () => Promise<readonly CacheEntry[]>;
  /**
   * Removes a template. Whoever has it open keeps it.
   *
   * @param id - Its name.
   * @returns Whether it was there.
   */
  readonly remove: (id: string) => Promise<boolean>;
}

/**
 * Opens the cache of templates, which need not exist yet.
 *
 * @param options - Where it is, and how large it may become.
 * @throws {QemuError} `QEMU_BAD_OPTIONS`, `QEMU_FILE` for a user without a home directory.
 * @example
 * const cache = openTemplateCache({ directory: ".templates", maxBytes: 2e9 });
 */
export function openTemplateCache(options: TemplateCacheOptions = {}): TemplateCache {
  const { env = process.env } = options;
  const { maxBytes } = parseOptions("template cache", optionsSchema, { maxBytes: options.maxBytes });
  const directory = directoryOf(options.directory, env);
  return {
    directory,
    template: (request) => templateIn({ directory, maxBytes, env }, request),
    list: () => listEntries(directory),
    remove: (id) => removeEntry(directory, id),
  };
}

interface Cache {
  readonly directory: string;
  readonly maxBytes: number;
  readonly env: Readonly<Record<string, string | undefined>>;
}

function directoryOf(chosen: string | undefined, env: Cache["env"]): string {
  const given = chosen ?? (env.LEVERET_TEMPLATES === "" ? undefined : env.LEVERET_TEMPLATES);
  if (given !== undefined) return resolve(given);
  const cache = cacheDirectory(env);
  if (cache !== undefined) return join(cache, "templates");
  throw new QemuError("QEMU_FILE", "expected a directory for templates, got neither XDG_CACHE_HOME nor HOME", {
    hint: "name one with LEVERET_TEMPLATES",
  });
}

async function templateIn(cache: Cache, request: TemplateRequest): Promise<CachedTemplate> {
  const { description, key, prepare, ...rest } = request;
  const options = { ...rest, env: cache.env };
  const plan = await planMachine({ ...description, forkable: true }, options);
  assertNoSecrets(plan.machine);
  const ingredients = await ingredientsOf(plan, { cwd: options.cwd, env: cache.env, signal: options.signal });
  const parsedKey = parseOptions("key", keySchema, key);
  const id = digest(JSON.stringify([ingredients, parsedKey, prepare.toString()]));
  const path = join(cache.directory, id);
  // What the description names is the same, wherever it is now.
  const find = () => openSnapshot(path, { ...options, description, accelerator: plan.accelerator.kind });
  const found = await opened(find, path);
  if (found !== undefined) return named(found, id, true);
  await mkdir(cache.directory, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
    throw fileError(error, "write", cache.directory);
  });
  const lock = await lockFile(`${path}.lock`, options);
  try {
    const madeMeanwhile = await opened(find, path);
    if (madeMeanwhile !== undefined) return named(madeMeanwhile, id, true);
    await removeEntry(cache.directory, id);
    await using machine = await startMachine({ ...description, forkable: true }, options);
    await prepare(machine);
    const template = await machine.template({ signal: options.signal });
    try {
      await template.save(path, { signal: options.signal });
      await makeRoom(cache, id);
    } catch (error) {
      await template.close();
      throw error;
    }
    return named(template, id, false);
  } finally {
    lock.release();
  }
}

/** Opens what is there and remembers that it was used; undefined when it has to be made. */
async function opened(find: () => Promise<Template>, path: string): Promise<Template | undefined> {
  try {
    const template = await find();
    const now = new Date();
    // It may have been forgotten in this moment, and is open all the same.
    await utimes(join(path, MANIFEST), now, now).catch(() => {});
    return template;
  } catch (error) {
    if (error instanceof QemuError && REMAKE.has(error.code)) return undefined;
    throw error;
  }
}

function named(template: Template, id: string, cached: boolean): CachedTemplate {
  return {
    id,
    cached,
    description: template.description,
    fork: (options) => template.fork(options),
    save: (path, options) => template.save(path, options),
    share: (path, options) => template.share(path, options),
    close: () => template.close(),
    [Symbol.asyncDispose]: () => template.close(),
  };
}

async function listEntries(directory: string): Promise<readonly CacheEntry[]> {
  const names = await readdir(directory).catch(() => []);
  const entries = await Promise.all(
    names.filter((name) => ID.test(name)).map((id) => readEntry(join(directory, id), id).catch(() => undefined)),
  );
  return entries.filter((each) => each !== undefined).sort((a, b) => b.usedAt.getTime() - a.usedAt.getTime());
}

async function readEntry(path: string, id: string): Promise<CacheEntry> {
  const { mtime } = await stat(join(path, MANIFEST));
  return { id, path, usedAt: mtime, ...(await readSnapshot(path)) };
}

/** Moves a template out of everybody's way, and removes it. */
async function removeEntry(directory: string, id: string): Promise<boolean> {
  if (!ID.test(id)) return false;
  const path = join(directory, id);
  const gone = `${path}.${process.pid}.gone`;
  const moved = await rename(path, gone).then(
    () => true,
    () => false,
  );
  await rm(gone, { recursive: true, force: true });
  return moved;
}

/** Removes what was used longest ago until the rest fits; what was just made stays unless it alone is too large. */
async function makeRoom({ directory, maxBytes, env }: Cache, made: string): Promise<void> {
  const lock = await lockFile(join(directory, ".lock"), { env });
  try {
    await removeLeft(directory);
    const entries = await listEntries(directory);
    const known = new Set(entries.map(({ id }) => id));
    for (const name of await readdir(directory)) {
      if (ID.test(name) && !known.has(name)) await removeEntry(directory, name);
    }
    let sum = 0;
    for (const { id, sizeBytes } of [...entries].sort((a, b) => Number(b.id === made) - Number(a.id === made))) {
      sum += sizeBytes;
      if (sum > maxBytes) await removeEntry(directory, id);
    }
  } finally {
    lock.release();
  }
}

async function removeLeft(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!LEFT.test(name)) continue;
    const path = join(directory, name);
    const found = await stat(path).catch(() => undefined);
    if (found !== undefined && Date.now() - found.mtimeMs > LEFT_MS) await rm(path, { recursive: true, force: true });
  }
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, ID_LENGTH);
}
