// npm test: the same set-up as npm start, then every test. Arguments go to vitest.
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { makeOracleTrees } from "./oracle-trees.mjs";
import { buildWorkspaces, ensureDebianPackages, ensureNpmPackages, ROOT, run } from "./setup.mjs";

await ensureDebianPackages(["apps/os-builder/tools.json", "scripts/oracles.json"]);
await ensureNpmPackages();
await buildWorkspaces();
const oracles = await makeOracleTrees();

const report = join(ROOT, "test-results", "report.json");
mkdirSync(join(ROOT, "test-results"), { recursive: true });
rmSync(report, { force: true });
const vitest = join(ROOT, "node_modules", "vitest", "vitest.mjs");
const args = [
  "run",
  "--reporter=default",
  `--reporter=${join(ROOT, "scripts", "early-failures.mjs")}`,
  "--reporter=json",
  `--outputFile.json=${report}`,
  ...process.argv.slice(2),
];
const env = {
  ...process.env,
  ...oracles,
  REQUIRE_ORACLES: "1",
  // Foreign tools that Debian keeps in sbin are found without being root.
  PATH: `${process.env.PATH}:/usr/sbin:/sbin`,
  ...(process.stdout.isTTY ? {} : { NO_COLOR: "1" }),
};
const { exitCode } = await run(process.execPath, [vitest, ...args], { env, mayFail: true, group: true });
if (!existsSync(report)) process.exit(exitCode || 1);

const results = JSON.parse(readFileSync(report, "utf8"));
// A file that could not even be loaded has no tests to count, and is a failure all the same.
const unloadable = results.testResults.filter(
  ({ status, assertionResults }) => status === "failed" && assertionResults.length === 0,
);
const seconds = ({ startTime, endTime }) => (endTime - startTime) / 1000;
const slowest = results.testResults.sort((a, b) => seconds(b) - seconds(a)).slice(0, 8);
const failed = results.numFailedTests + unloadable.length;
process.stdout.write(`Slowest files:\n${slowest.map((file) => `${seconds(file).toFixed(1).padStart(8)} s  ${file.name.slice(ROOT.length + 1)}`).join("\n")}
${results.numPendingTests + results.numTodoTests} skipped
${results.numPassedTests} passed, ${failed} failed
`);
process.exit(failed > 0 || exitCode !== 0 ? 1 : 0);
