import { type FileHandle, mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import { SandboxError } from "./errors.ts";
import { lock } from "./lock.ts";
import { addressOf, MAX_SANDBOXES, nameOf } from "./names.ts";
import type { Places } from "./places.ts";

/** The right to be the sandbox of a name, for as long as somebody has the file open. */
export interface Lease {
  readonly name: string;
  readonly address: string;
  /** directory of what is kept of the sandbox */
  readonly directory: string;
  /** the locked file; whoever inherits it has the lease too */
  readonly file: FileHandle;
}

/**
 * Takes the first name that is free, or the one that is wanted. The kernel owns the lease: it ends with the last process
 * that has the file open, however that ends.
 *
 * @param wanted - Number of the sandbox.
 * @throws {SandboxError} `SANDBOX_NONE_FREE`, `SANDBOX_MISSING_TOOLS`.
 */
export async function takeLease(places: Places, wanted?: number): Promise<Lease> {
  const first = wanted ?? 1;
  const last = wanted ?? MAX_SANDBOXES;
  for (let number = first; number <= last; number += 1) {
    const name = nameOf(number);
    const directory = join(places.machines, name);
    await mkdir(directory, { recursive: true });
    const file = await open(join(directory, "lease"), "a");
    if (await lock(file)) return { name, address: addressOf(number), directory, file };
    await file.close();
  }
  const what = wanted === undefined ? `one of ${MAX_SANDBOXES} sandboxes to be free` : `${nameOf(wanted)} to be free`;
  throw new SandboxError("SANDBOX_NONE_FREE", `expected ${what}, got none`, { hint: "leveret-sandbox stop ends one" });
}
