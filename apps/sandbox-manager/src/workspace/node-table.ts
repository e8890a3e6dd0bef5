import { randomInt } from "node:crypto";
import type { BigIntStats } from "node:fs";
import { Refusal } from "./errno.ts";
import { KIND, ROOT_NODE } from "./format/fuse.ts";

/** Where a file is: an entry of a directory. */
export interface Place {
  readonly parent: Node;
  /** as one character per byte */
  readonly name: string;
}

/** Something of the directory that the guest's kernel knows by a number. */
export interface Node {
  readonly id: number;
  /** what it is on the host, whatever its name; undefined for one taken over from another directory, until it is met */
  identity: string | undefined;
  /** kind of file, as in a mode */
  kind: number;
  /** where it was met, newest first; a directory has one place */
  places: Place[];
  /** what is known in it, when it is a directory */
  readonly children: Map<string, Node>;
  /** how often the guest was told of it without having forgotten it again */
  lookups: number;
  /** what the guest knows of its state: times and size */
  mtimeNs: bigint;
  ctimeNs: bigint;
  size: bigint;
  /** how often a name was looked up in it without its having been listed */
  singly: number;
  /** names in the order of their cookies, once it was listed; a cookie is a position plus one */
  listing: Listing | undefined;
}

/** Names of a directory in an order that stays, whatever comes and goes. */
export interface Listing {
  readonly names: (string | undefined)[];
  readonly positions: Map<string, number>;
}

/** Most names under which one file is remembered. */
const MAX_PLACES = 8;
/** Numbers begin at random: those of another server mean nothing to this one, rather than another file. */
const FIRST_ID_RANGE = 2 ** 47;

/** What the guest's kernel knows. */
export class NodeTable {
  readonly root: Node;
  /** whether a name that the guest knows stays what it is, also when the host has put another file in its place */
  readonly keepsNames: boolean;
  readonly #maximum: number;
  readonly #byId = new Map<number, Node>();
  readonly #byIdentity = new Map<string, Node>();
  #nextId: number;

  /**
   * @param root - State of the directory itself.
   * @param maximum - How many nodes there may be.
   */
  constructor(root: BigIntStats, maximum: number, keepsNames = false) {
    this.#maximum = maximum;
    this.keepsNames = keepsNames;
    this.#nextId = ROOT_NODE + 1 + randomInt(FIRST_ID_RANGE);
    this.root = this.#add(ROOT_NODE, identityOf(root), KIND.directory);
    noteState(this.root, root);
  }

  get size(): number {
    return this.#byId.size;
  }

  /** All nodes; the root comes first. */
  nodes(): IterableIterator<Node> {
    return this.#byId.values();
  }

  /**
   * The node with a number.
   *
   * @throws {Refusal} `ESTALE` when that number was never given out or is forgotten: a kernel then looks again.
   */
  get(id: number): Node {
    const node = this.#byId.get(id);
    if (node === undefined) throw new Refusal("ESTALE");
    return node;
  }

  /** The node with a number, that has to be a directory. */
  directory(id: number): Node {
    const node = this.get(id);
    if (node.kind !== KIND.directory) throw new Refusal("ENOTDIR");
    return node;
  }

