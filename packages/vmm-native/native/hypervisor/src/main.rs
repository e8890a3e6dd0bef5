//! Runs guests by AMD-V on the bare machine.
//!
//! | file | what it does |
//! | --- | --- |
//! | `boot.s` | from the boot loader to Rust |
//! | `main.rs` | from there to a running guest |
//! | `load.rs` | what the guest's memory holds when it starts |
//! | `schedule.rs` | whose turn it is |
//! | `selftest.rs` | whether the processor keeps to the manual |
//! | `svm.rs` | AMD-V, and the switch into a guest and back |
//! | `descriptors.rs` | segments, interrupts and exceptions of the host |
//! | `memory.rs` | the host's memory |
//! | `devices.rs` | what the guest has on its PCI bus, and what is behind it |
//! | `fw_cfg.rs`, `apic.rs`, `pic.rs`, `serial.rs` | devices of the host |
//! | `pci.rs`, `virtio.rs`, `disk.rs`, `net.rs` | its disks and network cards |
//! | `time.rs`, `rtc.rs` | how fast its clocks are, and what time it is |
//! | `log.rs` | what the hypervisor says |
//! | `cpu.rs`, `runtime.rs` | single instructions, and what compilers expect of a C library |
//!
//! What a guest is, and what its exits do, is in the crate `vmm-core`.

#![no_std]
#![no_main]

mod apic;
mod cpu;
mod descriptors;
mod devices;
mod disk;
mod fw_cfg;
mod load;
mod log;
mod memory;
mod net;
mod pci;
mod pic;
mod rtc;
mod runtime;
mod schedule;
mod selftest;
mod serial;
mod svm;
mod time;
mod virtio;

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
use vmm_core::cpuid::Identity;
use vmm_core::exit::ExitLedger;
use vmm_core::machine::{Machine, Stop};
use vmm_core::mailbox::Mailbox;
use vmm_core::memory::GuestMemory;
use vmm_core::msr;
use vmm_core::npt::{Access, MapError, NestedPageTables, Table};
use vmm_core::permissions::IoPermissionMap;
use vmm_core::processor::{Confinement, Processor};
use vmm_core::vmcb::Vmcb;

global_asm!(include_str!("boot.s"), main = sym main);

/// Large pages of guests are large pages of the host.
const GUEST_ALIGNMENT: u64 = 2 << 20;
const NESTED_TABLES: usize = 16;
/// Most processors that a guest has: each has an address space identifier, of which emulated machines have 16.
const MAX_PROCESSORS: usize = 8;
/// What a guest needs beside its memory is less than this, in bytes.
const REST: u64 = 1 << 20;

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
    NoDevices,
    BadMemorySize,
    BadProcessors,
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
            Failure::NoDevices => out.write_str(
                "expected memory for devices, and disks and network cards with virtio 1.0, got none of one of them",
            ),
            Failure::BadMemorySize => out.write_str("expected a number in opt/leveret/guest0/memory-mib, got none"),
            Failure::BadProcessors => {
                write!(out, "expected a number from 1 to {MAX_PROCESSORS} in opt/leveret/guest0/cpus, got none")
            }
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
    if files.open("opt/leveret/selftest").is_some() {
        let no_memory = Failure::NoMemory { needed: 4 << 20, left: memory.size() };
        return selftest::run(&mut memory, &mut svm, &mut apic, frequencies).ok_or(no_memory);
    }
    let (mut machine, processors) = create(&mut memory, &mut files, frequencies)?;
    event!("running", r#""guest":0,"memory":{},"cpus":{}"#, machine.memory.size(), processors.len());
    let restarts = files.open("opt/leveret/guest0/restarts").is_some();
    let mut resets = 0_u64;
    let stop = loop {
        let stop = schedule::run(&mut machine, processors, &mut svm, &mut apic, frequencies);
        if stop != Stop::Reset || !restarts {
            break stop;
        }
        resets += 1;
        schedule::reset(&mut machine, processors, &mut apic, frequencies);
        load::load(&mut files, &mut machine, &mut processors[0]).map_err(Failure::Load)?;
        event!("reset", r#""guest":0"#);
    };
    let mut ledger = ExitLedger::new();
    for processor in &*processors {
        ledger.add(&processor.ledger);
    }
    event!(
        "stopped",
        r#""guest":0,"reason":"{}","message":{},"resets":{},"rips":{},"exits":{}"#,
        stop.name(),
        Quoted(stop),
        resets,
        Rips(processors),
        ledger
    );
    Ok(())
}

/// Where processors stand, as JSON.
struct Rips<'a>(&'a [Processor<'a>]);

impl Display for Rips<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, processor) in self.0.iter().enumerate() {
            write!(out, "{}\"{:#x}\"", if index == 0 { '[' } else { ',' }, processor.vmcb.rip())?;
        }
        out.write_str("]")
    }
}

/// Makes a guest of what the files say.
fn create(
    memory: &mut FreeMemory,
    files: &mut FwCfg,
    frequencies: Frequencies,
) -> Result<(Machine<'static>, &'static mut [Processor<'static>]), Failure> {
    let size = files.read_number("opt/leveret/guest0/memory-mib").ok_or(Failure::BadMemorySize)? << 20;
    let count = files.read_number("opt/leveret/guest0/cpus").ok_or(Failure::BadProcessors)? as usize;
    if !(1..=MAX_PROCESSORS).contains(&count) {
        return Err(Failure::BadProcessors);
    }
    let left = memory.size();
    let no_memory = |needed| move || Failure::NoMemory { needed, left };
    let base = memory.take_range(size, GUEST_ALIGNMENT).ok_or_else(no_memory(size))?;
    // SAFETY: memory that was taken for this, and that nothing of the host refers to.
    let guest_memory = unsafe { GuestMemory::new(base as *mut u8, size) };

    let no_rest = no_memory(REST);
    let tables = memory.take_all(NESTED_TABLES, |_, _| Some(Table::EMPTY)).ok_or_else(no_rest)?;
    let tables_base = tables.as_ptr().addr() as u64;
    let mut nested = NestedPageTables::new(tables, tables_base);
    nested.map(0, base, size, Access::Full).map_err(Failure::Map)?;
    let confinement = Confinement {
        nested_cr3: nested.root(),
        iopm: ptr::from_ref(memory.take(IoPermissionMap::ALL_EXIT).ok_or_else(no_rest)?).addr() as u64,
        msrpm: ptr::from_ref(memory.take(msr::PERMISSIONS).ok_or_else(no_rest)?).addr() as u64,
        asid: 1,
    };
    let clock = Clock::new(time::tsc(), frequencies.tsc, rtc::now());
    let mailboxes: &'static [Mailbox] = memory.take_all(count, |_, _| Some(Mailbox::new())).ok_or_else(no_rest)?;
    let processors = memory.take_all(count, |memory, index| {
        let vmcb = memory.take(Vmcb::new())?;
        let id = index as u32;
        let identity = Identity { id, processors: count as u32 };
        // They take turns on one processor of the host, and must not see each other's translations.
        let confinement = Confinement { asid: 1 + id, ..confinement };
        Some(Processor::new(vmcb, confinement, identity, &mailboxes[index], &clock))
    });
    let processors = processors.ok_or_else(no_rest)?;
    let devices = devices::make(memory, frequencies.tsc).ok_or(Failure::NoDevices)?;
    let mut machine = Machine::new(guest_memory, clock, mailboxes, devices);
    load::load(files, &mut machine, &mut processors[0]).map_err(Failure::Load)?;
    Ok((machine, processors))
}
