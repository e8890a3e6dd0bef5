import { realpath } from "node:fs/promises";
import { relative, resolve } from "node:path";
import { livenessOf } from "./control/connection.ts";
import { SandboxError } from "./errors.ts";
import { nameOf, numberOf } from "./names.ts";
import { type Environment, openPlaces, type Places, socketPath } from "./places.ts";
import { Sandbox } from "./sandbox.ts";
import { readStates, type SandboxState } from "./state.ts";
import { sweep } from "./sweep.ts";

/**
 * The sandbox of a name, or of a project.
 *
 * @param name - `vm-1` or `1`. When it is left out, the one of the project that `directory` is in; a copy of that one only
 *   when there is nothing else.
 * @throws {SandboxError} `SANDBOX_NOT_FOUND`, `SANDBOX_AMBIGUOUS`, `SANDBOX_BAD_OPTIONS`.
 */
export async function findSandbox(
  name?: string,
  options: { readonly directory?: string | undefined; readonly env?: Environment | undefined } = {},
): Promise<Sandbox> {
  const { env = process.env } = options;
  const places = await openPlaces(env);
  const states = await readStates(places);
  const running = async (which: (state: SandboxState) => boolean): Promise<Sandbox[]> =>
    open(await alive(states.filter(which), places), places, env);
  if (name !== undefined) {
    const wanted = nameOf(numberOf(name));
    const [sandbox] = await running((state) => state.name === wanted);
    if (sandbox !== undefined) return sandbox;
    const names = (await running(() => true)).map((each) => each.name).join(", ") || "none";
    throw new SandboxError("SANDBOX_NOT_FOUND", `expected ${wanted} to run, got ${names}`, { sandbox: wanted });
  }
  const directory = await projectDirectory(options.directory ?? ".");
  const around = await running((state) => isInside(directory, state.directory));
  const nearest = Math.max(...around.map(({ state }) => state.directory.length));
  const own = around.filter(({ state }) => state.directory.length === nearest);
  const originals = own.filter(({ state }) => state.forkOf === undefined);
  const [sandbox, ...others] = originals.length > 0 ? originals : own;
  if (sandbox === undefined) {
    throw new SandboxError("SANDBOX_NOT_FOUND", `expected a sandbox of ${directory}, got none`, {
      path: directory,
      hint: "leveret-sandbox start starts one",
    });
  }
  if (others.length > 0) {
    const names = [sandbox, ...others].map((each) => each.name).join(", ");
    throw new SandboxError("SANDBOX_AMBIGUOUS", `expected the name of one of ${names}, got none`, { path: directory });
  }
  return sandbox;
}

/** All sandboxes of this user that run, in the order of their numbers. */
export async function listSandboxes(options: { readonly env?: Environment | undefined } = {}): Promise<Sandbox[]> {
  const { env = process.env } = options;
  const places = await openPlaces(env);
  return open(await alive(await readStates(places), places), places, env);
}

/** Those whose supervisors are there; what is left of the others, whose supervisors were killed, is cleaned up. */
export async function alive(states: readonly SandboxState[], places: Places): Promise<SandboxState[]> {
  const found = await Promise.all(states.map(({ name, id }) => livenessOf({ path: socketPath(places, name), id })));
  const dead = states.filter((_, index) => found[index] === "has ended").map(({ name }) => name);
  await sweep(places, dead);
  return states.filter((_, index) => found[index] !== "has ended");
}

function open(states: readonly SandboxState[], places: Places, env: Environment): Sandbox[] {
  return states.map((state) => new Sandbox(state, places, { env, owned: false }));
}

/** A project as sandboxes know it: its directory, without links. */
export async function projectDirectory(path: string): Promise<string> {
  return realpath(resolve(path)).catch((cause: NodeJS.ErrnoException) => {
    throw new SandboxError("SANDBOX_BAD_OPTIONS", `expected a directory, got ${cause.code} for ${path}`, {
      path,
      cause,
    });
  });
}

/** Whether a path is a directory, or below it. Both are absolute. */
export function isInside(path: string, directory: string): boolean {
  return !/^\.\.(?:\/|$)/.test(relative(directory, path));
}
