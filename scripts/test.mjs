// npm test: the same set-up as npm start, then every test. Arguments go to vitest.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { buildWorkspaces, ensureDebianPackages, ensureNpmPackages, ROOT } from "./setup.mjs";

ensureNpmPackages();
ensureDebianPackages(["apps/os-builder/tools.json", "scripts/oracles.json"]);
buildWorkspaces();

const report = join(ROOT, "test-results", "report.json");
mkdirSync(join(ROOT, "test-results"), { recursive: true });
rmSync(report, { force: true });
const vitest = join(ROOT, "node_modules", "vitest", "vitest.mjs");
// Foreign tools that Debian keeps in sbin are found without being root.
const env = { ...process.env, REQUIRE_ORACLES: "1", PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
const args = ["run", "--reporter=default", "--reporter=json", `--outputFile.json=${report}`, ...process.argv.slice(2)];
const result = spawnSync(process.execPath, [vitest, ...args], { cwd: ROOT, stdio: "inherit", env });
if (!existsSync(report)) process.exit(result.status || 1);

const { numPassedTests, numFailedTests, numPendingTests, numTodoTests, testResults } = JSON.parse(readFileSync(report, "utf8"));
// A file that could not even be loaded has no tests to count, and is a failure all the same.
const unloadable = testResults.filter(({ status, assertionResults }) => status === "failed" && assertionResults.length === 0);
const failed = numFailedTests + unloadable.length;
process.stdout.write(`${numPendingTests + numTodoTests} skipped\n${numPassedTests} passed, ${failed} failed\n`);
process.exit(failed > 0 || result.status !== 0 ? 1 : 0);
