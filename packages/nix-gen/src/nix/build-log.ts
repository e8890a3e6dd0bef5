import type { Progress } from "../progress.ts";
import type { NixLogEvent } from "./log.ts";

/** A file that a build may have to download. */
export interface ExpectedDownload {
  /** where it will be in the store, as from {@link fixedOutputStorePath} */
  readonly storePath: string;
  readonly sizeBytes: number;
}

/** What is known of a build that failed. */
export interface BuildFailure {
  /** store path of the derivation that failed; absent when none had begun */
  readonly derivation?: string | undefined;
  /** the last lines of its builder */
  readonly log: readonly string[];
  /** errors and warnings of Nix itself, the last ones */
  readonly messages: readonly string[];
}

const MAX_TAIL_LINES = 40;
// Level 0 is an error, 1 a warning; the rest repeats what the activities say.
const MAX_MESSAGE_LEVEL = 1;

interface Running {
  readonly derivation: string;
  readonly name: string;
  readonly log: string[];
  lastLine: string;
}

/** Follows the log of one `nix build`: reports its progress and remembers what an error has to say. */
export class BuildLog {
  readonly #expected: ReadonlyMap<string, number>;
  readonly #totalBytes: number;
  readonly #onProgress: Progress | undefined;
  readonly #running = new Map<number, Running>();
  readonly #logs = new Map<string, readonly string[]>();
  readonly #messages: string[] = [];
  readonly #transfers = new Map<number, number>();
  #doneDownloads = 0;
  #doneBytes = 0;

  /**
   * @param missing - The files that are not in the store yet.
   * @param onProgress - Receives one event per change.
   */
  constructor(missing: readonly ExpectedDownload[], onProgress: Progress | undefined) {
    this.#expected = new Map(missing.map(({ storePath, sizeBytes }) => [storeName(storePath), sizeBytes]));
    this.#totalBytes = missing.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    this.#onProgress = onProgress;
  }

  /** Takes the next event. */
  see(event: NixLogEvent): void {
    switch (event.kind) {
      case "start":
        if (event.activity === "transfer") this.#transfers.set(event.id, 0);
        if (event.activity === "build") {
          const derivation = event.subject;
          this.#running.set(event.id, { derivation, name: storeName(derivation), log: [], lastLine: "" });
        }
        break;
      case "stop":
        this.#stop(event.id);
        break;
      case "progress": {
        const before = this.#transfers.get(event.id);
        // Nix reports a transfer that is tried again from its beginning.
        if (before === undefined || event.done <= before) return;
        this.#transfers.set(event.id, event.done);
        this.#doneBytes += event.done - before;
        break;
      }
      case "line": {
        const build = this.#running.get(event.id);
        if (build === undefined) return;
        remember(build.log, event.text);
        build.lastLine = event.text;
        break;
      }
      case "message":
        if (event.level <= MAX_MESSAGE_LEVEL) remember(this.#messages, event.text);
        return;
    }
    this.#report();
  }

  /** What is known when the build has failed. */
  failure(): BuildFailure {
    const derivation = this.#messages
      .map((text) => FAILED_DERIVATION.exec(text)?.[1])
      .find((path) => path !== undefined);
    const log = derivation === undefined ? [...this.#logs.values()].at(-1) : this.#logs.get(derivation);
    return { derivation, log: log ?? [], messages: this.#messages };
  }

  #stop(id: number): void {
    this.#transfers.delete(id);
    const build = this.#running.get(id);
    if (build === undefined) return;
    this.#running.delete(id);
    this.#logs.set(build.derivation, build.log);
    if (this.#expected.has(build.name)) this.#doneDownloads += 1;
  }

  // One step at a time: downloads while there are any, then the build that began first, so that a step which has ended
  // does not come back for every line of a build beside it.
  #report(): void {
    const builds = [...this.#running.values()];
    const download = builds.find(({ name }) => this.#expected.has(name));
    const build = builds.find(({ name }) => !this.#expected.has(name));
    if (download !== undefined || (build === undefined && this.#doneDownloads > 0)) {
      this.#onProgress?.({
        step: "downloading packages",
        ...(download === undefined ? {} : { item: download.name }),
        done: this.#doneDownloads,
        total: this.#expected.size,
        doneBytes: Math.min(this.#doneBytes, this.#totalBytes),
        totalBytes: this.#totalBytes,
      });
    } else if (build !== undefined) {
      this.#onProgress?.({
        step: `building ${build.name}`,
        ...(build.lastLine === "" ? {} : { item: build.lastLine }),
      });
    }
  }
}

// "builder for '…' failed with exit code 1" until Nix 2.29, "Cannot build '…'." since.
const FAILED_DERIVATION = /(?:builder for|[Cc]annot build) '([^']+\.drv)'/;

function storeName(storePath: string): string {
  return storePath.replace(/^.*\/[a-z0-9]{32}-/, "").replace(/\.drv$/, "");
}

function remember(lines: string[], text: string): void {
  lines.push(...text.split("\n"));
  lines.splice(0, Math.max(0, lines.length - MAX_TAIL_LINES));
}
