// Our image and mkosi's of the same packages: how long they take, how much room they need, how fast they boot.
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { describeMachine, loadProject } from "../apps/os-builder/dist/index.js";
import { probeAccelerator, startMachine } from "../packages/qemu-harness/dist/index.js";
import { interleave, row } from "./measure.mjs";

const BYTES_PER_BLOCK = 512;
/** Emulated, on a machine that has other work. */
const BOOT_TIMEOUT_MS = 900_000;
const REFUSED = /No bootable option or device was found/;
const STATE = /^state=(\S+)$/m;

/** Everything but downloads and tools is built anew. */
export async function cold({ project, mkosi, rounds = 2 }) {
  const [ours, theirs] = [await project(), await mkosi()];
  const values = await interleave(rounds, {
    ours: async () => {
      await ours.changeSystem();
      const { ms } = await ours.image();
      await ours.noteLeftovers("system", "usr", "initrd", "boot-files", "artefacts");
      return ms;
    },
    theirs: () => theirs.build(),
  });
  return [row("image, all anew", { unit: "ms", ...values, target: 1, note: `mkosi ${theirs.version}` })];
}

/** What both take on the disk; holes don't count. */
export async function disk({ project, mkosi }) {
  const { image } = await (await project()).image();
  const theirs = await mkosi();
  const allocated = async (path) => (await stat(path)).blocks * BYTES_PER_BLOCK;
  const size = async (path) => (await stat(path)).size;
  return [
    row("room on the disk", {
      unit: "bytes",
      ours: [await allocated(image.disk)],
      theirs: [await allocated(theirs.disk)],
      target: 0.6,
    }),
    row("of which kernel image", {
      unit: "bytes",
      ours: [await size(image.uki)],
      theirs: [await size(theirs.uki)],
      target: 0.6,
    }),
  ];
}

/** From power-on until systemd says `running`: the same machine with another disk and other keys. */
export async function boot({ project, mkosi, signal, progress, rounds = 2 }) {
  const [ours, theirs] = [await project(), await mkosi()];
  const { image } = await ours.image();
  const states = { ours: new Set(), theirs: new Set() };
  const loaded = await loadProject(ours.directory);
  const describe = (project, disk) =>
    describeMachine(project, disk, { env: process.env, stateDirectory: join(project.directory, ".leveret") });
  const machines = {
    ours: await describe(loaded, image),
    // The same machine, but it trusts exactly the keys of that image.
    theirs: await describe({ directory: theirs.directory, config: { ...loaded.config, keys: theirs.keys } }, theirs),
  };
  // What an accelerator is good for is found out once, and before the clock runs.
  const { kind } = await probeAccelerator({ signal });
  const start = (side) => async () => {
    progress({ step: "boot", item: side === "ours" ? image.disk : `mkosi's ${theirs.disk}` });
    const { ms, state } = await bootOnce(machines[side], signal);
    states[side].add(state);
    return ms;
  };
  const values = await interleave(rounds, { ours: start("ours"), theirs: start("theirs") });
  const said = Object.entries(states).map(([side, seen]) => `${side} ${[...seen].join(", ")}`);
  return [row("power-on to running", { unit: "ms", ...values, target: 0.7, note: [kind, ...said].join("; ") })];
}

async function bootOnce(description, signal) {
  const startedAt = performance.now();
  const machine = await startMachine(description, { signal, env: process.env });
  try {
    const wait = { timeoutMs: BOOT_TIMEOUT_MS, signal };
    const reported = machine.console("report").waitFor(STATE, wait);
    const refused = machine.serial.waitFor(REFUSED, wait);
    // Whichever did not win fails when the machine is closed.
    for (const promise of [reported, refused]) promise.catch(() => {});
    const { groups, text } = await Promise.race([reported, refused]);
    if (groups.length === 0) throw new Error(`expected ${description.disks[0].path} to boot, got: ${text}`);
    return { ms: performance.now() - startedAt, state: groups[0] };
  } finally {
    await machine.close();
  }
}
