/**
 * A guest of 200 bytes that boots in a fraction of a second: writes `READY`, the path it was loaded from and its
 * command line to the first serial port, echoes what is typed, resets on Ctrl-R, writes {@link FLOOD} for ever on Ctrl-F,
 * and on the power button writes `BYE` and powers the machine off.
 *
 * @see Multiboot Specification 0.6.96, 3.1 and 3.3
 */
export function toyKernel(): Uint8Array {
  return Buffer.from(CODE, "hex");
}

/** What a flood consists of: the characters from `@` to `~`. */
export const FLOOD = Array.from({ length: 0x7f - 0x40 }, (_, index) => String.fromCharCode(0x40 + index)).join("");

const CODE = [
  // Multiboot header: magic, flags (load addresses follow), checksum; header, load, load end, bss end, entry address.
  "02b0ad1b00000100fe4f51e4", // 0000 header
  "0000100000001000c8001000c800100020001000", // 000c addresses
  // Find the command line in the multiboot information, let the power button set its status bit, greet.
  "8b7b10", // 0020 mov edi, [ebx+16]
  "66ba0206", // 0023 mov dx, 0x602
  "66b80001", // 0027 mov ax, 0x100
  "66ef", // 002b out dx, ax
  "bebc001000", // 002d mov esi, 0x100000+ready-hdr
  "e865000000", // 0032 call puts
  "89fe", // 0037 mov esi, edi
  "e85e000000", // 0039 call puts
  "b00a", // 003e mov al, 10
  "e864000000", // 0040 call putc
  // Until the power button is pressed, read the serial port.
  "66ba0006", // 0045 mov dx, 0x600
  "66ed", // 0049 in ax, dx
  "f6c401", // 004b test ah, 1
  "7537", // 004e jnz off
  "66bafd03", // 0050 mov dx, 0x3fd
  "ec", // 0054 in al, dx
  "a801", // 0055 test al, 1
  "74ec", // 0057 jz loop1
  "66baf803", // 0059 mov dx, 0x3f8
  "ec", // 005d in al, dx
  "3c12", // 005e cmp al, 0x12
  "740b", // 0060 je reset
  "3c06", // 0062 cmp al, 0x06
  "740f", // 0064 je flood
  "e83e000000", // 0066 call putc
  "ebd8", // 006b jmp loop1
  // 0x12 (Ctrl-R): reset through port 0xcf9.
  "66baf90c", // 006d mov dx, 0xcf9
  "b006", // 0071 mov al, 6
  "ee", // 0073 out dx, al
  "f4", // 0074 hlt
  // 0x06 (Ctrl-F): write @ to ~ for ever.
  "b340", // 0075 mov bl, 0x40
  "88d8", // 0077 mov al, bl
  "e82b000000", // 0079 call putc
  "fec3", // 007e inc bl
  "80fb7f", // 0080 cmp bl, 0x7f
  "75f2", // 0083 jne 77
  "ebee", // 0085 jmp flood
  // Power button: say so, enter S5.
  "bec3001000", // 0087 mov esi, 0x100000+bye-hdr
  "e80b000000", // 008c call puts
  "66ba0406", // 0091 mov dx, 0x604
  "66b80020", // 0095 mov ax, 0x2000
  "66ef", // 0099 out dx, ax
  "f4", // 009b hlt
  // Write the NUL-terminated text at esi.
  "ac", // 009c lodsb
  "84c0", // 009d test al, al
  "7407", // 009f jz 1f
  "e803000000", // 00a1 call putc
  "ebf4", // 00a6 jmp puts
  "c3", // 00a8 ret
  // Wait for the transmitter, write al.
  "88c1", // 00a9 mov cl, al
  "66bafd03", // 00ab mov dx, 0x3fd
  "ec", // 00af in al, dx
  "a820", // 00b0 test al, 0x20
  "74f7", // 00b2 jz 2b
  "88c8", // 00b4 mov al, cl
  "66baf803", // 00b6 mov dx, 0x3f8
  "ee", // 00ba out dx, al
  "c3", // 00bb ret
  "52454144592000", // 00bc ready: .asciz "READY "
  "4259450a00", // 00c3 bye: .asciz "BYE\n"
].join("");