  /**
   * Notes that something was met at a place.
   *
   * @throws {Refusal} `ENFILE` when there are as many nodes as there may be.
   */
  meet(parent: Node, name: string, stats: BigIntStats): Node {
    const identity = identityOf(stats);
    const there = parent.children.get(name);
    if (there !== undefined && there.identity === undefined && there.kind === kindOf(stats)) {
      if (!this.#byIdentity.has(identity)) {
        there.identity = identity;
        this.#byIdentity.set(identity, there);
      }
    }
    if (there !== undefined && this.isSame(there, stats)) return there;
    if (there !== undefined) this.leave(parent, name);
    // A file with two names may become two files, and each name keeps its own.
    let node = this.keepsNames ? undefined : this.#byIdentity.get(identity);
    if (node === undefined) {
      if (this.#byId.size >= this.#maximum) throw new Refusal("ENFILE");
      node = this.#add(this.#nextId++, identity, kindOf(stats));
    }
    this.place(node, parent, name);
    return node;
  }

  /** Whether what was met is a node. Where names are kept, it becomes what was met, if that is of its kind. */
  isSame(node: Node, stats: BigIntStats): boolean {
    const identity = identityOf(stats);
    if (node.identity === identity) return true;
    if (!this.keepsNames || node.kind !== kindOf(stats)) return false;
    if (node.identity !== undefined && this.#byIdentity.get(node.identity) === node) {
      this.#byIdentity.delete(node.identity);
    }
    node.identity = identity;
    this.#byIdentity.set(identity, node);
    return true;
  }

  /** Notes that a node is at a place; a directory is nowhere else. */
  place(node: Node, parent: Node, name: string): void {
    const others = node.places.filter((place) => place.parent !== parent || place.name !== name);
    if (node.kind === KIND.directory) for (const place of others) detach(node, place);
    node.places = [{ parent, name }, ...(node.kind === KIND.directory ? [] : others)];
    for (const place of node.places.splice(MAX_PLACES)) detach(node, place);
    parent.children.set(name, node);
  }

  /** Notes that nothing is at a place any more. */
  leave(parent: Node, name: string): Node | undefined {
    const node = parent.children.get(name);
    if (node === undefined) return undefined;
    parent.children.delete(name);
    node.places = node.places.filter((place) => place.parent !== parent || place.name !== name);
    return node;
  }

  /** Notes that the guest was told of a node. */
  remember(node: Node): void {
    node.lookups += 1;
  }

  /**
   * Notes that the guest has forgotten a node, that many times.
   *
   * @returns The node when it is gone for good.
   */
  forget(id: number, count: number): Node | undefined {
    const node = this.#byId.get(id);
    if (node === undefined || node === this.root) return undefined;
    node.lookups -= count;
    return node.lookups > 0 ? undefined : this.drop(node);
  }

  /** Removes a node. */
  drop(node: Node): Node {
    this.#byId.delete(node.id);
    if (node.identity !== undefined && this.#byIdentity.get(node.identity) === node)
      this.#byIdentity.delete(node.identity);
    for (const place of node.places) detach(node, place);
    node.listing = undefined;
    return node;
  }

  /** Puts back a node of another server, at a place whose parent is there. */
  restore(id: number, parent: Node, name: string, kind: number, lookups: number): void {
    let node = this.#byId.get(id);
    if (node === undefined) {
      if (this.#byId.size >= this.#maximum) throw new Refusal("ENFILE");
      node = this.#add(id, undefined, kind);
      node.lookups = lookups;
      this.#nextId = Math.max(this.#nextId, id + 1);
    }
    this.place(node, parent, name);
  }

  #add(id: number, identity: string | undefined, kind: number): Node {
    const unknown = { mtimeNs: -1n, ctimeNs: -1n, size: -1n };
    const node: Node = {
      id,
      identity,
      kind,
      places: [],
      children: new Map(),
      lookups: 0,
      singly: 0,
      listing: undefined,
      ...unknown,
    };
    this.#byId.set(id, node);
    if (identity !== undefined) this.#byIdentity.set(identity, node);
    return node;
  }
}

/**
 * What a file is, whatever its name: a file system uses the number of a deleted file again, but not with its time of
 * birth.
 */
function identityOf(stats: BigIntStats): string {
  return `${stats.dev}:${stats.ino}:${stats.birthtimeNs}:${kindOf(stats)}`;
}

/** Kind of file, as in a mode. */
export function kindOf(stats: BigIntStats): number {
  return Number(stats.mode) & KIND.mask;
}

/** Notes what the guest has been told, or has done itself. */
export function noteState(node: Node, { mtimeNs, ctimeNs, size }: BigIntStats): void {
  node.mtimeNs = mtimeNs;
  node.ctimeNs = ctimeNs;
  node.size = size;
}

/** Whether the guest knows this state. */
export function knowsState(node: Node, { mtimeNs, ctimeNs, size }: BigIntStats): boolean {
  return node.mtimeNs === mtimeNs && node.ctimeNs === ctimeNs && node.size === size;
}

function detach(node: Node, { parent, name }: Place): void {
  if (parent.children.get(name) === node) parent.children.delete(name);
}
