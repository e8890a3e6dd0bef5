import { type CommandIo, escapeText, table, UsageError, writeJson } from "@leveret/command";
import { findSandbox } from "../find.ts";
import type { NetworkLogEntry } from "../network/messages.ts";
import { readPresets } from "../network/options.ts";
import type { Sandbox } from "../sandbox.ts";

interface Flags {
  readonly name?: string;
  readonly json?: true;
}

/** `example.org` and `example.org:8443` */
const HOST_AND_PORT = /^([^:\s]+)(?::(\d{1,5}))?$/;
const HTTPS_PORT = 443;

export async function log(name: string | undefined, flags: Flags, io: CommandIo): Promise<void> {
  const sandbox = await find(name, io);
  const { log: entries } = await sandbox.net.report();
  if (flags.json) {
    writeJson(io, { kind: "sandbox-net-log", version: 1, name: sandbox.name, entries });
    return;
  }
  if (entries.length === 0) {
    io.stdout.write(`${sandbox.name} has not tried to reach anything\n`);
    return;
  }
  const rows = entries.map((entry) => [
    new Date(entry.lastAt).toISOString(),
    `${entry.times}`,
    entry.verdict,
    entry.protocol,
    entry.port === undefined ? entry.host : `${entry.host}:${entry.port}`,
    entry.reason === undefined
      ? `${entry.sentBytes} bytes out, ${entry.receivedBytes} in`
      : `${entry.reason}${entry.request === undefined ? "" : `: ${entry.request}`}`,
  ]);
  // Names are the guest's.
  io.stdout.write(`${escapeText(table([["LAST", "TIMES", "VERDICT", "PROTOCOL", "WHERE", "WHAT"], ...rows]))}\n`);
}

/** @returns The exit code: 1 when it is refused. */
export async function why(
  where: string,
  request: { readonly method: string; readonly target: string } | undefined,
  flags: Flags,
  io: CommandIo,
): Promise<number> {
  const [, host, port = `${HTTPS_PORT}`] = HOST_AND_PORT.exec(where) ?? [];
  if (host === undefined) throw new UsageError(`expected HOST or HOST:PORT, got ${JSON.stringify(where)}`);
  const sandbox = await find(flags.name, io);
  const explanation = await sandbox.net.why(host, Number(port), request);
  const { allowed, rule, reason, hint, addresses = [], limits, secrets = [] } = explanation;
  if (flags.json) writeJson(io, { kind: "sandbox-net-why", version: 1, name: sandbox.name, ...explanation });
  else {
    const said = rule === undefined ? "" : `, rule ${rule.text} (${rule.source})`;
    const what = allowed ? `allowed${said}, leads to ${addresses.join(", ")}` : `refused: ${reason}${said}`;
    const asked = request === undefined ? "" : `${request.method} ${request.target} of `;
    io.stdout.write(`${escapeText(`${asked}${explanation.host}:${explanation.port} is ${what}`)}\n`);
    for (const verb of ["allow", "deny"] as const) {
      for (const text of limits?.[verb] ?? []) io.stdout.write(`  requests are looked at: ${verb} ${text}\n`);
    }
    if (secrets.length > 0) io.stdout.write(`  secrets are put into requests: ${secrets.join(", ")}\n`);
    if (hint !== undefined) io.stdout.write(`  ${hint}\n`);
  }
  return allowed ? 0 : 1;
}

export async function change(
  verb: "allow" | "deny",
  rules: readonly string[],
  flags: Flags,
  io: CommandIo,
): Promise<void> {
  const sandbox = await find(flags.name, io);
  await sandbox.net[verb](...rules);
  await printRules(sandbox, flags, io);
}

export async function secret(secrets: readonly string[], flags: Flags, io: CommandIo): Promise<void> {
  const sandbox = await find(flags.name, io);
  await sandbox.net.grant(...secrets);
  io.stdout.write(`${sandbox.name} has placeholders of ${secrets.map((text) => text.split("=")[0]).join(", ")}\n`);
}

/** Prints rules as a file that `start --rules` takes. */
export async function rules(name: string | undefined, flags: { readonly used?: true }, io: CommandIo): Promise<void> {
  const sandbox = await find(name, io);
  const report = await sandbox.net.report();
  const texts = (list: typeof report.rules.allow): string[] => list.map(({ text }) => text);
  const allow = flags.used ? usedRules(report.log) : texts(report.rules.allow);
  const file = { allow, deny: texts(report.rules.deny) };
  io.stdout.write(`${JSON.stringify(file, undefined, 2)}\n`);
}

export async function presets(flags: Flags, io: CommandIo): Promise<void> {
  const known = await readPresets();
  if (flags.json) {
    writeJson(io, { kind: "sandbox-net-presets", version: 1, presets: known });
    return;
  }
  const rows = Object.entries(known).map(([name, { description, allow, url = [] }]) => [
    name,
    description,
    url.length === 0 ? allow.join(" ") : `what "${url.join(" ")}" prints`,
  ]);
  io.stdout.write(`${table([["PRESET", "WHAT", "RULES"], ...rows])}\n`);
}

async function printRules(sandbox: Sandbox, flags: Flags, io: CommandIo): Promise<void> {
  const { rules: inForce } = await sandbox.net.report();
  if (flags.json) {
    writeJson(io, { kind: "sandbox-net-rules", version: 1, name: sandbox.name, ...inForce });
    return;
  }
  const rows = (["allow", "deny"] as const).flatMap((verb) =>
    inForce[verb].map(({ text, source }) => [verb, text, source]),
  );
  io.stdout.write(rows.length === 0 ? "nothing is allowed\n" : `${table([["RULE", "FOR", "SAID BY"], ...rows])}\n`);
}

/** The narrowest rules that allow what was allowed. */
function usedRules(log: readonly NetworkLogEntry[]): string[] {
  const used = log
    .filter(({ verdict }) => verdict === "allowed")
    .map(({ host, port, protocol, rule = "" }) => {
      const [where = "", ...requests] = rule.split(" ");
      const [, target] = where.split("=");
      const scheme = protocol === "tcp" ? "tcp://" : "";
      return [`${scheme}${host}:${port}${target === undefined ? "" : `=${target}`}`, ...requests].join(" ");
    });
  return [...new Set(used)].sort();
}

async function find(name: string | undefined, io: CommandIo): Promise<Sandbox> {
  return findSandbox(name, { directory: io.cwd, env: io.env });
}
