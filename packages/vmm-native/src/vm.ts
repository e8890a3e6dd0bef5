import { QemuError, SerialConsole } from "@leveret/qemu-harness";
import type { ControlConnection } from "./control/connection.ts";
import { ConsoleStream } from "./control/console-stream.ts";
import { ANSWER, MAX_PAYLOAD_BYTES, REQUEST } from "./control/frames.ts";
import { VmmError } from "./errors.ts";
import { type ExitCounts, type GuestStop, parseExits, parseStop } from "./internal/events.ts";
import { loadGuest, numbers, readNumbers, writeMemory } from "./load-guest.ts";
import type { ResolvedVm, VmDevices } from "./options.ts";
import { type SavedGuest, saveGuest } from "./saved-guest.ts";

/** How long a wait lasts unless told otherwise, in `milliseconds`. */
const DEFAULT_WAIT_TIMEOUT_MS = 120_000;

/** Names of what {@link Vm.registers} returns, in the order in which the hypervisor says them. */
const REGISTERS = [
  ...(["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"] as const),
  ...(["r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"] as const),
  ...(["rip", "rflags", "cr0", "cr2", "cr3", "cr4", "efer"] as const),
] as const;

/** Registers of a virtual processor. */
export type VmRegisters = Readonly<Record<(typeof REGISTERS)[number], bigint>>;

/** A guest's memory, by guest physical addresses. */
export interface VmMemory {
  /** @throws {VmmError} `VMM_REFUSED` when not all of it is memory. */
  readonly read: (address: bigint, lengthBytes: number) => Promise<Uint8Array>;
  /** @throws {VmmError} `VMM_REFUSED` when not all of it is memory; a part may have been written then. */
  readonly write: (address: bigint, bytes: Uint8Array) => Promise<void>;
}

/** How {@link Vm.waitForStop} waits. */
export interface StopOptions {
  /** limit in `milliseconds`, default 120 s */
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * A guest of a hypervisor. Everything fails with `VMM_REFUSED` when the hypervisor refuses it, and with what ended the
 * hypervisor once that has ended.
 */
export interface Vm extends AsyncDisposable {
  /** the description with every default filled in */
  readonly description: ResolvedVm;
  /** its first serial port, `ttyS0` in Linux */
  readonly console: SerialConsole;
  /** its virtio console, `hvc0` in Linux */
  readonly virtioConsole: SerialConsole;
  readonly memory: VmMemory;
  /** how long the hypervisor took to make it out of another guest, in `microseconds`; undefined unless it is a fork */
  readonly forkedInUs: number | undefined;
  /** Lets it run, for the first time or again. */
  readonly run: () => Promise<void>;
  /** Lets it stand still. Its clock goes on. */
  readonly pause: () => Promise<void>;
  /** Begins again with the same kernel: of a guest that has stopped, or is paused. Memory and disks are as it has left them. */
  readonly restart: () => Promise<void>;
  /**
   * Saves it with its memory to a file that {@link Hypervisor.restore} continues from; one that runs stands still meanwhile. What
   * is on its disks is not saved, and neither is what has been typed and not been read.
   *
   * @throws {VmmError} `VMM_UNWRITABLE`; `VMM_REFUSED` when it has stopped.
   */
  readonly save: (path: string) => Promise<void>;
  /**
   * Makes another guest that goes on where this one is, which may run meanwhile. Both have the same pages until one of them writes
   * to one, so it takes no memory but for that, and 2 MiB. It does not run yet; its consoles begin empty.
   *
   * @param devices - Disks and networks of the hypervisor for it, as many as this one has; the disks have to hold the same.
   * @throws {VmmError} `VMM_REFUSED` when there is no room for it, its devices are not like those of this one, or this one has
   *   stopped.
   */
  readonly fork: (devices?: VmDevices) => Promise<Vm>;
  /** Registers of one of its processors, the first unless given, as they were when it exited last. */
  readonly registers: (processor?: number) => Promise<VmRegisters>;
  /** Sends a processor an interrupt: 16 to 255, or 2 for the non-maskable one. */
  readonly inject: (processor: number, vector: number) => Promise<void>;
  /** How often it has exited, by the names of the AMD64 Architecture Programmer's Manual without `VMEXIT_`. */
  readonly exits: () => Promise<ExitCounts>;
  /**
   * Waits for it to stop.
   *
   * @returns Why it stopped, and what it exited for.
   * @throws {VmmError} `VMM_TIMEOUT`, `VMM_PANICKED` when the hypervisor itself ended.
   * @throws {QemuError} `QEMU_ABORTED`, `QEMU_EXITED` when QEMU ended.
   */
  readonly waitForStop: (options?: StopOptions) => Promise<GuestStop>;
  /** Forgets it; its memory is another guest's then. Idempotent. */
  readonly destroy: () => Promise<void>;
}

/** What a guest needs of whoever makes guests. */
export interface VmContext {
  readonly commandLine: string;
  readonly onDestroyed: () => void;
  /** Makes a fork of it. */
  readonly fork: (vm: ControlledVm, devices: VmDevices) => Promise<ControlledVm>;
}

interface Waiter {
  readonly resolve: (stop: GuestStop) => void;
  readonly reject: (error: unknown) => void;
}

/** A guest, from the moment that the hypervisor has made it. */
export class ControlledVm implements Vm {
  readonly description: ResolvedVm;
  readonly console: SerialConsole;
  readonly virtioConsole: SerialConsole;
  readonly memory: VmMemory;
  forkedInUs: number | undefined;
  readonly #connection: ControlConnection;
  readonly #number: number;
  readonly #context: VmContext;
  readonly #streams: readonly ConsoleStream[];
  readonly #waiters = new Set<Waiter>();
  #resets = 0;
  #runs = false;
  #stop: GuestStop | undefined;
  #failure: { readonly error: unknown } | undefined;
  #destroyed: Promise<void> | undefined;

