//! String instructions, element by element: INS and OUTS on ports; MOVS, STOS and LODS on devices in memory (manual,
//! volume 3).
//!
//! An instruction with a REP prefix is done in parts, as processors do it between interrupts: registers say how far it
//! has come, and RIP stays where it is until the last element.

use crate::decode::{Address, Base, Instruction, MAX_LENGTH, Operation, Register, StringOperation, decode};
use crate::exit::{Exit, IoAccess};
use crate::linear::Trouble;
use crate::machine::{Host, Machine, Stop};
use crate::processor::register::{RCX, RDI, RSI};
use crate::processor::{Processor, register};
use crate::vmcb::SegmentRegister;

/// Most elements that are done before the guest, its interrupts, and others get their turn.
const MAX_ELEMENTS: u32 = 1024;
const DIRECTION: u64 = 1 << 10;

/// What ends a string instruction early.
enum End {
    Trouble(Trouble),
    Stop(Stop),
}

impl From<Trouble> for End {
    fn from(trouble: Trouble) -> End {
        End::Trouble(trouble)
    }
}

impl Processor<'_> {
    /// Does the INS or OUTS that the guest is at.
    pub(crate) fn string_io(
        &mut self,
        access: IoAccess,
        machine: &mut Machine,
        host: &mut impl Host,
    ) -> Result<(), Stop> {
        let exit = Exit::Io(access);
        let mut bytes = [0; MAX_LENGTH];
        let fetched = self.fetch(&machine.memory, &mut bytes);
        let instruction = decode(&bytes[..fetched], self.mode()).map_err(|_| Stop::Unhandled(exit))?;
        let expected = if access.input { StringOperation::Input } else { StringOperation::Output };
        match instruction.operation {
            Operation::String { what, repeated }
                if (what, repeated, instruction.size) == (expected, access.repeated, access.size) =>
            {
                self.string(&instruction, what, repeated, exit, machine, host)
            }
            // Another processor has written over it: this one takes what is there now.
            _ => Ok(()),
        }
    }

    /// Does a string instruction, or some of its elements.
    pub(crate) fn string(
        &mut self,
        instruction: &Instruction,
        what: StringOperation,
        repeated: bool,
        exit: Exit,
        machine: &mut Machine,
        host: &mut impl Host,
    ) -> Result<(), Stop> {
        let address_size = instruction.address.size;
        for _ in 0..MAX_ELEMENTS {
            if repeated && self.counter(address_size) == 0 {
                self.skip(instruction.length.into());
                return Ok(());
            }
            match self.element(instruction, what, machine, host) {
                Ok(()) => {}
                Err(End::Trouble(trouble)) => return self.give(trouble, exit),
                Err(End::Stop(stop)) => return Err(stop),
            }
            if !repeated {
                self.skip(instruction.length.into());
                return Ok(());
            }
            let left = self.counter(address_size).wrapping_sub(1);
            self.set_register(Register { number: RCX, high_byte: false }, address_size, left);
        }
        // An interrupt shadow is over after the first element.
        self.skip(0);
        Ok(())
    }

    /// Does one element. What could fault is asked before anything is done that cannot be undone.
    fn element(
        &mut self,
        instruction: &Instruction,
        what: StringOperation,
        machine: &mut Machine,
        host: &mut impl Host,
    ) -> Result<(), End> {
        let Instruction { size, address, length, .. } = *instruction;
        let port = self.registers.general[register::RDX] as u16;
        let offset = self.offset(&address, length);
        let memory = &mut machine.memory;
        match what {
            StringOperation::Input => {
                let to = self.place(memory, address.segment, offset, size, true)?;
                let value = machine.read_ports(port, size);
                to.write(machine, value.into())?;
            }
            StringOperation::Output => {
                let from = self.place(memory, address.segment, offset, size, false)?;
                let value = from.read(machine)?;
                machine.write_ports(port, size, value as u32, host).map_err(End::Stop)?;
            }
            StringOperation::Store => {
                let to = self.place(memory, address.segment, offset, size, true)?;
                to.write(machine, self.registers.general[register::RAX])?;
            }
            StringOperation::Load => {
                let from = self.place(memory, address.segment, offset, size, false)?;
                let value = from.read(machine)?;
                self.set_register(Register::RAX, size, value);
            }
            StringOperation::Move => {
                let from = self.place(memory, address.segment, offset, size, false)?;
                let destination = Address { base: Base::Register(RDI), ..address };
                let offset = self.offset(&destination, length);
                let to = self.place(memory, SegmentRegister::Es, offset, size, true)?;
                let value = from.read(machine)?;
                to.write(machine, value)?;
            }
        }
        let moves: &[usize] = match what {
            StringOperation::Input | StringOperation::Store => &[RDI],
            StringOperation::Output | StringOperation::Load => &[RSI],
            StringOperation::Move => &[RSI, RDI],
        };
        let step = if self.vmcb.rflags() & DIRECTION == 0 { size.into() } else { u64::from(size).wrapping_neg() };
        for number in moves {
            let next = self.registers.general[*number].wrapping_add(step);
            self.set_register(Register { number: *number, high_byte: false }, address.size, next);
        }
        Ok(())
    }

    /// How many elements are left.
    fn counter(&self, address_size: u8) -> u64 {
        self.registers.general[RCX] & u64::MAX >> (64 - u32::from(address_size) * 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processor::register::RDX;
    use crate::processor::testing::{TestGuest, guest};
    use crate::start::efer;
    use crate::vmcb::{Event, Segment};

    const CODE: u64 = 0x2000;
    const DATA: u64 = 0x4000;
    const SERIAL: u64 = 0x3f8;
    const IOIO: u64 = 0x7b;
    const LONG: u16 = 1 << 9;
    const PAGING: u64 = 1 << 31 | 1;

    /// A guest in 64-bit mode at an instruction; its tables map 2 MiB to themselves, and nothing else.
    fn at(instruction: &[u8]) -> TestGuest {
        let mut guest = guest(1);
        let memory = &mut guest.machine.memory;
        memory.write(CODE, instruction).unwrap();
        for (at, entry) in [(0x8000, 0x9007_u64), (0x9000, 0xa007), (0xa000, 0xb007)] {
            memory.write(at, &entry.to_le_bytes()).unwrap();
        }
        for page in 0..16_u64 {
            memory.write(0xb000 + page * 8, &(page << 12 | 7).to_le_bytes()).unwrap();
        }
        let vmcb = &mut guest.processor.vmcb;
        vmcb.set_rip(CODE);
        vmcb.set_efer(efer::LME | efer::LMA);
        vmcb.set_cr0(PAGING);
        vmcb.set_cr3(0x8000);
        vmcb.set_cr4(1 << 5);
        vmcb.set_segment(SegmentRegister::Cs, Segment { attributes: LONG, ..Segment::default() });
        guest.processor.registers.general[RDX] = SERIAL;
        guest
    }

    fn set(guest: &mut TestGuest, registers: &[(usize, u64)]) {
        for (number, value) in registers {
            guest.processor.registers.general[*number] = *value;
        }
    }

    /// EXITINFO1 of OUTS and INS of bytes.
    const OUTS: u64 = SERIAL << 16 | 1 << 4 | 1 << 2;
    const INS: u64 = OUTS | 1;
    const REP: u64 = 1 << 3;

    #[test]
    fn rep_outsb_sends_a_string() {
        let mut guest = at(&[0xf3, 0x6e]);
        guest.machine.memory.write(DATA, b"hello").unwrap();
        set(&mut guest, &[(RSI, DATA), (RCX, 5)]);
        guest.exit(IOIO, OUTS | REP, 0).unwrap();
        assert_eq!(guest.host.sent, b"hello");
        let general = &guest.processor.registers.general;
        assert_eq!((guest.processor.vmcb.rip(), general[RSI], general[RCX]), (CODE + 2, DATA + 5, 0));
    }

    #[test]
    fn strings_go_backwards_when_the_direction_flag_is_set() {
        let mut guest = at(&[0xf3, 0x6e]);
        guest.machine.memory.write(DATA, b"abc").unwrap();
        set(&mut guest, &[(RSI, DATA + 2), (RCX, 3)]);
        guest.processor.vmcb.set_rflags(DIRECTION);
        guest.exit(IOIO, OUTS | REP, 0).unwrap();
        assert_eq!((&guest.host.sent[..], guest.processor.registers.general[RSI]), (&b"cba"[..], DATA - 1));
    }

    #[test]
    fn insb_reads_what_is_typed() {
        let mut guest = at(&[0x6c]);
        guest.machine.receive(b'x');
        set(&mut guest, &[(RDI, DATA), (RCX, 9)]);
        guest.exit(IOIO, INS, 0).unwrap();
        let general = &guest.processor.registers.general;
        assert_eq!((guest.processor.vmcb.rip(), general[RDI], general[RCX]), (CODE + 1, DATA + 1, 9));
        assert_eq!(guest.machine.memory.read_number(DATA, 4), Ok(u64::from(b'x')));
    }

    #[test]
    fn a_count_of_zero_does_nothing() {
        let mut guest = at(&[0xf3, 0x6c]);
        set(&mut guest, &[(RDI, DATA), (RCX, 0)]);
        guest.exit(IOIO, INS | REP, 0).unwrap();
        assert_eq!((guest.processor.vmcb.rip(), guest.processor.registers.general[RDI]), (CODE + 2, DATA));
    }

    #[test]
    fn long_strings_are_done_in_parts() {
        let mut guest = at(&[0xf3, 0x6c]);
        set(&mut guest, &[(RDI, DATA), (RCX, 1500)]);
        guest.processor.vmcb.set_interrupt_shadow(1);
        guest.exit(IOIO, INS | REP, 0).unwrap();
        let vmcb = &guest.processor.vmcb;
        assert_eq!((vmcb.rip(), vmcb.interrupt_shadow()), (CODE, 0));
        assert_eq!(guest.processor.registers.general[RCX], 1500 - u64::from(MAX_ELEMENTS));
        guest.exit(IOIO, INS | REP, 0).unwrap();
        assert_eq!((guest.processor.vmcb.rip(), guest.processor.registers.general[RDI]), (CODE + 2, DATA + 1500));
    }

    #[test]
    fn addresses_of_32_bits_wrap_around_and_clear_the_upper_half() {
        let mut guest = at(&[0x67, 0xf3, 0x6e]);
        guest.machine.memory.write(DATA, b"ab").unwrap();
        set(&mut guest, &[(RSI, 0xffff_ffff_0000_0000 | DATA), (RCX, 0xffff_ffff_0000_0002)]);
        guest.exit(IOIO, OUTS | REP, 0).unwrap();
        let general = &guest.processor.registers.general;
        assert_eq!((&guest.host.sent[..], general[RSI], general[RCX]), (&b"ab"[..], DATA + 2, 0));
    }

    #[test]
    fn a_page_fault_is_the_guests_and_comes_before_the_port_is_read() {
        let mut guest = at(&[0xf3, 0x6c]);
        guest.machine.receive(b'x');
        guest.machine.memory.write(0xb000 + 5 * 8, &0x5001_u64.to_le_bytes()).unwrap();
        guest.processor.vmcb.set_cr0(PAGING | 1 << 16);
        set(&mut guest, &[(RDI, 0x4fff), (RCX, 2)]);
        guest.exit(IOIO, INS | REP, 0).unwrap();
        guest.processor.prepare(0);
        let general = &guest.processor.registers.general;
        assert_eq!((general[RDI], general[RCX], guest.processor.vmcb.rip()), (0x5000, 1, CODE));
        assert_eq!(guest.machine.memory.read_number(0x4ffc, 4), Ok(u64::from(b'x') << 24));
        let vmcb = &guest.processor.vmcb;
        assert_eq!((vmcb.event_injection(), vmcb.cr2()), (0x3_8000_0b0e, 0x5000));
    }

    #[test]
    fn addresses_that_are_not_canonical_and_segments_that_end_are_faults() {
        let injected = |mut guest: TestGuest| {
            guest.exit(IOIO, OUTS, 0).unwrap();
            guest.processor.prepare(0);
            Event::decode(guest.processor.vmcb.event_injection()).map(|event| (event.vector, event.error_code))
        };
        let mut guest = at(&[0x6e]);
        set(&mut guest, &[(RSI, 1 << 47)]);
        assert_eq!(injected(guest), Some((13, Some(0))));
        let legacy = |instruction: &[u8], rsi, data: Segment| {
            let mut guest = at(instruction);
            guest.processor.vmcb.set_efer(0);
            guest.processor.vmcb.set_cr0(1);
            guest.processor.vmcb.set_segment(SegmentRegister::Cs, Segment { attributes: 0x49b, ..Segment::default() });
            guest.processor.vmcb.set_segment(SegmentRegister::Ds, data);
            guest.processor.vmcb.set_segment(SegmentRegister::Ss, data);
            set(&mut guest, &[(RSI, rsi)]);
            injected(guest)
        };
        let data = Segment { attributes: 0x493, limit: 0x1000, base: DATA - 0x1000, ..Segment::default() };
        assert_eq!(legacy(&[0x6e], 0x1000, data), None);
        assert_eq!(legacy(&[0x6e], 0x1001, data), Some((13, Some(0))));
        assert_eq!(legacy(&[0x36, 0x6e], 0x1001, data), Some((12, Some(0))));
        assert_eq!(legacy(&[0x6e], 0x1000, Segment { attributes: 0x413, ..data }), Some((13, Some(0))), "not present");
        let down = Segment { attributes: 0x497, ..data };
        assert_eq!((legacy(&[0x6e], 0x1000, down), legacy(&[0x6e], 0x1001, down)), (Some((13, Some(0))), None));
    }

    #[test]
    fn an_instruction_that_is_not_there_any_more_is_not_done() {
        let mut guest = at(&[0x6c]);
        guest.exit(IOIO, OUTS, 0).unwrap();
        assert_eq!((guest.processor.vmcb.rip(), guest.host.sent.len()), (CODE, 0));
        let exit = IoAccess { port: 0x3f8, size: 1, input: false, string: true, repeated: false, next_rip: 0 };
        assert_eq!(at(&[0x90]).exit(IOIO, OUTS, 0), Err(Stop::Unhandled(Exit::Io(exit))));
    }
}
