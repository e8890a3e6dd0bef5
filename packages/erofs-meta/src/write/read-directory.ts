import { lstatSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { setImmediate } from "node:timers/promises";
import { ErofsError } from "../errors.ts";
import { ioError } from "../internal/files.ts";
import { startThread } from "../internal/job-thread.ts";
import { systemPath } from "../internal/names.js";
import { awaited, type Stream, streamed } from "../internal/steps.ts";
import { DEFAULT_MAX_DEPTH } from "../options.ts";
import type { ContentStream, TreeAttributes, TreeEntry } from "./entry.ts";
import {
  attributesOf,
  FIELD,
  FIELDS,
  SCANNED_TYPES,
  ScanError,
  type ScanJob,
  type ScannedBatch,
  scanBatch,
} from "./scan-directory.js";

/** How to read a directory of this machine. */
export interface ReadDirectoryOptions {
  /** owner of everything, instead of what the directory says */
  readonly owner?: { readonly uid: number; readonly gid: number } | undefined;
  /** most directories inside one another, the root included, {@link DEFAULT_MAX_DEPTH} */
  readonly maxDepth?: number | undefined;
  /** threads besides the calling one, 0 or 1; 1 for large trees where there is more than one processor */
  readonly workers?: number | undefined;
}

/** Names looked at without letting timers and signals be heard: a millisecond or so. */
const NAMES_AT_ONCE = 32;
/** Names after which a thread of its own looks for more: starting one takes as long as looking at these. */
const NAMES_ALONE = 1024;
const NAMES_OF_THREAD = 1024;
/** Batches that the thread may be ahead. */
const BATCHES_AHEAD = 3;
/** Room for contents of a batch; larger files are read when the writer comes to them. */
const CONTENT_SIZE = 1024 * 1024;
const READ_SIZE = 1024 * 1024;

/**
 * Streams the tree of a directory as entries for `writeErofs`, names in the order of their bytes, so that the same tree
 * gives the same image. Links are taken as they are, several names of a file become hard links.
 *
 * Extended attributes are not read, because Node has no call for them: {@link addXattrs} adds them to the entries.
 *
 * @param root - Directory to read; its own mode, owner and time become the root's.
 * @param options - See {@link ReadDirectoryOptions}.
 * @throws {ErofsError} `EROFS_NOT_FOUND` and `EROFS_IO` from reading, `EROFS_LIMIT` for more than `maxDepth` levels.
 * @example
 * await writeErofs(readDirectory("build/root", { owner: { uid: 0, gid: 0 } }), options);
 */
export function readDirectory(root: string, options: ReadDirectoryOptions = {}): AsyncGenerator<TreeEntry, void, void> {
  return streamed(entriesOf(root, options));
}

function* entriesOf(
  root: string,
  { owner, maxDepth = DEFAULT_MAX_DEPTH, workers = availableParallelism() - 1 }: ReadDirectoryOptions,
): Stream<TreeEntry> {
  const job: ScanJob = { root, pending: [], maxDepth, maxNames: NAMES_AT_ONCE };
  yield { type: "directory", ...rootAttributes(root, owner) };
  job.pending.push({ path: "", depth: 1 });
  const linked = new Map<string, string>();
  for (const batch of batchesOf(job, workers > 0)) {
    if (batch instanceof Promise) {
      yield batch;
      continue;
    }
    const lease = { content: batch.content as ArrayBuffer | undefined };
    try {
      for (const [index, path] of batch.paths.entries())
        yield entryOf(batch, index, path, { root, owner, linked, lease });
    } finally {
      lease.content = undefined;
    }
  }
}

/** Scans in this thread at first, and in another one when there is much. */
function* batchesOf(job: ScanJob, hasThread: boolean): Stream<ScannedBatch> {
  let seen = 0;
  for (let content = new ArrayBuffer(CONTENT_SIZE); seen < NAMES_ALONE || !hasThread; ) {
    yield setImmediate();
    const batch = attempt(() => scanBatch(job, content));
    if (batch.paths.length === 0) return;
    yield batch;
    seen += batch.paths.length;
    content = batch.content;
  }
  // Found beside this module both in the sources and in the built package, where it is an entry of its own.
  const url = new URL("./scan-worker.js", import.meta.url);
  const thread = startThread<ScannedBatch | { readonly failure: Failure }>(url, { ...job, maxNames: NAMES_OF_THREAD });
  const scan = (content: ArrayBuffer): ReturnType<typeof thread.run> => {
    const answer = thread.run(content, [content]);
    // It is seen when its turn comes; until then it must not count as unhandled.
    answer.catch(() => undefined);
    return answer;
  };
  try {
    const answers = Array.from({ length: BATCHES_AHEAD }, () => scan(new ArrayBuffer(CONTENT_SIZE)));
    for (let answer = answers.shift(); answer !== undefined; answer = answers.shift()) {
      const batch = yield* awaited(answer);
      if ("failure" in batch) throw errorOf(batch.failure);
      if (batch.paths.length === 0) return;
      yield batch;
      answers.push(scan(batch.content));
    }
  } finally {
    void thread.end();
  }
}

type Failure = Pick<ScanError, "kind" | "path" | "message" | "cause">;

function attempt<T>(action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw error instanceof ScanError ? errorOf(error) : error;
  }
}

