import type { Machine } from "../src/index.ts";

/** Where the firmware's shell waits for a command. */
export const PROMPT = /Shell> $/;

/** Waits for the shell of a firmware that has nothing else to start. */
export async function reachShell(machine: Machine): Promise<void> {
  await machine.serial.waitFor("any other key to continue");
  await machine.serial.write("\u001b");
  await machine.serial.waitFor(PROMPT);
}

/**
 * Gives the shell a command and finds patterns in what it prints. On a busy machine the firmware drops what its serial
 * port does not take at once, so it may have to say it again.
 */
export async function ask(machine: Machine, command: string, patterns: readonly RegExp[]): Promise<RegExpExecArray[]> {
  let said = "";
  for (let attempt = 0; attempt < 5; attempt += 1) {
    await machine.serial.sendLine(command);
    said += (await machine.serial.waitFor(/[\s\S]*Shell> $/)).text;
    const found = patterns.map((pattern) => pattern.exec(said)).filter((match) => match !== null);
    if (found.length === patterns.length) return found;
  }
  throw new Error(`expected ${patterns.join(" and ")} of ${command}, got:\n${said}`);
}
