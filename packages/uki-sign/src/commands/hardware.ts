import { readdir, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { type CommandIo, UsageError } from "@leveret/command";
import { UkiSignError } from "../errors.ts";
import { readInput } from "../internal/files.ts";
import { encodeUkiFirmware } from "../uki/firmware.ts";
import { encodeHardwareIds, type HardwareDescription, parseHardwareDescription } from "../uki/hardware-ids.ts";

/** The `.hwids` section from flags: descriptions in JSON, directories of them, or one file with the section as it is. */
export async function readHardwareIds(io: CommandIo, paths: readonly string[]): Promise<Uint8Array> {
  const files = (await Promise.all(paths.map((path) => jsonFiles(io, path)))).flat();
  const contents = await Promise.all(files.map((path) => readInput(io.cwd, path)));
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
async function jsonFiles(io: CommandIo, path: string): Promise<string[]> {
  const found = await stat(resolve(io.cwd, path)).catch(() => undefined);
  if (found?.isDirectory() !== true) return [path];
  const entries = await readdir(resolve(io.cwd, path), { recursive: true });
  return entries
    .filter((name) => name.endsWith(".json"))
    .sort()
    .map((name) => join(path, name));
}

/** An `.efifw` section from a flag: ID=FILE. */
export async function readFirmware(io: CommandIo, value: string): Promise<Uint8Array> {
  const separator = value.indexOf("=");
  if (separator < 1) throw new UsageError(`expected --efifw ID=FILE, got ${JSON.stringify(value)}`);
  return encodeUkiFirmware({
    id: value.slice(0, separator),
    data: await readInput(io.cwd, value.slice(separator + 1)),
  });
}
