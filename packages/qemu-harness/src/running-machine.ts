import { closeSync } from "node:fs";
import { Duplex } from "node:stream";
import { finished } from "node:stream/promises";
import type { Accelerator } from "./accelerator.ts";
import { GuestAgent } from "./agent/agent.ts";
import type { MachineFds } from "./argv.ts";
import type { NodeDisk } from "./block/node-disk.ts";
import { type PowerCutOptions, powerCutSchema } from "./block/power-cut.ts";
import { advanceClock, type Duration, parseDuration } from "./clock.ts";
import { type ConsoleStream, SerialConsole } from "./console.ts";
import { QemuError, type QemuErrorDetails } from "./errors.ts";
import { type Forward, Forwarder, type ForwardRequest } from "./forward.ts";
import { type GdbOptions, type GdbServer, GdbServers } from "./gdb-server.ts";
import { type Child, killChild } from "./internal/child.ts";
import { ignoreClosed } from "./internal/ignore-closed.ts";
import { saveState } from "./internal/migration.ts";
import { openUnnamedFile } from "./internal/unnamed-file.ts";
import { endsWithin, startWait, type WaitOptions } from "./internal/wait.ts";
import { isDirect, parseOptions, type ResolvedMachine } from "./machine.ts";
import type { QmpClient } from "./qmp.ts";
import { textReader } from "./screen/read-text.ts";
import { MachineScreen, type Screen } from "./screen/screen.ts";
import type { Template } from "./template.ts";
import type { TimelineRecorder } from "./timeline/recorder.ts";
import { buildTimeline, type Timeline } from "./timeline/timeline.ts";

/** How a machine ended. */
export interface MachineExit {
  /** QEMU's exit code, absent when a signal ended it */
  readonly exitCode?: number | undefined;
  /** signal that ended QEMU */
  readonly signal?: string | undefined;
  /**
   * why the guest stopped, as QEMU's SHUTDOWN event says: `guest-shutdown` (powered off), `guest-reset` (rebooted),
   * `guest-panic`, `host-qmp-quit`, …; `power-cut` after {@link Machine.cutPower}; absent when QEMU was killed
   */
  readonly reason?: string | undefined;
}

