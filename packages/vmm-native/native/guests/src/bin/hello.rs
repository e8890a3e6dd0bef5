//! Says that it runs, and halts.

#![no_std]
#![no_main]

use guests::{halt, say};

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    say!("hello from a guest");
    halt()
}
