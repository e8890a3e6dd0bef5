import { execFileSync } from "node:child_process";
import { accessSync, constants, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { describe, onTestFinished } from "vitest";

/** Whether a program is on the search path. */
function hasProgram(name: string): boolean {
  return (process.env.PATH ?? "").split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/**
 * A block of tests that need foreign programs or files: skipped with the reason in its title where one is missing, and
 * failing there with `REQUIRE_ORACLES=1`.
 */
export function describeWith(
  title: string,
  programs: readonly string[],
  files: readonly string[],
  body: () => void,
): void {
  const missing = [...programs.filter((name) => !hasProgram(name)), ...files.filter((path) => !isReadable(path))];
  if (missing.length === 0) describe(title, body);
  else if (process.env.REQUIRE_ORACLES === "1") throw new Error(`${title}: expected ${missing.join(", ")}, found none`);
  else describe.skip(`${title} (skipped: ${missing.join(", ")} not found)`, body);
}

/** The same for a program that the oldest supported system does not have: always skipped, never failing, without it. */
export function describeOptional(title: string, programs: readonly string[], body: () => void): void {
  const missing = programs.filter((name) => !hasProgram(name));
  if (missing.length === 0) describe(title, body);
  else describe.skip(`${title} (skipped: ${missing.join(", ")} not found)`, body);
}

/** Runs a program and returns its standard output; a failure shows its standard error. */
export function run(program: string, argv: readonly string[], cwd?: string): string {
  return execFileSync(program, argv, { encoding: "utf8", cwd, stdio: ["ignore", "pipe", "pipe"] });
}

/** A new directory that is removed when the test ends. */
export function scratch(): string {
  const path = mkdtempSync(join(tmpdir(), "uki-sign-"));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}
