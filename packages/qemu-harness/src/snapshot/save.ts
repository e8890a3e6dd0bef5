import { randomBytes } from "node:crypto";
import { fstatSync } from "node:fs";
import { lstat, mkdir, readdir, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { syncDirectory } from "@leveret/block-source";
import { QemuError } from "../errors.ts";
import type { MachineFiles } from "../internal/machine-files.ts";
import type { MachinePlan } from "../plan.ts";
import type { SaveOptions } from "../template.ts";
import { fileError } from "./files.ts";
import { ingredientsOf } from "./ingredients.ts";
import { absolute, MANIFEST, type Manifest, renderManifest } from "./manifest.ts";
import { lendPart, writePart } from "./part.ts";
import { assertNoSecrets } from "./secrets.ts";

/** A template, and what it was made with. */
export interface SnapshotSource {
  readonly plan: MachinePlan;
  readonly cwd: string | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly files: MachineFiles;
  readonly state: number;
  readonly firstStream: number;
}

/** What is being written, and by which process: `name.123.0a1b2c3d.partial` */
const PARTIAL = /\.(\d+)\.[0-9a-f]{8}\.partial$/;

/** Writes a template beside its place and moves it there when all of it is on the disk. */
export async function saveSnapshot(source: SnapshotSource, path: string, { signal }: SaveOptions): Promise<void> {
  const { files, state } = source;
  await place(source, path, signal, async (beside) => {
    const write = (descriptor: number, name: string) =>
      writePart(descriptor, fstatSync(descriptor).size, join(beside, name), signal);
    const disks = [];
    for (const [index, [overlay]] of files.overlays.entries()) {
      disks.push(overlay === undefined ? null : await write(overlay, diskName(index)));
    }
    return { memory: await write(files.memory, "memory"), state: await write(state, "state"), disks };
  });
}

/** Says in the same way what this process has open. */
export async function shareSnapshot(source: SnapshotSource, path: string, { signal }: SaveOptions): Promise<void> {
  const { files, state } = source;
  await place(source, path, signal, async () => ({
    memory: lendPart(files.memory, files.data),
    state: lendPart(state),
    disks: files.overlays.map(([overlay]) => (overlay === undefined ? null : lendPart(overlay))),
  }));
}

/** Puts a snapshot in its place, in whole or not at all. @param writeParts - Writes what is in it to a directory. */
async function place(
  { plan, cwd, env, firstStream }: SnapshotSource,
  path: string,
  signal: AbortSignal | undefined,
  writeParts: (directory: string) => Promise<Pick<Manifest, "memory" | "state" | "disks">>,
): Promise<void> {
  const { machine, accelerator } = plan;
  assertNoSecrets(machine);
  const target = resolve(cwd ?? "", path);
  await assertFree(target);
  const ingredients = await ingredientsOf(plan, { cwd, env, signal });
  const beside = `${target}.${process.pid}.${randomBytes(4).toString("hex")}.partial`;
  try {
    await mkdir(dirname(target), { recursive: true });
    await removeAbandoned(target);
    await mkdir(beside, { mode: 0o700 });
    const manifest = renderManifest({
      createdAt: new Date().toISOString(),
      accelerator: accelerator.kind,
      description: absolute(machine, (each) => resolve(cwd ?? "", each)),
      ingredients,
      firstStream,
      ...(await writeParts(beside)),
    });
    await writeFile(join(beside, MANIFEST), manifest, { mode: 0o600, flush: true });
    await syncDirectory(beside);
    await rename(beside, target);
    await syncDirectory(dirname(target));
  } catch (error) {
    await rm(beside, { recursive: true, force: true });
    throw fileError(error, "write", target);
  }
}

/** Name of the file with what was written to a disk. */
export function diskName(index: number): string {
  return `disk${index}.qcow2`;
}

async function assertFree(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return;
  throw new QemuError("QEMU_FILE", `expected a path where nothing is yet, got ${path}`, {
    path,
    hint: "choose another name, or remove what is there",
  });
}

/** Removes what processes that were killed have left of the same snapshot. */
async function removeAbandoned(place: string): Promise<void> {
  const [directory, name] = [dirname(place), basename(place)];
  for (const entry of await readdir(directory)) {
    const pid = entry.startsWith(`${name}.`) ? PARTIAL.exec(entry.slice(name.length))?.[1] : undefined;
    if (pid === undefined || (await lstat(`/proc/${pid}`).catch(() => undefined)) !== undefined) continue;
    await rm(join(directory, entry), { recursive: true, force: true });
  }
}
