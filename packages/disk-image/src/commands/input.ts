import type { CommandIo, InputFlags } from "@leveret/command";
import { openInput as open } from "../internal/files.ts";
import { type DiskImage, openDiskImage } from "../open.ts";

/** Opens the disk a person named: a file, or the address of one on a web server. */
export async function openInput(
  { cwd, signal }: CommandIo,
  path: string,
  { headerFile }: InputFlags,
): Promise<DiskImage> {
  const source = await open(path, { cwd, signal, headerFile });
  try {
    return await openDiskImage(source);
  } catch (error) {
    await source.close();
    throw error;
  }
}
