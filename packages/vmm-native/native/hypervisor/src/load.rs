//! How a guest begins. Whoever controls the hypervisor writes kernels to the guest's memory, where they are told to.

use crate::guest::Guest;
use core::fmt;
use vmm_core::acpi;
use vmm_core::firmware;
use vmm_core::linux::{HEADER_SIZE, LinuxError, LinuxPlan, LinuxWriteError};
use vmm_core::memory::OutOfMemory;
use vmm_core::processor::register;
use vmm_core::start::enter_long_mode;

/// Where a flat binary is loaded and entered.
const FLAT_START: u64 = 0x10_0000;

/// Why a guest cannot begin.
pub enum LoadError {
    /// The kernel is none that can be loaded.
    Linux(LinuxError),
    /// The guest's memory is too small.
    Memory(OutOfMemory),
}

impl fmt::Display for LoadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Linux(reason) => reason.fmt(out),
            LoadError::Memory(reason) => reason.fmt(out),
        }
    }
}

impl From<OutOfMemory> for LoadError {
    fn from(reason: OutOfMemory) -> LoadError {
        LoadError::Memory(reason)
    }
}

impl From<LinuxWriteError> for LoadError {
    fn from(reason: LinuxWriteError) -> LoadError {
        match reason {
            LinuxWriteError::Linux(reason) => LoadError::Linux(reason),
            LinuxWriteError::Memory(reason) => LoadError::Memory(reason),
        }
    }
}

/// Writes what a flat binary finds, and lets the guest's first processor begin with it; returns where it goes.
pub fn load_flat(guest: &mut Guest) -> Result<u64, LoadError> {
    let first = &mut guest.processors[0];
    enter_long_mode(first.vmcb, &mut first.registers, &mut guest.machine.memory, FLAT_START)?;
    first.begin();
    Ok(FLAT_START)
}

/// Writes what a Linux kernel finds, and lets the guest's first processor begin with it; returns where it and its initrd go.
pub fn load_linux(
    guest: &mut Guest,
    header: &[u8; HEADER_SIZE],
    [kernel_size, initrd_size]: [u64; 2],
    command_line: &[u8],
) -> Result<LinuxPlan, LoadError> {
    let Guest { machine, processors, .. } = guest;
    let plan = LinuxPlan::new(header, kernel_size, initrd_size, machine.memory.size()).map_err(LoadError::Linux)?;
    let (count, devices) = (machine.processors(), machine.pci_devices() as u8);
    firmware::write(&mut machine.memory)?;
    let tables = acpi::write(&mut machine.memory, count, devices)?;
    plan.write(&mut machine.memory, command_line, tables)?;
    let first = &mut processors[0];
    enter_long_mode(first.vmcb, &mut first.registers, &mut machine.memory, plan.entry())?;
    first.registers.general[register::RSI] = plan.boot_params();
    first.begin();
    Ok(plan)
}
