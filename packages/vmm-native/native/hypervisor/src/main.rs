//! Runs guests by AMD-V on the bare machine.
//!
//! | file | what it does |
//! | --- | --- |
//! | `boot.s` | from the boot loader to Rust |
//! | `main.rs` | from there to where guests can be made |
//! | `control.rs`, `channel.rs` | what the hypervisor is asked to do, and what it tells |
//! | `host.rs`, `guest.rs` | which guests there are, and what each is made of |
//! | `load.rs` | how a guest begins |
//! | `schedule.rs` | whose turn it is |
//! | `selftest.rs` | whether the processor keeps to the manual |
//! | `svm.rs` | AMD-V, and the switch into a guest and back |
//! | `descriptors.rs` | segments, interrupts and exceptions of the host |
//! | `memory.rs` | the host's memory |
//! | `devices.rs` | what a guest has on its PCI bus, and what is behind it |
//! | `apic.rs`, `pic.rs`, `serial.rs` | devices of the host |
//! | `pci.rs`, `virtio.rs`, `pipes.rs`, `disk.rs`, `net.rs` | its disks, network cards and console |
//! | `time.rs`, `rtc.rs` | how fast its clocks are, and what time it is |
//! | `log.rs` | what the hypervisor says about itself |
//! | `cpu.rs`, `runtime.rs` | single instructions, and what compilers expect of a C library |
//!
//! What a guest is, and what its exits do, is in the crate `vmm-core`.

#![no_std]
#![no_main]

mod apic;
mod channel;
mod control;
mod cpu;
mod descriptors;
mod devices;
mod disk;
mod guest;
mod host;
mod load;
mod log;
mod memory;
mod net;
mod pci;
mod pic;
mod pipes;
mod rtc;
mod runtime;
mod schedule;
mod selftest;
mod serial;
mod svm;
mod time;
mod virtio;

use apic::Apic;
use control::Control;
use core::arch::global_asm;
use core::convert::Infallible;
use core::fmt::{self, Display};
use core::panic::PanicInfo;
use host::Host;
use log::{Quoted, event};
use memory::FreeMemory;
use svm::Svm;
use vmm_core::blocks::BLOCK;
use vmm_core::control::ControlError;

global_asm!(include_str!("boot.s"), main = sym main);

extern "C" fn main(start_info: u32) -> ! {
    let Err(reason) = run(start_info.into());
    event!("failed", r#""message":{}"#, Quoted(reason));
    cpu::stop()
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    event!("panic", r#""message":{}"#, Quoted(info));
    cpu::reset()
}

/// Why there are no guests.
enum Failure {
    Unusable(svm::Unusable),
    NoMemoryMap,
    NoMemory { needed: u64, left: u64 },
    NoTimer,
    NoChannel,
    Control(ControlError),
}

impl Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unusable(reason) => reason.fmt(out),
            Failure::NoMemoryMap => out.write_str("expected a memory map by PVH, version 1 or newer, got none"),
            Failure::NoMemory { needed, left } => write!(out, "expected {needed} bytes of memory, got {left}"),
            Failure::NoTimer => out.write_str("expected an HPET at 0xfed00000, got none"),
            Failure::NoChannel => out.write_str("expected a virtio console and memory for it, got none"),
            Failure::Control(reason) => reason.fmt(out),
        }
    }
}

/// Makes the machine ready for guests, and runs them for ever.
fn run(start_info: u64) -> Result<Infallible, Failure> {
    // SAFETY: this is the first and only time, with what the boot loader passed.
    let mut memory = unsafe { FreeMemory::find(start_info) }.ok_or(Failure::NoMemoryMap)?;
    pic::silence();
    let no_memory = Failure::NoMemory { needed: 1 << 20, left: memory.size() };
    let descriptors = descriptors::load(&mut memory).ok_or(no_memory)?;
    let svm = Svm::enable(&mut memory).map_err(Failure::Unusable)?;
    let mut apic = Apic::enable(descriptors);
    let frequencies = time::measure(&mut apic).ok_or(Failure::NoTimer)?;
    let mut control = Control::start(&mut memory).ok_or(Failure::NoChannel)?;
    event!("started", r#""version":"{}","memory":{}"#, env!("CARGO_PKG_VERSION"), memory.size());
    let no_memory = Failure::NoMemory { needed: BLOCK, left: memory.size() };
    let mut host = Host::new(svm, apic, frequencies, memory).ok_or(no_memory)?;
    Err(Failure::Control(schedule::run(&mut host, &mut control)))
}
