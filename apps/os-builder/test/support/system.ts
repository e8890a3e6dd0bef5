import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type DebianLock, readDebianLock } from "@leveret/nix-gen";
import { checkDescription, type OsConfig, type OsDescription } from "../../src/config/schema.ts";
import type { Project } from "../../src/index.ts";
import type { Artefacts } from "../../src/nix/artefacts.ts";

/** A description of the smallest image there can be. */
export const TINY = {
  id: "tiny",
  version: "1.0",
  source: { kind: "debian", suite: "trixie" },
  disk: { espMiB: 33, usrMiB: 1, rootMiB: 64 },
} as const satisfies OsDescription;

/** A lock with nothing in it but its date. */
export const TINY_LOCK = {
  releases: [{ date: "2026-01-02T03:04:06Z" }],
} as unknown as DebianLock;

/** The lock of the example: real packages. */
export function exampleLock(): Promise<DebianLock> {
  return readDebianLock(fileURLToPath(new URL("../../../../examples/particle/os.lock.json", import.meta.url)));
}

/** A checked config; the description has to be right. */
export function configOf(description: OsDescription): OsConfig {
  const checked = checkDescription(description);
  if ("issues" in checked) throw new Error(JSON.stringify(checked.issues));
  return checked.config;
}

/** A project in a directory, as if it had been loaded. */
export function projectIn(directory: string, description: OsDescription = TINY): Project {
  return { directory, configFile: join(directory, "os.config.ts"), config: configOf(description) };
}

/** Artefacts as Nix would build them, but with hardly anything in them; `hash` stands for that of a store path. */
export async function writeArtefacts(
  directory: string,
  { hash = "hash", usr = tinyErofs() }: { readonly hash?: string; readonly usr?: Uint8Array } = {},
): Promise<Artefacts> {
  const artefacts = {
    usr: join(directory, `${hash}-tiny-usr`),
    initrd: join(directory, `${hash}-tiny-initrd`),
    bootFiles: join(directory, `${hash}-tiny-boot-files`),
  };
  for (const path of Object.values(artefacts)) await mkdir(path, { recursive: true });
  await writeFile(join(artefacts.usr, "usr.erofs"), usr);
  await writeFile(join(artefacts.initrd, "initrd"), Buffer.from("initrd of four"));
  const bootFiles = {
    linux: tinyPe("linux"),
    uname: "6.12.0-test",
    "os-release": 'ID=debian\nPRETTY_NAME="Debian"\n',
    "linuxx64.efi.stub": tinyPe("stub"),
    "systemd-bootx64.efi": tinyPe("boot loader"),
  };
  for (const [name, content] of Object.entries(bootFiles)) await writeFile(join(artefacts.bootFiles, name), content);
  return artefacts;
}

/** An EROFS superblock and noise behind it: enough for whoever doesn't mount it. */
export function tinyErofs(blocks = 40): Uint8Array {
  const image = Buffer.alloc(blocks * 4096);
  let state = 1;
  for (let at = 4096; at < image.length; at += 4) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    image.writeUInt32LE(state, at);
  }
  // Linux v6.12 fs/erofs/erofs_fs.h, struct erofs_super_block
  image.writeUInt32LE(0xe0f5e1e2, 1024);
  image.writeUInt8(12, 1024 + 12);
  image.writeBigUInt64LE(3n, 1024 + 16);
  image.writeUInt32LE(blocks, 1024 + 36);
  return image;
}

/** A PE32+ EFI program with one section, as in Microsoft's PE format; it is well-formed and does nothing. */
function tinyPe(text: string): Uint8Array {
  const image = Buffer.alloc(0x800 + 0x200);
  image.write("MZ", 0);
  image.writeUInt32LE(0x40, 0x3c);
  image.write("PE\0\0", 0x40);
  image.writeUInt16LE(0x8664, 0x44); // Machine: x86-64
  image.writeUInt16LE(1, 0x46); // NumberOfSections
  image.writeUInt16LE(0xf0, 0x54); // SizeOfOptionalHeader
  image.writeUInt16LE(0x22, 0x56); // Characteristics: executable, large addresses
  image.writeUInt16LE(0x20b, 0x58); // Magic: PE32+
  image.writeUInt32LE(0x1000, 0x68); // AddressOfEntryPoint
  image.writeUInt32LE(0x1000, 0x78); // SectionAlignment
  image.writeUInt32LE(0x200, 0x7c); // FileAlignment
  image.writeUInt32LE(0x2000, 0x90); // SizeOfImage
  image.writeUInt32LE(0x800, 0x94); // SizeOfHeaders
  image.writeUInt16LE(10, 0x9c); // Subsystem: EFI application
  image.writeUInt32LE(16, 0xc4); // NumberOfRvaAndSizes
  image.write(".text", 0x148);
  image.writeUInt32LE(0x200, 0x150); // VirtualSize
  image.writeUInt32LE(0x1000, 0x154); // VirtualAddress
  image.writeUInt32LE(0x200, 0x158); // SizeOfRawData
  image.writeUInt32LE(0x800, 0x15c); // PointerToRawData
  image.writeUInt32LE(0x60000020, 0x16c); // code; executable, readable
  image.write(text, 0x800);
  return image;
}
