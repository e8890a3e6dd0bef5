import { cp, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { buildDirect, type DirectArtefacts, loadProject } from "@leveret/os-builder";
import type { Environment, Places } from "./places.ts";

/** The description of the guest, and its lock: `examples/sandbox-guest`, put there when this package is built. */
const DESCRIPTION = fileURLToPath(new URL("../dist/image", import.meta.url));

/** What an image is built with, and what it says of it. */
export interface ImageOptions {
  /** directory with the `os.config.ts` of another guest, and its lock */
  readonly description?: string | undefined;
  readonly env: Environment;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: Parameters<typeof buildDirect>[1]["onProgress"];
}

/**
 * The image that sandboxes run, built from its locked packages when it is not there yet.
 *
 * @returns Kernel, initrd and root, in the Nix store.
 * @throws Errors of `@leveret/os-builder` and the libraries below it.
 */
export async function guestImage(places: Places, options: ImageOptions): Promise<DirectArtefacts> {
  const { description, ...rest } = options;
  const directory = description ?? join(places.cache, "image");
  if (description === undefined) {
    await mkdir(directory, { recursive: true });
    // The package's own directory may be read-only, and building leaves its state beside the description.
    await cp(DESCRIPTION, directory, { recursive: true });
  }
  return buildDirect(await loadProject(directory), rest);
}
