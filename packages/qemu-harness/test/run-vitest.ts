import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const FIXTURES = fileURLToPath(new URL("./fixtures/vitest", import.meta.url));
const VITEST = join(dirname(createRequire(import.meta.url).resolve("vitest/package.json")), "vitest.mjs");

/** How a test of a run ended. */
export interface TestResult {
  readonly name: string;
  readonly state: string;
  readonly reasons: readonly string[];
}

/** Runs tests as a person does. */
export function runVitest(options: {
  /** where they are */
  readonly root: string;
  /** directory for the configuration */
  readonly directory: string;
  readonly env: Readonly<Record<string, string>>;
  readonly args?: readonly string[];
}): {
  readonly output: string;
  readonly results: readonly TestResult[];
  readonly result: (name: string) => TestResult | undefined;
} {
  const config = join(options.directory, "vitest.config.mjs");
  // Pictures are written in CI, too: these tests are of what is written.
  const test = { include: ["**/*.test.{mjs,ts}"], testTimeout: 280_000, hookTimeout: 280_000, update: "new" };
  writeFileSync(config, `export default ${JSON.stringify({ test })};\n`);
  const reporter = join(FIXTURES, "reporter.mjs");
  const args = ["run", "--root", options.root, "--config", config, "--reporter", reporter, ...(options.args ?? [])];
  const { VITEST: _, VITEST_MODE: __, VITEST_WORKER_ID: ___, VITEST_POOL_ID: ____, ...env } = process.env;
  const run = spawnSync(process.execPath, [VITEST, ...args], { encoding: "utf8", env: { ...env, ...options.env } });
  const output = `${run.stdout}${run.stderr}`;
  const results = Array.from(output.matchAll(/^RESULT (.*)$/gm), ([, json = ""]) => JSON.parse(json) as TestResult);
  return { output, results, result: (name) => results.find((each) => each.name === name) };
}
