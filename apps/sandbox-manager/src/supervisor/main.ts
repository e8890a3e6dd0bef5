// The one process that a sandbox has on the host besides QEMU: owns the machine, answers on its socket, and takes
// everything with it when it ends, however it ends.
import { createWriteStream } from "node:fs";
import { json } from "node:stream/consumers";
import { forgetCheckpoints, inheritApplied } from "../checkpoint.ts";
import { forgetState, type SandboxState, writeState } from "../state.ts";
import { SUPERVISOR_FD, type SupervisorProgress, supervisorSchema } from "./config.ts";
import { Guest } from "./guest.ts";
import { described, serve } from "./server.ts";

const progress = createWriteStream("", { fd: SUPERVISOR_FD.progress });
// Who started this may have gone.
progress.on("error", () => {});
const say = (line: SupervisorProgress): void => void progress.write(`${JSON.stringify(line)}\n`);

try {
  const config = supervisorSchema.parse(await json(process.stdin));
  const { sandbox, stateDirectory, origin } = config;
  await forgetCheckpoints(stateDirectory);
  if (origin.kind === "checkpoint") await inheritApplied(origin.path, stateDirectory);
  const guest = await Guest.start(config, (step) => say({ step }));
  const stop = (): void => guest.stop();
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, stop);
  const state: SandboxState = {
    kind: "sandbox",
    version: 1,
    ...sandbox,
    pid: process.pid,
    startedAt: Date.now(),
    since: guest.since,
  };
  // Whoever is answered finds what is said of the sandbox to be of this one.
  await writeState(stateDirectory, state);
  const server = await serve(config.socketPath, { id: sandbox.id, guest, onStop: stop });
  say({ ready: state });
  progress.end();

  process.stderr.write(`ended: ${await guest.ended()}\n`);
  server.close();
  // What is said of it goes last: until then, somebody else cleans up if this process is killed.
  await forgetCheckpoints(stateDirectory);
  await forgetState(stateDirectory);
  process.exit(0);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.stack : error}\n`);
  progress.end(`${JSON.stringify({ error: described(error) })}\n`, () => process.exit(1));
}
