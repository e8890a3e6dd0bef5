import * as z from "zod";
import { SandboxError } from "../errors.ts";
import { checkName } from "./codec.ts";
import { errnoOf } from "./errno.ts";
import { ROOT_NODE } from "./format/fuse.ts";
import type { Node, NodeTable } from "./node-table.ts";

/** Version of the form in which the state is kept. */
const STATE_VERSION = 1;

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);

/** Schema of what a server leaves to the next one; plain data, which JSON can carry. */
export const workspaceStateSchema = z.strictObject({
  version: z.literal(STATE_VERSION),
  /** number, number of the directory that it is in, name as one character per byte, kind, times that it was told of */
  nodes: z.array(z.tuple([count, count, z.string(), count, count])).readonly(),
});

/** What a server leaves to the next one of the same guest: which numbers the guest has for which names. */
export type WorkspaceState = z.output<typeof workspaceStateSchema>;

/** Everything the guest knows, each directory before what is in it. */
export function saveNodes(table: NodeTable): WorkspaceState {
  const nodes: [number, number, string, number, number][] = [];
  const queue: Node[] = [table.root];
  for (const directory of queue) {
    for (const [name, child] of directory.children) {
      nodes.push([child.id, directory.id, name, child.kind, child.lookups]);
      // A file may be in several places, a directory is in one.
      if (child.children.size > 0) queue.push(child);
    }
  }
  return { version: STATE_VERSION, nodes };
}

/**
 * Puts back what another server knew.
 *
 * @throws {SandboxError} `SANDBOX_BAD_OPTIONS` when it is no such state.
 */
export function restoreNodes(table: NodeTable, { nodes }: WorkspaceState): void {
  for (const [id, parent, name, kind, lookups] of nodes) {
    try {
      if (id === ROOT_NODE) throw new Error("the directory itself is not in itself");
      table.restore(id, table.directory(parent), checkName(name), kind, lookups);
    } catch (cause) {
      if (cause instanceof Error && errnoOf(cause) === undefined && id !== ROOT_NODE) throw cause;
      const message = `expected a state that a workspace has saved, got one that is wrong at node ${id}`;
      throw new SandboxError("SANDBOX_BAD_OPTIONS", message, { cause });
    }
  }
}
