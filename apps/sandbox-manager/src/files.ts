import { randomBytes } from "node:crypto";
import { rename, rm, writeFile } from "node:fs/promises";

/** Puts a value, as JSON, in the place of a file at once: who reads it finds all of the old one or all of the new. */
export async function replaceJson(path: string, value: unknown): Promise<void> {
  const beside = `${path}.${randomBytes(4).toString("hex")}.partial`;
  try {
    await writeFile(beside, `${JSON.stringify(value, undefined, 2)}\n`);
    await rename(beside, path);
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
}
