import { type FSWatcher, watch } from "node:fs";
import type { HostFiles } from "./host-files.ts";
import type { Node } from "./node-table.ts";

/** How long changes are collected before they are looked at, in `milliseconds`: a file that is written has many. */
const COLLECT_MS = 5;

/** Directories whose changes are noticed, by inotify(7). */
export class Watches {
  readonly #files: HostFiles;
  readonly #maximum: number;
  readonly #onChanges: (directory: Node, names: ReadonlySet<string>) => void;
  readonly #watchers = new Map<Node, FSWatcher>();
  #changed = new Map<Node, Set<string>>();
  #timer: NodeJS.Timeout | undefined;

  /**
   * @param maximum - How many directories are watched at most.
   * @param onChanges - Called with names in which something may have changed.
   */
  constructor(files: HostFiles, maximum: number, onChanges: (directory: Node, names: ReadonlySet<string>) => void) {
    this.#files = files;
    this.#maximum = maximum;
    this.#onChanges = onChanges;
  }

  /** Watches a directory; false where that is not possible. */
  ensure(directory: Node): boolean {
    if (this.#watchers.has(directory)) return true;
    if (this.#watchers.size >= this.#maximum) return false;
    try {
      const path = this.#files.directoryPath(directory);
      const watcher = watch(path, { encoding: "latin1", persistent: false }, (_, name) => {
        if (typeof name === "string") this.#note(directory, name);
      });
      watcher.on("error", () => this.forget(directory));
      this.#watchers.set(directory, watcher);
      return true;
    } catch {
      // The system's limit for the user, or a file system that cannot.
      return false;
    }
  }

  /** Stops watching a directory; false when it was not watched. */
  forget(directory: Node): boolean {
    this.#watchers.get(directory)?.close();
    this.#changed.delete(directory);
    return this.#watchers.delete(directory);
  }

  /** Stops watching. */
  close(): void {
    clearTimeout(this.#timer);
    for (const directory of [...this.#watchers.keys()]) this.forget(directory);
  }

  #note(directory: Node, name: string): void {
    const names = this.#changed.get(directory);
    if (names === undefined) this.#changed.set(directory, new Set([name]));
    else names.add(name);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      const changed = this.#changed;
      this.#changed = new Map();
      for (const [where, what] of changed) this.#onChanges(where, what);
    }, COLLECT_MS).unref();
  }
}