/** A running machine. */
export interface Machine extends AsyncDisposable {
  /** the description with every default filled in */
  readonly description: ResolvedMachine;
  /** how guest code is run, and why */
  readonly accelerator: Accelerator;
  /** process id of QEMU */
  readonly pid: number;
  /** process id of the TPM emulator */
  readonly tpmPid: number | undefined;
  /** copy-pasteable command line; its descriptors are this process's */
  readonly commandLine: string;
  /** control connection */
  readonly qmp: QmpClient;
  /** first console */
  readonly serial: SerialConsole;
  /**
   * Console of a name.
   *
   * @throws {TypeError} When the description has none of that name.
   */
  readonly console: (name: string) => SerialConsole;
  /**
   * Connection of a console of type `port` or `virtio`, for programs that talk to a program in the guest. Its
   * {@link SerialConsole} sees nothing more of it.
   *
   * @throws {TypeError} When the description has no such console of that name.
   */
  readonly port: (name: string) => Duplex;
  /**
   * The agent that runs programs in the guest.
   *
   * @throws {TypeError} When the description has none.
   */
  readonly agent: GuestAgent;
  /**
   * Display, keyboard and mouse.
   *
   * @throws {TypeError} When the description has none.
   */
  readonly screen: Screen;
  /**
   * Opens a port of the host that leads into the machine, whose user network may be isolated.
   *
   * @param request - Port of the guest; of the host a free one unless it is given.
   * @throws {QemuError} `QEMU_FORWARD_FAILED` when the port is taken, `QEMU_BAD_OPTIONS`, `QEMU_QMP_CLOSED`.
   * @example
   * const { hostPort } = await machine.forward({ guestPort: 22 });
   */
  readonly forward: (request: ForwardRequest) => Promise<Forward>;
  /**
   * Opens a port for gdb, which stops the machine when it connects: `gdb vmlinux -ex "target remote 127.0.0.1:PORT"`.
   * Whoever can connect to ports of this host can read and change everything in the machine while it is open.
   *
   * @param options - Port of the host, default a free one.
   * @throws {QemuError} `QEMU_BAD_OPTIONS` when there is one already, `QEMU_FORWARD_FAILED` for a port that is taken.
   * @example
   * await using gdb = await machine.gdb();
   * console.log(`target remote ${gdb.host}:${gdb.port}`);
   */
  readonly gdb: (options?: GdbOptions) => Promise<GdbServer>;
  /**
   * Waits for the machine to end by itself.
   *
   * @throws {QemuError} `QEMU_EXIT_TIMEOUT`, `QEMU_ABORTED`.
   */
  readonly waitForExit: (options?: WaitOptions) => Promise<MachineExit>;
  /**
   * Presses the power button and waits for the guest to power itself off.
   *
   * @param options - Limit, default 60 s, and signal.
   * @throws {QemuError} `QEMU_EXIT_TIMEOUT` when the guest does not react, `QEMU_ABORTED`.
   */
  readonly powerdown: (options?: WaitOptions) => Promise<MachineExit>;
  /** Ends the machine at once, as pulling the plug does, but with every write of the guest in its image files. */
  readonly quit: () => Promise<MachineExit>;
  /**
   * Ends the machine at once, as pulling the plug does. Disks of type `device` are then what a power cut leaves of them,
   * and what the next machine begins with; disks that are files keep what the guest wrote.
   *
   * @param options - What happens to writes that the guest has not flushed, default `lost`.
   * @throws {QemuError} `QEMU_BAD_OPTIONS`, `QEMU_STUCK`.
   * @example
   * await machine.cutPower({ writeCache: "reordered" });
   */
  readonly cutPower: (options?: PowerCutOptions) => Promise<MachineExit>;
  /**
   * Kills QEMU.
   *
   * @throws {QemuError} `QEMU_STUCK` when the kernel does not let go of the process within 5 s.
   */
  readonly kill: () => Promise<MachineExit>;
  /**
   * Stops the machine, keeps what it is as a template, and ends it. The machine has to have been started as `forkable`.
   *
   * @param options - Limit, default 60 s, and signal.
   * @returns A template that holds the machine's memory and disks until it is closed.
   * @throws {QemuError} `QEMU_NOT_FORKABLE`, `QEMU_TEMPLATE_FAILED` with QEMU's reason, after which the machine runs on;
   *   `QEMU_QMP_TIMEOUT`, `QEMU_ABORTED`.
   * @example
   * await using template = await machine.template();
   */
  readonly template: (options?: WaitOptions) => Promise<Template>;
  /**
   * Keeps what the machine is as a template, and lets it go on: it stands still for as long as its memory takes to be
   * copied. Unlike {@link Machine.template} also for forks, as long as no disk of theirs is thrown away.
   *
   * @param options - Limit, default 60 s, and signal.
   * @throws {QemuError} As {@link Machine.template}; the machine runs on then, too.
   * @example
   * await using checkpoint = await machine.checkpoint();
   */
  readonly checkpoint: (options?: WaitOptions) => Promise<Template>;
  /**
   * Lets time pass in a guest with a virtual clock, as fast as it can: a guest that waits goes from one of its timers to
   * the next. It runs on then, so more time passes until something else is done with it.
   *
   * @param duration - Such as `90s`, `15m`, `24h` or `7d`, rounded up to an even number of seconds.
   * @param options - Limit, default 10 min, and signal.
   * @throws {TypeError} When the description has no virtual clock.
   * @throws {QemuError} `QEMU_BAD_OPTIONS`, `QEMU_QMP_TIMEOUT`, `QEMU_QMP_CLOSED` when the machine ends, `QEMU_ABORTED`.
   * @example
   * await machine.advance("24h");
   */
  readonly advance: (duration: Duration, options?: WaitOptions) => Promise<void>;
  /**
   * Where the time went since QEMU was started: phases of the boot, as far as consoles tell, and the longest silences.
   * All times are those at which something arrived in this process.
   *
   * @example
   * await writeFile("boot.svg", renderTimelineSvg(machine.timeline()));
   */
  readonly timeline: () => Timeline;
  /** Ends whatever still runs; the same as {@link Machine.quit}. Idempotent. */
  readonly close: () => Promise<void>;
}

/** What a machine needs to become a template. */
export interface Forkable {
  /** makes the template, which then owns the files; absent for forks, whose files are those of their template */
  readonly toTemplate: ((state: number, firstStream: number) => Template) | undefined;
  /** makes a template out of copies of all files, while QEMU, whose process id is given, stands still */
  readonly copy: (pid: number, state: number, firstStream: number, signal?: AbortSignal) => Promise<Template>;
  /** closes the files of a machine that ended without becoming one */
  readonly close: () => void;
}

