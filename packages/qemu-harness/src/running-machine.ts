import type { Duplex } from "node:stream";
import type { Accelerator } from "./accelerator.ts";
import { GuestAgent } from "./agent/agent.ts";
import type { MachineFds } from "./argv.ts";
import type { NodeDisk } from "./block/node-disk.ts";
import { type PowerCutOptions, powerCutSchema } from "./block/power-cut.ts";
import { type Duration, VirtualClock } from "./clock.ts";
import type { ConsoleStream, SerialConsole } from "./console.ts";
import { isDirect, parseOptions, type ResolvedMachine } from "./description.ts";
import { QemuError, type QemuErrorDetails } from "./errors.ts";
import { type Forward, Forwarder, type ForwardRequest } from "./forward.ts";
import { type GdbOptions, type GdbServer, GdbServers } from "./gdb-server.ts";
import { type Child, killChild } from "./internal/child.ts";
import { ignoreClosed } from "./internal/ignore-closed.ts";
import { endsWithin, startWait, type WaitOptions } from "./internal/wait.ts";
import type { Machine, MachineExit } from "./machine.ts";
import { MachineConsoles } from "./machine-consoles.ts";
import type { QmpClient } from "./qmp.ts";
import { textReader } from "./screen/read-text.ts";
import { MachineScreen, type Screen } from "./screen/screen.ts";
import { type Forkable, Standstill } from "./standstill.ts";
import { TakenAway } from "./taken-away.ts";
import type { Template } from "./template.ts";
import type { TimelineRecorder } from "./timeline/recorder.ts";
import { buildTimeline, type Timeline } from "./timeline/timeline.ts";

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
const QUIT_TIMEOUT_MS = 5000;
const KILL_TIMEOUT_MS = 5000;
const DEFAULT_POWERDOWN_TIMEOUT_MS = 60_000;

/** The only implementation of {@link Machine}. */
export class RunningMachine implements Machine {
  readonly #parts: Parts;
  readonly #consoles: MachineConsoles;
  readonly #agent: GuestAgent | undefined;
  readonly #screen: MachineScreen | undefined;
  readonly #exit: Promise<MachineExit>;
  #qmp: QmpClient | undefined;
  #clock: VirtualClock | undefined;
  #standstill: Standstill | undefined;
  #forwarder: Forwarder | undefined;
  #taken: TakenAway | undefined;
  #gdbServers: GdbServers | undefined;
  #reason: string | undefined;
  #closing = false;
  constructor(parts: Parts) {
    this.#parts = parts;
    const { child, machine, options } = parts;
    this.#consoles = new MachineConsoles({
      consoles: machine.consoles,
      commandLine: child.commandLine,
      pipes: parts.pipes,
      portSocket: (index) => child.pipe(parts.fds.ports?.[index] ?? 0),
      recorder: parts.recorder,
      onConsole: options.onConsole,
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
      if (this.#standstill?.isTemplate !== true) parts.forkable?.close();
      await this.#consoles.drain();
      const end = (details: QemuErrorDetails): QemuError => this.#endError(details);
      this.#consoles.end(end);
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
    return this.#consoles.first;
  }

  console(name: string): SerialConsole {
    return this.#consoles.get(name);
  }

  port(name: string): Duplex {
    return this.#consoles.port(name);
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

  async nmi(): Promise<void> {
    await this.qmp.execute("inject-nmi");
  }

  async unplugCpu(options: WaitOptions = {}): Promise<void> {
    await this.#resources().unplugCpu(options);
  }

  async setMemory(memoryMiB: number, options: WaitOptions = {}): Promise<void> {
    await this.#resources().setMemory(memoryMiB, options);
  }

  #resources(): TakenAway {
    this.#taken ??= new TakenAway(this.qmp, this.description);
    return this.#taken;
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
    return this.#still().template(options);
  }

  async checkpoint(options: WaitOptions = {}): Promise<Template> {
    return this.#still().checkpoint(options);
  }

  #still(): Standstill {
    this.#standstill ??= new Standstill({
      ...{ name: this.description.name, pid: this.pid, qmp: this.qmp, forkable: this.#parts.forkable },
      hasAllCpus: () => this.#taken?.hasAllCpus !== false,
      nextStream: () => this.#agent?.nextStream ?? 0,
      quit: () => this.quit(),
      awaken: () => this.#agent?.awaken(),
    });
    return this.#standstill;
  }

  async advance(duration: Duration, options: WaitOptions = {}): Promise<void> {
    this.#clock ??= new VirtualClock(this.qmp, this.description);
    return this.#clock.advance(duration, options);
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
      if (!this.#closing && this.#clock?.isAdvancing !== true) recorder.mark("event", event, event);
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
