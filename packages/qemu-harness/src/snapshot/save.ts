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
import { absolute, MANIFEST, renderManifest } from "./manifest.ts";
import { writePart } from "./part.ts";
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
  const { machine, accelerator } = source.plan;
  assertNoSecrets(machine);
  const place = resolve(source.cwd ?? "", path);
  await assertFree(place);
  const ingredients = await ingredientsOf(source.plan, { ...source, signal });
  const beside = `${place}.${process.pid}.${randomBytes(4).toString("hex")}.partial`;
  try {
    await mkdir(dirname(place), { recursive: true });
    await removeAbandoned(place);
    await mkdir(beside, { mode: 0o700 });
    const write = (descriptor: number, name: string) =>
      writePart(descriptor, fstatSync(descriptor).size, join(beside, name), signal);
    const memory = await write(source.files.memory, "memory");
    const state = await write(source.state, "state");
    const disks = [];
    for (const [index, [overlay]] of source.files.overlays.entries()) {
      disks.push(overlay === undefined ? null : await write(overlay, diskName(index)));
    }
    const manifest = renderManifest({
      createdAt: new Date().toISOString(),
      accelerator: accelerator.kind,
      description: absolute(machine, (each) => resolve(source.cwd ?? "", each)),
      ingredients,
      firstStream: source.firstStream,
      memory,
      state,
      disks,
    });
    await writeFile(join(beside, MANIFEST), manifest, { mode: 0o600, flush: true });
    await syncDirectory(beside);
    await rename(beside, place);
    await syncDirectory(dirname(place));
  } catch (error) {
    await rm(beside, { recursive: true, force: true });
    throw fileError(error, "write", place);
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
