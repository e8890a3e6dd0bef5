import * as z from "zod";
import { parseOptions, type ResolvedMachine } from "./description.ts";
import { QemuError } from "./errors.ts";
import { startWait, type WaitOptions } from "./internal/wait.ts";
import type { QmpReturn } from "./qmp/types.ts";
import type { QmpClient } from "./qmp.ts";

/** How long, in `milliseconds`, a guest may take to give up a processor or memory, unless told otherwise. */
export const DEFAULT_TAKE_TIMEOUT_MS = 60_000;

const BYTES_PER_MIB = 1024 * 1024;

/**
 * What a guest says of a device that it is asked to give up.
 *
 * @see ACPI Specification 6.5, 6.3.5 `_OST`: ejection requests and ejection processing, and status 0x84
 */
const EJECTIONS: readonly number[] = [0x03, 0x103];
const IN_PROGRESS = 0x84;

type Slot = QmpReturn<"query-hotpluggable-cpus">[number];

/** Takes processors and memory from a running machine, one after the other. */
export class TakenAway {
  readonly #qmp: QmpClient;
  readonly #machine: ResolvedMachine;
  #last: Promise<unknown> = Promise.resolve();
  #hasAllCpus = true;

  constructor(qmp: QmpClient, machine: ResolvedMachine) {
    this.#qmp = qmp;
    this.#machine = machine;
  }

  /** Whether no processor was taken, or is about to be. */
  get hasAllCpus(): boolean {
    return this.#hasAllCpus;
  }

  /** What {@link Machine.unplugCpu} does. */
  async unplugCpu(options: WaitOptions): Promise<void> {
    if (this.#machine.machine === "microvm") {
      throw new QemuError("QEMU_UNSUPPORTED", "expected a machine that can give up a processor, got a microvm", {
        hint: 'machines of type "q35" and "pc" can',
      });
    }
    const late = (): string => "expected the guest to give up a processor, got no answer";
    await this.#alone(options, late, async (limits) => {
      const slots = (await this.#qmp.execute("query-hotpluggable-cpus", {}, limits)).toSorted(inOrder);
      const index = slots.findLastIndex((slot) => pathOf(slot) !== undefined);
      const slot = slots[index];
      if (index === 0 || slot === undefined)
        throw new QemuError("QEMU_UNSUPPORTED", "expected a processor beside the first one, got none");
      this.#hasAllCpus = false;
      await this.#unplug(slot, index, limits);
    });
  }

  /** What {@link Machine.setMemory} does. */
  async setMemory(wanted: number, options: WaitOptions): Promise<void> {
    const { balloon, memoryMiB: most } = this.#machine;
    if (!balloon) throw new TypeError("expected a machine with balloon: true in its description");
    const schema = z.strictObject({ memoryMiB: z.number().int().min(1).max(most) });
    const { memoryMiB } = parseOptions("memory", schema, { memoryMiB: wanted });
    const bytes = memoryMiB * BYTES_PER_MIB;
    let actual = Number.NaN;
    const late = (): string => `expected the guest to have ${memoryMiB} MiB, got ${actual / BYTES_PER_MIB} MiB`;
    await this.#alone(options, late, async (limits) => {
      const there = this.#qmp.once("BALLOON_CHANGE", {
        signal: limits.signal,
        where: ({ data }) => {
          actual = Number(data.actual);
          return actual === bytes;
        },
      });
      // Fails together with the wait that it is part of.
      there.catch(() => {});
      actual = Number((await this.#qmp.execute("query-balloon", {}, limits)).actual);
      if (actual === bytes) return;
      await this.#qmp.execute("balloon", { value: bytes }, limits);
      await there;
    });
  }

  // Not DEVICE_DELETED, which QEMU 7.2 does not say of processors: what the guest says of them all versions tell.
  async #unplug(slot: Slot, index: number, limits: WaitOptions): Promise<void> {
    const answer = this.#qmp.once("ACPI_DEVICE_OST", {
      signal: limits.signal,
      where: ({ data: { info } }) =>
        info["slot-type"] === "CPU" &&
        Number(info.slot) === index &&
        EJECTIONS.includes(Number(info.source)) &&
        Number(info.status) !== IN_PROGRESS,
    });
    answer.catch(() => {});
    await this.#qmp.execute("device_del", { id: pathOf(slot) ?? "" }, limits).catch((cause: unknown) => {
      if (!(cause instanceof QemuError) || cause.code !== "QEMU_QMP_COMMAND_FAILED") throw cause;
      // It looks whether firmware or an operating system has taken charge of the processors.
      throw new QemuError("QEMU_UNPLUG_REFUSED", cause.message, { cause });
    });
    const { status } = (await answer).data.info;
    if (Number(status) === 0) return;
    const message = `expected the guest to give up processor ${index}, got status ${status}`;
    throw new QemuError("QEMU_UNPLUG_REFUSED", message);
  }

  /** Makes one change after the other, each within its limit; `late` says how far it got. */
  async #alone(
    { timeoutMs = DEFAULT_TAKE_TIMEOUT_MS, signal }: WaitOptions,
    late: () => string,
    change: (limits: WaitOptions) => Promise<void>,
  ): Promise<void> {
    const turn = this.#last.then(async () => {
      const over = new AbortController();
      const wait = startWait<void>({ timeoutMs, signal }, () => {
        return new QemuError("QEMU_QMP_TIMEOUT", `${late()} after ${timeoutMs} ms`, {
          timeoutMs,
          hint: "the guest's kernel has to run, with its driver for that",
        });
      });
      change({ signal: over.signal }).then(wait.resolve, wait.reject);
      await wait.promise.finally(() => over.abort());
    });
    this.#last = turn.catch(() => {});
    return turn;
  }
}

function pathOf(slot: Slot): string | undefined {
  return slot["qom-path"];
}

/** Processors as their places are numbered; QEMU lists them backwards. */
function inOrder(one: Slot, other: Slot): number {
  const place = ({ props }: Slot): number[] =>
    (["socket-id", "die-id", "module-id", "core-id", "thread-id"] as const).map((name) => Number(props[name] ?? 0));
  const [left, right] = [place(one), place(other)];
  const differs = left.findIndex((value, index) => value !== right[index]);
  return (left[differs] ?? 0) - (right[differs] ?? 0);
}
