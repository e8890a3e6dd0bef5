import type { BigIntStats } from "node:fs";
import { type Owner, replyOf, type Validity, writeEntry } from "./codec.ts";
import { ENTRY_SIZE, KIND, REPLY_HEADER_SIZE } from "./format/fuse.ts";
import type { HostFiles } from "./host-files.ts";
import { kindOf, type Node, type NodeTable, noteState } from "./node-table.ts";

/** What every operation works on. */
export interface Context {
  readonly table: NodeTable;
  readonly files: HostFiles;
  /** who owns everything, as the guest sees it */
  readonly owner: Owner;
  readonly isHidden: (name: string) => boolean;
  /** whether nothing may be changed */
  readonly readOnly: boolean;
  /** begins to notice what the host does in a directory; false where that is not possible */
  readonly watch: (directory: Node) => boolean;
  /** lets the guest learn of everything in a directory at once, before it asks for one name after the other */
  readonly prefetch: (directory: Node) => void;
  /** closes whatever is kept of something that the guest has forgotten */
  readonly forget: (node: Node) => void;
  /** tells the guest that what it remembers of a file's contents and state is wrong */
  readonly invalidate: (node: Node) => void;
}

/** How long the guest may believe what it is told of a directory that is watched, in `seconds`. */
const WATCHED_SECONDS = 86_400;
/** The same where changes are not noticed. */
const UNWATCHED_SECONDS = 1;
/** The same of a file with several names: who changes it by one outside of the directory is not noticed. */
const LINKED_SECONDS = 10;

/** How long the guest may believe what it is told of something in a directory. */
export function validityIn({ watch, table }: Context, directory: Node | undefined, stats: BigIntStats): Validity {
  // The directory itself is in none.
  const watched = directory === undefined || watch(directory) ? WATCHED_SECONDS : UNWATCHED_SECONDS;
  const isLinked = kindOf(stats) !== KIND.directory && stats.nlink > 1n;
  return {
    entry: table.keepsNames ? WATCHED_SECONDS : watched,
    attr: isLinked ? Math.min(watched, LINKED_SECONDS) : watched,
  };
}

/** How long the guest may believe that a name does not exist. */
export function absenceIn({ watch }: Context, directory: Node): number {
  return watch(directory) ? WATCHED_SECONDS : UNWATCHED_SECONDS;
}

/** Tells the guest of an entry, which it then knows. */
export function tellEntry(context: Context, parent: Node, name: string, stats: BigIntStats, more = 0): Buffer {
  const node = context.table.meet(parent, name, stats);
  context.table.remember(node);
  noteState(node, stats);
  const reply = replyOf(ENTRY_SIZE + more);
  writeEntry(reply, REPLY_HEADER_SIZE, node.id, stats, validityIn(context, parent, stats), context.owner);
  return reply;
}

/** Notes that a directory has changed because the guest wanted it. */
export function noteDirectory({ files }: Context, directory: Node): void {
  noteState(directory, files.directoryState(directory));
}
