import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { replaceJson } from "./files.ts";
import type { Places } from "./places.ts";

const STATE_FILE = "state.json";

/** What a sandbox is, from its start on. */
export const identitySchema = z.strictObject({
  /** `vm-1` */
  name: z.string(),
  /** one that no other sandbox has, of that name or any */
  id: z.string(),
  /** the host's address that its ports appear on */
  address: z.string(),
  /** the project: what is `/workspace` inside */
  directory: z.string(),
  /** what tells that directory from another one of its path */
  project: z.string(),
  /** whether the project's directory is in it, or can only be looked at below changes of its own */
  workspace: z.enum(["live", "isolated"]),
  memoryMiB: z.number(),
  cpus: z.number(),
  /** directory with the description of its guest, unless it is the usual one */
  image: z.string().optional(),
  /** name of the sandbox that it was a copy of */
  forkOf: z.string().optional(),
});

/** What a sandbox is, from its start on. */
export type SandboxIdentity = z.output<typeof identitySchema>;

/** The state of a sandbox, as JSON has it. */
export const stateSchema = z.object({
  kind: z.literal("sandbox"),
  version: z.literal(1),
  ...identitySchema.shape,
  /** process id of its supervisor */
  pid: z.number(),
  /** when it was started, in `milliseconds` since 1970 */
  startedAt: z.number(),
  /** when its workspace was last what the project is: its start, or that of the sandbox that it is a fork of */
  since: z.number(),
});

/** What a sandbox says of itself, in a file that anybody of the same user can read. */
export type SandboxState = z.output<typeof stateSchema>;

/** Puts a state in the place of the one before, at once. */
export async function writeState(directory: string, state: SandboxState): Promise<void> {
  await replaceJson(join(directory, STATE_FILE), state);
}

/** Takes back what was said. */
export async function forgetState(directory: string): Promise<void> {
  await rm(join(directory, STATE_FILE), { force: true });
}

/** What sandboxes say of themselves, also of those that have ended without having taken it back. */
export async function readStates(places: Places): Promise<SandboxState[]> {
  const names = await readdir(places.machines);
  const states = await Promise.all(names.map((name) => readState(join(places.machines, name))));
  return states
    .filter((state) => state !== undefined)
    .sort((one, other) => one.name.localeCompare(other.name, "en", { numeric: true }));
}

async function readState(directory: string): Promise<SandboxState | undefined> {
  const text = await readFile(join(directory, STATE_FILE), "utf8").catch(() => "null");
  try {
    return stateSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
