import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { encodeCpio } from "./cpio.ts";
import { QemuError } from "./errors.ts";

/** Where the agent is in the initrd, and what the kernel is told to start. */
export const AGENT_INIT = "/leveret/agent";

/** The agent as it was built with this package. */
export const AGENT_FILE = fileURLToPath(new URL("../dist/leveret-agent", import.meta.url));

/**
 * An initrd that begins with the agent, which then starts what the machine's own initrd would have started, or waits
 * for commands when there is none.
 *
 * @param initrd - The machine's own: archives that the kernel unpacks before this one.
 * @throws {QemuError} `QEMU_TOOL_NOT_FOUND` in a checkout that was built without Rust.
 */
export async function initrdWithAgent(initrd: Uint8Array = new Uint8Array()): Promise<Uint8Array> {
  const data = await readAgent();
  const archive = encodeCpio([{ path: AGENT_INIT.slice(1), data, executable: true }], 0);
  // Archives begin at multiples of four.
  const gap = new Uint8Array((4 - (initrd.length % 4)) % 4);
  return Buffer.concat([initrd, gap, archive]);
}

/** @throws {QemuError} `QEMU_TOOL_NOT_FOUND` */
export async function readAgent(): Promise<Uint8Array> {
  return readFile(AGENT_FILE).catch((cause: unknown) => {
    throw new QemuError("QEMU_TOOL_NOT_FOUND", "expected the agent for guests beside this package, got none", {
      path: AGENT_FILE,
      hint: "install a Rust toolchain (see rustup.rs) and build the package again",
      cause,
    });
  });
}
