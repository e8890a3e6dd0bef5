// A disk that is served by Node beside the same machine's disk that is a raw file: what the guest reads and writes a second.
import { execFileSync } from "node:child_process";
import { readdir, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createBlockDevice, encodeCpio, startMachine } from "../packages/qemu-harness/dist/index.js";
import { makeOracleTrees } from "../scripts/oracle-trees.mjs";
import { interleave, row } from "./measure.mjs";

const MEBIBYTE = 1024 * 1024;
const SIZE_MIB = 128;
/** The disk that is a file comes first. */
const DISKS = { theirs: "/dev/vda", ours: "/dev/vdb" };

/** Milliseconds for 128 MiB, each way, past the guest's page cache. */
export async function diskInNode({ temporary, signal, rounds = 3 }) {
  const directory = await temporary("disk");
  const path = join(directory, "disk.raw");
  await writeFile(path, "");
  await truncate(path, SIZE_MIB * MEBIBYTE);
  const data = await createBlockDevice({ path, maxWrittenBytes: (rounds + 1) * 2 * SIZE_MIB * MEBIBYTE });
  try {
    const machine = await startMachine(
      {
        machine: "microvm",
        memoryMiB: 256,
        boot: { type: "linux", ...(await guest(directory)), fast: true },
        disks: [{ path }, { type: "device", name: "data" }],
        agent: true,
      },
      { devices: { data }, signal },
    );
    try {
      return await rows(machine, rounds);
    } finally {
      await machine.close();
    }
  } finally {
    await data.close();
  }
}

async function rows(machine, rounds) {
  const sh = async (script) => {
    const { exitCode, stderr } = await machine.agent.exec(["/bin/busybox", "sh", "-ec", script], {
      timeoutMs: 300_000,
    });
    if (exitCode !== 0) throw new Error(`${script}: ${stderr}`);
  };
  await sh("busybox insmod /virtio_blk.ko");
  const measure = (script) =>
    interleave(
      rounds,
      Object.fromEntries(
        Object.entries(DISKS).map(([side, device]) => [
          side,
          async () => {
            const startedAt = performance.now();
            await sh(script(device));
            return performance.now() - startedAt;
          },
        ]),
      ),
    );
  const count = `bs=1M count=${SIZE_MIB}`;
  const written = await measure(
    (device) => `busybox dd if=/dev/zero of=${device} ${count} oflag=direct conv=notrunc,fsync`,
  );
  const read = await measure((device) => `busybox dd if=${device} of=/dev/null ${count} iflag=direct`);
  const note = `${SIZE_MIB} MiB, beside a raw file`;
  return [
    row("disk in Node, written", { unit: "ms", ...written, target: 2, note }),
    row("disk in Node, read", { unit: "ms", ...read, target: 2, note }),
  ];
}

async function guest(directory) {
  const { LEVERET_TRIXIE_TREE: tree } = await makeOracleTrees();
  const [release] = await readdir(join(tree, "usr/lib/modules"));
  const driver = join(tree, "usr/lib/modules", release, "kernel/drivers/block/virtio_blk.ko.xz");
  const busybox = execFileSync("which", ["busybox"], { encoding: "utf8" }).trim();
  const initrdPath = join(directory, "initrd");
  const files = [
    { path: "bin/busybox", data: await readFile(busybox), executable: true },
    { path: "virtio_blk.ko", data: execFileSync("xz", ["-dc", driver], { maxBuffer: 64 * MEBIBYTE }) },
  ];
  await writeFile(initrdPath, encodeCpio(files, 0));
  return { kernelPath: join(tree, "boot", `vmlinuz-${release}`), initrdPath };
}
