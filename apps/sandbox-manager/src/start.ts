import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { recoverTransaction } from "./changes/transaction.ts";
import { SandboxError } from "./errors.ts";
import { alive, projectDirectory } from "./find.ts";
import { guestImage, type ImageOptions } from "./image.ts";
import { takeLease } from "./lease.ts";
import { lockDirectory, lockProject } from "./lock.ts";
import { nameOf, numberOf } from "./names.ts";
import { networkSetup, type SandboxNetworkOptions } from "./network/options.ts";
import { readSecrets } from "./network/secret-sources.ts";
import { type Environment, journalPath, openPlaces, type Places, projectId, templatesIn } from "./places.ts";
import { Sandbox } from "./sandbox.ts";
import { readStates, type SandboxState } from "./state.ts";
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
  /** what it may reach, default nothing; a sandbox that is found gets these rules too */
  readonly network?: SandboxNetworkOptions | undefined;
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
 * Starts a sandbox for a project, or finds the one that it has. One that is found runs on when it is disposed of.
 *
 * @throws {SandboxError} `SANDBOX_BAD_OPTIONS`, also for one that is found and is not what is wanted; `SANDBOX_NONE_FREE`,
 *   `SANDBOX_START_FAILED`, `SANDBOX_MISSING_TOOLS`, `SANDBOX_NOT_WRITABLE`, `SANDBOX_NETWORK_RULE`,
 *   `SANDBOX_NETWORK_SECRET`. Errors of the libraries below.
 * @example
 * await using vm = await startSandbox({ directory: "." });
 * console.log((await vm.exec(["uname", "-a"])).stdout);
 */
export async function startSandbox(options: SandboxStartOptions = {}): Promise<Sandbox> {
  const { env = process.env, signal, onProgress, workspace = "live" } = options;
  const wanted = options.name === undefined ? undefined : numberOf(options.name);
  const directory = await projectDirectory(options.directory ?? ".");
  const description = options.image === undefined ? undefined : resolve(options.image);
  const network = await networkSetup(options.network ?? {}, directory);
  const secrets = [...(await readSecrets(network.secrets, { env, directory, signal }))];
  const places = await openPlaces(env);
  // Whoever starts one for the same project at the same time finds this one.
  await using _ = options.another ? undefined : await lockProject(places, directory, signal);
  await recoverProject(places, directory, options);
  if (!options.another) {
    const known = await find(places, {
      ...options,
      directory,
      name: wanted === undefined ? undefined : nameOf(wanted),
      image: description,
    });
    if (known !== undefined) {
      const found = new Sandbox(known, places, { env, owned: false });
      await found.net.add(network.rules, secrets);
      return found;
    }
  }
  const image = await guestImage(places, { description, env, signal, onProgress });
  const { memoryMiB = DEFAULT_MEMORY_MIB, cpus = DEFAULT_CPUS } = options;
  const origin = { kind: "template", image, templates: templatesIn(places), network: network.rules, secrets } as const;
  const project = await projectId(directory);
  const what = { directory, project, workspace, memoryMiB, cpus, image: description, origin };
  const state = await supervise(places, await takeLease(places, wanted), what, { env, signal, onProgress });
  return new Sandbox(state, places, { env, owned: true });
}

/** What an apply has done that was cut off is not a project that anybody has made. */
async function recoverProject(
  places: Places,
  directory: string,
  { signal, onProgress }: Pick<SandboxStartOptions, "signal" | "onProgress">,
): Promise<void> {
  const journal = journalPath(places, directory);
  if (!existsSync(journal)) return;
  await using _ = await lockDirectory(directory, signal);
  for (const step of recoverTransaction(directory, journal)) onProgress?.({ step });
}

/** The sandbox that a project has, if it is what is wanted. */
async function find(
  places: Places,
  wanted: Pick<SandboxStartOptions, "directory" | "name" | "workspace" | "memoryMiB" | "cpus" | "image">,
): Promise<SandboxState | undefined> {
  const own = (await readStates(places)).filter(
    ({ directory, name, workspace }) =>
      directory === wanted.directory && name === (wanted.name ?? name) && workspace === (wanted.workspace ?? workspace),
  );
  const running = await alive(own, places);
  const found = running.find(({ forkOf }) => forkOf === undefined) ?? running[0];
  if (found === undefined) return undefined;
  for (const option of ["memoryMiB", "cpus", "image"] as const) {
    if (wanted[option] === undefined || wanted[option] === found[option]) continue;
    const got = found[option] ?? "the usual one";
    const message = `expected ${found.name} to have ${option} ${wanted[option]}, it runs with ${got}`;
    throw new SandboxError("SANDBOX_BAD_OPTIONS", message, {
      sandbox: found.name,
      hint: "stop it first, or start another one beside it: --new",
    });
  }
  return found;
}
