import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Machine, openTemplateCache, type Template } from "@leveret/qemu-harness";
import { CHANGES } from "../changes/layer.ts";
import { SandboxError } from "../errors.ts";
import type { Image } from "../image.ts";
import { Gateway } from "../network/gateway.ts";
import { CONFIGURE_NETWORK, GUEST_MAC } from "../network/guest.ts";
import { serveWorkspace, type Workspace } from "../workspace/index.ts";
import { WORKSPACE_PROGRAM } from "../workspace-program.ts";
import { LISTENERS_PORT, WATCH_PORTS } from "./ports.ts";

/** Name of the port that the workspace goes over. */
export const WORKSPACE_PORT = "workspace";
/** Name of the network that its card is on. */
export const NETWORK = "gateway";
/** Where the program that mounts it is in the guest. */
const MOUNTER = "/run/leveret-workspace";
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
mkdir -p /workspace ${CHANGES}
mount -t tmpfs -o mode=0700,nosuid,nodev tmpfs ${CHANGES}
mkdir ${CHANGES}/upper ${CHANGES}/work
${MOUNTER} /workspace ${WORKSPACE_PORT}
${CONFIGURE_NETWORK}
${WATCH_PORTS}
`;

/** What a template is made of, and where it is kept. */
interface TemplateRequest {
  readonly image: Image;
  readonly memoryMiB: number;
  readonly cpus: number;
  readonly templates: string;
}

/** What sandboxes are forks of: a guest that has booted and is prepared; booted first if nobody has yet. */
export async function openTemplate(
  { image, memoryMiB, cpus, templates }: TemplateRequest,
  onStep: (step: string) => void,
): Promise<Template> {
  const program = await readFile(WORKSPACE_PROGRAM);
  return openTemplateCache({ directory: templates }).template({
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
        { name: LISTENERS_PORT, type: "port" },
      ],
      networks: [{ type: "private", name: NETWORK, mac: GUEST_MAC }],
      agent: true,
    },
    networks: { [NETWORK]: new Gateway().plug().network },
    key: [PREPARE, createHash("sha256").update(program).digest("hex")],
    prepare: (machine) => prepare(machine, program, onStep),
  });
}

/** Brings a guest to where all sandboxes begin: with a workspace that is mounted, and that nobody has looked at. */
async function prepare(machine: Machine, program: Uint8Array, onStep: (step: string) => void): Promise<void> {
  onStep("booting the guest for the first time");
  await machine.agent.ready({ timeoutMs: BOOT_TIMEOUT_MS });
  onStep("preparing it");
  await machine.agent.writeFile(MOUNTER, program, { mode: 0o755 });
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
