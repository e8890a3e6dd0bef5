//! Runs guests by AMD-V on the bare machine.
//!
//! | file | what it does |
//! | --- | --- |
//! | `boot.s` | from the boot loader to Rust |
//! | `main.rs` | from there to a running guest |
//! | `svm.rs` | AMD-V, and the switch into a guest and back |
//! | `descriptors.rs` | segments, interrupts and exceptions of the host |
//! | `memory.rs` | the host's memory |
//! | `fw_cfg.rs`, `pic.rs`, `serial.rs` | devices of the host |
//! | `log.rs` | what the hypervisor says |
//! | `cpu.rs`, `runtime.rs` | single instructions, and what compilers expect of a C library |
//!
//! What a guest is, and what its exits do, is in the crate `vmm-core`.

#![no_std]
#![no_main]

mod cpu;
mod descriptors;
mod fw_cfg;
mod log;
mod memory;
mod pic;
mod runtime;
mod serial;
mod svm;

use core::arch::global_asm;
use core::fmt::{self, Display};
use core::panic::PanicInfo;
use core::ptr;
use fw_cfg::FwCfg;
use log::{Quoted, event};
use memory::FreeMemory;
use svm::Svm;
use vmm_core::guest::{Confinement, Guest, Host};
use vmm_core::memory::GuestMemory;
use vmm_core::npt::{Access, NestedPageTables, Table};
use vmm_core::permissions::{IoPermissionMap, MsrPermissionMap};
use vmm_core::start;
use vmm_core::vmcb::Vmcb;

global_asm!(include_str!("boot.s"), main = sym main);

/// Where a flat binary is loaded and entered.
const FLAT_START: u64 = 0x10_0000;
/// Large pages of guests are large pages of the host.
const GUEST_ALIGNMENT: u64 = 2 << 20;
const NESTED_TABLES: usize = 16;

extern "C" fn main(start_info: u32) -> ! {
    if let Err(reason) = run(start_info.into()) {
        event!("failed", r#""message":{}"#, Quoted(reason));
    }
    cpu::stop()
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    event!("panic", r#""message":{}"#, Quoted(info));
    cpu::reset()
}

/// Why there is no guest.
enum Failure {
    Unusable(svm::Unusable),
    NoMemoryMap,
    NoMemory { needed: u64, left: u64 },
    NoDevice,
    NoKernel,
    BadMemorySize,
    Start(vmm_core::memory::OutOfMemory),
    Map(vmm_core::npt::MapError),
}

impl Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unusable(reason) => reason.fmt(out),
            Failure::NoMemoryMap => out.write_str("expected a memory map by PVH, version 1 or newer, got none"),
            Failure::NoMemory { needed, left } => write!(out, "expected {needed} bytes of memory, got {left}"),
            Failure::NoDevice => out.write_str("expected QEMU's fw_cfg device, got none"),
            Failure::NoKernel => out.write_str("expected a kernel in opt/leveret/guest0/kernel, got none"),
            Failure::BadMemorySize => out.write_str("expected a number in opt/leveret/guest0/memory-mib, got none"),
            Failure::Start(reason) => reason.fmt(out),
            Failure::Map(reason) => reason.fmt(out),
        }
    }
}

/// Starts the guest, and says how it ended.
fn run(start_info: u64) -> Result<(), Failure> {
    // SAFETY: this is the first and only time, with what the boot loader passed.
    let mut memory = unsafe { FreeMemory::find(start_info) }.ok_or(Failure::NoMemoryMap)?;
    let no_memory = Failure::NoMemory { needed: 1 << 20, left: memory.size() };
    pic::silence();
    descriptors::load(&mut memory).ok_or(no_memory)?;
    let mut svm = Svm::enable(&mut memory).map_err(Failure::Unusable)?;
    event!("started", r#""version":"{}","memory":{}"#, env!("CARGO_PKG_VERSION"), memory.size());
    // SAFETY: nobody else looks for it.
    let mut files = unsafe { FwCfg::find() }.ok_or(Failure::NoDevice)?;
    let mut guest = create(&mut memory, &mut files)?;
    event!("running", r#""guest":0,"memory":{}"#, guest.memory.size());
    let stop = loop {
        // SAFETY: `create` has confined it.
        unsafe { svm.run(guest.vmcb, &mut guest.registers) };
        if let Err(stop) = guest.handle_exit(&mut Machine) {
            break stop;
        }
    };
    event!(
        "stopped",
        r#""guest":0,"reason":"{}","message":{},"rip":"{:#x}","exits":{}"#,
        stop.name(),
        Quoted(stop),
        guest.vmcb.rip(),
        guest.ledger
    );
    Ok(())
}

/// Makes a guest of what the files say.
fn create(memory: &mut FreeMemory, files: &mut FwCfg) -> Result<Guest<'static>, Failure> {
    let kernel = files.open("opt/leveret/guest0/kernel").ok_or(Failure::NoKernel)?;
    let size = files.read_number("opt/leveret/guest0/memory-mib").ok_or(Failure::BadMemorySize)? << 20;
    let left = memory.size();
    let no_memory = |needed| move || Failure::NoMemory { needed, left };
    let base = memory.take_range(size, GUEST_ALIGNMENT).ok_or_else(no_memory(size))?;
    // SAFETY: memory that was taken for this, and that nothing of the host refers to.
    let mut guest_memory = unsafe { GuestMemory::new(base as *mut u8, size) };

    let tables = memory.take([Table::EMPTY; NESTED_TABLES]).ok_or_else(no_memory(1 << 16))?;
    let tables_base = tables.as_ptr().addr() as u64;
    let mut nested = NestedPageTables::new(tables, tables_base);
    nested.map(0, base, size, Access::Full).map_err(Failure::Map)?;
    let iopm = memory.take(IoPermissionMap::ALL_EXIT).ok_or_else(no_memory(1 << 14))?;
    let msrpm = memory.take(MsrPermissionMap::ALL_EXIT).ok_or_else(no_memory(1 << 13))?;
    let vmcb = memory.take(Vmcb::new()).ok_or_else(no_memory(1 << 12))?;

    files.read_to_guest(kernel, 0, &mut guest_memory, FLAT_START, kernel.size).map_err(Failure::Start)?;
    let confinement = Confinement {
        nested_cr3: nested.root(),
        iopm: ptr::from_ref(iopm).addr() as u64,
        msrpm: ptr::from_ref(msrpm).addr() as u64,
        asid: 1,
    };
    let mut guest = Guest::new(vmcb, guest_memory, confinement);
    start::enter_long_mode(guest.vmcb, &mut guest.registers, &mut guest.memory, FLAT_START).map_err(Failure::Start)?;
    Ok(guest)
}

/// What the guest's devices have of the machine.
struct Machine;

impl Host for Machine {
    fn send(&mut self, byte: u8) {
        serial::Port(serial::COM2).send(byte);
    }
}
