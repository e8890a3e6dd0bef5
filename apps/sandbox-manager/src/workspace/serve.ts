import { closeSync, fstatSync } from "node:fs";
import type { Duplex } from "node:stream";
import * as z from "zod";
import { SandboxError } from "../errors.ts";
import { HostChanges } from "./changes.ts";
import { Connection } from "./connection.ts";
import type { Context } from "./context.ts";
import { dispatch } from "./dispatch.ts";
import { ALWAYS_HIDDEN, DEFAULT_HIDDEN, hiddenNames, MAX_PATTERN_CHARS } from "./hidden.ts";
import { HostFiles, openRoot } from "./host-files.ts";
import { type Node, NodeTable } from "./node-table.ts";
import { restoreNodes, saveNodes, type WorkspaceState, workspaceStateSchema } from "./state.ts";
import { Watches } from "./watches.ts";

/** Files that the guest may know at the same time. */
export const DEFAULT_MAX_NODES = 500_000;

/** Directories whose changes on the host are noticed at once; in others the guest looks again after a second. */
export const DEFAULT_MAX_WATCHES = 65_536;

/** How long the guest may take to become quiet, in `milliseconds`. */
export const DEFAULT_PAUSE_TIMEOUT_MS = 10_000;

const id = z.number().int().min(0).max(0xffff_fffe);

const optionsSchema = z.strictObject({
  /** directory of the host that the guest sees */
  directory: z.string().min(1),
  /** whom everything belongs to, as the guest sees it */
  uid: id.default(0),
  gid: id.default(0),
  /** names that the guest does not see and cannot make, see {@link DEFAULT_HIDDEN} */
  hidden: z.array(z.string().min(1).max(MAX_PATTERN_CHARS)).max(1000).readonly().default(DEFAULT_HIDDEN),
  /**
   * lets the guest look at everything and change nothing; names that it knows stay, whatever the host does, because that
   * is what an overlay on top of it relies on, and contents are those that the host has
   */
  readOnly: z.boolean().default(false),
  maxNodes: z.number().int().min(16).default(DEFAULT_MAX_NODES),
  maxWatches: z.number().int().min(0).default(DEFAULT_MAX_WATCHES),
  /** what another server of the same guest left when it paused; the guest is then told to go on */
  state: workspaceStateSchema.optional(),
});

/** What {@link serveWorkspace} is told; everything but the directory may be left out. */
export interface WorkspaceOptions extends z.input<typeof optionsSchema> {
  /** called with a mistake in here, which the guest saw as `EIO` */
  readonly onBug?: ((error: unknown) => void) | undefined;
}

/** A directory that a guest sees. */
export interface Workspace extends Disposable {
  /**
   * Lets the guest ask nothing more, and waits until everything that it has asked is answered; before a template is
   * taken. Programs in the guest that use the directory stand still until somebody goes on.
   *
   * @param options - Limit, default {@link DEFAULT_PAUSE_TIMEOUT_MS}.
   * @returns What another server needs to go on, also with another directory.
   * @throws {SandboxError} `SANDBOX_WORKSPACE_TIMEOUT`, `SANDBOX_WORKSPACE_CLOSED`.
   */
  readonly pause: (options?: { readonly timeoutMs?: number | undefined }) => Promise<WorkspaceState>;
  /** Goes on after a pause. */
  readonly resume: () => void;
  /** Waits until the guest knows of everything that the host was seen to change so far. */
  readonly settled: () => Promise<void>;
  /** Resolves when the stream has ended or the directory is not served any more, with the reason if there is one. */
  readonly ended: Promise<SandboxError | undefined>;
  /** Stops serving; the stream stays open. Idempotent. */
  readonly close: () => void;
}

