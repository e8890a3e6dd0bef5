// A machine with Debian's kernel and the agent on a microvm, emulated: from the call to the agent's answer, Node's part
// included. Forked from a template of this process, continued from a snapshot on the disk, which is read and compared
// with its digests first, and booted.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { openSnapshot, startMachine } from "../packages/qemu-harness/dist/index.js";
import { makeOracleTrees } from "../scripts/oracle-trees.mjs";
import { median, NotRunnable, row, timed } from "./measure.mjs";

const ROUNDS = 9;
const BOOTS = 3;
const TARGET_FORK_MS = 150;
/** Continued from the disk against booted. */
const TARGET_SNAPSHOT_RATIO = 0.25;

export async function fork({ temporary, signal, progress, rounds = ROUNDS }) {
  const step = (item) => progress({ step: "fork", item });
  const directory = await temporary("fork");
  const boot = { type: "linux", kernelPath: await kernel(), commandLine: "console=ttyS0", fast: true };
  const description = { machine: "microvm", memoryMiB: 256, boot, agent: true };
  const options = { accelerator: "tcg", signal };
  const boots = [];
  let machine;
  for (let round = 0; round < BOOTS; round += 1) {
    step(`boot ${round + 1} of ${BOOTS}`);
    await machine?.close();
    boots.push(
      await timed(async () => {
        machine = await startMachine({ ...description, forkable: true }, options);
        await machine.agent.ready({ signal });
      }),
    );
  }
  step("template");
  const template = await machine.template({ signal });
  const path = join(directory, "snapshot");
  const saved = await timed(() => template.save(path, { signal }));
  const forks = { all: [], started: [] };
  const snapshots = { all: [], opened: [] };
  const answer = async (from) => {
    const one = await from.fork({ signal });
    const started = performance.now();
    await one.agent.ready({ signal });
    return { one, started };
  };
  try {
    for (let round = 0; round < rounds; round += 1) {
      step(`fork ${round + 1} of ${rounds}`);
      const startedAt = performance.now();
      const { one, started } = await answer(template);
      forks.all.push(performance.now() - startedAt);
      forks.started.push(started - startedAt);
      await one.close();
      step(`snapshot ${round + 1} of ${rounds}`);
      const openedAt = performance.now();
      const again = await openSnapshot(path, { signal });
      snapshots.opened.push(performance.now() - openedAt);
      const { one: other } = await answer(again);
      snapshots.all.push(performance.now() - openedAt);
      await other.close();
      await again.close();
    }
  } finally {
    await template.close();
  }
  const ms = (values) => Math.round(median(values));
  const forkNote = `${ms(forks.started)} ms to start it, the rest to its answer`;
  const snapshotNote = `${ms(snapshots.opened)} ms to open it; saved in ${Math.round(saved)} ms`;
  return [
    row("fork to the agent's answer", { unit: "ms", ours: forks.all, target: TARGET_FORK_MS, note: forkNote }),
    row("snapshot to the agent's answer, against a boot", {
      unit: "ms",
      ours: snapshots.all,
      theirs: boots,
      target: TARGET_SNAPSHOT_RATIO,
      note: snapshotNote,
    }),
  ];
}

async function kernel() {
  const { LEVERET_TRIXIE_TREE: tree } = await makeOracleTrees();
  const name = (await readdir(join(tree, "boot"))).find((entry) => entry.startsWith("vmlinuz-"));
  if (name === undefined) throw new NotRunnable("no kernel in the tree of oracles");
  return join(tree, "boot", name);
}
