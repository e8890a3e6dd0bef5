import type { CommandIo, InputFlags } from "@leveret/command";
import type { DisposableBlockSource } from "../block-source.ts";
import { openInput as open } from "../internal/files.ts";

/** Opens what a person named: a file, or the address of one on a web server. */
export function openInput(
  { cwd, signal }: CommandIo,
  path: string,
  { headerFile }: InputFlags = {},
): Promise<DisposableBlockSource> {
  return open(path, { cwd, signal, headerFile });
}
