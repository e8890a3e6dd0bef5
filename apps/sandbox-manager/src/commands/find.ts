import { relative, resolve } from "node:path";
import type { CommandIo } from "@leveret/command";
import { findSandbox, isInside, projectDirectory } from "../find.ts";
import { type Sandbox, WORKSPACE } from "../sandbox.ts";

/** The machine that a command is about. */
export async function find(name: string | undefined, io: CommandIo): Promise<Sandbox> {
  return findSandbox(name, { directory: io.cwd, env: io.env });
}

/** Where somebody is, as a program in a machine would see it: the workspace for all that is not in its project. */
export async function placeInside(sandbox: Sandbox, io: CommandIo): Promise<string> {
  const place = relative(sandbox.state.directory, await placeIn(sandbox, io));
  return place === "" ? WORKSPACE : `${WORKSPACE}/${place}`;
}

/** Paths that somebody has given, from a machine's project on. */
export async function fromProject(sandbox: Sandbox, paths: readonly string[], io: CommandIo): Promise<string[]> {
  const place = await placeIn(sandbox, io);
  return paths.map((path) => relative(sandbox.state.directory, resolve(place, path)) || ".");
}

async function placeIn({ state }: Sandbox, io: CommandIo): Promise<string> {
  const directory = await projectDirectory(io.cwd);
  return isInside(directory, state.directory) ? directory : state.directory;
}
