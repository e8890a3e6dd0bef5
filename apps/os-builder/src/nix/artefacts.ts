import { cp, readlink, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  buildFlake,
  type DebianLock,
  type DebianMirror,
  debianDownloads,
  mirrorDirectories,
  type Nix,
  type Progress,
  stageDebianBuilders,
} from "@leveret/nix-gen";
import { BUILDERS_DIRECTORY } from "../builders.ts";
import type { Project } from "../config/load.ts";
import { writing } from "../internal/files.ts";
import { FLAKE_LAYOUT, renderOsFlake } from "./flake.ts";
import { copyTree } from "./tree.ts";

/** What Nix has built: files in the store, unsigned, the same for everybody who builds from this lock. */
export interface Artefacts {
  /** directory with `usr.erofs` */
  readonly usr: string;
  /** directory with `initrd` */
  readonly initrd: string;
  /** directory with `linux`, `uname`, `os-release`, `linuxx64.efi.stub` and `systemd-bootx64.efi` */
  readonly bootFiles: string;
}

/** What Nix has built for a direct kernel boot: files in the store, nothing of them signed. */
export interface DirectArtefacts {
  /** bzImage */
  readonly kernel: string;
  /** modules, and where the root is; for a machine with an agent */
  readonly initrd: string;
  /** EROFS image of the whole system, to be the first disk */
  readonly root: string;
}

/** How {@link buildArtefacts} works. */
export interface BuildArtefactsOptions {
  readonly nix: Nix;
  readonly lock: DebianLock;
  readonly mirror: DebianMirror;
  /** directory for the generated flakes, absolute */
  readonly stateDirectory: string;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: Progress | undefined;
}

/**
 * Builds the unsigned artefacts of a description with Nix.
 *
 * @returns Real paths of what was built.
 * @throws {NixGenError} As `buildFlake`. {OsBuilderError} As {@link copyTree}; `OS_DISK_FULL`, `OS_NOT_WRITABLE`.
 */
export async function buildArtefacts(project: Project, options: BuildArtefactsOptions): Promise<Artefacts> {
  const artefacts = await buildAttribute(project, "artefacts", options);
  const linked = async (name: string): Promise<string> => options.nix.realPath(await readlink(join(artefacts, name)));
  return { usr: await linked("usr"), initrd: await linked("initrd"), bootFiles: await linked("boot-files") };
}

/**
 * Builds with Nix what a direct kernel boot of a description takes.
 *
 * @returns Real paths of what was built.
 * @throws As {@link buildArtefacts}.
 */
export async function buildDirectArtefacts(project: Project, options: BuildArtefactsOptions): Promise<DirectArtefacts> {
  const directory = await buildAttribute(project, "direct", options);
  return { kernel: join(directory, "linux"), initrd: join(directory, "initrd"), root: join(directory, "root.erofs") };
}

async function buildAttribute(project: Project, attribute: string, options: BuildArtefactsOptions): Promise<string> {
  const { nix, lock, mirror, stateDirectory } = options;
  const directory = join(stateDirectory, "flake");
  const { builders, tree } = FLAKE_LAYOUT;
  await writing(directory, async () => {
    await rm(directory, { recursive: true, force: true });
    await stageDebianBuilders({ nix, lock, mirror, directory, stateDirectory, ...waiting(options) });
    await cp(BUILDERS_DIRECTORY, join(directory, builders), { recursive: true });
    if (project.config.tree !== undefined) await copyTree(project, join(directory, tree));
    const text = renderOsFlake(project.config, lock, mirror, project.config.tree !== undefined);
    await writeFile(join(directory, "flake.nix"), text);
  });
  const built = await buildFlake(nix, {
    directory,
    attribute,
    downloads: debianDownloads(lock),
    readablePaths: mirrorDirectories(mirror),
    outLink: join(stateDirectory, attribute),
    ...waiting(options),
  });
  return nix.realPath(built);
}

function waiting({ signal, onProgress }: BuildArtefactsOptions): { signal?: AbortSignal; onProgress?: Progress } {
  return { ...(signal === undefined ? {} : { signal }), ...(onProgress === undefined ? {} : { onProgress }) };
}
