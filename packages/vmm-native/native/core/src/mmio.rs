//! Devices in memory: what a nested page fault is when nothing is mapped where it is.

use crate::decode::{CrWrite, MAX_LENGTH, Mode, Operation, Register, decode, decode_cr_write, extend};
use crate::exit::{Exit, NestedPageFault};
use crate::machine::{Machine, Stop};
use crate::memory::GuestMemory;
use crate::processor::{GENERAL_PROTECTION, Processor};
use crate::start::efer;
use crate::vmcb::SegmentRegister;
use crate::walk;

/// Attributes of a code segment: 64-bit code, and the default size of operands.
const LONG: u16 = 1 << 9;
const DEFAULT_32_BITS: u16 = 1 << 10;

impl Processor<'_> {
    /// Lets the instruction that the guest is at access a device.
    pub(crate) fn access_device(&mut self, fault: NestedPageFault, machine: &mut Machine) -> Result<(), Stop> {
        let unhandled = Stop::Unhandled(Exit::NestedPageFault(fault));
        // What is in memory is mapped, and devices hold no code and no page tables.
        if fault.fetch || fault.table_walk || fault.address < machine.memory.size() {
            return Err(unhandled);
        }
        let mut bytes = [0; MAX_LENGTH];
        let fetched = self.fetch(&machine.memory, &mut bytes);
        let instruction = decode(&bytes[..fetched], self.mode()).map_err(|_| unhandled)?;
        match instruction.operation {
            Operation::Load { to, size, result, signed } => {
                let value = machine.read_device(fault.address, size);
                self.set_register(to, result, if signed { extend(value, size) } else { value });
            }
            Operation::Store { from, size } => {
                let value = self.register(from);
                machine.write_device(fault.address, size, value);
            }
            Operation::StoreConstant { value, size } => machine.write_device(fault.address, size, value),
        }
        self.skip(instruction.length.into());
        Ok(())
    }

    /// Lets the instruction that the processor is at, a move to CR8, set the task priority.
    pub(crate) fn write_cr8(&mut self, machine: &Machine) -> Result<(), Stop> {
        let mut bytes = [0; MAX_LENGTH];
        let fetched = self.fetch(&machine.memory, &mut bytes);
        let unhandled = Stop::Unhandled(Exit::Cr8Write);
        let CrWrite { from, length } = decode_cr_write(&bytes[..fetched]).map_err(|_| unhandled)?;
        match u8::try_from(self.registers.general[from]) {
            Ok(class) if class < 16 => {
                self.lapic.set_priority_class(class);
                self.skip(length.into());
            }
            _ => self.raise(GENERAL_PROTECTION, Some(0)),
        }
        Ok(())
    }

    /// Copies out the bytes of the instruction that the guest is at; returns how many of them are mapped.
    fn fetch(&self, memory: &GuestMemory, bytes: &mut [u8; MAX_LENGTH]) -> usize {
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

    fn mode(&self) -> Mode {
        let attributes = self.vmcb.segment(SegmentRegister::Cs).attributes;
        match (self.vmcb.efer() & efer::LMA != 0 && attributes & LONG != 0, attributes & DEFAULT_32_BITS != 0) {
            (true, _) => Mode::Bits64,
            (false, true) => Mode::Bits32,
            (false, false) => Mode::Bits16,
        }
    }

    fn register(&self, Register { number, high_byte }: Register) -> u64 {
        self.registers.general[number] >> if high_byte { 8 } else { 0 }
    }

    /// Sets as much of a register as the size says; 32 bits clear the upper half.
    fn set_register(&mut self, Register { number, high_byte }: Register, size: u8, value: u64) {
        let register = &mut self.registers.general[number];
        let shift = if high_byte { 8 } else { 0 };
        let mask = (u64::MAX >> (64 - u32::from(size) * 8)) << shift;
        *register = if size == 4 { value & mask } else { *register & !mask | value << shift & mask };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processor::register;
    use crate::processor::testing::{TestGuest, guest};
    use crate::vmcb::Segment;

    const CODE: u64 = 0x2000;

    /// A guest in 64-bit mode without paging, which is good enough here, at an instruction.
    fn at(instruction: &[u8]) -> TestGuest {
        let mut guest = guest(1);
        guest.machine.memory.write(CODE, instruction).unwrap();
        guest.processor.vmcb.set_rip(CODE);
        guest.processor.vmcb.set_efer(efer::LMA);
        guest.processor.vmcb.set_segment(SegmentRegister::Cs, Segment { attributes: LONG, ..Segment::default() });
        guest
    }

    fn fault(guest: &mut TestGuest, address: u64, bits: u64) -> Result<(), Stop> {
        guest.exit(0x400, bits, address)
    }

    #[test]
    fn registers_of_the_io_apic_are_read_and_written() {
        // mov dword ptr [rdi], 1; then mov eax, [rdi+0x10].
        let mut guest = at(&[0xc7, 0x07, 1, 0, 0, 0, 0x8b, 0x47, 0x10]);
        guest.processor.registers.general[register::RAX] = u64::MAX;
        fault(&mut guest, 0xfec0_0000, 2).unwrap();
        assert_eq!(guest.processor.vmcb.rip(), CODE + 6);
        fault(&mut guest, 0xfec0_0010, 0).unwrap();
        assert_eq!(
            (guest.processor.vmcb.rip(), guest.processor.registers.general[register::RAX]),
            (CODE + 9, 0x0017_0011)
        );
        assert_eq!(guest.machine.read_device(0xfec0_0010, 1), 0x11);
    }

    #[test]
    fn where_no_device_is_all_bits_are_set() {
        for (instruction, expected) in [
            (&[0x8a, 0x07][..], 0xff),             // mov al, [rdi]
            (&[0x8a, 0x27], 0xff00),               // mov ah, [rdi]
            (&[0x0f, 0xb7, 0x07], 0xffff),         // movzx eax, word ptr [rdi]
            (&[0x0f, 0xbe, 0x07], 0xffff_ffff),    // movsx eax, byte ptr [rdi]
            (&[0x48, 0x0f, 0xbe, 0x07], u64::MAX), // movsx rax, byte ptr [rdi]
            (&[0x8b, 0x07], 0xffff_ffff),          // mov eax, [rdi]
            (&[0x48, 0x8b, 0x07], u64::MAX),       // mov rax, [rdi]
        ] {
            let mut guest = at(instruction);
            fault(&mut guest, 0xfed0_0000, 0).unwrap();
            assert_eq!(guest.processor.registers.general[register::RAX], expected, "{instruction:x?}");
        }
    }

    #[test]
    fn a_move_to_cr8_sets_the_task_priority() {
        const CR8_WRITE: u64 = 0x18;
        let mut guest = at(&[0x45, 0x0f, 0x22, 0xc1]); // mov cr8, r9
        guest.processor.registers.general[9] = 5;
        guest.exit(CR8_WRITE, 0, 0).unwrap();
        assert_eq!((guest.processor.lapic.priority_class(), guest.processor.vmcb.rip()), (5, CODE + 4));
        guest.processor.vmcb.set_rip(CODE);
        guest.processor.registers.general[9] = 16;
        guest.exit(CR8_WRITE, 0, 0).unwrap();
        guest.processor.prepare(0);
        assert_eq!((guest.processor.vmcb.rip(), guest.processor.vmcb.event_injection()), (CODE, 0x8000_0b0d));
        assert_eq!(at(&[0x90]).exit(CR8_WRITE, 0, 0), Err(Stop::Unhandled(Exit::Cr8Write)));
    }

    #[test]
    fn what_is_no_access_to_a_device_stops_the_guest() {
        let unhandled = |mut guest: TestGuest, address, bits| fault(&mut guest, address, bits).unwrap_err().name();
        assert_eq!(unhandled(at(&[0x01, 0x07]), 0xfec0_0000, 2), "unhandled-exit", "add [rdi], eax");
        assert_eq!(unhandled(at(&[0x8b, 0x07]), 0xfec0_0000, 1 << 4), "unhandled-exit", "a fetch");
        assert_eq!(unhandled(at(&[0x8b, 0x07]), 0xfec0_0000, 1 << 33), "unhandled-exit", "a page table");
        assert_eq!(unhandled(at(&[0x8b, 0x07]), 0x3000, 2), "unhandled-exit", "memory");
        let nowhere = at(&[]);
        nowhere.processor.vmcb.set_rip(1 << 20);
        assert_eq!(unhandled(nowhere, 0xfec0_0000, 0), "unhandled-exit");
    }
}
