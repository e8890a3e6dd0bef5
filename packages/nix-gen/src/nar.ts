import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { lstat, readdir, readlink } from "node:fs/promises";
import { NixGenError } from "./errors.ts";
import { toSri } from "./hash.ts";
import { DEFAULT_MAX_DEPTH } from "./internal/node.ts";
import { assertText, describe, joinPath, quote, reasonOf } from "./internal/text.ts";

/** A file tree in memory, as far as Nix archives know about files: no times, no owners, one permission. */
export type NarTree =
  | {
      readonly type: "regular";
      /** bytes of the file; a string stands for its UTF-8 */
      readonly contents: Uint8Array | string;
      /** whether its owner may execute it; `false` when not given */
      readonly executable?: boolean;
    }
  | { readonly type: "symlink"; readonly target: string }
  | { readonly type: "directory"; readonly entries: { readonly [name: string]: NarTree } };

// Nix 2.8 `src/libutil/archive.cc`.
const MAGIC = "nix-archive-1";
const ALIGNMENT_BYTES = 8;
const OWNER_EXECUTE = 0o100;

type Sink = (bytes: Uint8Array) => void;

/**
 * The Nix archive (NAR) of a tree in memory.
 *
 * @param tree - The tree; not retained.
 * @returns The archive; the same tree gives the same bytes.
 * @throws {NixGenError} `NIX_GEN_BAD_TREE` for a name that is empty, `.`, `..`, or contains a slash, NUL or lone
 *   surrogate, for such a link target, and for anything that isn't a tree; `NIX_GEN_TOO_DEEP`.
 * @see E. Dolstra, "The Purely Functional Software Deployment Model", section 5.2, figure 5.2
 */
export function encodeNar(tree: NarTree): Uint8Array {
  const chunks: Uint8Array[] = [];
  writeArchive(tree, (bytes) => chunks.push(bytes));
  return new Uint8Array(Buffer.concat(chunks));
}

/**
 * The hash that Nix gives a tree in memory, as in `narHash` of a lock file.
 *
 * @param tree - The tree.
 * @returns `sha256-…`
 * @throws {NixGenError} As {@link encodeNar}.
 * @example
 * narHash({ type: "directory", entries: { "flake.nix": { type: "regular", contents: renderFlake(f) } } })
 */
export function narHash(tree: NarTree): string {
  const hash = createHash("sha256");
  writeArchive(tree, (bytes) => hash.update(bytes));
  return toSri(hash.digest());
}

/**
 * The hash that Nix gives a file, link or directory on disk: what `nix hash path` prints.
 *
 * @param path - The file, link (not followed) or directory.
 * @param options - `signal` ends it early.
 * @returns `sha256-…`
 * @throws {NixGenError} `NIX_GEN_BAD_TREE` for a socket, device or pipe, or a file that changes while it is read,
 *   `NIX_GEN_IO` for what can't be read.
 */
export async function readNarHash(path: string, options: { readonly signal?: AbortSignal } = {}): Promise<string> {
  const hash = createHash("sha256");
  try {
    hash.update(token(MAGIC));
    await hashFile(hash, Buffer.from(path), options.signal);
  } catch (cause) {
    if (cause instanceof NixGenError || options.signal?.aborted === true) throw cause;
    throw new NixGenError("NIX_GEN_IO", `expected a readable tree, got ${reasonOf(cause)}`, { path, cause });
  }
  return toSri(hash.digest());
}

function writeArchive(tree: NarTree, sink: Sink): void {
  sink(token(MAGIC));
  writeTree(tree, sink, "", 1);
}

