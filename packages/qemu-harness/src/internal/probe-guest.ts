/** Value that the probe guest writes to the debug-exit port. */
const ANSWER = 0x2a;

/** Port of QEMU's `isa-debug-exit` device. */
export const DEBUG_EXIT_PORT = 0xf4;

/** QEMU's exit code when the probe guest has run to its end: the device makes `(value << 1) | 1` of what is written. */
export const PROBE_EXIT_CODE = (ANSWER << 1) | 1;

const ROM_BYTES = 64 * 1024;
/** Where the processor starts: the last 16 bytes of the ROM. */
const RESET_VECTOR = ROM_BYTES - 16;
/** `jmp f000:0000`, to the beginning of the ROM */
const RESET_CODE = "ea000000f0";

// A processor that runs real mode can still be unable to run the rest: a host that emulates what it has no hardware for
// starts the BIOS and then never gets on. So the probe goes all the way: real mode, protected mode, paging, long mode,
// memory that the host has to provide page by page, an exception and the return from it.
const CODE = [
  // Real mode: load the segment table, enter protected mode.
  "fa", // 0000 cli
  "2e660f01162801", // 0001 lgdt cs:[0x128]
  "0f20c0", // 0008 mov eax, cr0
  "0c01", // 000b or al, 1
  "0f22c0", // 000d mov cr0, eax
  "66ea", // 0010 jmp 08:start32
  "18000f00", // 0012   offset
  "0800", // 0016   selector
  // Protected mode: page tables at 0x1000, 0x2000 and 0x3000 map the first 2 MiB to themselves; enter long mode.
  "b810000000", // 0018 mov eax, 0x10
  "8ed8", // 001d mov ds, eax
  "8ec0", // 001f mov es, eax
  "8ed0", // 0021 mov ss, eax
  "bc00800000", // 0023 mov esp, 0x8000
  "31c0", // 0028 xor eax, eax
  "bf00100000", // 002a mov edi, 0x1000
  "b9000c0000", // 002f mov ecx, 0xc00
  "f3ab", // 0034 rep stosd
  "c7050010000003200000", // 0036 mov dword ptr [0x1000], 0x2003
  "c7050020000003300000", // 0040 mov dword ptr [0x2000], 0x3003
  "c7050030000083000000", // 004a mov dword ptr [0x3000], 0x83
  "0f20e0", // 0054 mov eax, cr4
  "83c820", // 0057 or eax, 0x20
  "0f22e0", // 005a mov cr4, eax
  "b800100000", // 005d mov eax, 0x1000
  "0f22d8", // 0062 mov cr3, eax
  "b9800000c0", // 0065 mov ecx, 0xc0000080
  "0f32", // 006a rdmsr
  "0d00010000", // 006c or eax, 0x100
  "0f30", // 0071 wrmsr
  "0f20c0", // 0073 mov eax, cr0
  "0d00000080", // 0076 or eax, 0x80000000
  "0f22c0", // 007b mov cr0, eax
  "ea", // 007e jmp 18:start64
  "85000f00", // 007f   offset
  "1800", // 0083   selector
  // Long mode: a gate for the breakpoint exception, 512 KiB of memory written, one exception taken, the answer given.
  "bf30400000", // 0085 mov edi, 0x4030
  "b8fd000f00", // 008a mov eax, 0xf0000 + handler
  "0fb7d0", // 008f movzx edx, ax
  "81ca00001800", // 0092 or edx, 0x180000
  "8917", // 0098 mov [rdi], edx
  "250000ffff", // 009a and eax, 0xffff0000
  "0d008e0000", // 009f or eax, 0x8e00
  "894704", // 00a4 mov [rdi+4], eax
  "48c7470800000000", // 00a7 mov qword ptr [rdi+8], 0
  "66c7042500500000ff0f", // 00af mov word ptr [0x5000], 0x0fff
  "48c704250250000000400000", // 00b9 mov qword ptr [0x5002], 0x4000
  "0f011c2500500000", // 00c5 lidt [0x5000]
  "bf00000100", // 00cd mov edi, 0x10000
  "b900000100", // 00d2 mov ecx, 0x10000
  "48b8efcdab8967452301", // 00d7 mov rax, 0x0123456789abcdef
  "f348ab", // 00e1 rep stosq
  "48390425f8ff0800", // 00e4 cmp [0x8fff8], rax
  "750c", // 00ec jne fail
  "31db", // 00ee xor ebx, ebx
  "cc", // 00f0 int3
  "83fb2a", // 00f1 cmp ebx, 0x2a
  "7504", // 00f4 jne fail
  "b02a", // 00f6 mov al, 0x2a
  "e6f4", // 00f8 out 0xf4, al
  // Nothing more to do: wait to be ended.
  "f4", // 00fa hlt
  "ebfd", // 00fb jmp fail
  // Breakpoint handler.
  "bb2a000000", // 00fd mov ebx, 0x2a
  "48cf", // 0102 iretq
  "0f1f4000", // 0104 nop
  // Segment table and its pointer.
  "0000000000000000", // 0108 00: null
  "ffff0000009acf00", // 0110 08: 32-bit code, flat
  "ffff00000092cf00", // 0118 10: data, flat
  "ffff0000009aaf00", // 0120 18: 64-bit code
  "1f00", // 0128 limit
  "08010f00", // 012a base
].join("");

/**
 * The probe guest: a ROM of 64 KiB that takes the place of the BIOS.
 *
 * @see Intel SDM vol. 3A, 10.9 "Processor management and initialization", software initialization for protected and IA-32e mode
 */
export function probeRom(): Uint8Array {
  const rom = new Uint8Array(ROM_BYTES);
  rom.set(Buffer.from(CODE, "hex"));
  rom.set(Buffer.from(RESET_CODE, "hex"), RESET_VECTOR);
  return rom;
}
