import { type CommandIo, escapeText, markedLines, writeJson } from "@leveret/command";
import { findSandbox } from "../find.ts";
import { prove as proveSandbox } from "../prove/prove.ts";

/** @returns The exit code: 1 when something has got through. */
export async function prove(name: string | undefined, flags: { json?: true }, io: CommandIo): Promise<number> {
  const sandbox = await findSandbox(name, { directory: io.cwd, env: io.env });
  const proof = await proveSandbox(sandbox, { signal: io.signal });
  if (flags.json) writeJson(io, { kind: "sandbox-proof", version: 1, name: sandbox.name, ...proof });
  else {
    const rows = proof.cases.map(({ name: what, tried, passed, found }) => [
      passed ? "✓" : "✗",
      what,
      found === undefined ? tried : `${tried}: ${found}`,
      "",
    ]);
    for (const line of markedLines(rows, io)) io.stdout.write(`${escapeText(line)}\n`);
  }
  return proof.passed ? 0 : 1;
}
