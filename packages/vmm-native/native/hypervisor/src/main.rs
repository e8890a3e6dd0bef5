//! Runs guests by AMD-V on the bare machine.
//!
//! | file | what it does |
//! | --- | --- |
//! | `boot.s` | from the boot loader to Rust |
//! | `main.rs` | from there to a running guest |
//! | `load.rs` | what the guest's memory holds when it starts |
//! | `svm.rs` | AMD-V, and the switch into a guest and back |
//! | `descriptors.rs` | segments, interrupts and exceptions of the host |
//! | `memory.rs` | the host's memory |
//! | `fw_cfg.rs`, `apic.rs`, `pic.rs`, `serial.rs` | devices of the host |
//! | `time.rs` | how fast its clocks are |
//! | `log.rs` | what the hypervisor says |
//! | `cpu.rs`, `runtime.rs` | single instructions, and what compilers expect of a C library |
//!
//! What a guest is, and what its exits do, is in the crate `vmm-core`.

#![no_std]
#![no_main]

mod apic;
mod cpu;
mod descriptors;
mod fw_cfg;
mod load;
mod log;
mod memory;
mod pic;
mod runtime;
mod serial;
mod svm;
mod time;

use apic::Apic;
use core::arch::global_asm;
use core::fmt::{self, Display};
use core::panic::PanicInfo;
use core::ptr;
use fw_cfg::FwCfg;
use load::LoadError;
use log::{Quoted, event};
use memory::FreeMemory;
use svm::Svm;
use time::Frequencies;
use vmm_core::clock::Clock;
use vmm_core::event::Next;
use vmm_core::guest::{Confinement, Guest, Host, Stop};
use vmm_core::memory::GuestMemory;
use vmm_core::msr;
use vmm_core::npt::{Access, MapError, NestedPageTables, Table};
use vmm_core::permissions::IoPermissionMap;
use vmm_core::vmcb::Vmcb;

global_asm!(include_str!("boot.s"), main = sym main);

/// Large pages of guests are large pages of the host.
const GUEST_ALIGNMENT: u64 = 2 << 20;
const NESTED_TABLES: usize = 16;
/// Longest time that a guest runs, or is waited for, without a look at the rest of the world.
const TURN_MILLISECONDS: u64 = 10;

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
    NoTimer,
    NoFiles,
    BadMemorySize,
    Map(MapError),
    Load(LoadError),
}

impl Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unusable(reason) => reason.fmt(out),
            Failure::NoMemoryMap => out.write_str("expected a memory map by PVH, version 1 or newer, got none"),
            Failure::NoMemory { needed, left } => write!(out, "expected {needed} bytes of memory, got {left}"),
            Failure::NoTimer => out.write_str("expected an HPET at 0xfed00000, got none"),
            Failure::NoFiles => out.write_str("expected QEMU's fw_cfg device, got none"),
            Failure::BadMemorySize => out.write_str("expected a number in opt/leveret/guest0/memory-mib, got none"),
            Failure::Map(reason) => reason.fmt(out),
            Failure::Load(reason) => reason.fmt(out),
        }
    }
}

