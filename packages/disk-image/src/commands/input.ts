import { resolve } from "node:path";
import { isHttpUrl } from "@leveret/block-source";
import type { CommandIo } from "@leveret/command";
import { httpSource } from "../block-source.ts";
import { type DiskImage, openDiskImage } from "../open.ts";

/** Opens the disk a person named: a file, or the address of one on a web server. */
export async function openInput(io: CommandIo, path: string): Promise<DiskImage> {
  if (!isHttpUrl(path)) return openDiskImage(resolve(io.cwd, path));
  const source = await httpSource(path, { signal: io.signal });
  try {
    return await openDiskImage(source);
  } catch (error) {
    await source.close();
    throw error;
  }
}
