import { type Machine, startMachine } from "@leveret/qemu-harness";
import { SandboxError } from "../errors.ts";
import type { SupervisorConfig } from "./config.ts";
import { forwardPorts } from "./ports.ts";

/** Limit for the first start of a machine, in `milliseconds`. */
const BOOT_TIMEOUT_MS = 180_000;

/** What is done inside before anybody else is let in: a name, the loopback, somewhere to write. */
const PREPARE = `
set -e
hostname "$1"
echo "$1" > /etc/hostname
printf '127.0.0.1 localhost\\n127.0.1.1 %s\\n::1 localhost\\n' "$1" > /etc/hosts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /tmp
mkdir -p /dev/shm /sys/kernel/tracing
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /dev/shm
mount -t tracefs tracefs /sys/kernel/tracing
ip link set lo up
`;

/** Starts a sandbox's machine and makes it one that people can work in. */
export async function startSandboxMachine(config: SupervisorConfig, onStep: (step: string) => void): Promise<Machine> {
  const { image, name, memoryMiB, cpus } = config;
  onStep("starting the machine");
  const machine = await startMachine({
    name,
    memoryMiB,
    cpus,
    machine: "microvm",
    boot: {
      type: "linux",
      kernelPath: image.kernel,
      initrdPath: image.initrd,
      // A guest that cannot go on ends, instead of standing still.
      commandLine: "console=ttyS0 panic=-1",
      fast: true,
    },
    disks: [{ path: image.root, access: "read-only" }],
    agent: true,
  });
  try {
    onStep("booting Linux");
    await machine.agent.ready({ timeoutMs: BOOT_TIMEOUT_MS });
    onStep("preparing it");
    const { exitCode, stderr } = await machine.agent.exec(["/bin/sh", "-c", PREPARE, "sh", name]);
    if (exitCode !== 0) {
      throw new SandboxError("SANDBOX_START_FAILED", `expected the guest to prepare itself, got: ${stderr.trim()}`);
    }
    await forwardPorts(machine, config.address);
    return machine;
  } catch (error) {
    await machine.close();
    throw error;
  }
}
