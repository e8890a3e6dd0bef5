//! Segments and interrupts of a processor of the host.
//!
//! Code that is compiled for Linux keeps data below its stack pointer (the red zone), so every gate has a stack of its
//! own, by the interrupt stack table.

use crate::log::{Quoted, event};
use crate::{cpu, memory::FreeMemory};
use core::arch::{asm, global_asm};
use core::ptr;

const CODE_SELECTOR: u16 = 0x08;
const TSS_SELECTOR: u16 = 0x18;
const EXCEPTIONS: usize = 32;
/// Size of an entry stub in `boot.s`' sense: they lie one after the other.
const STUB: u64 = 16;

/// What a processor needs of descriptors.
#[repr(C, align(16))]
pub struct Descriptors {
    gdt: [u64; 5],
    tss: TaskState,
    idt: [[u64; 2]; 256],
    interrupt_stack: [u8; 16 * 1024],
}

/// Task state segment (manual, 12.2.5).
#[repr(C, packed(4))]
struct TaskState {
    reserved_0: u32,
    stacks: [u64; 3],
    reserved_1: u64,
    interrupt_stacks: [u64; 7],
    reserved_2: [u16; 5],
    io_map: u16,
}

#[repr(C, packed)]
struct TableRegister {
    limit: u16,
    base: u64,
}

// The stubs of the exceptions make their frames alike: vector and error code, whether the processor pushed one or not.
global_asm!(
    ".balign 16",
    "exception_stubs:",
    ".set vector, 0",
    ".rept 32",
    "    .balign 16",
    "    .if vector != 8 && (vector < 10 || vector > 14) && vector != 17 && vector != 21 && vector != 29 && vector != 30",
    "    push 0",
    "    .endif",
    "    push vector",
    "    jmp exception_entry",
    "    .set vector, vector + 1",
    ".endr",
    "exception_entry:",
    "    mov rdi, rsp",
    "    cld",
    "    call {exception}",
    "    ud2",
    exception = sym exception,
);

/// What is on the stack when an exception arrives.
#[repr(C)]
struct Frame {
    vector: u64,
    error_code: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
}

/// No exception is expected: the hypervisor ends.
extern "C" fn exception(frame: &Frame) -> ! {
    let cr2: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr2", out(reg) cr2, options(nomem, nostack)) };
    let message = format_args!(
        "exception {} with error code {:#x} at {:#x}, rsp {:#x}, cr2 {cr2:#x}",
        frame.vector, frame.error_code, frame.rip, frame.rsp
    );
    event!("panic", r#""message":{}"#, Quoted(message));
    cpu::reset()
}

/// Gives this processor its descriptors, for ever.
pub fn load(memory: &mut FreeMemory) -> Option<&'static mut Descriptors> {
    unsafe extern "C" {
        static exception_stubs: u8;
    }
    let descriptors = memory.take(Descriptors {
        // Null, 64-bit code, data, and the TSS in two (4.8.3).
        gdt: [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0, 0],
        tss: TaskState {
            reserved_0: 0,
            stacks: [0; 3],
            reserved_1: 0,
            interrupt_stacks: [0; 7],
            reserved_2: [0; 5],
            io_map: size_of::<TaskState>() as u16,
        },
        idt: [[0; 2]; 256],
        interrupt_stack: [0; 16 * 1024],
    })?;
    descriptors.tss.interrupt_stacks[0] = ptr::from_ref(&descriptors.interrupt_stack).addr() as u64 + 16 * 1024;
    let tss = ptr::from_ref(&descriptors.tss).addr() as u64;
    let available_tss = 0x89_u64;
    descriptors.gdt[3] =
        (size_of::<TaskState>() as u64 - 1) | (tss & 0xff_ffff) << 16 | available_tss << 40 | (tss >> 24 & 0xff) << 56;
    descriptors.gdt[4] = tss >> 32;
    let stubs = ptr::addr_of!(exception_stubs).addr() as u64;
    for vector in 0..EXCEPTIONS {
        descriptors.set_gate(vector as u8, stubs + vector as u64 * STUB);
    }
    let gdtr =
        TableRegister { limit: size_of_val(&descriptors.gdt) as u16 - 1, base: descriptors.gdt.as_ptr().addr() as u64 };
    let idtr =
        TableRegister { limit: size_of_val(&descriptors.idt) as u16 - 1, base: descriptors.idt.as_ptr().addr() as u64 };
    // SAFETY: the tables stay where they are for ever, and the segments in use are the same as before.
    unsafe {
        asm!(
            "lgdt [{gdtr}]",
            "lidt [{idtr}]",
            "ltr {tss:x}",
            gdtr = in(reg) &gdtr,
            idtr = in(reg) &idtr,
            tss = in(reg) TSS_SELECTOR,
            options(nostack, preserves_flags),
        );
    }
    Some(descriptors)
}

impl Descriptors {
    /// Lets an interrupt or exception enter at an address, with interrupts disabled (manual, 4.8.4).
    pub fn set_gate(&mut self, vector: u8, entry: u64) {
        const PRESENT_INTERRUPT_GATE: u64 = 0x8e << 40;
        const STACK_1: u64 = 1 << 32;
        let low = entry & 0xffff
            | u64::from(CODE_SELECTOR) << 16
            | STACK_1
            | PRESENT_INTERRUPT_GATE
            | (entry >> 16 & 0xffff) << 48;
        self.idt[usize::from(vector)] = [low, entry >> 32];
    }
}
