import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { encodeCpio, type Machine, type MachineDescription } from "../src/index.ts";
import { busybox, debianKernel } from "./kernel.ts";

const IMAGE_MIB = 16;

/** A machine with an agent, busybox, and one disk, `/dev/vda`, which this process serves. */
export function diskGuest(directory: string): MachineDescription {
  const modules = join(process.env.LEVERET_TRIXIE_TREE ?? "", "usr/lib/modules");
  const [release = ""] = readdirSync(modules);
  const packed = join(modules, release, "kernel/drivers/block/virtio_blk.ko.xz");
  const driver = execFileSync("xz", ["-dc", packed], { maxBuffer: 1 << 26 });
  const initrdPath = join(directory, "initrd");
  writeFileSync(initrdPath, encodeCpio([busybox(), { path: "virtio_blk.ko", data: driver }], 0));
  return {
    machine: "microvm",
    memoryMiB: 160,
    boot: {
      type: "linux",
      kernelPath: debianKernel() ?? "",
      initrdPath,
      commandLine: "console=ttyS0",
      fast: true,
    },
    disks: [{ type: "device", name: "data" }],
    agent: true,
  };
}

/** Loads the driver of the disk. */
export async function prepare(machine: Machine): Promise<void> {
  await run(machine, "busybox mkdir -p /data && busybox insmod /virtio_blk.ko && busybox test -b /dev/vda");
}

/** Runs a script, and returns what it printed. */
export async function run(machine: Machine, script: string): Promise<string> {
  const { exitCode, stdout, stderr } = await machine.agent.exec(["/bin/busybox", "sh", "-ec", script]);
  if (exitCode !== 0) throw new Error(`${script}: ${stderr.trim() || `exit code ${exitCode}`}`);
  return stdout.trim();
}

/** An ext4 file system with one file, `config`. */
export function writeExt4(directory: string, config: string): string {
  const [path, content] = [join(directory, "ext4.raw"), join(directory, "content")];
  mkdirSync(content, { recursive: true });
  writeFileSync(join(content, "config"), config);
  execFileSync("mke2fs", ["-q", "-F", "-t", "ext4", "-b", "4096", "-d", content, path, `${IMAGE_MIB}M`], {
    stdio: "pipe",
  });
  return path;
}
