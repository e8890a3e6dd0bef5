import { resolve } from "node:path";
import { isHttpUrl } from "@leveret/block-source";
import type { CommandIo } from "@leveret/command";
import { type DisposableBlockSource, fileSource, httpSource } from "../block-source.ts";

/** Opens what a person named: a file, or the address of one on a web server. */
export async function openInput(io: CommandIo, path: string): Promise<DisposableBlockSource> {
  if (isHttpUrl(path)) return httpSource(path, { signal: io.signal });
  return fileSource(resolve(io.cwd, path));
}
