//! What an instruction of a guest sees of memory: offsets in segments, linear addresses, and what is behind them
//! (manual, 4.5 to 4.8 and 5).

use crate::decode::{Address, MAX_LENGTH, Mode, Register, Source};
use crate::exit::Exit;
use crate::machine::{Machine, Stop};
use crate::memory::GuestMemory;
use crate::processor::{GENERAL_PROTECTION, Processor};
use crate::start::efer;
use crate::vmcb::{Event, EventKind, SegmentRegister};
use crate::walk::{self, Access, WalkError};

/// Attributes of segments (4.8): in bits 11:0 as the control block has them.
mod attribute {
    pub const WRITABLE_OR_READABLE: u16 = 1 << 1;
    pub const EXPANDS_DOWN: u16 = 1 << 2;
    pub const CODE: u16 = 1 << 3;
    pub const PRESENT: u16 = 1 << 7;
    /// 64-bit code.
    pub const LONG: u16 = 1 << 9;
    /// The default size of operands of code, and the end of data that expands down.
    pub const DEFAULT_32_BITS: u16 = 1 << 10;
}

const CR0_PROTECTED: u64 = 1 << 0;
const RFLAGS_VIRTUAL_8086: u64 = 1 << 17;
const STACK_FAULT: u8 = 12;
const PAGE_FAULT: u8 = 14;
const PAGE: u64 = 4096;
const PROGRAM: u8 = 3;

/// Why an operand cannot be accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The instruction faults.
    Fault(Event),
    /// A page fault at a linear address.
    PageFault { code: u32, linear: u64 },
    /// The guest has changed its page tables at this moment: it starts the instruction again.
    Again,
    /// The guest cannot go on.
    Stop,
}

/// Where an operand is: in one place, or in two when it crosses a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Guest physical address.
    address: u64,
    /// How many bytes are there.
    length: u8,
    /// Guest physical address of the rest, which is then in memory, and so is the beginning.
    rest: Option<u64>,
    /// Bytes of the operand.
    size: u8,
}