function errorOf({ kind, path, message, cause }: Failure): unknown {
  if (kind === "depth") return new ErofsError("EROFS_LIMIT", message, { path });
  return ioError(cause instanceof Error ? cause : Object.assign(new Error(), cause), "read", path);
}

/** What entries of one batch have in common. */
interface EntryContext {
  readonly root: string;
  readonly owner: ReadDirectoryOptions["owner"];
  /** first path of what has several names */
  readonly linked: Map<string, string>;
  /** contents, while they are at hand */
  readonly lease: { content: ArrayBuffer | undefined };
}

function entryOf(
  batch: ScannedBatch,
  index: number,
  path: string,
  { root, owner, linked, lease }: EntryContext,
): TreeEntry {
  const number = (field: number): number => batch.numbers[index * FIELDS + field] ?? 0;
  const type = SCANNED_TYPES[number(FIELD.type)];
  if (type === undefined) throw new Error(`bug: ${path} is of no known type`);
  const identity = batch.identities.get(index);
  if (identity !== undefined) {
    const target = linked.get(identity);
    if (target !== undefined) return { type: "link", path, target };
    linked.set(identity, path);
  }
  const attributes: TreeAttributes = {
    path,
    mode: number(FIELD.mode),
    uid: owner?.uid ?? number(FIELD.uid),
    gid: owner?.gid ?? number(FIELD.gid),
    mtime: BigInt(number(FIELD.mtime)),
    mtimeNsec: number(FIELD.mtimeNsec),
  };
  switch (type) {
    case "file":
      return {
        type,
        ...attributes,
        content: fileContent(root + path, number(FIELD.contentSize), number(FIELD.contentStart), lease),
      };
    case "symlink":
      return { type, ...attributes, target: batch.targets.get(index) ?? "" };
    case "char":
    case "block":
      return { type, ...attributes, device: { major: number(FIELD.major), minor: number(FIELD.minor) } };
    default:
      return { type, ...attributes };
  }
}

function rootAttributes(root: string, owner: ReadDirectoryOptions["owner"]): TreeAttributes {
  try {
    const stat = lstatSync(root, { bigint: true });
    if (stat.isDirectory()) {
      const { mtime, ...attributes } = attributesOf(stat);
      return { path: "/", ...attributes, mtime: BigInt(mtime), ...owner };
    }
  } catch (error) {
    throw ioError(error, "read", root);
  }
  throw new ErofsError("EROFS_WRONG_TYPE", `expected a directory at ${root}, got something else`, { path: root });
}

/** @param start - where it is in the lease's content; -1 when it is not there */
function fileContent(path: string, sizeBytes: number, start: number, lease: EntryContext["lease"]): ContentStream {
  return {
    sizeBytes,
    readNow() {
      if (lease.content === undefined || start === -1) return undefined;
      return new Uint8Array(lease.content, start, sizeBytes);
    },
    async *read() {
      let handle: FileHandle | undefined;
      try {
        handle = await open(systemPath(path), "r");
        const buffer = new Uint8Array(Math.min(READ_SIZE, sizeBytes + 1));
        for (let done = false; !done; ) {
          const { bytesRead } = await handle.read(buffer, 0, buffer.byteLength);
          done = bytesRead === 0;
          if (!done) yield buffer.subarray(0, bytesRead);
        }
      } catch (error) {
        throw ioError(error, "read", path);
      } finally {
        await handle?.close();
      }
    },
  };
}
