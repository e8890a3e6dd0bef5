//! What flat binaries have in common: their entry, and a serial port to write to.

#![no_std]

pub mod traps;

use core::arch::{asm, global_asm};
use core::fmt;
use core::panic::PanicInfo;

const COM1: u16 = 0x3f8;

// Entered in 64-bit mode, with the stack of a function; `main` is the binary's own.
global_asm!(
    ".section .start, \"ax\", @progbits",
    ".globl _start",
    "_start:",
    "    sub rsp, 8",
    "    call main",
    "    ud2",
    ".text"
);

/// The guest's first serial port.
pub struct Serial;

impl fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: sending a byte takes no memory.
            unsafe { asm!("out dx, al", in("dx") COM1, in("al") byte, options(nomem, nostack, preserves_flags)) };
        }
        Ok(())
    }
}

/// Writes a line to the serial port.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => {{
        use core::fmt::Write;
        let _ = writeln!($crate::Serial, $($argument)*);
    }};
}

/// Halts with interrupts disabled, which ends the guest.
pub fn halt() -> ! {
    loop {
        // SAFETY: nothing comes after it.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    say!("{info}");
    halt()
}
