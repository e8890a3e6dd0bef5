import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { encodeGuid } from "../../src/index.ts";
import { run } from "./oracles.ts";

/** What a test program does besides printing: one SetVariable call. */
export interface SetVariableCall {
  readonly name: string;
  readonly guid: string;
  readonly attributes: number;
  readonly data: Uint8Array;
}

/** What a test program prints when its SetVariable call, if any, succeeded. */
export const ACCEPTED = "LEVERET ACCEPTED";
/** What a test program prints when its SetVariable call failed. */
export const REFUSED = "LEVERET REFUSED";

/**
 * An EFI program for x86-64: calls SetVariable if told to, prints {@link ACCEPTED} or {@link REFUSED}, and returns. One
 * section holds code and data, and all addresses are relative, so there is nothing to relocate.
 */
export function efiProgram(call?: SetVariableCall): Uint8Array {
  const labels = {
    accepted: utf16(`${ACCEPTED}\r\n`),
    refused: utf16(`${REFUSED}\r\n`),
    name: utf16(call?.name ?? ""),
    guid: encodeGuid(call?.guid ?? "00000000-0000-0000-0000-000000000000"),
    data: call?.data ?? new Uint8Array(),
  };
  const setVariable = [
    "48 8b 42 58", // mov rax, [rdx+0x58]: EFI_SYSTEM_TABLE.RuntimeServices
    "48 8b 40 58", // mov rax, [rax+0x58]: EFI_RUNTIME_SERVICES.SetVariable
    "48 8d 0d name", // lea rcx, [rip+name]
    "48 8d 15 guid", // lea rdx, [rip+guid]
    `41 b8 ${imm32(call?.attributes ?? 0)}`, // mov r8d, attributes
    `41 b9 ${imm32(labels.data.length)}`, // mov r9d, size
    "4c 8d 15 data", // lea r10, [rip+data]
    "4c 89 54 24 20", // mov [rsp+0x20], r10: fifth argument, behind the shadow space
    "ff d0", // call rax
  ];
  const code = [
    "48 83 ec 38", // sub rsp, 0x38
    "48 89 54 24 30", // mov [rsp+0x30], rdx: the system table
    "31 c0", // xor eax, eax
    ...(call === undefined ? [] : setVariable),
    "48 89 44 24 28", // mov [rsp+0x28], rax: the status
    "48 8b 4c 24 30", // mov rcx, [rsp+0x30]
    "48 8b 49 40", // mov rcx, [rcx+0x40]: EFI_SYSTEM_TABLE.ConOut
    "48 8d 15 refused", // lea rdx, [rip+refused]
    "48 85 c0", // test rax, rax
    "75 07", // jnz over the next instruction
    "48 8d 15 accepted", // lea rdx, [rip+accepted]
    "ff 51 08", // call [rcx+8]: EFI_SIMPLE_TEXT_OUTPUT_PROTOCOL.OutputString
    "48 8b 44 24 28", // mov rax, [rsp+0x28]
    "48 83 c4 38", // add rsp, 0x38
    "c3", // ret
  ];
  return image(assemble(code, labels));
}

/** A FAT image that firmware boots `program` from. */
export function bootDisk(
  folder: string,
  program: Uint8Array,
  files: Readonly<Record<string, string | Uint8Array>> = {},
): string {
  const [disk, file] = [join(folder, "esp.img"), join(folder, "bootx64.efi")];
  writeFileSync(file, program);
  run("mkfs.vfat", ["-C", "-F", "32", disk, "34816"]);
  run("mmd", ["-i", disk, "::EFI", "::EFI/BOOT"]);
  run("mcopy", ["-i", disk, file, "::EFI/BOOT/BOOTX64.EFI"]);
  const made = new Set<string>();
  for (const [path, content] of Object.entries(files)) {
    const names = path.split("/").slice(0, -1);
    for (const parent of names.map((_, index) => names.slice(0, index + 1).join("/"))) {
      if (!made.has(parent)) run("mmd", ["-i", disk, `::${parent}`]);
      made.add(parent);
    }
    writeFileSync(join(folder, "file"), content);
    run("mcopy", ["-i", disk, join(folder, "file"), `::${path}`]);
  }
  return disk;
}

function assemble(code: readonly string[], labels: Readonly<Record<string, Uint8Array>>): Uint8Array {
  const tokens = code.flatMap((line) => line.split(" "));
  const size = tokens.reduce((sum, token) => sum + (token in labels ? 4 : 1), 0);
  const addresses = new Map<string, number>();
  let end = size;
  for (const [name, bytes] of Object.entries(labels)) {
    addresses.set(name, end);
    end += bytes.length;
  }
  const output = Buffer.alloc(end);
  let at = 0;
  for (const token of tokens) {
    const address = addresses.get(token);
    // Relative to the end of the instruction, which every label ends here.
    if (address === undefined) at = output.writeUInt8(Number.parseInt(token, 16), at);
    else at = output.writeInt32LE(address - (at + 4), at);
  }
  for (const [name, bytes] of Object.entries(labels)) output.set(bytes, addresses.get(name));
  return output;
}

/** PE32+ with one section; Microsoft PE/COFF specification, sections 2 to 4. */
function image(section: Uint8Array): Uint8Array {
  const headerSize = 0x200;
  const rawSize = Math.ceil(section.length / 0x200) * 0x200;
  const file = Buffer.alloc(headerSize + rawSize);
  file.write("MZ", 0);
  file.writeUInt32LE(0x40, 0x3c);
  file.write("PE\0\0", 0x40);
  file.writeUInt16LE(0x8664, 0x44); // Machine: x86-64
  file.writeUInt16LE(1, 0x46); // NumberOfSections
  file.writeUInt16LE(0xf0, 0x54); // SizeOfOptionalHeader
  file.writeUInt16LE(0x22, 0x56); // Characteristics: executable, large addresses
  file.writeUInt16LE(0x20b, 0x58); // Magic: PE32+
  file.writeUInt32LE(rawSize, 0x5c); // SizeOfCode
  file.writeUInt32LE(0x1000, 0x68); // AddressOfEntryPoint
  file.writeUInt32LE(0x1000, 0x6c); // BaseOfCode
  file.writeUInt32LE(0x1000, 0x78); // SectionAlignment
  file.writeUInt32LE(0x200, 0x7c); // FileAlignment
  file.writeUInt32LE(0x1000 + Math.ceil(rawSize / 0x1000) * 0x1000, 0x90); // SizeOfImage
  file.writeUInt32LE(headerSize, 0x94); // SizeOfHeaders
  file.writeUInt16LE(10, 0x9c); // Subsystem: EFI application
  file.writeUInt32LE(16, 0xc4); // NumberOfRvaAndSizes
  const header = 0x148;
  file.write(".text", header);
  file.writeUInt32LE(section.length, header + 8); // VirtualSize
  file.writeUInt32LE(0x1000, header + 12); // VirtualAddress
  file.writeUInt32LE(rawSize, header + 16); // SizeOfRawData
  file.writeUInt32LE(headerSize, header + 20); // PointerToRawData
  file.writeUInt32LE(0xe0000020, header + 36); // code; executable, readable, writable
  file.set(section, headerSize);
  return file;
}

function utf16(text: string): Uint8Array {
  return Buffer.from(`${text}\0`, "utf16le");
}

function imm32(value: number): string {
  const octets = Buffer.alloc(4);
  octets.writeUInt32LE(value);
  return octets.toString("hex").replace(/..(?!$)/g, "$& ");
}
