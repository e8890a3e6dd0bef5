import { resolve } from "node:path";
import { type DebianLock, findDebianMirror, openNix, type Progress } from "@leveret/nix-gen";
import { loadProject, type Project } from "./config/load.ts";
import { exclusively } from "./exclusive.ts";
import { type BuiltImage, buildImage } from "./image/image.ts";
import { lockProject, readLock } from "./lock.ts";
import {
  type Artefacts,
  type BuildArtefactsOptions,
  buildArtefacts,
  buildDirectArtefacts,
  type DirectArtefacts,
} from "./nix/artefacts.ts";
import { IMAGES_DIRECTORY, STATE_DIRECTORY } from "./places.ts";

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
 * Resolves a project's packages and writes its lock.
 *
 * @throws {OsBuilderError} `OS_BUSY`. {NixGenError} As `lockProject`.
 */
export async function lockPackages(project: Project, options: PipelineOptions): Promise<DebianLock> {
  const directory = stateDirectory(project);
  return exclusively(directory, () => lockProject(project, { ...options, stateDirectory: directory }), options.signal);
}

/**
 * Builds a project's unsigned artefacts from its lock.
 *
 * @throws {OsBuilderError} `OS_BUSY`, and as `readLock`. {NixGenError} As `openNix`, `findDebianMirror`, `buildFlake`.
 */
export async function buildProject(project: Project, options: PipelineOptions): Promise<Artefacts> {
  return buildWith(buildArtefacts, project, options);
}

/**
 * Builds what a direct kernel boot of a project takes, from its lock: no boot loader, no signature, no partition.
 *
 * @throws As {@link buildProject}.
 * @example
 * const { kernel, initrd, root } = await buildDirect(await loadProject("examples/sandbox-guest"), { env: process.env });
 */
export async function buildDirect(project: Project, options: PipelineOptions): Promise<DirectArtefacts> {
  return buildWith(buildDirectArtefacts, project, options);
}

/**
 * Builds a project's signed image, and whatever of it isn't there yet.
 *
 * @param path - Directory with `os.config.ts`, or that file.
 * @throws {OsBuilderError} `OS_BUSY`, and as `loadProject`, `readLock`, `buildImage`. Errors of the libraries below.
 * @example
 * const { image } = await buildProjectImage("examples/particle", { env: process.env });
 */
export async function buildProjectImage(
  path: string,
  options: PipelineOptions,
): Promise<{ readonly project: Project; readonly image: BuiltImage }> {
  const { signal, onProgress } = options;
  const project = await loadProject(path);
  const lock = await readLock(project);
  const directory = stateDirectory(project);
  const outputDirectory = options.outputDirectory ?? resolve(project.directory, IMAGES_DIRECTORY);
  const build = async (): Promise<BuiltImage> => {
    const artefacts = await buildArtefacts(project, await nixOptions(project, lock, options));
    return buildImage(project, { artefacts, lock, stateDirectory: directory, outputDirectory, signal, onProgress });
  };
  const image = await exclusively(directory, build, signal);
  return { project, image };
}

async function buildWith<T>(
  build: (project: Project, options: BuildArtefactsOptions) => Promise<T>,
  project: Project,
  options: PipelineOptions,
): Promise<T> {
  const lock = await readLock(project);
  const run = async (): Promise<T> => build(project, await nixOptions(project, lock, options));
  return exclusively(stateDirectory(project), run, options.signal);
}

async function nixOptions(
  project: Project,
  lock: DebianLock,
  { env, signal, onProgress }: PipelineOptions,
): Promise<BuildArtefactsOptions> {
  const nix = await openNix({ env });
  const mirror = await findDebianMirror({ env });
  return { nix, lock, mirror, stateDirectory: stateDirectory(project), signal, onProgress };
}
