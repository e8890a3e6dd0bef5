import { open } from "node:fs/promises";
import { resolve } from "node:path";
import { type CommandIo, type ExitCodes, writeJsonLine } from "@leveret/command";
import { checkVmcb, decodeExit, decodeVmcb, VMCB_SIZE } from "@leveret/vmm-native";

/** `leveret-hv inspect` */
export async function inspect(path: string, flags: { json?: true }, io: CommandIo, codes: ExitCodes): Promise<void> {
  const block = await readBlock(resolve(io.cwd, path));
  const vmcb = decodeVmcb(block);
  const violations = checkVmcb(block);
  const exit = decodeExit(block);
  if (violations.length > 0) codes.done = 1;
  if (flags.json === true) {
    writeJsonLine(io, { kind: "leveret-hv.inspect", version: 1, violations, exit, vmcb });
    return;
  }
  const { rip, rsp, cr0, cr3, cr4, efer, guestAsid, nestedCr3 } = vmcb.fields;
  const registers = Object.entries({ rip, rsp, cr0, cr3, cr4, efer, guestAsid, nestedCr3 });
  io.stdout.write(`${registers.map(([name, value]) => `${name} 0x${value.toString(16)}`).join("  ")}\n`);
  io.stdout.write(`last exit: ${exit.text}\n`);
  for (const { rule, section, expected } of violations)
    io.stdout.write(`${rule}: expected that ${expected} (${section})\n`);
  io.stdout.write(violations.length === 0 ? "VMRUN takes it\n" : "VMRUN refuses it\n");
}

/** A byte more than a block has: decoding says when a file is too long, whatever it is. */
async function readBlock(path: string): Promise<Uint8Array> {
  const file = await open(path);
  try {
    const block = new Uint8Array(VMCB_SIZE + 1);
    const { bytesRead } = await file.read(block, 0, block.length, 0);
    return block.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}
