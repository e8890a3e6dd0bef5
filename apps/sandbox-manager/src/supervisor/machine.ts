import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Machine, openTemplateCache, QemuError } from "@leveret/qemu-harness";
import { SandboxError } from "../errors.ts";
import { serveWorkspace, type Workspace, type WorkspaceState } from "../workspace/index.ts";
import { WORKSPACE_PROGRAM } from "../workspace-program.ts";
import type { SupervisorConfig } from "./config.ts";
import { forwardPorts, WATCH_PORTS } from "./ports.ts";

/** Name of the port that the workspace goes over, and where the program that mounts it is in the guest. */
const WORKSPACE_PORT = "workspace";
const MOUNTER = "/run/leveret-workspace";
/** What a guest knows of a workspace that is mounted and has never been looked at. */
const UNSEEN: WorkspaceState = { version: 1, nodes: [] };

/** Limit for the first boot of a guest, in `milliseconds`. */
const BOOT_TIMEOUT_MS = 180_000;

/** What is done inside before the template is taken, and so once for all sandboxes: somewhere to write, the loopback. */
const PREPARE = `
set -e
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /tmp
mkdir -p /dev/shm /sys/kernel/tracing
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /dev/shm
mount -t tracefs tracefs /sys/kernel/tracing
ip link set lo up
mkdir -p /workspace
${MOUNTER} /workspace ${WORKSPACE_PORT}
${WATCH_PORTS}
`;

/**
 * Starts a sandbox's machine, as a fork of one that has booted before, or boots that one first.
 *
 * @param onStep - Told what is being done.
 * @throws {SandboxError} `SANDBOX_START_FAILED`. {QemuError} As `openTemplateCache` and `fork`.
 */
export async function startSandboxMachine(config: SupervisorConfig, onStep: (step: string) => void): Promise<Machine> {
  const { image, name, memoryMiB, cpus } = config;
  await using template = await openTemplateCache({ directory: config.templates }).template({
    description: {
      name: "sandbox",
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
      consoles: [
        { name: "serial0", type: "serial" },
        { name: WORKSPACE_PORT, type: "port" },
      ],
      agent: true,
    },
    key: PREPARE,
    prepare: (machine) => prepare(machine, onStep),
  });
  const machine = await template.fork();
  try {
    const { directory } = config;
    await Promise.all([
      personalise(machine, name),
      serveWorkspace(machine.port(WORKSPACE_PORT), { directory, state: UNSEEN }),
    ]);
    forwardPorts(machine, config.address).catch((error: unknown) => {
      // The end of the machine is the end of its ports, and no news.
      if (!(error instanceof QemuError))
        process.stderr.write(`ports: ${error instanceof Error ? error.message : error}\n`);
    });
    return machine;
  } catch (error) {
    await machine.close();
    throw error;
  }
}

/** Brings a guest to where all sandboxes begin: with a workspace that is mounted, and that nobody has looked at. */
async function prepare(machine: Machine, onStep: (step: string) => void): Promise<void> {
  onStep("booting the guest for the first time");
  await machine.agent.ready({ timeoutMs: BOOT_TIMEOUT_MS });
  onStep("preparing it");
  await machine.agent.writeFile(MOUNTER, await readFile(WORKSPACE_PROGRAM), { mode: 0o755 });
  const empty = await mkdtemp(join(tmpdir(), "leveret-workspace-"));
  let workspace: Workspace | undefined;
  try {
    workspace = await serveWorkspace(machine.port(WORKSPACE_PORT), { directory: empty });
    const { exitCode, stderr } = await machine.agent.exec(["/bin/sh", "-c", PREPARE]);
    if (exitCode !== 0) {
      throw new SandboxError("SANDBOX_START_FAILED", `expected the guest to prepare itself, got: ${stderr.trim()}`);
    }
    const { nodes } = await workspace.pause();
    if (nodes.length > 0) throw new Error("bug: somebody has looked at the workspace before its template was taken");
  } finally {
    workspace?.close();
    await rm(empty, { recursive: true });
  }
  onStep("keeping it as a template");
}

/** Gives a fork what no two machines may have in common; its clock and random numbers are its own already. */
async function personalise({ agent }: Machine, name: string): Promise<void> {
  const hosts = `127.0.0.1 localhost\n127.0.1.1 ${name}\n::1 localhost\n`;
  await Promise.all([
    agent.writeFile("/proc/sys/kernel/hostname", name),
    agent.writeFile("/etc/hostname", `${name}\n`),
    agent.writeFile("/etc/hosts", hosts),
    agent.writeFile("/etc/machine-id", `${randomBytes(16).toString("hex")}\n`),
  ]);
}
