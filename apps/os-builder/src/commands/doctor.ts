import { type CommandIo, markedLines, writeJson } from "@leveret/command";
import { examineMachine } from "../doctor.ts";
import { OsBuilderError } from "../errors.ts";

/** @returns Whether nothing is missing. */
export async function doctor(flags: { json?: true }, io: CommandIo): Promise<boolean> {
  const findings = await examineMachine(io.env);
  const missing = findings.filter(({ ok }) => !ok).map(({ name }) => name);
  if (flags.json) {
    writeJson(io, { kind: "os-doctor", version: 1, ok: missing.length === 0, findings });
    return missing.length === 0;
  }
  const rows = findings.map(({ name, ok, found, fix }) => [
    ok ? "✓" : "✗",
    name,
    found,
    fix === undefined ? "" : `→ ${fix}`,
  ]);
  for (const line of markedLines(rows, io)) io.stdout.write(`${line}\n`);
  if (missing.length === 0) return true;
  throw new OsBuilderError("OS_MISSING_TOOLS", `expected all of these, missing: ${missing.join(", ")}`);
}