/**
 * Serves a directory of the host to a guest in which `leveret-workspace` has mounted it.
 *
 * Edits on either side are seen on the other one. No link is followed on the host, whatever the guest makes of the
 * directory, and nothing outside of it can be reached; files belong to the user who runs this.
 *
 * @param stream - The port, as bytes; read and written by nobody else. Not closed.
 * @param options - Which directory, and how the guest sees it.
 * @returns When the directory is served, and with a `state`, when the guest knows what is different.
 * @throws {SandboxError} `SANDBOX_BAD_OPTIONS`, `SANDBOX_WORKSPACE_DIRECTORY` when there is no such directory.
 * @example
 * using workspace = await serveWorkspace(port, { directory: "/home/me/project", uid: 1000, gid: 1000 });
 */
export async function serveWorkspace(stream: Duplex, options: WorkspaceOptions): Promise<Workspace> {
  const { onBug, ...rest } = options;
  const parsed = optionsSchema.safeParse(rest);
  if (!parsed.success) {
    const message = `expected valid options of a workspace, got\n${z.prettifyError(parsed.error)}`;
    throw new SandboxError("SANDBOX_BAD_OPTIONS", message);
  }
  const { directory, uid, gid, hidden, readOnly, maxNodes, maxWatches, state } = parsed.data;
  const root = openDirectory(directory);
  const isHidden = hiddenNames([...hidden, ...ALWAYS_HIDDEN]);
  const table = new NodeTable(fstatSync(root, { bigint: true }), maxNodes, readOnly);
  const files = new HostFiles(root, table);
  const reopen = (node: Node): void => {
    files.forget(node);
    if (watches.forget(node)) watches.ensure(node);
  };
  const changes = new HostChanges(table, files, isHidden, reopen, (notice) => connection.notify(notice));
  const watches = new Watches(files, maxWatches, (node, names) => changes.look(node, names));
  const context: Context = {
    table,
    files,
    owner: { uid, gid },
    isHidden,
    readOnly,
    watch: (node) => watches.ensure(node),
    // It would be the layer on top that is listed.
    prefetch: (node) => (readOnly ? undefined : changes.prefetch(node)),
    invalidate: (node) => changes.invalidate(node),
    forget: (node) => {
      watches.forget(node);
      files.forget(node);
    },
  };
  let onEnded: (error: SandboxError | undefined) => void = () => {};
  const ended = new Promise<SandboxError | undefined>((resolve) => {
    onEnded = resolve;
  });
  const connection = new Connection(stream, dispatch(context), {
    onBug: (error) => onBug?.(error),
    onEnd: (error) => {
      watches.close();
      files.close();
      onEnded(error);
    },
  });
  if (state !== undefined) {
    restoreNodes(table, state);
    connection.resume();
    changes.invalidateAll();
    await within(connection.noticed(), DEFAULT_PAUSE_TIMEOUT_MS).catch((error: unknown) => {
      connection.end();
      throw error;
    });
  }
  const close = (): void => connection.end();
  return {
    pause: async ({ timeoutMs = DEFAULT_PAUSE_TIMEOUT_MS } = {}) => {
      await within(connection.pause(), timeoutMs).catch((error: unknown) => {
        // It may only have been slow, and goes on.
        connection.resume();
        throw error;
      });
      if (connection.ended)
        throw new SandboxError("SANDBOX_WORKSPACE_CLOSED", "expected a guest to pause, got none any more");
      return saveNodes(table);
    },
    resume: () => connection.resume(),
    settled: () => connection.noticed(),
    ended,
    close,
    [Symbol.dispose]: close,
  };
}

function openDirectory(path: string): number {
  let root: number | undefined;
  try {
    root = openRoot(path);
    fstatSync(root);
    return root;
  } catch (cause) {
    if (root !== undefined) closeSync(root);
    const message = `expected a directory at ${path}, got ${(cause as NodeJS.ErrnoException).code}`;
    throw new SandboxError("SANDBOX_WORKSPACE_DIRECTORY", message, { cause });
  }
}

async function within(work: Promise<void>, timeoutMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const message = `expected the guest to pause within ${timeoutMs} ms, got no answer`;
      reject(new SandboxError("SANDBOX_WORKSPACE_TIMEOUT", message));
    }, timeoutMs);
  });
  try {
    await Promise.race([work, limit]);
  } finally {
    clearTimeout(timer);
  }
}
