/** A boot sector that writes `BOOT` and a word to the first serial port, and halts. */
export function bootSector(word: string): Uint8Array {
  const sector = Buffer.alloc(512);
  const end = sector.write(CODE, "hex");
  sector.write(`BOOT ${word}\n`, end, "latin1");
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

const CODE = [
  "fa", // 00 cli
  "31c0", // 01 xor ax, ax
  "8ed8", // 03 mov ds, ax
  "be227c", // 05 mov si, 0x7c22
  "ac", // 08 lodsb
  "84c0", // 09 test al, al
  "7412", // 0b jz 0x1f
  "88c3", // 0d mov bl, al
  "bafd03", // 0f mov dx, 0x3fd
  "ec", // 12 in al, dx
  "a820", // 13 test al, 0x20
  "74fb", // 15 jz 0x12
  "88d8", // 17 mov al, bl
  "baf803", // 19 mov dx, 0x3f8
  "ee", // 1c out dx, al
  "ebe9", // 1d jmp 0x08
  "f4", // 1f hlt
  "ebfd", // 20 jmp 0x1f
].join("");

const SECTOR = 2048;

/**
 * A CD image with nothing on it but that boot sector.
 *
 * @see "El Torito" Bootable CD-ROM Format Specification 1.0, 2.0 and 2.1
 */
export function bootCd(word: string): Uint8Array {
  const image = Buffer.alloc(20 * SECTOR);
  const descriptor = image.subarray(17 * SECTOR);
  descriptor.write("\0CD001\x01EL TORITO SPECIFICATION", 0, "latin1");
  descriptor.writeUInt32LE(18, 0x47);
  const catalog = image.subarray(18 * SECTOR);
  // Validation entry: header, platform, and a checksum that makes the sum of all words zero.
  catalog.writeUInt8(1, 0);
  catalog.writeUInt16LE(0xaa55, 0x1e);
  catalog.writeUInt16LE(0x10000 - 0xaa55 - 1, 0x1c);
  // Default entry: bootable, no emulation, four sectors of 512 bytes from block 19.
  catalog.writeUInt8(0x88, 0x20);
  catalog.writeUInt16LE(4, 0x26);
  catalog.writeUInt32LE(19, 0x28);
  image.set(bootSector(word), 19 * SECTOR);
  return image;
}