interface Parts {
  readonly machine: ResolvedMachine;
  readonly accelerator: Accelerator;
  readonly child: Child;
  readonly swtpm: Child | undefined;
  readonly fds: MachineFds;
  /** its consoles that are pipes, by name */
  readonly pipes: ReadonlyMap<string, ConsoleStream> | undefined;
  /** its disks of type `device` */
  readonly devices: readonly NodeDisk[];
  /** file for pictures of the display, present when there is one */
  readonly screenFile: number | undefined;
  /** what has happened since QEMU was started */
  readonly recorder: TimelineRecorder;
  /** present for a machine that is forkable */
  readonly forkable: Forkable | undefined;
  /** the first number that a stream of the agent may have */
  readonly firstStream: number;
  readonly options: {
    readonly env?: Readonly<Record<string, string | undefined>> | undefined;
    readonly signal?: AbortSignal | undefined;
    readonly onConsole?: ((name: string, chunk: Uint8Array) => void) | undefined;
  };
}

const POWER_CUT = "power-cut";
/** How long after the end of QEMU a pipe may stay open, for example because a descendant holds it. */
const DRAIN_TIMEOUT_MS = 2000;
const QUIT_TIMEOUT_MS = 5000;
const KILL_TIMEOUT_MS = 5000;
const DEFAULT_POWERDOWN_TIMEOUT_MS = 60_000;
const DEFAULT_TEMPLATE_TIMEOUT_MS = 60_000;

