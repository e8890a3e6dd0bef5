import { mkdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { test as base, expect, type TestAPI } from "vitest";
import type { MachineDescription } from "../description.ts";
import { resolveMachine } from "../description.ts";
import type { Machine } from "../machine.ts";
import { type CachedTemplate, openTemplateCache, type TemplateRequest } from "../snapshot/cache.ts";
import { type StartOptions, startMachine } from "../start.ts";
import type { ForkOptions } from "../template.ts";
import { MemoryBudget } from "./budget.ts";
import { hasUnitActive, listensOn, type MatcherOptions, reachesConsole } from "./matchers.ts";
import { matchesScreenshot, type ScreenshotOptions } from "./screenshot.ts";

export { DEFAULT_MATCHER_TIMEOUT_MS, type MatcherOptions } from "./matchers.ts";
export type { ScreenshotOptions } from "./screenshot.ts";
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
  /**
   * Continues a template of the user's cache as a machine of the test, like one that `startMachine` starts. The first
   * test that asks for a template makes it; all others, in this file and others, in this run and later ones, fork it.
   */
  readonly forkMachine: (request: TemplateRequest, options?: ForkOptions) => Promise<Machine>;
}

/** What the fixtures share. */
interface InnerFixtures {
  /** takes memory, starts a machine, and ends it with the test */
  readonly startForTest: (
    memoryMiB: number,
    signal: AbortSignal | undefined,
    start: () => Promise<Machine>,
  ) => Promise<Machine>;
  /** opens a template once for all tests of a file */
  readonly templateOfFile: (request: TemplateRequest) => Promise<CachedTemplate>;
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
export const test: TestAPI<MachineFixtures> = base.extend<MachineFixtures & InnerFixtures>({
  startMachine: ({ startForTest }, use) =>
    use(async (description, options = {}) => {
      const { memoryMiB } = resolveMachine(description);
      return startForTest(memoryMiB, options.signal, () => startMachine(description, options));
    }),
  forkMachine: ({ startForTest, templateOfFile }, use) =>
    use(async (request, options = {}) => {
      const { memoryMiB } = resolveMachine(request.description);
      return startForTest(memoryMiB, options.signal, async () => (await templateOfFile(request)).fork(options));
    }),
  templateOfFile: [
    // biome-ignore lint/correctness/noEmptyPattern: vitest reads which fixtures it needs from here
    async ({}, use) => {
      const templates = new Map<string, Promise<CachedTemplate>>();
      await use((request) => {
        const { description, key, prepare, cwd, qemu, accelerator } = request;
        const name = JSON.stringify([description, key, prepare.toString(), cwd, qemu, accelerator]);
        const template = templates.get(name) ?? openTemplateCache().template(request);
        templates.set(name, template);
        // One that could not be made is tried again by the next test.
        template.catch(() => templates.delete(name));
        return template;
      });
      for (const each of await Promise.allSettled(templates.values())) {
        if (each.status === "fulfilled") await each.value.close();
      }
    },
    { scope: "file" },
  ],
  startForTest: async ({ task }, use) => {
    const machines: { readonly machine: Machine; readonly release: () => void }[] = [];
    await use(async (memoryMiB, signal, start) => {
      const release = await budget.take(memoryMiB, signal);
      try {
        const machine = await start();
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
  return resultsOf(names.filter((name) => name !== "").join(" › "));
}

/** Directory for what a failed test leaves. */
function resultsOf(test: string): string {
  const safe = test
    .replace(/ > /g, " › ")
    .replace(/[^\p{L}\p{N} ._()›-]/gu, "_")
    .slice(0, MAX_NAME);
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
  /** waits until a systemd unit is active; one that has failed fails at once, with its messages. Needs the agent. */
  readonly toHaveUnitActive: (unit: string, options?: Omit<MatcherOptions, "console">) => Promise<R>;
  /**
   * waits until the display shows a stored picture. The first time, and with vitest's `--update`, it is stored, in
   * `__screenshots__` beside the test; what differs is written to `test-results`
   */
  readonly toMatchScreenshot: (name: string, options?: ScreenshotOptions) => Promise<R>;
}

declare module "vitest" {
  // biome-ignore lint/suspicious/noExplicitAny: as vitest declares it
  interface Matchers<T = any> extends MachineMatchers<T> {}
}

expect.extend({
  toReachConsole: reachesConsole,
  toListenOn: listensOn,
  toHaveUnitActive: hasUnitActive,
  toMatchScreenshot(machine: Machine, name: string, options: ScreenshotOptions = {}) {
    const { testPath = "test", currentTestName = "test", snapshotState } = this;
    return matchesScreenshot(machine, name, options, {
      testPath,
      results: resultsOf(currentTestName),
      update: snapshotState?.snapshotUpdateState ?? "new",
    });
  },
});
