/**
 * A guest of under 200 bytes that boots in a fraction of a second: writes `READY`, the path it was loaded from and its
 * command line to the first serial port, echoes what is typed, resets on Ctrl-R, writes for ever on Ctrl-F, and on the
 * power button writes `BYE` and powers the machine off.
 *
 * @see Multiboot Specification 0.6.96, 3.1 and 3.3
 */
export function toyKernel(): Uint8Array {
  return Buffer.from(CODE, "hex");
}

const CODE = [
  // Multiboot header: magic, flags (load addresses follow), checksum; header, load, load end, bss end, entry address.
  "02b0ad1b00000100fe4f51e4", // 0000 header
  "0000100000001000bf001000bf00100020001000", // 000c addresses
  // Find the command line in the multiboot information, let the power button set its status bit, greet.
  "8b7b10", // 0020 mov edi, [ebx+16]
  "66ba0206", // 0023 mov dx, 0x602
  "66b80001", // 0027 mov ax, 0x100
  "66ef", // 002b out dx, ax
  "beb3001000", // 002d mov esi, 0x100000+ready-hdr
  "e85c000000", // 0032 call puts
  "89fe", // 0037 mov esi, edi
  "e855000000", // 0039 call puts
  "b00a", // 003e mov al, 10
  "e85b000000", // 0040 call putc
  // Until the power button is pressed, read the serial port.
  "66ba0006", // 0045 mov dx, 0x600
  "66ed", // 0049 in ax, dx
  "f6c401", // 004b test ah, 1
  "752e", // 004e jnz off
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
  "e835000000", // 0066 call putc
  "ebd8", // 006b jmp loop1
  // 0x12 (Ctrl-R): reset through port 0xcf9.
  "66baf90c", // 006d mov dx, 0xcf9
  "b006", // 0071 mov al, 6
  "ee", // 0073 out dx, al
  "f4", // 0074 hlt
  // 0x06 (Ctrl-F): write for ever.
  "b078", // 0075 mov al, 0x78
  "e824000000", // 0077 call putc
  "ebf7", // 007c jmp flood
  // Power button: say so, enter S5.
  "beba001000", // 007e mov esi, 0x100000+bye-hdr
  "e80b000000", // 0083 call puts
  "66ba0406", // 0088 mov dx, 0x604
  "66b80020", // 008c mov ax, 0x2000
  "66ef", // 0090 out dx, ax
  "f4", // 0092 hlt
  // Write the NUL-terminated text at esi.
  "ac", // 0093 lodsb
  "84c0", // 0094 test al, al
  "7407", // 0096 jz 1f
  "e803000000", // 0098 call putc
  "ebf4", // 009d jmp puts
  "c3", // 009f ret
  // Wait for the transmitter, write al.
  "88c1", // 00a0 mov cl, al
  "66bafd03", // 00a2 mov dx, 0x3fd
  "ec", // 00a6 in al, dx
  "a820", // 00a7 test al, 0x20
  "74f7", // 00a9 jz 2b
  "88c8", // 00ab mov al, cl
  "66baf803", // 00ad mov dx, 0x3f8
  "ee", // 00b1 out dx, al
  "c3", // 00b2 ret
  "52454144592000", // 00b3 ready: .asciz "READY "
  "4259450a00", // 00ba bye: .asciz "BYE\n"
].join("");
