import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { BUILDERS_DIRECTORY } from "../builders.ts";
import { OsBuilderError } from "../errors.ts";
import type { ImageRecord } from "../image/image.ts";

/** Name of the virtio serial port on which a machine reports: a console would be given a login prompt. */
export const REPORT_CONSOLE = "report";

/** What stands at the end of a report. */
export const REPORT_END = /^report=end$/m;

/** What a machine said of itself, by name: `secure-boot`, `usr-table`, `pcr-11` … */
export type BootReport = ReadonlyMap<string, string>;

/** One thing that a boot has to have verified. */
export interface BootCheck {
  /** what a person would call it */
  readonly name: string;
  readonly ok: boolean;
  /** what was read inside of the machine */
  readonly found: string;
}

/** Credentials with which systemd runs the report; see systemd-debug-generator(8). */
export async function reportCredentials(): Promise<Record<string, string>> {
  return {
    "leveret.report": await readFile(join(BUILDERS_DIRECTORY, "report.sh"), "utf8"),
    "systemd.extra-unit.leveret-report.service": [
      "[Unit]",
      "Description=Report to the host what this boot verified",
      "DefaultDependencies=no",
      "After=multi-user.target",
      "[Service]",
      // Not a job that the system's start would wait for: the report waits for that start to be finished.
      "Type=exec",
      "ImportCredential=leveret.report",
      "ExecStart=/bin/sh %d/leveret.report",
      "",
    ].join("\n"),
    "systemd.unit-dropin.multi-user.target": "[Unit]\nWants=leveret-report.service\n",
  };
}

/** Guests are not trusted with the terminal of the person who reads this. */
const UNPRINTABLE = /\p{C}/gu;

/** Parses a report: the lines between its `report=begin` and `report=end`. */
export function parseReport(text: string): BootReport {
  const lines = text.split(/\r?\n/);
  const begin = lines.lastIndexOf("report=begin");
  const entries = lines.slice(begin + 1).flatMap((line): [string, string][] => {
    const match = /^([a-z0-9-]+)=(.*)$/.exec(line);
    return match === null || match[1] === "report"
      ? []
      : [[match[1] ?? "", (match[2] ?? "").replace(UNPRINTABLE, "").trim()]];
  });
  return new Map(entries);
}

/** `running`, or what failed and its last words. */
function stateText(value: (name: string) => string): string {
  const failed = [value("state"), value("failed-units")].join(" ").trim();
  return value("failed-reasons") === "" ? failed : `${failed} (${value("failed-reasons")})`;
}

/** @throws {OsBuilderError} `OS_BOOT_UNVERIFIED` naming the checks that are not `ok`. */
export function assertVerified(checks: readonly BootCheck[]): void {
  const bad = checks.filter(({ ok }) => !ok).map(({ name }) => name);
  if (bad.length === 0) return;
  throw new OsBuilderError("OS_BOOT_UNVERIFIED", `expected everything to be verified, got: ${bad.join(", ")}`, {
    hint: "leveret-os boot --serial shows the console",
  });
}

/**
 * Compares what a machine reported with what its image promises.
 *
 * @param record - The image.
 * @param report - What was read inside of the machine.
 */
export function checkReport(record: ImageRecord, report: BootReport): BootCheck[] {
  const value = (name: string): string => report.get(name) ?? "";
  const check = (name: string, ok: boolean, found: string): BootCheck => ({ name, ok, found });
  const phases = Object.keys(record.pcr11).sort((a, b) => b.length - a.length);
  const expectedPcr11 = record.pcr11[phases[0] ?? ""] ?? "";
  return [
    check("system state", value("state") === "running", stateText(value)),
    check(
      "image",
      value("image-id") === record.id && value("image-version") === record.imageVersion,
      `${value("image-id")} ${value("image-version")}`,
    ),
    check(
      "Secure Boot",
      value("secure-boot") === "1" && value("setup-mode") === "0",
      value("secure-boot") === "1"
        ? "enforcing"
        : `SecureBoot=${value("secure-boot")} SetupMode=${value("setup-mode")}`,
    ),
    check("kernel lockdown", value("lockdown").includes("[integrity]"), value("lockdown")),
    check(
      "/usr on verity",
      value("usr-table").includes(` ${record.rootHash} `) && value("usr-status").endsWith(" V"),
      value("usr-mount"),
    ),
    check(
      "root hash signature",
      value("usr-table").includes("root_hash_sig_key_desc"),
      value("usr-table").includes("root_hash_sig_key_desc") ? "checked by the kernel" : "not checked",
    ),
    check("TPM", value("tpm-version") === "2", `version ${value("tpm-version")}`),
    check(
      "PCR 11",
      expectedPcr11 !== "" && value("pcr-11") === expectedPcr11,
      value("pcr-11") === expectedPcr11 ? "as predicted" : `${value("pcr-11")}, expected ${expectedPcr11}`,
    ),
  ];
}
