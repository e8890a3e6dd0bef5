//! Waits for interrupts, and says which came.

#![no_std]
#![no_main]

use core::arch::asm;
use guests::{say, traps};

const SPURIOUS: u32 = 0x80f;

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    traps::install();
    // SAFETY: switches the local APIC on, whose interrupts are expected.
    unsafe { asm!("wrmsr", in("ecx") SPURIOUS, in("eax") 0x1ff, in("edx") 0) };
    say!("waiting");
    loop {
        // SAFETY: interrupts are expected.
        unsafe { asm!("sti", "hlt", "cli") };
        say!("vector {}", traps::last().vector);
    }
}