/** The only implementation of {@link Machine}. */
export class RunningMachine implements Machine {
  readonly #parts: Parts;
  readonly #consoles: readonly SerialConsole[];
  readonly #agent: GuestAgent | undefined;
  readonly #screen: MachineScreen | undefined;
  readonly #exit: Promise<MachineExit>;
  #qmp: QmpClient | undefined;
  #forwarder: Forwarder | undefined;
  #gdbServers: GdbServers | undefined;
  #reason: string | undefined;
  #closing = false;
  #advancing: Promise<void> = Promise.resolve();
  #advances = 0;
  #isTemplate = false;
  /** the last thing that stops the machine, for the next one to wait for */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(parts: Parts) {
    this.#parts = parts;
    const { child, machine, options } = parts;
    this.#consoles = machine.consoles.map((item, index) => {
      const serial = new SerialConsole(parts.pipes?.get(item.name) ?? this.#portStream(index), {
        name: item.name,
        commandLine: child.commandLine,
        onText: item.type === "port" ? undefined : (text) => parts.recorder.text(item.name, text),
      });
      if (options.onConsole !== undefined) serial.onOutput((chunk) => options.onConsole?.(item.name, chunk));
      return serial;
    });
    if (parts.fds.agent !== undefined) {
      const { commandLine } = child;
      const onHello = (): void => parts.recorder.mark("agent", "agent", "the agent answers");
      this.#agent = new GuestAgent(child.pipe(parts.fds.agent), {
        ...{ commandLine, firstStream: parts.firstStream, onHello },
      });
    }
    if (parts.screenFile !== undefined) {
      this.#screen = new MachineScreen({
        qmp: () => this.qmp,
        file: parts.screenFile,
        fileName: `/dev/fd/${parts.fds.screen}`,
        readText: textReader(options.env ?? process.env),
      });
    }
    const abort = (): void => void this.kill().catch(() => {});
    options.signal?.addEventListener("abort", abort, { once: true });
    this.#exit = child.ended.then(async (status) => {
      options.signal?.removeEventListener("abort", abort);
      if (!this.#isTemplate) parts.forkable?.close();
      await this.#drainPipes();
      const end = (details: QemuErrorDetails): QemuError => this.#endError(details);
      for (const serial of this.#consoles) serial.end(end);
      this.#agent?.end(end);
      this.#screen?.close();
      // The emulator ends with its control connection, which ended with QEMU.
      if (parts.swtpm !== undefined && !(await endsWithin(parts.swtpm.ended, QUIT_TIMEOUT_MS))) {
        await killChild(parts.swtpm, KILL_TIMEOUT_MS);
      }
      return { ...status, reason: this.#reason };
    });
  }

  /** Gives the machine its control connection. */
  attach(qmp: QmpClient): void {
    this.#qmp = qmp;
    this.#parts.recorder.mark("qemu", "qemu", "QEMU answers");
    void this.#recordEvents(qmp);
    qmp.once("SHUTDOWN").then(
      ({ data }) => {
        this.#reason ??= typeof data.reason === "string" ? data.reason : undefined;
      },
      () => {},
    );
  }

  get description(): ResolvedMachine {
    return this.#parts.machine;
  }

  get accelerator(): Accelerator {
    return this.#parts.accelerator;
  }

  get pid(): number {
    return this.#parts.child.pid;
  }

  get tpmPid(): number | undefined {
    return this.#parts.swtpm?.pid;
  }

  get commandLine(): string {
    return this.#parts.child.commandLine;
  }

  get qmp(): QmpClient {
    if (this.#qmp === undefined) throw new Error("bug: a machine is only handed out with its control connection");
    return this.#qmp;
  }

  get serial(): SerialConsole {
    const [first] = this.#consoles;
    if (first === undefined) throw new Error("bug: the schema asks for at least one console");
    return first;
  }

  console(name: string): SerialConsole {
    const found = this.#consoles.find((item) => item.name === name);
    const names = this.#consoles.map((item) => item.name).join(", ");
    if (found === undefined)
      throw new TypeError(`expected the name of a console (${names}), got ${JSON.stringify(name)}`);
    return found;
  }

  port(name: string): Duplex {
    const found = this.#parts.machine.consoles.find((item) => item.name === name);
    if (found === undefined || found.type === "serial") {
      throw new TypeError(`expected the name of a console of type port or virtio, got ${JSON.stringify(name)}`);
    }
    this.console(name).release();
    const pipes = this.#parts.pipes?.get(name);
    if (pipes !== undefined) return Duplex.from({ readable: pipes.output, writable: pipes.input });
    return this.#portStream(this.#parts.machine.consoles.indexOf(found)).output;
  }

  get agent(): GuestAgent {
    if (this.#agent === undefined) throw new TypeError("expected a machine with an agent: true in its description");
    return this.#agent;
  }

  get screen(): Screen {
    if (this.#screen === undefined) throw new TypeError("expected a machine with graphics: {} in its description");
    return this.#screen;
  }

  async forward(request: ForwardRequest): Promise<Forward> {
    this.#forwarder ??= new Forwarder(this.qmp, this.#parts.machine);
    return this.#forwarder.open(request);
  }

  async gdb(options: GdbOptions = {}): Promise<GdbServer> {
    this.#gdbServers ??= new GdbServers(this.qmp);
    return this.#gdbServers.open(options);
  }

  async waitForExit(options: WaitOptions = {}): Promise<MachineExit> {
    const { timeoutMs } = options;
    const wait = startWait<MachineExit>(options, () => {
      return new QemuError("QEMU_EXIT_TIMEOUT", `expected the machine to end within ${timeoutMs} ms, got none`, {
        timeoutMs,
        waitedFor: "the machine's end",
        consoleTail: this.serial.tail(),
        commandLine: this.commandLine,
      });
    });
    void this.#exit.then(wait.resolve);
    return wait.promise;
  }

  async powerdown(options: WaitOptions = {}): Promise<MachineExit> {
    const timeoutMs = options.timeoutMs ?? DEFAULT_POWERDOWN_TIMEOUT_MS;
    await this.qmp.execute("system_powerdown", {}, { timeoutMs, signal: options.signal }).catch(ignoreClosed);
    return this.waitForExit({ timeoutMs, signal: options.signal });
  }

  async quit(): Promise<MachineExit> {
    this.#closing = true;
    await this.#qmp?.execute("quit", {}, { timeoutMs: QUIT_TIMEOUT_MS }).catch(() => {});
    if (await endsWithin(this.#parts.child.ended, QUIT_TIMEOUT_MS)) return this.#exit;
    return this.kill();
  }

  async cutPower(options: PowerCutOptions = {}): Promise<MachineExit> {
    // All at the same moment, and nothing before it is clear that all can.
    const settings = parseOptions("power cut", powerCutSchema, options);
    for (const disk of this.#parts.devices) disk.losePower(settings);
    this.#reason = POWER_CUT;
    return this.kill();
  }

  async kill(): Promise<MachineExit> {
    this.#closing = true;
    if (await killChild(this.#parts.child, KILL_TIMEOUT_MS)) return this.#exit;
    const { swtpm } = this.#parts;
    if (swtpm !== undefined) await killChild(swtpm, KILL_TIMEOUT_MS);
    throw new QemuError(
      "QEMU_STUCK",
      `expected process ${this.pid} to end after SIGKILL, got none within ${KILL_TIMEOUT_MS} ms`,
      {
        commandLine: this.commandLine,
        hint: "the kernel holds it; it ends when the kernel lets go",
      },
    );
  }

  async template(options: WaitOptions = {}): Promise<Template> {
    const { toTemplate } = this.#forkable(this.#parts.forkable?.toTemplate === undefined);
    if (toTemplate === undefined) throw new Error("bug: a forkable machine without a template");
    return this.#alone(async () => {
      const { value } = await this.#stopped(options, async (state) => {
        this.#isTemplate = true;
        return () => toTemplate(state, this.#agent?.nextStream ?? 0);
      });
      await this.quit();
      return value();
    });
  }

  async checkpoint(options: WaitOptions = {}): Promise<Template> {
    const { copy } = this.#forkable(this.#parts.forkable === undefined);
    return this.#alone(async () => {
      const { value: template, resume } = await this.#stopped(options, (state) =>
        copy(this.pid, state, this.#agent?.nextStream ?? 0, options.signal),
      );
      try {
        await resume();
      } catch (error) {
        await template.close();
        throw error;
      }
      // Its clock has stood still.
      this.#agent?.awaken();
      return template;
    });
  }

  /** Does one thing that stops the machine after the other. */
  async #alone<T>(run: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(run);
    this.#turn = turn.catch(() => {});
    return turn;
  }

  #forkable(isMissing: boolean): Forkable {
    const { forkable, machine } = this.#parts;
    if (!isMissing && forkable !== undefined) return forkable;
    throw new QemuError("QEMU_NOT_FORKABLE", `expected a forkable machine, got ${machine.name}`, {
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
    const limits = { timeoutMs: timeoutMs ?? DEFAULT_TEMPLATE_TIMEOUT_MS, signal };
    const { running } = await this.qmp.execute("query-status", {}, limits);
    const resume = async (): Promise<void> => {
      if (running) await this.qmp.execute("cont");
    };
    const state = openUnnamedFile();
    try {
      await this.qmp.execute("stop", {}, limits);
      await saveState(this.qmp, state, limits);
      return { value: await use(state), resume };
    } catch (error) {
      closeSync(state);
      await resume().catch(() => {});
      throw error;
    }
  }

  async advance(duration: Duration, options: WaitOptions = {}): Promise<void> {
    const seconds = parseDuration(duration);
    if (this.#parts.machine.clock.type === "host") {
      throw new TypeError('expected a machine with a clock of type "virtual" in its description');
    }
    this.#advances += 1;
    // There is one watchdog.
    const turn = this.#advancing.then(() => advanceClock(this.qmp, seconds, options));
    this.#advancing = turn
      .catch(() => {})
      .finally(() => {
        this.#advances -= 1;
      });
    return turn;
  }

  timeline(): Timeline {
    const { machine, fds, recorder } = this.#parts;
    const { marks, omitted } = recorder.read();
    const isFork = fds.files?.state !== undefined;
    const start = isFork ? "template" : isDirect(machine.boot) ? "kernel" : "firmware";
    return buildTimeline(marks, { machine: machine.name, start, realTime: machine.clock.type === "host", omitted });
  }

  async close(): Promise<void> {
    await this.quit();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #recordEvents(qmp: QmpClient): Promise<void> {
    const { recorder } = this.#parts;
    for await (const { event } of qmp.events()) {
      // What comes of closing it is no part of what the machine does.
      if (!this.#closing && this.#advances === 0) recorder.mark("event", event, event);
    }
  }

  #portStream(index: number): { readonly input: Duplex; readonly output: Duplex } {
    const socket = this.#parts.child.pipe(this.#parts.fds.ports?.[index] ?? 0);
    return { input: socket, output: socket };
  }

  /** Reads what the guest wrote last. */
  async #drainPipes(): Promise<void> {
    const streams = [...(this.#parts.pipes?.values() ?? [])];
    const drained = streams.map(({ output }) => finished(output, { writable: false }).catch(() => {}));
    await endsWithin(Promise.all(drained), DRAIN_TIMEOUT_MS);
    for (const { input, output } of streams) {
      input.destroy();
      output.destroy();
    }
  }

  #endError(details: QemuErrorDetails): QemuError {
    const { child } = this.#parts;
    const waitedFor = details.waitedFor ?? "more text";
    const facts = { ...details, ...child.status, stderrTail: child.stderrTail() };
    if (this.#reason === POWER_CUT)
      return new QemuError("QEMU_EXITED", `expected ${waitedFor}, got a power cut`, facts);
    if (this.#closing)
      return new QemuError("QEMU_CLOSED", `expected ${waitedFor}, got a machine that was closed`, facts);
    const how = child.status?.signal ?? `exit code ${child.status?.exitCode}`;
    const reason = this.#reason === undefined ? "" : ` (${this.#reason})`;
    const message = facts.stderrTail === "" ? "" : `: ${facts.stderrTail}`;
    return new QemuError(
      "QEMU_EXITED",
      `expected ${waitedFor}, got the machine's end with ${how}${reason}${message}`,
      facts,
    );
  }
}
