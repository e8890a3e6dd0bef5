import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { UsageError } from "@leveret/command";
import { UkiSignError } from "../errors.ts";
import { encodeUkiFirmware } from "../uki/firmware.ts";
import {
  DEFAULT_MAX_HARDWARE_DESCRIPTION_BYTES,
  encodeHardwareIds,
  type HardwareDescription,
  parseHardwareDescription,
} from "../uki/hardware-ids.ts";
import type { CommandFiles } from "./command-files.ts";

/** Largest firmware for an `.efifw` section that is read, in bytes. */
const MAX_FIRMWARE_BYTES = 64 * 1024 * 1024;

/** The `.hwids` section from flags: descriptions in JSON, directories of them, or one file with the section as it is. */
export async function readHardwareIds(inputs: CommandFiles, paths: readonly string[]): Promise<Uint8Array> {
  const files = (await Promise.all(paths.map((path) => jsonFiles(inputs, path)))).flat();
  const contents = await Promise.all(files.map((path) => inputs.read(path, DEFAULT_MAX_HARDWARE_DESCRIPTION_BYTES)));
  const [only] = contents;
  if (only !== undefined && contents.length === 1 && only[0] !== "{".charCodeAt(0)) return only;
  const descriptions = contents.map((content, index): HardwareDescription => {
    try {
      return parseHardwareDescription(Buffer.from(content).toString("utf8"));
    } catch (error) {
      if (!(error instanceof UkiSignError)) throw error;
      const { code, message, cause } = error;
      throw new UkiSignError(code, `${files[index]}: ${message}`, { path: files[index], cause });
    }
  });
  if (descriptions.length === 0)
    throw new UsageError(`expected descriptions (*.json) in ${paths.join(", ")}, got none`);
  return encodeHardwareIds(descriptions);
}

/** A file, or the *.json files below a directory in the order of their paths. */
async function jsonFiles(inputs: CommandFiles, path: string): Promise<string[]> {
  const found = await stat(inputs.resolve(path)).catch(() => undefined);
  if (found?.isDirectory() !== true) return [path];
  const entries = await readdir(inputs.resolve(path), { recursive: true });
  return entries
    .filter((name) => name.endsWith(".json"))
    .sort()
    .map((name) => join(path, name));
}

/** An `.efifw` section from a flag: ID=FILE. */
export async function readFirmware(files: CommandFiles, value: string): Promise<Uint8Array> {
  const separator = value.indexOf("=");
  if (separator < 1) throw new UsageError(`expected --efifw ID=FILE, got ${JSON.stringify(value)}`);
  return encodeUkiFirmware({
    id: value.slice(0, separator),
    data: await files.read(value.slice(separator + 1), MAX_FIRMWARE_BYTES),
  });
}
