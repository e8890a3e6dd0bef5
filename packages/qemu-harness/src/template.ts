import * as z from "zod";
import type { BlockDevice } from "./block/device.ts";
import { forwardSchema, parseOptions, type ResolvedMachine } from "./description.ts";
import { QemuError } from "./errors.ts";
import { closeAll, descriptorsOf, type MachineFiles } from "./internal/machine-files.ts";
import type { WaitOptions } from "./internal/wait.ts";
import type { Machine } from "./machine.ts";
import type { Network } from "./network/network.ts";

const forkSchema = z.strictObject({
  /** ports of the host that lead into this fork, default none: those of the template would be taken by the first fork */
  forwards: z.array(forwardSchema).default([]),
});

/** What is different in one fork, and how long its start may take. */
export interface ForkOptions extends z.input<typeof forkSchema>, WaitOptions {
  /** the private networks that the description names; forks have one address, so each needs its own */
  readonly networks?: Readonly<Record<string, Network>> | undefined;
  /** the disks of type `device`, as many as the description names: each fork needs its own */
  readonly devices?: Readonly<Record<string, BlockDevice>> | undefined;
  /** called with every chunk a console writes, from the first byte on; must not keep or change it */
  readonly onConsole?: ((name: string, chunk: Uint8Array) => void) | undefined;
}

/**
 * A machine that stands still and can be continued any number of times, side by side.
 *
 * Forks share the template's memory until they write to it, and its disks below overlays of their own. Whatever the
 * guest remembers, its forks have in common: its clock stands at the time of the template, and its random number
 * generator is in the same state.
 */
export interface Template extends AsyncDisposable {
  /** the machine that it was made of */
  readonly description: ResolvedMachine;
  /**
   * Continues the machine as a new one.
   *
   * @param options - `timeoutMs` bounds the start alone, default {@link DEFAULT_START_TIMEOUT_MS}; `signal` also ends
   *   the running fork.
   * @returns A running machine, without anything its consoles said before.
   * @throws {QemuError} `QEMU_BAD_OPTIONS`, `QEMU_START_FAILED`, `QEMU_START_TIMEOUT`, `QEMU_CLOSED` when the template
   *   was closed, `QEMU_ABORTED`.
   * @example
   * await using fork = await template.fork();
   */
  readonly fork: (options?: ForkOptions) => Promise<Machine>;
  /**
   * Keeps the template as a directory, from which {@link openSnapshot} makes it again in any process: memory, what was
   * written to disks, and the state of the devices, a TPM's with its keys among them. Whoever can read it can read
   * whatever the guest had in mind; only its owner can. It is complete or not there at all.
   *
   * @param path - Directory to make; nothing may be there yet.
   * @param options - Signal that calls it off.
   * @throws {QemuError} `QEMU_SNAPSHOT_SECRET` for a machine with credentials, which are in its memory;
   *   `QEMU_BAD_OPTIONS` for one with disks of type `device`; `QEMU_FILE`, `QEMU_CLOSED`, `QEMU_ABORTED`.
   * @example
   * await template.save("snapshots/logged-in");
   */
  readonly save: (path: string, options?: SaveOptions) => Promise<void>;
  /**
   * Lets other processes of this user open it with {@link openSnapshot}, for as long as it is open in this one: a directory
   * that says what this process has open. Nothing is copied.
   *
   * @param path - Where nothing is yet; whoever calls this removes it.
   * @throws As {@link Template.save}.
   * @example
   * await template.share("/run/user/1000/forks/1");
   */
  readonly share: (path: string, options?: SaveOptions) => Promise<void>;
  /** Frees its memory and disks as soon as no fork uses them any more. Idempotent. */
  readonly close: () => Promise<void>;
}

/** How a template is kept. */
export type SaveOptions = Pick<WaitOptions, "signal">;

/** Everything a template consists of. */
interface Parts {
  readonly machine: ResolvedMachine;
  readonly files: MachineFiles;
  /** descriptor of the state of the devices */
  readonly state: number;
  readonly save: (path: string, options: SaveOptions) => Promise<void>;
  readonly share: (path: string, options: SaveOptions) => Promise<void>;
  readonly start: (forwards: z.output<typeof forkSchema>["forwards"], options: ForkOptions) => Promise<Machine>;
}

/** The only implementation of {@link Template}; owns the descriptors of its files. */
export class MachineTemplate implements Template {
  readonly #parts: Parts;
  readonly #using = new Set<Promise<unknown>>();
  #closed = false;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  get description(): ResolvedMachine {
    return this.#parts.machine;
  }

  async fork({ forwards, ...options }: ForkOptions = {}): Promise<Machine> {
    const { networks } = this.#parts.machine;
    const parsed = parseOptions("fork", forkSchema, { forwards });
    if (parsed.forwards.length > 0 && !networks.some(({ type }) => type === "user")) {
      const message = "expected no forwards in a fork of a machine without a network of type user";
      throw new QemuError("QEMU_BAD_OPTIONS", message, { issues: [{ path: "forwards", message }] });
    }
    return this.#use(() => this.#parts.start(parsed.forwards, options));
  }

  async save(path: string, options: SaveOptions = {}): Promise<void> {
    await this.#use(() => this.#parts.save(path, options));
  }

  async share(path: string, options: SaveOptions = {}): Promise<void> {
    await this.#use(() => this.#parts.share(path, options));
  }

  /** Does something with the files, which stay open until it is done. */
  async #use<T>(run: () => Promise<T>): Promise<T> {
    const { name } = this.#parts.machine;
    if (this.#closed) throw new QemuError("QEMU_CLOSED", `expected a template of ${name}, got one that was closed`);
    const done = run();
    this.#using.add(done);
    return done.finally(() => this.#using.delete(done));
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    // A fork that is being started still opens what stands behind the descriptors.
    await Promise.allSettled(this.#using);
    closeAll([...descriptorsOf(this.#parts.files), this.#parts.state]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