function writeTree(tree: NarTree, sink: Sink, path: string, depth: number): void {
  if (depth > DEFAULT_MAX_DEPTH) {
    throw new NixGenError("NIX_GEN_TOO_DEEP", `expected at most ${DEFAULT_MAX_DEPTH} levels of directories, got more`);
  }
  switch (tree.type) {
    case "regular": {
      const { contents, executable = false } = tree;
      if (typeof contents === "string") assertText(contents.replaceAll("\0", ""), path, "NIX_GEN_BAD_TREE");
      const bytes = typeof contents === "string" ? Buffer.from(contents) : contents;
      sink(tokens("(", "type", "regular", ...(executable ? ["executable", ""] : []), "contents"));
      sink(length(bytes.length));
      sink(bytes);
      sink(padding(bytes.length));
      break;
    }
    case "symlink":
      assertText(tree.target, path, "NIX_GEN_BAD_TREE");
      sink(tokens("(", "type", "symlink", "target", tree.target));
      break;
    case "directory": {
      sink(tokens("(", "type", "directory"));
      const entries = Object.entries(tree.entries).map(([text, entry]) => {
        const where = joinPath(path, text);
        assertEntryName(text, where);
        return { name: Buffer.from(text), entry, where };
      });
      for (const { name, entry, where } of entries.sort((a, b) => Buffer.compare(a.name, b.name))) {
        sink(tokens("entry", "(", "name", name, "node"));
        writeTree(entry, sink, where, depth + 1);
        sink(token(")"));
      }
      break;
    }
    default: {
      const actual = describe((tree as { type?: unknown }).type);
      const message = `expected the type regular, symlink or directory, got ${actual}`;
      throw new NixGenError("NIX_GEN_BAD_TREE", message, { path });
    }
  }
  sink(token(")"));
}

function assertEntryName(name: string, path: string): void {
  assertText(name, path, "NIX_GEN_BAD_TREE");
  if (name !== "" && name !== "." && name !== ".." && !name.includes("/")) return;
  throw new NixGenError("NIX_GEN_BAD_TREE", `expected the name of a file, got ${quote(name)}`, { path });
}

// Names stay bytes: a file's name need not be UTF-8.
async function hashFile(hash: Hash, path: Buffer, signal: AbortSignal | undefined): Promise<void> {
  signal?.throwIfAborted();
  const stat = await lstat(path);
  if (stat.isFile()) {
    hash.update(tokens("(", "type", "regular", ...((stat.mode & OWNER_EXECUTE) === 0 ? [] : ["executable", ""])));
    hash.update(token("contents"));
    hash.update(length(stat.size));
    let seen = 0;
    for await (const chunk of createReadStream(path, { signal })) {
      const bytes: Uint8Array = chunk;
      hash.update(bytes);
      seen += bytes.length;
    }
    if (seen !== stat.size) {
      const message = `expected a file of ${stat.size} bytes, got ${seen}: it changed meanwhile`;
      throw new NixGenError("NIX_GEN_BAD_TREE", message, { path: path.toString() });
    }
    hash.update(padding(stat.size));
  } else if (stat.isSymbolicLink()) {
    hash.update(tokens("(", "type", "symlink", "target", await readlink(path, { encoding: "buffer" })));
  } else if (stat.isDirectory()) {
    hash.update(tokens("(", "type", "directory"));
    const names = await readdir(path, { encoding: "buffer" });
    for (const name of names.sort(Buffer.compare)) {
      hash.update(tokens("entry", "(", "name", name, "node"));
      await hashFile(hash, Buffer.concat([path, Buffer.from("/"), name]), signal);
      hash.update(token(")"));
    }
  } else {
    const message = "expected a file, link or directory, got a socket, device or pipe";
    throw new NixGenError("NIX_GEN_BAD_TREE", message, { path: path.toString() });
  }
  hash.update(token(")"));
}

function tokens(...parts: readonly (string | Uint8Array)[]): Uint8Array {
  return Buffer.concat(parts.map(token));
}

/** One string of the archive: its length, its bytes, zeroes up to a multiple of eight. */
function token(part: string | Uint8Array): Uint8Array {
  const bytes = typeof part === "string" ? Buffer.from(part) : part;
  return Buffer.concat([length(bytes.length), bytes, padding(bytes.length)]);
}

function length(count: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(count), true);
  return bytes;
}

function padding(count: number): Uint8Array {
  return new Uint8Array((ALIGNMENT_BYTES - (count % ALIGNMENT_BYTES)) % ALIGNMENT_BYTES);
}
