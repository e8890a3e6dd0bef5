//! What a guest's memory holds when it starts, from the files that QEMU hands in.

use crate::fw_cfg::{File, FwCfg};
use core::fmt;
use vmm_core::acpi;
use vmm_core::firmware;
use vmm_core::linux::{HEADER_SIZE, LinuxError, LinuxPlan, LinuxWriteError, Placement};
use vmm_core::machine::Machine;
use vmm_core::memory::OutOfMemory;
use vmm_core::processor::{Processor, register};
use vmm_core::start::enter_long_mode;

/// Where a flat binary is loaded and entered.
const FLAT_START: u64 = 0x10_0000;
const ELF_MAGIC: &[u8] = b"\x7fELF";
/// Longest command line that is read, in bytes; kernels take less.
const MAX_COMMAND_LINE: usize = 4096;

/// Why a guest cannot start.
pub enum LoadError {
    /// There is no kernel.
    NoKernel,
    /// The kernel is an ELF file, which is neither Linux nor a flat binary.
    Elf,
    /// The command line is longer than any kernel takes.
    CommandLineTooLong {
        /// How long it is, in bytes.
        length: u32,
    },
    /// The kernel is none that can be loaded.
    Linux(LinuxError),
    /// The guest's memory is too small.
    Memory(OutOfMemory),
}

impl fmt::Display for LoadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::NoKernel => out.write_str("expected a kernel in opt/leveret/guest0/kernel, got none"),
            LoadError::Elf => out.write_str("expected a Linux bzImage or a flat binary, got an ELF file"),
            LoadError::CommandLineTooLong { length } => {
                write!(out, "expected a command line of at most {MAX_COMMAND_LINE} bytes, got {length}")
            }
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

/// Loads the kernel, be it Linux or a flat binary, and lets the guest's first processor begin with it.
pub fn load(files: &mut FwCfg, machine: &mut Machine, first: &mut Processor) -> Result<(), LoadError> {
    let kernel = files.open("opt/leveret/guest0/kernel").ok_or(LoadError::NoKernel)?;
    let mut header = [0; HEADER_SIZE];
    files.read(kernel, 0, &mut header);
    if LinuxPlan::recognises(&header) {
        load_linux(files, machine, first, kernel, &header)?;
    } else if header.starts_with(ELF_MAGIC) {
        return Err(LoadError::Elf);
    } else {
        files.read_to_guest(kernel, 0, &mut machine.memory, FLAT_START, kernel.size)?;
        enter_long_mode(first.vmcb, &mut first.registers, &mut machine.memory, FLAT_START)?;
    }
    first.begin();
    Ok(())
}

fn load_linux(
    files: &mut FwCfg,
    machine: &mut Machine,
    first: &mut Processor,
    kernel: File,
    header: &[u8; HEADER_SIZE],
) -> Result<(), LoadError> {
    let initrd = files.open("opt/leveret/guest0/initrd");
    let initrd_size = initrd.map_or(0, |file| file.size.into());
    let size = machine.memory.size();
    let plan = LinuxPlan::new(header, kernel.size.into(), initrd_size, size).map_err(LoadError::Linux)?;

    let mut line = [0; MAX_COMMAND_LINE];
    let mut line_length = 0;
    if let Some(file) = files.open("opt/leveret/guest0/command-line") {
        line_length = file.size as usize;
        let place = line.get_mut(..line_length).ok_or(LoadError::CommandLineTooLong { length: file.size })?;
        files.read(file, 0, place);
    }
    let processors = machine.processors();
    let devices = machine.pci_devices() as u8;
    firmware::write(&mut machine.memory)?;
    let tables = acpi::write(&mut machine.memory, processors, devices)?;
    plan.write(&mut machine.memory, &line[..line_length], tables)?;
    for (file, Placement { offset, length, address }) in [(Some(kernel), plan.kernel), (initrd, plan.initrd)] {
        if let Some(file) = file {
            files.read_to_guest(file, offset as u32, &mut machine.memory, address, length as u32)?;
        }
    }
    enter_long_mode(first.vmcb, &mut first.registers, &mut machine.memory, plan.entry())?;
    first.registers.general[register::RSI] = plan.boot_params();
    Ok(())
}
