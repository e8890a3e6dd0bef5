import { join, resolve } from "node:path";
import { guestImage, type ImageOptions } from "./image.ts";
import { takeLease } from "./lease.ts";
import { nameOf, numberOf } from "./names.ts";
import { type Environment, openPlaces } from "./places.ts";
import { findSandbox, listSandboxes, projectDirectory, type Sandbox } from "./sandbox.ts";
import type { SandboxState } from "./state.ts";
import { supervise } from "./supervise.ts";

const DEFAULT_MEMORY_MIB = 1024;
const DEFAULT_CPUS = 2;

/** How a sandbox is started. */
export interface SandboxStartOptions {
  /** the project, default the working directory */
  readonly directory?: string | undefined;
  /** `vm-3`; default the first that is free */
  readonly name?: string | undefined;
  /**
   * `live`: the project's directory itself. `isolated`: the guest can look at it, and what it changes stays in the
   * sandbox until {@link Sandbox.apply}. Default `live`; without it, one of either kind is found.
   */
  readonly workspace?: SandboxState["workspace"] | undefined;
  /** a sandbox more, although the project has one */
  readonly another?: boolean | undefined;
  /** directory with the `os.config.ts` of another guest, and its lock; default what comes with this package */
  readonly image?: string | undefined;
  /** default 1024 */
  readonly memoryMiB?: number | undefined;
  /** default 2 */
  readonly cpus?: number | undefined;
  /** default `process.env` */
  readonly env?: Environment | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ImageOptions["onProgress"];
}

/**
 * Starts a sandbox for a project, or finds the one that it has.
 *
 * @throws {SandboxError} `SANDBOX_BAD_OPTIONS`, `SANDBOX_NONE_FREE`, `SANDBOX_START_FAILED`, `SANDBOX_MISSING_TOOLS`,
 *   `SANDBOX_NOT_WRITABLE`. Errors of the libraries below.
 * @example
 * await using vm = await startSandbox({ directory: "." });
 * console.log((await vm.exec(["uname", "-a"])).stdout);
 */
export async function startSandbox(options: SandboxStartOptions = {}): Promise<Sandbox> {
  const { env = process.env, name, signal, onProgress } = options;
  const wanted = name === undefined ? undefined : numberOf(name);
  const directory = await projectDirectory(options.directory ?? ".");
  const places = await openPlaces(env);
  const { workspace } = options;
  if (!options.another) {
    const known = (await listSandboxes({ env })).find(
      ({ state }) =>
        state.directory === directory &&
        (wanted === undefined || state.name === nameOf(wanted)) &&
        (workspace === undefined || state.workspace === workspace),
    );
    if (known !== undefined) return known;
  }
  const description = options.image === undefined ? undefined : resolve(options.image);
  const image = await guestImage(places, { description, env, signal, onProgress });
  const origin = {
    kind: "template",
    image,
    templates: join(places.cache, "templates"),
    memoryMiB: options.memoryMiB ?? DEFAULT_MEMORY_MIB,
    cpus: options.cpus ?? DEFAULT_CPUS,
  } as const;
  const lease = await takeLease(places, wanted);
  const kind = workspace ?? "live";
  await supervise(places, lease, { directory, workspace: kind, origin }, { env, signal, onProgress });
  return findSandbox(lease.name, { env });
}
