import { z } from "zod";
import { NixGenError } from "../errors.ts";
import { zRecord } from "../internal/options.ts";
import { describe, joinPath, quote } from "../internal/text.ts";

/** A plain value in a lock file. */
export type LockValue = string | number | boolean | null | readonly LockValue[] | { readonly [key: string]: LockValue };

/** One flake of a lock file. */
export interface LockNode {
  /** its inputs: the key of another node, or the path of input names that it follows */
  readonly inputs?: { readonly [name: string]: string | readonly string[] };
  /** exactly what was fetched; `narHash` is what keeps it honest */
  readonly locked?: { readonly [key: string]: LockValue };
  /** what was asked for */
  readonly original?: { readonly [key: string]: LockValue };
  /** whether it is a flake itself; `true` when not given */
  readonly flake?: boolean;
  /** path of the input that a relative reference starts from; written by Nix 2.26 and newer */
  readonly parent?: readonly string[];
}

/** The contents of `flake.lock`, version 7: what every Nix since 2.8 reads. */
export interface FlakeLock {
  /** nodes by key */
  readonly nodes: { readonly [key: string]: LockNode };
  /** key of the flake that the lock file belongs to */
  readonly root: string;
}

/** Version of the lock file's format that is read and written. */
export const FLAKE_LOCK_VERSION = 7;

/** The lock of a flake without inputs. */
export const EMPTY_FLAKE_LOCK: FlakeLock = Object.freeze({ nodes: Object.freeze({ root: {} }), root: "root" });

const zValue: z.ZodType<LockValue, LockValue> = z.json();
const zFacts = zRecord(zValue);
const zNames = z.array(z.string()).readonly();

const SCHEMA = z.strictObject({
  nodes: zRecord(
    z.strictObject({
      inputs: zRecord(z.union([z.string(), zNames])).exactOptional(),
      locked: zFacts.exactOptional(),
      original: zFacts.exactOptional(),
      flake: z.boolean().exactOptional(),
      parent: zNames.exactOptional(),
    }),
  ),
  root: z.string(),
  version: z.literal(FLAKE_LOCK_VERSION),
});

/**
 * Reads the text of a `flake.lock`.
 *
 * @param text - The file's text.
 * @returns The lock; every key that an input names is there, and every fetched node has its `narHash`.
 * @throws {NixGenError} `NIX_GEN_BAD_LOCK` for text that isn't JSON, another version, unknown keys, references to
 *   nodes that are missing, and fetched nodes without `narHash`.
 * @see Nix manual, "nix flake", Lock files
 */
export function parseFlakeLock(text: string): FlakeLock {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new NixGenError("NIX_GEN_BAD_LOCK", `expected JSON, got ${quote(text)}`, { cause });
  }
  const version: unknown =
    typeof value === "object" && value !== null && "version" in value ? value.version : undefined;
  if (version !== FLAKE_LOCK_VERSION) {
    const message = `expected a lock file of version ${FLAKE_LOCK_VERSION}, got ${describe(version)}`;
    throw new NixGenError("NIX_GEN_BAD_LOCK", message, { path: "version" });
  }
  const { nodes, root } = checkShape(value);
  assertNodes({ nodes, root });
  return { nodes, root };
}

/**
 * Prints a lock as Nix prints it: sorted keys, two spaces, a final line feed. A lock that Nix wrote comes out byte for
 * byte.
 *
 * @param lock - The lock.
 * @returns The text of `flake.lock`.
 * @throws {NixGenError} `NIX_GEN_BAD_LOCK`, as {@link parseFlakeLock}.
 * @example
 * renderFlakeLock(EMPTY_FLAKE_LOCK) // for a flake without inputs
 */
export function renderFlakeLock(lock: FlakeLock): string {
  const { nodes, root } = checkShape({ ...lock, version: FLAKE_LOCK_VERSION });
  assertNodes({ nodes, root });
  return `${JSON.stringify(sorted({ nodes, root, version: FLAKE_LOCK_VERSION }), undefined, 2)}\n`;
}

function checkShape(value: unknown): z.output<typeof SCHEMA> {
  const result = SCHEMA.safeParse(value);
  if (result.success) return result.data;
  const message = `expected a lock file, got:\n${z.prettifyError(result.error)}`;
  const path = result.error.issues[0]?.path.join(".");
  throw new NixGenError("NIX_GEN_BAD_LOCK", message, { path, cause: result.error });
}

function assertNodes({ nodes, root }: FlakeLock): void {
  assertNode(nodes, root, "root");
  for (const [key, node] of Object.entries(nodes)) {
    const path = joinPath("nodes", key);
    for (const [name, target] of Object.entries(node.inputs ?? {})) {
      if (typeof target === "string") assertNode(nodes, target, joinPath(`${path}.inputs`, name));
    }
    // A relative path is part of its parent's tree, and has no hash of its own.
    if (node.locked === undefined || node.parent !== undefined || typeof node.locked.narHash === "string") continue;
    const hint = "without it, Nix before 2.26 can't use the lock, and nothing proves that the input is the same";
    throw new NixGenError("NIX_GEN_BAD_LOCK", "expected narHash, got none", { path: `${path}.locked`, hint });
  }
}

function assertNode(nodes: FlakeLock["nodes"], key: string, path: string): void {
  if (Object.hasOwn(nodes, key)) return;
  throw new NixGenError("NIX_GEN_BAD_LOCK", `expected the key of a node, got ${quote(key)}`, { path });
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries: [string, unknown][] = Object.entries(value).map(([key, part]) => [key, sorted(part)]);
  // Nix compares bytes, JavaScript UTF-16 units.
  entries.sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  return Object.fromEntries(entries);
}
