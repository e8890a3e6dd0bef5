# Entry by PVH (Xen's x86/HVM direct boot ABI): 32-bit protected mode, no paging, EBX = start_info.
# Maps the first 4 GiB to themselves with 2 MiB pages, enters long mode and calls Rust.

    .section .note.Xen, "a", @note
    .align 4
    .long 4, 8, 18              # name size, value size, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad start32

    .section .bss.boot, "aw", @nobits
    .align 4096
pml4:   .skip 4096
pdpt:   .skip 4096
pd:     .skip 4 * 4096
        .skip 64 * 1024
stack_end:

    .section .boot, "ax", @progbits
    .code32
    .globl start32
start32:
    mov edi, ebx                # first argument of the Rust function
    lea eax, [pdpt + 3]         # present, writable
    mov [pml4], eax
    xor ecx, ecx
1:  lea eax, [pd + 3]           # four tables of 1 GiB
    mov edx, ecx
    shl edx, 12
    add eax, edx
    mov [pdpt + ecx * 8], eax
    inc ecx
    cmp ecx, 4
    jne 1b
    xor ecx, ecx
2:  mov eax, ecx                # 2048 pages of 2 MiB
    shl eax, 21
    or eax, 0x83                # present, writable, large
    mov [pd + ecx * 8], eax
    inc ecx
    cmp ecx, 2048
    jne 2b

    lea eax, [pml4]
    mov cr3, eax
    mov eax, 0x620              # CR4: PAE, OSFXSR, OSXMMEXCPT. Rust's code uses SSE.
    mov cr4, eax
    mov ecx, 0xc0000080         # EFER: LME, NXE (nested tables may forbid fetches)
    mov eax, 0x900
    xor edx, edx
    wrmsr
    mov eax, 0x80000023         # CR0: PG, NE, MP, PE; EM clear
    mov cr0, eax
    lgdt [boot_gdtr]
    ljmp 0x08, offset start64

    .code64
start64:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    xor eax, eax
    mov fs, ax
    mov gs, ax
    lea rsp, [rip + stack_end]
    xor ebp, ebp
    call {main}
    ud2

    .align 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff    # 64-bit code
    .quad 0x00cf93000000ffff    # data
boot_gdtr:
    .word . - boot_gdt - 1
    .quad boot_gdt