/// Starts the guest, and says how it ended.
fn run(start_info: u64) -> Result<(), Failure> {
    // SAFETY: this is the first and only time, with what the boot loader passed.
    let mut memory = unsafe { FreeMemory::find(start_info) }.ok_or(Failure::NoMemoryMap)?;
    pic::silence();
    let no_memory = Failure::NoMemory { needed: 1 << 20, left: memory.size() };
    let descriptors = descriptors::load(&mut memory).ok_or(no_memory)?;
    let mut svm = Svm::enable(&mut memory).map_err(Failure::Unusable)?;
    let mut apic = Apic::enable(descriptors);
    let frequencies = time::measure(&mut apic).ok_or(Failure::NoTimer)?;
    event!("started", r#""version":"{}","memory":{}"#, env!("CARGO_PKG_VERSION"), memory.size());
    // SAFETY: nobody else looks for it.
    let mut files = unsafe { FwCfg::find() }.ok_or(Failure::NoFiles)?;
    let mut guest = create(&mut memory, &mut files, frequencies)?;
    event!("running", r#""guest":0,"memory":{}"#, guest.memory.size());
    let stop = run_guest(&mut guest, &mut svm, &mut apic, frequencies);
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

/// Runs a guest until it stops for good.
fn run_guest(guest: &mut Guest, svm: &mut Svm, apic: &mut Apic, frequencies: Frequencies) -> Stop {
    let turn = frequencies.tsc * TURN_MILLISECONDS / 1000;
    let mut console = serial::Port(serial::COM2);
    let mut looked = 0;
    loop {
        let now = time::tsc();
        if now - looked >= turn {
            looked = now;
            while guest.console_room() > 0
                && let Some(byte) = console.receive()
            {
                guest.receive(byte);
            }
        }
        let next = match guest.prepare(now) {
            Ok(next) => next,
            Err(stop) => return stop,
        };
        let wait = guest.wakes_at().map_or(turn, |wakes_at| wakes_at.saturating_sub(now).min(turn));
        apic.fire_after((wait as u128 * frequencies.apic as u128 / frequencies.tsc as u128) as u32);
        match next {
            Next::Wait => apic.wait(),
            Next::Run => {
                // SAFETY: `create` has confined it.
                unsafe { svm.run(guest.vmcb, &mut guest.registers) };
                if let Err(stop) = guest.handle_exit(&mut Machine) {
                    return stop;
                }
            }
        }
    }
}

/// Makes a guest of what the files say.
fn create(memory: &mut FreeMemory, files: &mut FwCfg, frequencies: Frequencies) -> Result<Guest<'static>, Failure> {
    let size = files.read_number("opt/leveret/guest0/memory-mib").ok_or(Failure::BadMemorySize)? << 20;
    let left = memory.size();
    let no_memory = |needed| move || Failure::NoMemory { needed, left };
    let base = memory.take_range(size, GUEST_ALIGNMENT).ok_or_else(no_memory(size))?;
    // SAFETY: memory that was taken for this, and that nothing of the host refers to.
    let guest_memory = unsafe { GuestMemory::new(base as *mut u8, size) };

    let tables = memory.take([Table::EMPTY; NESTED_TABLES]).ok_or_else(no_memory(1 << 16))?;
    let tables_base = tables.as_ptr().addr() as u64;
    let mut nested = NestedPageTables::new(tables, tables_base);
    nested.map(0, base, size, Access::Full).map_err(Failure::Map)?;
    let iopm = memory.take(IoPermissionMap::ALL_EXIT).ok_or_else(no_memory(1 << 14))?;
    let msrpm = memory.take(msr::PERMISSIONS).ok_or_else(no_memory(1 << 13))?;
    let vmcb = memory.take(Vmcb::new()).ok_or_else(no_memory(1 << 12))?;

    let confinement = Confinement {
        nested_cr3: nested.root(),
        iopm: ptr::from_ref(iopm).addr() as u64,
        msrpm: ptr::from_ref(msrpm).addr() as u64,
        asid: 1,
    };
    let clock = Clock::new(time::tsc(), frequencies.tsc, 0);
    let mut guest = Guest::new(vmcb, guest_memory, confinement, clock);
    load::load(files, &mut guest).map_err(Failure::Load)?;
    Ok(guest)
}

/// What the guest's devices have of the machine.
struct Machine;

impl Host for Machine {
    fn send(&mut self, byte: u8) {
        serial::Port(serial::COM2).send(byte);
    }

    fn tsc(&mut self) -> u64 {
        time::tsc()
    }

    fn cpuid(&self, function: u32, index: u32) -> [u32; 4] {
        cpu::cpuid(function, index)
    }
}
