import { resolve } from "node:path";
import { findDebianMirror, openNix, type Progress } from "@leveret/nix-gen";
import { loadProject, type Project } from "./config/load.ts";
import { type BuiltImage, buildImage } from "./image/image.ts";
import { readLock } from "./lock.ts";
import { type Artefacts, buildArtefacts } from "./nix/artefacts.ts";

/** Directory beside the description for everything that can be made again. */
export const STATE_DIRECTORY = ".leveret";
/** Directory beside the description for images. */
export const IMAGES_DIRECTORY = "images";

/** What every step of the way from a description to an image takes. */
export interface PipelineOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** directory for images; `images` beside the description when not given */
  readonly outputDirectory?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: Progress | undefined;
}

/** The project's directory of state, absolute. */
export function stateDirectory(project: Project): string {
  return resolve(project.directory, STATE_DIRECTORY);
}

/**
 * Builds a project's unsigned artefacts from its lock.
 *
 * @throws {OsBuilderError} As `readLock`. {NixGenError} As `openNix`, `findDebianMirror`, `buildFlake`.
 */
export async function buildProject(project: Project, options: PipelineOptions): Promise<Artefacts> {
  const { env, signal, onProgress } = options;
  const lock = await readLock(project);
  const nix = await openNix({ env });
  const mirror = await findDebianMirror({ env });
  return buildArtefacts(project, { nix, lock, mirror, stateDirectory: stateDirectory(project), signal, onProgress });
}

/**
 * Builds a project's signed image, and whatever of it isn't there yet.
 *
 * @param path - Directory with `os.config.ts`, or that file.
 */
export async function buildProjectImage(
  path: string,
  options: PipelineOptions,
): Promise<{ readonly project: Project; readonly image: BuiltImage }> {
  const project = await loadProject(path);
  const artefacts = await buildProject(project, options);
  const image = await buildImage(project, {
    artefacts,
    lock: await readLock(project),
    stateDirectory: stateDirectory(project),
    outputDirectory: options.outputDirectory ?? resolve(project.directory, IMAGES_DIRECTORY),
    signal: options.signal,
    onProgress: options.onProgress,
  });
  return { project, image };
}
