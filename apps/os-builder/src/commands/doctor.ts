import { type CommandIo, style, table, writeJson } from "@leveret/command";
import { examineMachine } from "../doctor.ts";
import { OsBuilderError } from "../errors.ts";

export async function doctor(flags: { json?: true }, io: CommandIo): Promise<void> {
  const findings = await examineMachine(io.env);
  const missing = findings.filter(({ ok }) => !ok);
  if (flags.json) writeJson(io, { kind: "os-doctor", version: 1, ok: missing.length === 0, findings });
  else {
    const rows = findings.map(({ name, ok, found, fix }) => [
      ok ? "✓" : "✗",
      name,
      found,
      fix === undefined ? "" : `→ ${fix}`,
    ]);
    for (const line of table(rows).split("\n")) {
      io.stdout.write(
        `${style(io.stdout, io.env, line.startsWith("✓") ? "green" : "red", line.slice(0, 1))}${line.slice(1)}\n`,
      );
    }
  }
  if (missing.length > 0) {
    throw new OsBuilderError(
      "OS_MISSING_TOOLS",
      `expected all of these, missing: ${missing.map(({ name }) => name).join(", ")}`,
    );
  }
}
