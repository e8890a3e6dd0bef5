import { promisify } from "node:util";
import { gzip } from "node:zlib";
import type { ResolvedMachine } from "../description.ts";
import { readAgent } from "../initrd.ts";

const PROGRAM = "leveret.agent";
const UNIT = "leveret-agent.service";

/**
 * What tells systemd to start the agent: the program, a unit that runs it, and a unit that wants that one. It is started
 * in the system proper, not in its initrd, which ends all that it has started.
 *
 * @see systemd-debug-generator(8), "System credentials", since systemd 256
 */
const UNITS: Readonly<Record<string, string>> = {
  [`systemd.extra-unit.${UNIT}`]: `[Unit]
Description=Agent of the host's qemu-harness
DefaultDependencies=no
ConditionPathExists=!/etc/initrd-release
[Service]
Type=exec
ImportCredential=${PROGRAM}
ExecStart=/bin/sh -c 'gzip -dc <%d/${PROGRAM} >/run/${PROGRAM} && chmod 700 /run/${PROGRAM} && exec /run/${PROGRAM}'
TasksMax=infinity
`,
  "systemd.unit-dropin.basic.target~leveret-agent": `[Unit]
Wants=${UNIT}
`,
};

/** The program as it is sent, the same for all machines. */
let packed: Uint8Array | undefined;

/** Names of the credentials that bring the agent into a machine: none where its initrd does. */
export function agentCredentialNames({ agent, boot }: Pick<ResolvedMachine, "agent" | "boot">): readonly string[] {
  return agent && (boot.type === "uefi" || boot.type === "bios") ? [PROGRAM, ...Object.keys(UNITS)] : [];
}

/**
 * The agent as credentials, a tenth of its size.
 *
 * @throws {QemuError} `QEMU_TOOL_NOT_FOUND` in a checkout that was built without Rust.
 */
export async function agentCredentials(): Promise<Readonly<Record<string, string | Uint8Array>>> {
  packed ??= await promisify(gzip)(await readAgent(), { level: 9 });
  return { [PROGRAM]: packed, ...UNITS };
}
