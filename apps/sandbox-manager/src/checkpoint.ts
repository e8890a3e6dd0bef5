import { randomBytes } from "node:crypto";
import { copyFile, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Template } from "@leveret/qemu-harness";
import * as z from "zod";
import { APPLIED_FILE } from "./changes/layer.ts";
import { SandboxError } from "./errors.ts";
import { networkStateSchema } from "./network/messages.ts";
import { workspaceStateSchema } from "./workspace/state.ts";

const DIRECTORY = "checkpoints";
const FILE = "checkpoint.json";

const checkpointSchema = z.object({
  kind: z.literal("sandbox-checkpoint"),
  version: z.literal(1),
  /** when it was made, in `milliseconds` since 1970 */
  createdAt: z.number(),
  /** when the sandbox's workspace was last what the project is */
  since: z.number(),
  /** what the guest knows of its workspace */
  nodes: workspaceStateSchema,
  network: networkStateSchema,
});

type Checkpoint = z.output<typeof checkpointSchema>;

/** A checkpoint of a sandbox. */
export interface SandboxCheckpoint {
  /** `1`, `2` … */
  readonly id: string;
  readonly createdAt: Date;
}

/** Directory of a checkpoint. */
export function checkpointPath(stateDirectory: string, id: string): string {
  return join(stateDirectory, DIRECTORY, id);
}

/** Directory of the machine's snapshot in it. */
export function snapshotIn(checkpoint: string): string {
  return join(checkpoint, "snapshot");
}

/**
 * Writes a checkpoint; it is there in whole, or not at all.
 *
 * @param how - Whether it is a copy of the template, or is there for as long as the template is open.
 */
export async function writeCheckpoint(
  stateDirectory: string,
  id: string,
  template: Template,
  facts: Pick<Checkpoint, "since" | "nodes" | "network">,
  how: "save" | "share",
): Promise<void> {
  const path = checkpointPath(stateDirectory, id);
  const beside = `${path}.${randomBytes(4).toString("hex")}.partial`;
  try {
    await mkdir(beside, { recursive: true, mode: 0o700 });
    const checkpoint: Checkpoint = { kind: "sandbox-checkpoint", version: 1, createdAt: Date.now(), ...facts };
    await writeFile(join(beside, FILE), JSON.stringify(checkpoint));
    // Of a sandbox that nothing was brought back of there is none.
    await copyFile(join(stateDirectory, APPLIED_FILE), join(beside, APPLIED_FILE)).catch(() => {});
    await template[how](snapshotIn(beside));
    await rename(beside, path);
  } catch (error) {
    await rm(beside, { recursive: true, force: true });
    throw error;
  }
}

/** Reads a checkpoint. @throws {SandboxError} `SANDBOX_NOT_FOUND`. */
export async function readCheckpoint(path: string): Promise<Checkpoint> {
  try {
    return checkpointSchema.parse(JSON.parse(await readFile(join(path, FILE), "utf8")));
  } catch (cause) {
    throw new SandboxError("SANDBOX_NOT_FOUND", `expected a checkpoint at ${path}, got none`, { path, cause });
  }
}

/** All of a sandbox that can be read, in the order in which they were made. */
export async function listCheckpoints(stateDirectory: string): Promise<SandboxCheckpoint[]> {
  const found = await Promise.all(
    (await idsIn(stateDirectory)).map(async (id) => {
      const checkpoint = await readCheckpoint(checkpointPath(stateDirectory, id)).catch(() => undefined);
      return checkpoint && { id, createdAt: new Date(checkpoint.createdAt) };
    }),
  );
  return found.filter((checkpoint) => checkpoint !== undefined);
}

/** Name of the next one. */
export async function nextCheckpoint(stateDirectory: string): Promise<string> {
  return `${Number((await idsIn(stateDirectory)).at(-1) ?? 0) + 1}`;
}

async function idsIn(stateDirectory: string): Promise<string[]> {
  const names = await readdir(join(stateDirectory, DIRECTORY)).catch(() => []);
  return names.filter((name) => /^[1-9]\d*$/.test(name)).sort((one, other) => Number(one) - Number(other));
}

/** Removes what was kept of a sandbox that had the name before. */
export async function forgetCheckpoints(stateDirectory: string): Promise<void> {
  await rm(join(stateDirectory, DIRECTORY), { recursive: true, force: true });
  await rm(join(stateDirectory, APPLIED_FILE), { force: true });
}

/** Takes over what a checkpoint's sandbox had brought back. */
export async function inheritApplied(checkpoint: string, stateDirectory: string): Promise<void> {
  await copyFile(join(checkpoint, APPLIED_FILE), join(stateDirectory, APPLIED_FILE)).catch(() => {});
}
