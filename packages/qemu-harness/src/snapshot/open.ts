import { fstatSync, openSync } from "node:fs";
import { join } from "node:path";
import type { MachineDescription } from "../description.ts";
import { QemuError } from "../errors.ts";
import { closeAll } from "../internal/machine-files.ts";
import { type MachinePlan, type PlanOptions, planMachine } from "../plan.ts";
import { templateOf } from "../start.ts";
import type { Template } from "../template.ts";
import { factOf } from "./digest.ts";
import { fileError } from "./files.ts";
import { differencesOf, type Ingredients, ingredientsOf } from "./ingredients.ts";
import { corrupt, type Manifest, readManifest } from "./manifest.ts";
import { digestOfPart, inodeOf, type LentPart, type Part, storedBytes } from "./part.ts";
import { diskName } from "./save.ts";

/** How {@link openSnapshot} opens. */
export interface OpenSnapshotOptions extends PlanOptions {
  /**
   * the machine it has to be a snapshot of; without it, the one that it was made of, with its files where they were
   */
  readonly description?: MachineDescription | undefined;
  /** directory that relative paths of the description start from, default the process's */
  readonly cwd?: string | undefined;
  /** whether what is stored is compared with its digests, default true; not worth it for what was written just now */
  readonly verify?: boolean | undefined;
}

/** What a snapshot is of, and what it takes. */
export interface SnapshotInfo {
  readonly createdAt: Date;
  /** what it takes on the disk, in `bytes` */
  readonly sizeBytes: number;
  /** the machine that it was made of, with absolute paths */
  readonly description: Manifest["description"];
  /** everything that has to be the same where it continues, by name */
  readonly ingredients: Ingredients;
}

/**
 * Opens a snapshot that {@link Template.save} has written, in this process or another, today or last year.
 *
 * What is stored is read and compared with its digests, once for as long as its files do not change, and everything that
 * has to be as it was is: the version and the program of QEMU, how guest code is run, the host's processor, the
 * description, and the content, not the place, of firmware, kernel, initrd, disks and CDs. What {@link Template.share}
 * has made is what that process has open, and is there for as long as it is.
 *
 * @param path - Its directory, which may be removed once it is open.
 * @param options - The machine, where that is not the one it was made of; QEMU and environment.
 * @returns A template as {@link Machine.template} makes it.
 * @throws {QemuError} `QEMU_SNAPSHOT_NOT_FOUND`, `QEMU_SNAPSHOT_CORRUPT`, `QEMU_SNAPSHOT_MISMATCH` with all
 *   `differences`, `QEMU_FILE`, and all codes of {@link planMachine}.
 * @example
 * await using template = await openSnapshot("snapshots/logged-in");
 * await using fork = await template.fork();
 */
export async function openSnapshot(path: string, options: OpenSnapshotOptions = {}): Promise<Template> {
  const manifest = await readManifest(path);
  const { description, verify: _, ...rest } = options;
  const found = description === undefined ? manifest.description : { ...description, forkable: true };
  const accelerator = options.accelerator ?? manifest.accelerator;
  const plan = await planMachine(found, { ...rest, accelerator });
  const { cwd, env = process.env, signal } = options;
  assertSame(path, manifest, await ingredientsOf(plan, { cwd, env, signal }));
  return openParts(path, manifest, plan, options);
}

/**
 * Says what a snapshot is of.
 *
 * @throws {QemuError} `QEMU_SNAPSHOT_NOT_FOUND`, `QEMU_SNAPSHOT_CORRUPT`, `QEMU_FILE`.
 * @example
 * const { createdAt, sizeBytes } = await readSnapshot("snapshots/logged-in");
 */
export async function readSnapshot(path: string): Promise<SnapshotInfo> {
  const manifest = await readManifest(path);
  const { createdAt, description, ingredients, memory, state, disks } = manifest;
  const sizeBytes = [memory, state, ...disks].reduce((sum, part) => sum + (part === null ? 0 : storedBytes(part)), 0);
  return { createdAt: new Date(createdAt), sizeBytes, description, ingredients };
}

function assertSame(path: string, manifest: Manifest, ingredients: Ingredients): void {
  const differences = differencesOf(manifest.ingredients, ingredients);
  if (differences.length === 0) return;
  const lines = differences.map(
    ({ name, expected, got }) => `  ${name}: expected ${short(expected)}, got ${short(got)}`,
  );
  const message = `expected everything to be as it was for the snapshot at ${path}, got\n${lines.join("\n")}`;
  throw new QemuError("QEMU_SNAPSHOT_MISMATCH", message, {
    path,
    differences,
    hint: "make it again with what is here now, or continue it with what it was made with",
  });
}

/** Digests and argument vectors are longer than anyone compares by eye. */
function short(value: string): string {
  return /^[0-9a-f]{64}$/.test(value)
    ? `${value.slice(0, 12)}…`
    : value.length > 120
      ? `${value.slice(0, 120)}…`
      : value;
}

async function openParts(
  path: string,
  manifest: Manifest,
  plan: MachinePlan,
  { cwd, env = process.env, signal, verify = true }: OpenSnapshotOptions,
): Promise<Template> {
  const opened: number[] = [];
  const openPart = async (name: string, part: Part | LentPart): Promise<number> => {
    const descriptor = openSync("at" in part ? part.at : join(path, name), "r");
    opened.push(descriptor);
    const found = fstatSync(descriptor, { bigint: true });
    const isIntact = async (): Promise<boolean> => {
      if (found.size !== BigInt(part.sizeBytes)) return false;
      if ("at" in part) return inodeOf(found) === part.inode;
      const digest = (): Promise<string> => digestOfPart(descriptor, part, signal);
      return !verify || (await factOf(found, "runs", digest, { env, signal })) === part.sha256;
    };
    if (!(await isIntact())) throw corrupt(path, `another ${name} than was written`);
    return descriptor;
  };
  try {
    const state = await openPart("state", manifest.state);
    const overlays: number[][] = [];
    for (const [index, part] of manifest.disks.entries()) {
      overlays.push(part === null ? [] : [await openPart(diskName(index), part)]);
    }
    const memory = await openPart("memory", manifest.memory);
    return templateOf(
      plan,
      { env, cwd },
      { files: { memory, data: manifest.memory.runs, overlays }, state, firstStream: manifest.firstStream },
    );
  } catch (error) {
    closeAll(opened);
    if ((error as NodeJS.ErrnoException).code === "ENOENT") throw corrupt(path, "one without all of its files", error);
    throw fileError(error, "read", path);
  }
}
