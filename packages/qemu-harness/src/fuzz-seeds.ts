import { mkdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import * as z from "zod";
import { INSTRUCTION_NS } from "./clock.ts";
import {
  isDirect,
  type MachineDescription,
  parseOptions,
  type ResolvedMachine,
  resolveMachine,
} from "./description.ts";
import { QemuError } from "./errors.ts";
import { assertNotAborted, type WaitOptions } from "./internal/wait.ts";
import type { Machine } from "./machine.ts";
import { seededRandom } from "./network/random.ts";
import { type StartOptions, startMachine } from "./start.ts";

const MAX_SEED = 0xffff_ffff;

const settingsSchema = z.strictObject({
  /** how many seeds are tried */
  count: z.number().int().min(1).max(1_000_000),
  /** the first of them; the others follow it */
  firstSeed: z.number().int().min(0).max(MAX_SEED).default(0),
  /** what the clocks of the machines say when they start, in UTC */
  base: z.iso.datetime().optional(),
  /** directory for the machines of a scenario that failed, default none */
  saveTo: z.string().min(1).optional(),
});

/** How {@link fuzzSeeds} tries. */
export interface FuzzSeedsOptions extends Omit<z.input<typeof settingsSchema>, "count">, Pick<WaitOptions, "signal"> {
  /** how machines are started */
  readonly start?: Omit<StartOptions, "signal" | "accelerator"> | undefined;
  /** called before each seed */
  readonly onProgress?: ((seed: number) => void) | undefined;
}

/** What a scenario works with. */
export interface SeedScenario {
  readonly seed: number;
  /** Starts a machine with a virtual clock of this seed; it ends with the scenario. */
  readonly start: (description: Omit<MachineDescription, "clock">) => Promise<Machine>;
  /** calls everything off */
  readonly signal: AbortSignal | undefined;
}

/**
 * Runs a scenario with one seed after the other until it fails. A seed decides what is random in its machines, and how
 * long an instruction takes beside their timers: what waits for a timer and what has much to do then come in another
 * order.
 *
 * @param count - How many seeds.
 * @param scenario - Starts machines, and throws when something is not as it has to be. What it does to them from outside
 *   comes at a moment of the host's, and may not repeat; what they do by themselves does.
 * @param options - First seed, where failed machines are kept.
 * @throws {QemuError} `QEMU_SEED_FAILED` with the seed, how to try it again, and what the scenario threw as `cause`;
 *   `QEMU_BAD_OPTIONS`, `QEMU_ABORTED`.
 * @example
 * await fuzzSeeds(100, async ({ start }) => {
 *   const machine = await start({ machine: "microvm", boot });
 *   await machine.serial.waitFor("all tests passed");
 * });
 */
export async function fuzzSeeds(
  count: number,
  scenario: (parts: SeedScenario) => Promise<void>,
  options: FuzzSeedsOptions = {},
): Promise<void> {
  const { start: startOptions = {}, onProgress, signal, ...rest } = options;
  const settings = parseOptions("seeds", settingsSchema, { count, ...rest });
  const { firstSeed, base, saveTo } = settings;
  for (let seed = firstSeed; seed < firstSeed + settings.count; seed += 1) {
    assertNotAborted(signal);
    onProgress?.(seed);
    const machines: Machine[] = [];
    const start: SeedScenario["start"] = async (description) => {
      if (saveTo !== undefined && Object.keys(description.credentials ?? {}).length > 0) {
        const message = "expected no credentials in machines that are kept when they fail";
        throw new QemuError("QEMU_BAD_OPTIONS", message, { issues: [{ path: "credentials", message }] });
      }
      const clock = { type: "virtual", seed, instructionNs: instructionNs(seed), ...(base && { base }) } as const;
      const machine = await startMachine({ ...description, clock }, { ...startOptions, signal });
      machines.push(machine);
      return machine;
    };
    try {
      await scenario({ seed, start, signal });
    } catch (cause) {
      assertNotAborted(signal);
      await endAll(machines);
      throw await failure(seed, cause, machines, saveTo, startOptions.cwd);
    } finally {
      await endAll(machines);
    }
  }
}

/** Seeds one after the other have all speeds after each other, and the same seed always the same one. */
function instructionNs(seed: number): (typeof INSTRUCTION_NS)[number] {
  return INSTRUCTION_NS[Math.floor(seededRandom(seed)() * INSTRUCTION_NS.length)] ?? INSTRUCTION_NS[0];
}

async function endAll(machines: readonly Machine[]): Promise<void> {
  await Promise.all(machines.map((machine) => machine.close()));
}

async function failure(
  seed: number,
  cause: unknown,
  machines: readonly Machine[],
  saveTo: string | undefined,
  cwd: string | undefined,
): Promise<QemuError> {
  const saved = saveTo === undefined ? [] : await save(seed, machines, resolve(cwd ?? "", saveTo), cwd);
  const again = [`fuzzSeeds(1, scenario, { firstSeed: ${seed} })`, ...saved.map((path) => `qemu-harness run ${path}`)];
  const said = cause instanceof Error ? cause.message : String(cause);
  const message = `expected the scenario to succeed with every seed, got with seed ${seed}: ${said}`;
  return new QemuError("QEMU_SEED_FAILED", `${message}\n  again: ${again.join(", or ")}`, {
    cause,
    seed,
    consoleTail: machines.at(-1)?.serial.tail(),
  });
}

/** Keeps machines as files that `qemu-harness run` starts again, and what they said. */
async function save(
  seed: number,
  machines: readonly Machine[],
  directory: string,
  cwd: string | undefined,
): Promise<string[]> {
  await mkdir(directory, { recursive: true });
  return Promise.all(
    machines.map(async ({ description, serial }, index) => {
      const path = join(directory, `seed-${seed}${machines.length === 1 ? "" : `-${index}`}`);
      await writeFile(`${path}.txt`, serial.text);
      await writeFile(`${path}.json`, `${JSON.stringify(movable(description, cwd), null, 2)}\n`, { mode: 0o600 });
      return `${path}.json`;
    }),
  );
}

/** A description that means the same wherever it is read. */
function movable(description: ResolvedMachine, cwd: string | undefined): ResolvedMachine {
  const { boot } = description;
  if (!isDirect(boot)) return description;
  const absolute = (path: string): string => resolve(cwd ?? "", path);
  const initrd = boot.initrdPath === undefined ? {} : { initrdPath: absolute(boot.initrdPath) };
  return resolveMachine({ ...description, boot: { ...boot, kernelPath: absolute(boot.kernelPath), ...initrd } });
}