impl Processor<'_> {
    /// Copies out the bytes of the instruction that the guest is at; returns how many of them are mapped.
    pub(crate) fn fetch(&self, memory: &GuestMemory, bytes: &mut [u8; MAX_LENGTH]) -> usize {
        let code = self.vmcb.segment(SegmentRegister::Cs);
        let base = if self.mode() == Mode::Bits64 { 0 } else { code.base };
        let start = base.wrapping_add(self.vmcb.rip());
        for (index, byte) in bytes.iter_mut().enumerate() {
            let address = walk::translate(self.vmcb, memory, start.wrapping_add(index as u64));
            let read = address.is_some_and(|address| memory.read(address, core::slice::from_mut(byte)).is_ok());
            if !read {
                return index;
            }
        }
        bytes.len()
    }

    /// How the processor reads instructions.
    pub(crate) fn mode(&self) -> Mode {
        let attributes = self.vmcb.segment(SegmentRegister::Cs).attributes;
        let long = self.vmcb.efer() & efer::LMA != 0 && attributes & attribute::LONG != 0;
        match (long, attributes & attribute::DEFAULT_32_BITS != 0) {
            (true, _) => Mode::Bits64,
            (false, true) => Mode::Bits32,
            (false, false) => Mode::Bits16,
        }
    }

    /// The lowest bytes of what it returns are the register's.
    pub(crate) fn register(&self, Register { number, high_byte }: Register) -> u64 {
        self.registers.general[number] >> if high_byte { 8 } else { 0 }
    }

    pub(crate) fn source(&self, source: Source) -> u64 {
        match source {
            Source::Register(register) => self.register(register),
            Source::Constant(value) => value,
        }
    }

    /// Sets as much of a register as the size says; 32 bits clear the upper half.
    pub(crate) fn set_register(&mut self, Register { number, high_byte }: Register, size: u8, value: u64) {
        let register = &mut self.registers.general[number];
        let shift = if high_byte { 8 } else { 0 };
        let mask = (u64::MAX >> (64 - u32::from(size) * 8)) << shift;
        *register = if size == 4 { value & mask } else { *register & !mask | value << shift & mask };
    }

    /// Offset of an operand in its segment, for an instruction of a length.
    pub(crate) fn offset(&self, address: &Address, length: u8) -> u64 {
        address.offset(&self.registers.general, self.vmcb.rip().wrapping_add(length.into()))
    }

    /// Linear address of an offset, whether or not it may be accessed.
    pub(crate) fn linear(&self, segment: SegmentRegister, offset: u64) -> u64 {
        let flat = !matches!(segment, SegmentRegister::Fs | SegmentRegister::Gs);
        match self.mode() {
            Mode::Bits64 if flat => offset,
            Mode::Bits64 => self.vmcb.segment(segment).base.wrapping_add(offset),
            Mode::Bits32 | Mode::Bits16 => self.vmcb.segment(segment).base.wrapping_add(offset) & 0xffff_ffff,
        }
    }

    /// Whether `size` bytes at an offset are in a segment, and may be accessed there (4.12, and 5.3.1 for addresses that
    /// are not canonical).
    fn check_segment(&self, segment: SegmentRegister, offset: u64, size: u8, write: bool) -> Result<(), Trouble> {
        let vector = if segment == SegmentRegister::Ss { STACK_FAULT } else { GENERAL_PROTECTION };
        let fault = Trouble::Fault(Event { kind: EventKind::Exception, vector, error_code: Some(0) });
        let last = u64::from(size) - 1;
        let fits = if self.mode() == Mode::Bits64 {
            let linear = self.linear(segment, offset);
            canonical(linear) && canonical(linear.wrapping_add(last))
        } else {
            let descriptor = self.vmcb.segment(segment);
            let has = |attribute| descriptor.attributes & attribute != 0;
            let protected = self.vmcb.cr0() & CR0_PROTECTED != 0 && self.vmcb.rflags() & RFLAGS_VIRTUAL_8086 == 0;
            // Data can be read, and code never written.
            let right = match (has(attribute::CODE), write) {
                (true, true) => false,
                (false, false) => true,
                _ => has(attribute::WRITABLE_OR_READABLE),
            };
            let limit = u64::from(descriptor.limit);
            let inside = if protected && !has(attribute::CODE) && has(attribute::EXPANDS_DOWN) {
                let end = if has(attribute::DEFAULT_32_BITS) { 0xffff_ffff } else { 0xffff };
                offset > limit && offset + last <= end
            } else {
                offset + last <= limit
            };
            inside && (!protected || (has(attribute::PRESENT) && right))
        };
        if fits { Ok(()) } else { Err(fault) }
    }

    /// Where an operand is, if the instruction may access it.
    pub(crate) fn place(
        &self,
        memory: &mut GuestMemory,
        segment: SegmentRegister,
        offset: u64,
        size: u8,
        write: bool,
    ) -> Result<Place, Trouble> {
        self.check_segment(segment, offset, size, write)?;
        let access = Access { write, user: self.vmcb.cpl() == PROGRAM };
        let linear = self.linear(segment, offset);
        let mut physical = |linear| {
            walk::access(self.vmcb, memory, linear, access).map_err(|error| match error {
                WalkError::PageFault { code } => Trouble::PageFault { code, linear },
                WalkError::Changed => Trouble::Again,
                WalkError::NoTable => Trouble::Stop,
            })
        };
        let address = physical(linear)?;
        let left = PAGE - linear % PAGE;
        if u64::from(size) <= left {
            return Ok(Place { address, length: size, rest: None, size });
        }
        let rest = physical(linear.wrapping_add(left))?;
        if address >= memory.size() || rest >= memory.size() {
            return Err(Trouble::Stop);
        }
        Ok(Place { address, length: left as u8, rest: Some(rest), size })
    }

    /// Gives the guest the fault, or lets it start again.
    pub(crate) fn give(&mut self, trouble: Trouble, exit: Exit) -> Result<(), Stop> {
        match trouble {
            Trouble::Fault(event) => self.raise(event.vector, event.error_code),
            Trouble::PageFault { code, linear } => {
                self.vmcb.set_cr2(linear);
                self.raise(PAGE_FAULT, Some(code));
            }
            Trouble::Again => {}
            Trouble::Stop => return Err(Stop::Unhandled(exit)),
        }
        Ok(())
    }
}

impl Place {
    /// Whether a device is there.
    fn is_device(&self, memory: &GuestMemory) -> bool {
        self.address >= memory.size()
    }

    /// Reads the operand.
    pub(crate) fn read(&self, machine: &mut Machine) -> Result<u64, Trouble> {
        if self.is_device(&machine.memory) {
            return Ok(machine.read_device(self.address, self.size));
        }
        let mut bytes = [0; 8];
        let (first, second) = bytes[..self.size.into()].split_at_mut(self.length.into());
        machine.memory.read(self.address, first).map_err(|_| Trouble::Stop)?;
        if let Some(rest) = self.rest {
            machine.memory.read(rest, second).map_err(|_| Trouble::Stop)?;
        }
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes the operand.
    pub(crate) fn write(&self, machine: &mut Machine, value: u64) -> Result<(), Trouble> {
        if self.is_device(&machine.memory) {
            machine.write_device(self.address, self.size, value);
            return Ok(());
        }
        let bytes = value.to_le_bytes();
        let (first, second) = bytes[..self.size.into()].split_at(self.length.into());
        machine.memory.write(self.address, first).map_err(|_| Trouble::Stop)?;
        if let Some(rest) = self.rest {
            machine.memory.write(rest, second).map_err(|_| Trouble::Stop)?;
        }
        Ok(())
    }
}

/// Whether bits 63:47 are all the same (5.3.1).
fn canonical(linear: u64) -> bool {
    matches!(linear >> 47, 0 | 0x1_ffff)
}
