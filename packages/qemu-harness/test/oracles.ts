import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";

const NEEDED = ["qemu-system-x86_64", "swtpm", "setpriv"];

/**
 * Why the tests with real machines cannot run here, or an empty string. A missing tool skips them with that reason in
 * their title; with REQUIRE_ORACLES=1 it is a failure.
 */
export function missingOracles(): string {
  const path = (process.env.PATH ?? "").split(delimiter);
  const missing = NEEDED.filter((tool) => !path.some((directory) => existsSync(join(directory, tool))));
  if (!existsSync("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd") && (process.env.LEVERET_OVMF ?? "") === "") {
    missing.push("OVMF");
  }
  if (missing.length === 0) return "";
  const reason = `not installed: ${missing.join(", ")}`;
  if (process.env.REQUIRE_ORACLES === "1") throw new Error(reason);
  return reason;
}

/** Title of a suite that is skipped when `missing` is not empty. */
export function titled(title: string, missing: string): string {
  return missing === "" ? title : `${title} (skipped, ${missing})`;
}

/** Why tests with these programs cannot run here, or an empty string; with REQUIRE_ORACLES=1 it is a failure. */
export function missingPrograms(...programs: readonly string[]): string {
  const path = (process.env.PATH ?? "").split(delimiter);
  const missing = programs.filter((program) => !path.some((directory) => existsSync(join(directory, program))));
  if (missing.length === 0) return "";
  const reason = `not installed: ${missing.join(", ")}`;
  if (process.env.REQUIRE_ORACLES === "1") throw new Error(reason);
  return reason;
}
