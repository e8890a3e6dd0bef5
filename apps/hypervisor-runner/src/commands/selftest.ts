import { type CommandIo, type ExitCodes, table, writeJsonLine } from "@leveret/command";
import { selfTest } from "@leveret/vmm-native";

/** `leveret-hv selftest` */
export async function selftest(flags: { json?: true }, io: CommandIo, codes: ExitCodes): Promise<void> {
  const [legal, ...rules] = await selfTest({ env: io.env, signal: io.signal });
  const runs = legal?.refused === false;
  if (!runs) codes.done = 1;
  if (flags.json === true) {
    writeJsonLine(io, { kind: "leveret-hv.selftest", version: 1, runs, rules });
    return;
  }
  const enforced = rules.filter(({ refused }) => refused);
  const rows = rules.map(({ rule, refused, exit }) => [
    rule,
    refused ? "refused" : `taken, though it must not be: ${exit}`,
  ]);
  io.stdout.write(`${table([["RULE", "A BLOCK THAT BREAKS IT"], ...rows])}\n`);
  io.stdout.write(`${enforced.length} of ${rules.length} rules are enforced; guests ${runs ? "run" : "do not run"}\n`);
}
