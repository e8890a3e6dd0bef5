import { mkdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { test as base, expect } from "vitest";
import type { MachineDescription } from "../machine.ts";
import { resolveMachine } from "../machine.ts";
import type { Machine } from "../running-machine.ts";
import { type StartOptions, startMachine } from "../start.ts";
import { MemoryBudget } from "./budget.ts";
import { listensOn, type MatcherOptions, reachesConsole } from "./matchers.ts";

export { DEFAULT_MATCHER_TIMEOUT_MS, type MatcherOptions } from "./matchers.ts";
export { expect };

/** How long a picture for a failed test may take, in `milliseconds`. */
const PICTURE_TIMEOUT_MS = 10_000;

/** Names of directories have 255 bytes at most, and a character up to four. */
const MAX_NAME = 60;

// Environment read: LEVERET_TEST_MEMORY_MIB, what the machines of one worker may have together; LEVERET_TEST_RESULTS, where
// what failed tests leave is written, by default `test-results` in the working directory.
const budget = new MemoryBudget(Number(process.env.LEVERET_TEST_MEMORY_MIB) || undefined);

/** What tests of machines have beside vitest's own. */
export interface MachineFixtures {
  /**
   * Starts a machine that ends with the test. It waits until the machines of this worker leave enough memory. When the
   * test fails, what its consoles said and what its display shows is written to a directory below `test-results`, which
   * the test's output names.
   */
  readonly startMachine: (description: MachineDescription, options?: StartOptions) => Promise<Machine>;
}

/**
 * vitest's `test`, whose tests can start machines.
 *
 * @example
 * test("boots", async ({ startMachine }) => {
 *   const machine = await startMachine({ boot: { type: "uefi" } });
 *   await expect(machine).toReachConsole(/Interactive Shell/);
 * });
 */
export const test = base.extend<MachineFixtures>({
  startMachine: async ({ task }, use) => {
    const machines: { readonly machine: Machine; readonly release: () => void }[] = [];
    await use(async (description, options = {}) => {
      const { memoryMiB } = resolveMachine(description);
      const release = await budget.take(memoryMiB, options.signal);
      try {
        const machine = await startMachine(description, options);
        machines.push({ machine, release });
        return machine;
      } catch (error) {
        release();
        throw error;
      }
    });
    const results = task.result?.state === "fail" && machines.length > 0 ? directoryOf(task) : undefined;
    for (const { machine, release } of machines) {
      if (results !== undefined) await keep(machine, results);
      await machine.close();
      release();
    }
    if (results !== undefined) process.stderr.write(`what the machines said and showed is in ${results}\n`);
  },
});

/**
 * Writes what a person wants to see of a machine whose test failed. vitest takes annotations only while a test runs, and
 * that it failed is known afterwards.
 */
async function keep(machine: Machine, directory: string): Promise<void> {
  const { name, consoles, graphics } = machine.description;
  await mkdir(directory, { recursive: true });
  for (const each of consoles) {
    await writeFile(join(directory, `${name}-${each.name}.txt`), machine.console(each.name).text);
  }
  if (graphics === undefined) return;
  const picture = await machine.screen.screenshot({ timeoutMs: PICTURE_TIMEOUT_MS }).catch(() => undefined);
  if (picture !== undefined) await writeFile(join(directory, `${name}-display.png`), picture);
}

/** `test-results/boots › with a key`, whatever characters the names have. */
function directoryOf(test: { readonly name: string; readonly suite?: Named | undefined }): string {
  const names: string[] = [];
  for (let each: Named | undefined = test; each !== undefined; each = each.suite) names.unshift(each.name);
  const folder = names.filter((name) => name !== "").join(" › ");
  const safe = folder.replace(/[^\p{L}\p{N} ._()›-]/gu, "_").slice(0, MAX_NAME);
  return resolve(process.env.LEVERET_TEST_RESULTS ?? "test-results", safe);
}

interface Named {
  readonly name: string;
  readonly suite?: Named | undefined;
}

interface MachineMatchers<R> {
  /** waits until a console says something */
  readonly toReachConsole: (pattern: string | RegExp, options?: MatcherOptions) => Promise<R>;
  /** waits until something in the guest listens on a TCP port. Needs the agent. */
  readonly toListenOn: (port: number, options?: Omit<MatcherOptions, "console">) => Promise<R>;
}

declare module "vitest" {
  // biome-ignore lint/suspicious/noExplicitAny: as vitest declares it
  interface Matchers<T = any> extends MachineMatchers<T> {}
}

expect.extend({ toReachConsole: reachesConsole, toListenOn: listensOn });
