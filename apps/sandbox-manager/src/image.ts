import { createHash } from "node:crypto";
import { access, cp, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { PipelineOptions } from "@leveret/os-builder";
import * as z from "zod";
import { replaceJson } from "./files.ts";
import { lockImage } from "./lock.ts";
import type { Environment, Places } from "./places.ts";

/** The description of the guest, and its lock: `examples/sandbox-guest`, put there when this package is built. */
const DESCRIPTION = fileURLToPath(new URL("../dist/image", import.meta.url));
const BUILT_FILE = "built.json";
const DESCRIPTION_FILES = ["os.config.ts", "os.lock.json"];

/** What a sandbox boots: files in the Nix store. */
export const imageSchema = z.strictObject({
  /** bzImage */
  kernel: z.string(),
  /** kernel modules, and where the root is */
  initrd: z.string(),
  /** EROFS image of the whole system */
  root: z.string(),
});

export type Image = z.output<typeof imageSchema>;

/** What an image is built with, and what it says of it. */
export interface ImageOptions {
  /** directory with the `os.config.ts` of another guest, and its lock */
  readonly description?: string | undefined;
  readonly env: Environment;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: PipelineOptions["onProgress"];
}

/**
 * The image that sandboxes run, built from its locked packages when it is not there yet.
 *
 * @throws Errors of `@leveret/os-builder` and the libraries below it.
 */
export async function guestImage(places: Places, { description, ...options }: ImageOptions): Promise<Image> {
  // Somebody's own description may depend on anything; Nix finds out whether it has changed.
  if (description !== undefined) {
    await using _ = await lockImage(places, description, options.signal);
    return await build(description, options);
  }
  const known = await builtImage(places);
  if (known !== undefined) return known;
  const directory = imageIn(places);
  await using _ = await lockImage(places, directory, options.signal);
  const madeMeanwhile = await builtImage(places);
  if (madeMeanwhile !== undefined) return madeMeanwhile;
  await mkdir(directory, { recursive: true });
  // The package's own directory may be read-only, and building leaves its state beside the description.
  await cp(DESCRIPTION, directory, { recursive: true });
  const image = await build(directory, options);
  await replaceJson(join(directory, BUILT_FILE), { key: await keyOfDescription(), image });
  return image;
}

/** The same if it was built before, and is still there. */
export async function builtImage(places: Places): Promise<Image | undefined> {
  return readBuilt(join(imageIn(places), BUILT_FILE), await keyOfDescription());
}

function imageIn({ cache }: Places): string {
  return join(cache, "image");
}

async function build(directory: string, options: Omit<ImageOptions, "description">): Promise<Image> {
  // Most starts build nothing, and are over sooner without it.
  const { buildDirect, loadProject } = await import("@leveret/os-builder");
  const { kernel, initrd, root } = await buildDirect(await loadProject(directory), options);
  return { kernel, initrd, root };
}

async function keyOfDescription(): Promise<string> {
  const hash = createHash("sha256");
  for (const name of DESCRIPTION_FILES) hash.update(await readFile(join(DESCRIPTION, name)));
  return hash.digest("hex");
}

const builtSchema = z.object({ key: z.string(), image: imageSchema });

/** What was built of the same description, if all of it is still there. */
async function readBuilt(path: string, key: string): Promise<Image | undefined> {
  try {
    const built = builtSchema.parse(JSON.parse(await readFile(path, "utf8")));
    if (built.key !== key) return undefined;
    await Promise.all(Object.values(built.image).map((file) => access(file)));
    return built.image;
  } catch {
    return undefined;
  }
}
