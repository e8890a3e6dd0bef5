import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { writing } from "../internal/files.ts";

/** The files of an image, absolute. */
export interface ImagePaths {
  /** the disk */
  readonly disk: string;
  /** the unified kernel image */
  readonly uki: string;
  /** what the image is made of and promises; there only when the other two are, and are those that it is about */
  readonly recordPath: string;
}

/** Where an image of that name is in a directory. */
export function imagePaths(directory: string, name: string): ImagePaths {
  return {
    disk: join(directory, `${name}.raw`),
    uki: join(directory, `${name}.efi`),
    recordPath: join(directory, `${name}.json`),
  };
}

/** An image that is being written, beside the one that may be there. */
export interface StagedImage extends AsyncDisposable {
  readonly paths: ImagePaths;
  /** Puts its files in place of the others. */
  readonly publish: (paths: ImagePaths) => Promise<void>;
}

/**
 * Makes room to write an image in; what an earlier process left there when it was killed goes.
 *
 * @throws {OsBuilderError} `OS_DISK_FULL`, `OS_NOT_WRITABLE`.
 */
export async function stage(outputDirectory: string, name: string): Promise<StagedImage> {
  const directory = join(outputDirectory, `.${name}.partial`);
  const remove = (): Promise<void> => rm(directory, { recursive: true, force: true });
  await writing(directory, async () => {
    await remove();
    await mkdir(directory, { recursive: true });
  });
  const paths = imagePaths(directory, name);
  return {
    paths,
    publish: (places) =>
      writing(outputDirectory, async () => {
        // Between the first and the last of these there is no record, and so no image.
        await rm(places.recordPath, { force: true });
        await rename(paths.disk, places.disk);
        await rename(paths.uki, places.uki);
        await rename(paths.recordPath, places.recordPath);
      }),
    [Symbol.asyncDispose]: remove,
  };
}
