import { type CommandIo, markedLines, writeJson } from "@leveret/command";
import { examineMachine, type Finding } from "@leveret/os-builder";
import { SandboxError } from "../errors.ts";
import { builtImage } from "../image.ts";
import { openPlaces } from "../places.ts";

/** What images need that are booted from their firmware on. */
const NOT_NEEDED = new Set(["firmware", "swtpm"]);

/** Says what sandboxes need, and what of it is not there. */
export async function doctor(flags: { json?: true }, io: CommandIo): Promise<void> {
  const ofMachine = (await examineMachine(io.env)).filter(({ name }) => !NOT_NEEDED.has(name));
  const findings = [...ofMachine, await findGuest(io)];
  const missing = findings.filter(({ ok }) => !ok).map(({ name }) => name);
  if (flags.json) writeJson(io, { kind: "sandbox-doctor", version: 1, ok: missing.length === 0, findings });
  else {
    const rows = findings.map(({ name, ok, found, fix }) => [ok ? "✓" : "✗", name, found, fix ? `→ ${fix}` : ""]);
    for (const line of markedLines(rows, io)) io.stdout.write(`${line}\n`);
  }
  if (missing.length === 0) return;
  throw new SandboxError("SANDBOX_MISSING_TOOLS", `expected all of these, missing: ${missing.join(", ")}`);
}

async function findGuest({ env }: CommandIo): Promise<Finding> {
  const image = await builtImage(await openPlaces(env));
  return { name: "guest", ok: true, found: image?.root ?? "not built yet; the first start does it" };
}
