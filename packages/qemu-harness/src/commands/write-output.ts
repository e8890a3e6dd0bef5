import { atomicFiles } from "@leveret/block-source";
import { QemuError } from "../errors.ts";

const { write } = atomicFiles((_kind, message, { path, hint, cause }) => {
  return new QemuError("QEMU_FILE", message, { path, hint, cause });
});

/** Writes a file that is there as a whole or as it was before. */
export async function writeOutput(path: string, content: Uint8Array): Promise<void> {
  await write(path, (sink) => sink.write(0, content));
}
