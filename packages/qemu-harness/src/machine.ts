import type { Duplex } from "node:stream";
import type { Accelerator } from "./accelerator.ts";
import type { GuestAgent } from "./agent/agent.ts";
import type { PowerCutOptions } from "./block/power-cut.ts";
import type { Duration } from "./clock.ts";
import type { SerialConsole } from "./console.ts";
import type { ResolvedMachine } from "./description.ts";
import type { Forward, ForwardRequest } from "./forward.ts";
import type { GdbOptions, GdbServer } from "./gdb-server.ts";
import type { WaitOptions } from "./internal/wait.ts";
import type { QmpClient } from "./qmp.ts";
import type { Screen } from "./screen/screen.ts";
import type { Template } from "./template.ts";
import type { Timeline } from "./timeline/timeline.ts";

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
   * Sends the guest a non-maskable interrupt, as the button on a server's front does.
   *
   * @throws {QemuError} `QEMU_QMP_CLOSED` when the machine has ended.
   */
  readonly nmi: () => Promise<void>;
  /**
   * Takes a processor away while the machine runs, the last one first, and waits for the guest to give it up.
   *
   * @param options - Limit, default 60 s, and signal.
   * @throws {QemuError} `QEMU_UNSUPPORTED` in a microvm and for the only processor, `QEMU_UNPLUG_REFUSED` by the guest,
   *   `QEMU_QMP_TIMEOUT` when it does not answer, `QEMU_ABORTED`.
   * @example
   * await machine.unplugCpu();
   */
  readonly unplugCpu: (options?: WaitOptions) => Promise<void>;
  /**
   * Takes memory from the guest by its balloon driver, or gives it back, and waits until the guest has so much: memory
   * pressure, and the end of it.
   *
   * @param memoryMiB - What the guest is to have, in `MiB`, at most `memoryMiB` of the description.
   * @param options - Limit, default 60 s, and signal.
   * @throws {TypeError} When the description has no balloon.
   * @throws {QemuError} `QEMU_BAD_OPTIONS`, `QEMU_QMP_TIMEOUT` with what the guest has, `QEMU_ABORTED`.
   * @example
   * await machine.setMemory(96);
   */
  readonly setMemory: (memoryMiB: number, options?: WaitOptions) => Promise<void>;
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
