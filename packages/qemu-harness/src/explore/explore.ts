import { mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import { handleSink, isZero } from "@leveret/block-source";
import * as z from "zod";
import {
  type BlockDevice,
  type BlockDeviceOptions,
  createBlockDevice,
  DEFAULT_MAX_WRITTEN_BYTES,
} from "../block/device.ts";
import { Layer } from "../block/layer.ts";
import { NodeDisk, publicRequest } from "../block/node-disk.ts";
import { isDirect, type MachineDescription, parseOptions, resolveMachine } from "../description.ts";
import { QemuError } from "../errors.ts";
import { assertNotAborted, startWait, type WaitOptions } from "../internal/wait.ts";
import type { Machine } from "../machine.ts";
import { seededRandom } from "../network/random.ts";
import { type StartOptions, startMachine } from "../start.ts";
import { Identities } from "./identity.ts";
import { type PowerCutFailure, type PowerCutReport, renderPowerCuts } from "./report.ts";
import { choosePoints, nameOf, type Point, type PowerCutState, pointsOf, stateAt, touchedSectors } from "./states.ts";

/** Most disks that are tried unless told otherwise. */
export const DEFAULT_MAX_POWER_CUTS = 200;
/** How long, in `milliseconds`, one check of an invariant may take. */
export const DEFAULT_INVARIANT_TIMEOUT_MS = 120_000;

/** Points that are looked at for each disk that may be tried: many leave the same disk. */
const POINTS_PER_TRY = 20;
const COPY_BYTES = 1024 * 1024;

const whole = (min: number, max: number): z.ZodNumber => z.number().int().min(min).max(max);

const settingsSchema = z.strictObject({
  /** decides which writes are torn, lost and out of order, and what is left out when there is too much */
  seed: whole(0, 0xffff_ffff).default(0),
  /** how each disk is tried: in a fork of a machine that has started but left the disk alone, or by starting a machine */
  restart: z.enum(["fork", "boot"]).optional(),
  /** most disks that are tried */
  maxStates: whole(1, 100_000).default(DEFAULT_MAX_POWER_CUTS),
  /** after how many failures it ends */
  maxFailures: whole(1, 1000).default(1),
  /** what the drive writes in one go, in `bytes` */
  sectorBytes: z.union([z.literal(512), z.literal(4096)]).default(512),
  /** how many ways of tearing each write are tried */
  tornPerWrite: whole(0, 100).default(1),
  /** how many random choices of the writes before each flush are tried */
  reorderedPerFlush: whole(0, 1000).default(4),
  /** only these points, by the names that a report gives them */
  only: z.array(z.string()).optional(),
  /** directory for images of disks that an invariant does not hold for, default none */
  saveTo: z.string().min(1).optional(),
});

/** How {@link explorePowerCuts} explores. */
export interface ExploreOptions extends z.input<typeof settingsSchema>, WaitOptions {
  /** the machine; one of its disks has the type `device`, and is the one that is explored */
  readonly machine: MachineDescription;
  /** what that disk holds at first */
  readonly disk: BlockDeviceOptions;
  /** how machines are started */
  readonly start?: Omit<StartOptions, "devices" | "signal"> | undefined;
  /** brings a machine that has started to where scenario and invariant begin; default: waits for its agent */
  readonly ready?: ((machine: Machine) => Promise<void>) | undefined;
  /** called before each disk that is tried */
  readonly onProgress?: ((tried: number, points: number) => void) | undefined;
}

/** What a scenario works with. */
export interface PowerCutScenario {
  readonly machine: Machine;
  readonly disk: BlockDevice;
  /** says that something has been reached which no power cut after this may undo */
  readonly mark: (name: string) => void;
}

/** What an invariant is checked on. */
export interface PowerCutCheck {
  /** a machine after the power cut */
  readonly machine: Machine;
  readonly disk: BlockDevice;
  /** what the scenario had reached when power failed */
  readonly marks: readonly string[];
}

/**
 * Runs a scenario once, and then starts a machine with every disk that a power cut during it could have left: after each
 * write, with any writes since the last flush lost, torn or out of order. Disks that hold the same are tried once.
 *
 * @param scenario - Changes the disk; it need not leave it tidy, power fails anyway.
 * @param invariant - Throws when the disk is not as it has to be after a power cut.
 * @param options - Machine, disk, seed and limits; `timeoutMs` bounds each check, default
 *   {@link DEFAULT_INVARIANT_TIMEOUT_MS}.
 * @returns What was tried.
 * @throws {QemuError} `QEMU_POWER_CUT_UNSAFE` with the whole `powerCuts` report when the invariant did not hold once,
 *   `QEMU_BAD_OPTIONS`, `QEMU_OUTPUT_LIMIT` when the scenario writes more than the disk remembers, all codes of
 *   {@link startMachine}, `QEMU_ABORTED`.
 * @example
 * await explorePowerCuts(
 *   async ({ machine, mark }) => {
 *     await machine.agent.exec(["save", "/data/config"]);
 *     mark("saved");
 *   },
 *   async ({ machine, marks }) => {
 *     const { exitCode } = await machine.agent.exec(["check", "/data/config", ...marks]);
 *     if (exitCode !== 0) throw new Error("the configuration is gone");
 *   },
 *   { machine: description, disk: { path: "data.raw" } },
 * );
 */
export async function explorePowerCuts(
  scenario: (run: PowerCutScenario) => Promise<void>,
  invariant: (check: PowerCutCheck) => Promise<void>,
  options: ExploreOptions,
): Promise<PowerCutReport> {
  const { machine, disk: diskOptions, start, ready = waitForAgent, timeoutMs, signal, onProgress, ...rest } = options;
  const settings = parseOptions("exploration", settingsSchema, rest);
  assertNotAborted(signal);
  const resolved = resolveMachine(machine);
  const devices = resolved.disks.filter((each) => each.type === "device");
  const name = devices[0]?.name;
  if (name === undefined || devices.length !== 1) {
    const message = `expected a machine with one disk of type device, got ${devices.length}`;
    throw new QemuError("QEMU_BAD_OPTIONS", message, { issues: [{ path: "machine.disks", message }] });
  }
  const restart = settings.restart ?? (isDirect(resolved.boot) ? "fork" : "boot");
  await using disk = (await createBlockDevice(diskOptions)) as NodeDisk;
  await using machines = await openMachines({ machine, name, start, ready, signal }, restart, disk);

  await using running = await machines.start(disk);
  await scenario({ machine: running, disk, mark: (text) => disk.mark(text) });
  await running.kill();
  if (disk.isFull) {
    const message = "expected a scenario that writes at most what its disk remembers, got more";
    throw new QemuError("QEMU_OUTPUT_LIMIT", message, { hint: "disk: { maxWrittenBytes }, or a shorter scenario" });
  }

  const { events } = disk;
  const all = pointsOf(events, settings);
  const points =
    settings.only === undefined
      ? choosePoints(all, settings.maxStates * POINTS_PER_TRY, settings.seed)
      : only(all, settings.only);
  const identities = await Identities.create(touchedSectors(events), disk.journal, disk.ground);
  const seen = new Set<string>();
  const failures: PowerCutFailure[] = [];
  let looked = 0;
  let identical = 0;
  for (const point of points) {
    if (seen.size >= settings.maxStates || failures.length >= settings.maxFailures) break;
    assertNotAborted(signal);
    looked += 1;
    const state = stateAt(events, point, settings);
    const identity = JSON.stringify([identities.of(state.map), state.marks]);
    if (seen.has(identity)) {
      identical += 1;
      continue;
    }
    seen.add(identity);
    onProgress?.(seen.size, points.length);
    const error = await check(invariant, machines, disk, state, { timeoutMs, signal });
    if (error === undefined) continue;
    const imagePath = settings.saveTo === undefined ? undefined : await saveImage(settings.saveTo, point, disk, state);
    failures.push(failureOf(point, state, error.reason, imagePath));
  }
  const report: PowerCutReport = {
    seed: settings.seed,
    writes: disk.counts.writes + disk.counts.trims,
    flushes: disk.counts.flushes,
    points: looked,
    tried: seen.size,
    identical,
    leftOut: all.length - looked,
    failures,
  };
  if (failures.length === 0) return report;
  throw new QemuError(
    "QEMU_POWER_CUT_UNSAFE",
    `expected what holds after every power cut, got:\n${renderPowerCuts(report)}`,
    {
      powerCuts: report,
      cause: failures[0]?.error,
    },
  );
}

/** Where machines for one disk after the other come from. */
interface Machines extends AsyncDisposable {
  readonly start: (disk: NodeDisk) => Promise<Machine>;
}

interface Origin extends Pick<ExploreOptions, "machine" | "start" | "signal"> {
  readonly name: string;
  readonly ready: (machine: Machine) => Promise<void>;
}

async function openMachines(origin: Origin, restart: "fork" | "boot", disk: NodeDisk): Promise<Machines> {
  const { machine, name, start, ready, signal } = origin;
  const boot = async (description: MachineDescription, device: NodeDisk): Promise<Machine> => {
    const booted = await startMachine(description, { ...start, signal, devices: { [name]: device } });
    try {
      await ready(booted);
      return booted;
    } catch (error) {
      await booted.kill();
      throw error;
    }
  };
  if (restart === "boot") return { start: (device) => boot(machine, device), async [Symbol.asyncDispose]() {} };
  await using untouched = stateDisk(disk);
  await using booted = await boot({ ...machine, forkable: true }, untouched);
  const template = await booted.template();
  // QEMU itself flushes when it stops.
  const written = untouched.counts.writes + untouched.counts.trims;
  if (written > 0) {
    await template.close();
    const message = `expected a machine that leaves the disk ${name} alone until the scenario begins, got ${written} writes`;
    throw new QemuError("QEMU_BAD_OPTIONS", message, {
      issues: [{ path: "restart", message }],
      hint: 'a machine that has the disk mounted when it has started cannot be forked with another one: restart: "boot"',
    });
  }
  const { onConsole, networks } = start ?? {};
  return {
    start: (device) =>
      template.fork({ devices: { [name]: device }, networks, onConsole, signal, timeoutMs: start?.timeoutMs }),
    [Symbol.asyncDispose]: () => template.close(),
  };
}

/** A disk that begins as another one did, or as a power cut left that one. */
function stateDisk(disk: NodeDisk, state?: PowerCutState): NodeDisk {
  const ground = state === undefined ? disk.ground : new Layer(state.map, disk.journal, disk.ground);
  return new NodeDisk(ground, { random: seededRandom(0), maxWrittenBytes: DEFAULT_MAX_WRITTEN_BYTES });
}

async function waitForAgent(machine: Machine): Promise<void> {
  await machine.agent.ready();
}

/** @returns What the invariant threw, undefined when it holds. */
async function check(
  invariant: (check: PowerCutCheck) => Promise<void>,
  machines: Machines,
  disk: NodeDisk,
  state: PowerCutState,
  { timeoutMs = DEFAULT_INVARIANT_TIMEOUT_MS, signal }: WaitOptions,
): Promise<{ readonly reason: unknown } | undefined> {
  await using device = stateDisk(disk, state);
  const machine = await machines.start(device);
  const wait = startWait<void>({ timeoutMs, signal }, () => {
    return new QemuError(
      "QEMU_POWER_CUT_UNSAFE",
      `expected an invariant that is checked within ${timeoutMs} ms, got none`,
      {
        timeoutMs,
        consoleTail: machine.serial.tail(),
        commandLine: machine.commandLine,
      },
    );
  });
  const checking = async (): Promise<void> => invariant({ machine, disk: device, marks: state.marks });
  checking().then(wait.resolve, wait.reject);
  try {
    await wait.promise;
    return undefined;
  } catch (reason) {
    assertNotAborted(signal);
    return { reason };
  } finally {
    await machine.kill();
  }
}

function failureOf(point: Point, state: PowerCutState, error: unknown, imagePath: string | undefined): PowerCutFailure {
  return {
    point: nameOf(point),
    writeCache: point.kind,
    lastWrite: state.last && publicRequest(state.last),
    marks: state.marks,
    damaged: state.damaged.map(({ change, kept }) => ({ request: publicRequest(change), kept })),
    error,
    imagePath,
  };
}

/** Writes a disk as a power cut left it, with holes where it is empty. */
async function saveImage(directory: string, point: Point, disk: NodeDisk, state: PowerCutState): Promise<string> {
  const path = join(directory, `power-cut-${nameOf(point).replaceAll(":", "-")}.raw`);
  await using source = stateDisk(disk, state);
  await mkdir(directory, { recursive: true });
  await using file = await open(path, "w");
  await file.truncate(source.sizeBytes);
  for (let at = 0; at < source.sizeBytes; at += COPY_BYTES) {
    const bytes = await source.read(at, Math.min(COPY_BYTES, source.sizeBytes - at));
    if (!isZero(bytes)) await handleSink(file).write(at, bytes);
  }
  return path;
}

function only(points: readonly Point[], names: readonly string[]): readonly Point[] {
  return names.map((name) => {
    const found = points.find((point) => nameOf(point) === name);
    if (found !== undefined) return found;
    const message = `expected a point of this scenario, got ${name}, which this run did not come to`;
    throw new QemuError("QEMU_BAD_OPTIONS", message, { issues: [{ path: "only", message }] });
  });
}
