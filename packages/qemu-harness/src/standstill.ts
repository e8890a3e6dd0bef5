import { closeSync } from "node:fs";
import { QemuError } from "./errors.ts";
import { saveState } from "./internal/migration.ts";
import { openUnnamedFile } from "./internal/unnamed-file.ts";
import type { WaitOptions } from "./internal/wait.ts";
import type { QmpClient } from "./qmp.ts";
import type { Template } from "./template.ts";

/** What a machine needs to become a template. */
export interface Forkable {
  /** makes the template, which then owns the files; absent for forks, whose files are those of their template */
  readonly toTemplate: ((state: number, firstStream: number) => Template) | undefined;
  /** makes a template out of copies of all files, while QEMU, whose process id is given, stands still */
  readonly copy: (pid: number, state: number, firstStream: number, signal?: AbortSignal) => Promise<Template>;
  /** closes the files of a machine that ended without becoming one */
  readonly close: () => void;
}

/** What of a machine its templates are made of. */
interface Parts {
  readonly name: string;
  readonly pid: number;
  readonly qmp: QmpClient;
  readonly forkable: Forkable | undefined;
  /** whether a fork that is started like the machine has the same processors */
  readonly hasAllCpus: () => boolean;
  /** the first number that a stream of the agent may have in a fork */
  readonly nextStream: () => number;
  /** ends the machine */
  readonly quit: () => Promise<unknown>;
  /** to be called after a machine that goes on has stood still */
  readonly awaken: () => void;
}

const DEFAULT_TEMPLATE_TIMEOUT_MS = 60_000;

/** Stops a machine to make templates of it, one after the other. */
export class Standstill {
  readonly #parts: Parts;
  #isTemplate = false;
  /** the last thing that stops the machine, for the next one to wait for */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Whether the machine's files are those of a template now. */
  get isTemplate(): boolean {
    return this.#isTemplate;
  }

  /** What {@link Machine.template} does. */
  async template(options: WaitOptions): Promise<Template> {
    const { nextStream, quit } = this.#parts;
    const { toTemplate } = this.#forkable(this.#parts.forkable?.toTemplate === undefined);
    if (toTemplate === undefined) throw new Error("bug: a forkable machine without a template");
    return this.#alone(async () => {
      const { value } = await this.#stopped(options, async (state) => {
        this.#isTemplate = true;
        return () => toTemplate(state, nextStream());
      });
      await quit();
      return value();
    });
  }

  /** What {@link Machine.checkpoint} does. */
  async checkpoint(options: WaitOptions): Promise<Template> {
    const { pid, nextStream, awaken } = this.#parts;
    const { copy } = this.#forkable(this.#parts.forkable === undefined);
    return this.#alone(async () => {
      const { value: template, resume } = await this.#stopped(options, (state) =>
        copy(pid, state, nextStream(), options.signal),
      );
      try {
        await resume();
      } catch (error) {
        await template.close();
        throw error;
      }
      awaken();
      return template;
    });
  }

  async #alone<T>(run: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(run);
    this.#turn = turn.catch(() => {});
    return turn;
  }

  #forkable(isMissing: boolean): Forkable {
    const { forkable, name, hasAllCpus } = this.#parts;
    if (!hasAllCpus()) {
      const message = `expected ${name} with the processors that it was started with, got others`;
      throw new QemuError("QEMU_TEMPLATE_FAILED", message, {
        hint: "a fork would be started with those that were unplugged",
      });
    }
    if (!isMissing && forkable !== undefined) return forkable;
    throw new QemuError("QEMU_NOT_FORKABLE", `expected a forkable machine, got ${name}`, {
      hint: "start it with forkable: true in its description; a fork has checkpoint(), if none of its disks is thrown away",
    });
  }

  /**
   * Stops the machine, saves the state of its devices, and does something with it.
   *
   * @returns What came of that, and what lets the machine go on, if it ran before; when it fails, that is done already.
   */
  async #stopped<T>(
    { timeoutMs, signal }: WaitOptions,
    use: (state: number) => Promise<T>,
  ): Promise<{ readonly value: T; readonly resume: () => Promise<void> }> {
    const { qmp } = this.#parts;
    const limits = { timeoutMs: timeoutMs ?? DEFAULT_TEMPLATE_TIMEOUT_MS, signal };
    const { running } = await qmp.execute("query-status", {}, limits);
    const resume = async (): Promise<void> => {
      if (running) await qmp.execute("cont");
    };
    const state = openUnnamedFile();
    try {
      await qmp.execute("stop", {}, limits);
      await saveState(qmp, state, limits);
      return { value: await use(state), resume };
    } catch (error) {
      closeSync(state);
      await resume().catch(() => {});
      throw error;
    }
  }
}
