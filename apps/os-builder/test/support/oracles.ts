import { spawnSync } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import type { TestContext } from "vitest";

/** Debian packages that the tests' foreign tools come from. */
const PACKAGE_OF: Readonly<Record<string, string>> = {
  "mkfs.erofs": "erofs-utils",
  sbverify: "sbsigntool",
  sgdisk: "gdisk",
  unshare: "util-linux",
  veritysetup: "cryptsetup-bin",
  xmllint: "libxml2-utils",
};

const PATH = `${process.env.PATH ?? ""}${delimiter}/usr/sbin${delimiter}/sbin`;

/** Skips the test with a reason when a foreign tool is missing; with `REQUIRE_ORACLES=1` it fails instead. */
export function needs(context: TestContext, ...tools: string[]): void {
  const missing = tools.filter((tool) => !isInstalled(tool));
  if (missing.length === 0) return;
  const reason = `not installed: ${missing.map((tool) => `${tool} (Debian package ${PACKAGE_OF[tool]})`).join(", ")}`;
  if (process.env.REQUIRE_ORACLES === "1") throw new Error(reason);
  context.skip(reason);
}

function isInstalled(tool: string): boolean {
  return PATH.split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, tool), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** Runs a foreign tool and returns what it printed; fails the test when it fails. */
export function run(tool: string, argv: readonly string[], options: { cwd?: string; input?: Uint8Array } = {}): string {
  const env = { ...process.env, PATH, LC_ALL: "C.UTF-8", TZ: "UTC0" };
  const { status, stdout, stderr, error } = spawnSync(tool, argv, { encoding: "utf8", env, ...options });
  if (status !== 0) throw new Error(`${tool} ${argv.join(" ")}: ${error?.message ?? stdout + stderr}`);
  return stdout;
}
