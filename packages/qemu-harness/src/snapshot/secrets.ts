import type { ResolvedMachine } from "../description.ts";
import { QemuError } from "../errors.ts";

/** How systemd is given credentials, in SMBIOS strings and firmware configuration items. */
const CREDENTIAL_STRING = /^io\.systemd\.credential(\.binary)?:/;
const CREDENTIAL_ITEM = "opt/io.systemd.credentials/";

/**
 * Refuses a machine that was given secrets: firmware and kernel have them in memory, and a snapshot has the memory.
 *
 * @throws {QemuError} `QEMU_SNAPSHOT_SECRET`, which names them and says nothing of what they are.
 * @see systemd, docs/CREDENTIALS.md, "Security" and "Relevant Paths"
 */
export function assertNoSecrets({ name, credentials, smbiosStrings, fwCfg }: ResolvedMachine): void {
  const found = [
    ...Object.keys(credentials).map((each) => `credentials.${each}`),
    ...smbiosStrings.flatMap((value, index) => (CREDENTIAL_STRING.test(value) ? [`smbiosStrings[${index}]`] : [])),
    ...fwCfg.filter((item) => item.name.startsWith(CREDENTIAL_ITEM)).map((item) => `fwCfg ${item.name}`),
  ];
  if (found.length === 0) return;
  const message = `expected a machine without credentials to keep on a disk, got ${name} with ${found.join(", ")}`;
  throw new QemuError("QEMU_SNAPSHOT_SECRET", message, {
    hint: "they would be in its memory: give them to each fork, for example with agent.writeFile",
  });
}
