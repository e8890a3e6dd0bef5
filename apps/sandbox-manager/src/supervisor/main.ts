// The one process that a sandbox has on the host besides QEMU: owns the machine, answers on its socket, and takes
// everything with it when it ends, however it ends.
import { createWriteStream } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { json } from "node:stream/consumers";
import { writeState } from "../state.ts";
import { SUPERVISOR_FD, type SupervisorProgress, supervisorSchema } from "./config.ts";
import { startSandboxMachine } from "./machine.ts";
import { described, serve } from "./server.ts";

const progress = createWriteStream("", { fd: SUPERVISOR_FD.progress });
// Who started this may have gone.
progress.on("error", () => {});
const say = (line: SupervisorProgress): void => void progress.write(`${JSON.stringify(line)}\n`);

try {
  const config = supervisorSchema.parse(await json(process.stdin));
  const machine = await startSandboxMachine(config, (step) => say({ step }));
  const stop = (): void => void machine.close();
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, stop);
  const server = await serve(config.socketPath, machine, stop);
  const { name, address, directory, stateDirectory } = config;
  const state = {
    kind: "sandbox",
    version: 1,
    name,
    address,
    directory,
    pid: process.pid,
    startedAt: Date.now(),
  } as const;
  await writeState(stateDirectory, state);
  say({ ready: true });
  progress.end();

  const { reason } = await machine.waitForExit();
  process.stderr.write(`ended: ${reason ?? "killed"}\n`);
  server.close();
  await rm(join(stateDirectory, "state.json"), { force: true });
  process.exit(0);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.stack : error}\n`);
  progress.end(`${JSON.stringify({ error: described(error) })}\n`, () => process.exit(1));
}