  constructor(connection: ControlConnection, number: number, description: ResolvedVm, context: VmContext) {
    this.description = description;
    this.#connection = connection;
    this.#number = number;
    this.#context = context;
    const [serial, virtio] = [0, 1].map((index) => new ConsoleStream(connection, number, index)) as [
      ConsoleStream,
      ConsoleStream,
    ];
    this.#streams = [serial, virtio];
    const { commandLine } = context;
    this.console = new SerialConsole({ input: serial, output: serial }, { name: `guest${number}`, commandLine });
    this.virtioConsole = new SerialConsole(
      { input: virtio, output: virtio },
      { name: `guest${number}-virtio`, commandLine },
    );
    this.memory = {
      read: async (address, lengthBytes) => this.#read(address, lengthBytes),
      write: async (address, bytes) => writeMemory(connection, number, address, bytes),
    };
    connection.listen(number, (kind, payload) => this.#onEvent(kind, payload));
  }

  async run(): Promise<void> {
    await this.#request(REQUEST.run);
    this.#runs = true;
  }

  async pause(): Promise<void> {
    await this.#request(REQUEST.pause);
    this.#runs = false;
  }

  async restart(): Promise<void> {
    await this.#request(REQUEST.reset);
    await this.load();
    this.#stop = undefined;
    this.#resets += 1;
    await this.run();
  }

  async save(path: string): Promise<void> {
    const ran = this.#runs;
    await this.pause();
    try {
      await saveGuest(this.#connection, this.#number, this.description, path);
    } catch (error) {
      // Why it could not be saved matters more than why it does not go on.
      if (ran) await this.run().catch(() => {});
      throw error;
    }
    if (ran) await this.run();
  }

  fork(devices: VmDevices = {}): Promise<ControlledVm> {
    return this.#context.fork(this, devices);
  }

  /** Makes a guest of another number out of it; returns how many microseconds that took. */
  async forkTo(number: number, devices: Uint8Array): Promise<number> {
    const [nanoseconds = 0n] = readNumbers(await this.#request(REQUEST.fork, Uint8Array.of(number), devices));
    return Number(nanoseconds) / 1000;
  }

  /** Makes it, which has just been made, the one that was saved. */
  async restore(saved: SavedGuest): Promise<void> {
    for await (const { address, bytes } of saved.memory())
      await writeMemory(this.#connection, this.#number, address, bytes);
    await this.#request(REQUEST.restore, saved.state);
  }

  /** Puts what it begins with into its memory. */
  async load(): Promise<void> {
    await loadGuest(this.#connection, this.#number, this.description);
  }

  async registers(processor = 0): Promise<VmRegisters> {
    const values = readNumbers(await this.#request(REQUEST.registers, Uint8Array.of(processor)));
    return Object.fromEntries(REGISTERS.map((name, index) => [name, values[index] ?? 0n])) as VmRegisters;
  }

  async inject(processor: number, vector: number): Promise<void> {
    await this.#request(REQUEST.inject, Uint8Array.of(processor, vector));
  }

  async exits(): Promise<ExitCounts> {
    return parseExits(Buffer.from(await this.#request(REQUEST.exits)).toString());
  }

  async waitForStop(options: StopOptions = {}): Promise<GuestStop> {
    if (this.#stop !== undefined) return this.#stop;
    if (this.#failure !== undefined) throw this.#failure.error;
    const { timeoutMs = DEFAULT_WAIT_TIMEOUT_MS, signal } = options;
    const aborted = (): QemuError =>
      new QemuError("QEMU_ABORTED", "expected the guest to stop, got an abort", { cause: signal?.reason });
    if (signal?.aborted) throw aborted();
    const { promise, resolve, reject } = withResolvers<GuestStop>();
    const waiter = { resolve, reject };
    const onAbort = (): void => reject(aborted());
    const onTimeout = (): void =>
      reject(new VmmError("VMM_TIMEOUT", `expected the guest to stop within ${timeoutMs} ms, got one that runs`));
    const timer = Number.isFinite(timeoutMs) ? setTimeout(onTimeout, timeoutMs) : undefined;
    this.#waiters.add(waiter);
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#waiters.delete(waiter);
      signal?.removeEventListener("abort", onAbort);
    }
  }

  destroy(): Promise<void> {
    this.#destroyed ??= this.#destroy();
    return this.#destroyed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.destroy();
  }

  /** The hypervisor has ended, or this guest has. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    for (const { reject } of this.#waiters) reject(error);
    const message = error instanceof Error ? error.message : String(error);
    for (const console of [this.console, this.virtioConsole])
      console.end((details) => new QemuError("QEMU_EXITED", message, { ...details, cause: error }));
  }

  async #destroy(): Promise<void> {
    if (this.#failure !== undefined) return;
    await this.#request(REQUEST.destroy);
    this.#connection.listen(this.#number, undefined);
    this.fail(new VmmError("VMM_REFUSED", "expected a guest, got one that has been destroyed"));
    this.#context.onDestroyed();
  }

  #request(kind: number, ...parts: readonly Uint8Array[]): Promise<Uint8Array> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure.error);
    return this.#connection.request(kind, this.#number, ...parts);
  }

  async #read(address: bigint, lengthBytes: number): Promise<Uint8Array> {
    const pieces: Promise<Uint8Array>[] = [];
    for (let at = 0; at < lengthBytes; at += MAX_PAYLOAD_BYTES) {
      const size = Uint32Array.of(Math.min(MAX_PAYLOAD_BYTES, lengthBytes - at));
      pieces.push(this.#request(REQUEST.read, numbers(address + BigInt(at)), new Uint8Array(size.buffer)));
    }
    return Uint8Array.from(Buffer.concat(await Promise.all(pieces)));
  }

  #onEvent(kind: number, payload: Uint8Array): void {
    if (kind === ANSWER.stopped) {
      void this.#onStop(parseStop(Buffer.from(payload).toString(), this.#resets));
      return;
    }
    const stream = this.#streams[payload[0] ?? 0];
    if (kind === ANSWER.output) stream?.receive(payload.subarray(1));
    else if (kind === ANSWER.taken) stream?.taken(Buffer.from(payload).readUInt32LE(1));
    else throw new VmmError("VMM_PROTOCOL", `expected a kind of event, got ${kind}`);
  }

  async #onStop(stop: GuestStop): Promise<void> {
    if (stop.reason === "reset" && this.description.onReset === "restart") {
      await this.restart().catch((error: unknown) => this.fail(error));
      return;
    }
    this.#stop = stop;
    this.#runs = false;
    for (const { resolve } of this.#waiters) resolve(stop);
  }
}

function withResolvers<T>() {
  let resolve = (_: T): void => {};
  let reject = (_: unknown): void => {};
  const promise = new Promise<T>((done, failed) => {
    [resolve, reject] = [done, failed];
  });
  return { promise, resolve, reject };
}
