import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generateKeys, type KeySet } from "@leveret/uki-sign";
import { afterAll } from "vitest";

/** Keys of a test file: making them takes a second. */
export interface TestKeys {
  readonly directory: string;
  readonly set: KeySet;
}

/** Room for making keys on a busy machine: two hierarchies are ten RSA keys. */
export const KEYS_TIMEOUT_MS = 60_000;

const made: string[] = [];
afterAll(async () => {
  for (const directory of made.splice(0)) await rm(directory, { recursive: true, force: true });
});

/** Generates keys that are removed after the last test of the file. */
export async function makeKeys(name: string): Promise<TestKeys> {
  const parent = await mkdtemp(join(tmpdir(), "os-builder-keys-"));
  made.push(parent);
  const directory = join(parent, "keys");
  return { directory, set: await generateKeys(directory, { name, owner: "11111111-2222-3333-4444-555555555555" }) };
}

/** Puts keys where a project has them. */
export async function copyKeys({ directory }: TestKeys, destination: string): Promise<void> {
  await cp(directory, destination, { recursive: true });
}
