//! The functions that compiled code expects of a C library. In assembly: a loop in Rust would be compiled to a call of
//! the very function that it is in.

use core::arch::global_asm;

global_asm!(
    ".globl memcpy, memmove, memset, memcmp, bcmp, rust_eh_personality",
    // (rdi to, rsi from, rdx length) -> to
    "memcpy:",
    "    mov rax, rdi",
    "    mov rcx, rdx",
    "    rep movsb",
    "    ret",
    "memmove:",
    "    mov rax, rdi",
    "    mov rcx, rdx",
    "    mov r8, rdi",
    "    sub r8, rsi", // unsigned: not below the length unless `to` lies within `from`
    "    cmp r8, rdx",
    "    jb 2f",
    "    rep movsb",
    "    ret",
    "2:  lea rdi, [rdi + rdx - 1]",
    "    lea rsi, [rsi + rdx - 1]",
    "    std",
    "    rep movsb",
    "    cld",
    "    ret",
    // (rdi to, esi byte, rdx length) -> to
    "memset:",
    "    mov r8, rdi",
    "    mov eax, esi",
    "    mov rcx, rdx",
    "    rep stosb",
    "    mov rax, r8",
    "    ret",
    // (rdi one, rsi other, rdx length) -> difference
    "memcmp:",
    "bcmp:",
    "    mov rcx, rdx",
    "    xor eax, eax", // equal, should the length be 0
    "    repe cmpsb",
    "    je 2f",
    "    movzx eax, byte ptr [rdi - 1]",
    "    movzx ecx, byte ptr [rsi - 1]",
    "    sub eax, ecx",
    "2:  ret",
    // Named by code that cannot unwind; never called.
    "rust_eh_personality:",
    "    ud2",
);
