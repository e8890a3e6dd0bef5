//! Devices in memory: what a nested page fault is when nothing is mapped where it is.

use crate::arithmetic::{self, binary, bit, unary};
use crate::decode::{
    Arithmetic, BitOperation, CrWrite, Instruction, MAX_LENGTH, Operation, Register, Source, decode, decode_cr_write,
    extend,
};
use crate::exit::{Exit, NestedPageFault};
use crate::machine::{Host, Machine, Stop};
use crate::processor::{GENERAL_PROTECTION, Processor};

const PAGE: u64 = 4096;

impl Processor<'_> {
    /// Lets the instruction that the guest is at access a device.
    pub(crate) fn access_device(
        &mut self,
        fault: NestedPageFault,
        machine: &mut Machine,
        host: &mut impl Host,
    ) -> Result<(), Stop> {
        // A page that others have too, which walks of the guest's own tables write to as well.
        if fault.write && machine.memory.own(fault.address) {
            return Ok(());
        }
        let exit = Exit::NestedPageFault(fault);
        let unhandled = Stop::Unhandled(exit);
        // What is in memory is mapped, and devices hold no code and no page tables.
        if fault.fetch || fault.table_walk || fault.address < machine.memory.size() {
            return Err(unhandled);
        }
        let mut bytes = [0; MAX_LENGTH];
        let fetched = self.fetch(&machine.memory, &mut bytes);
        let instruction = decode(&bytes[..fetched], self.mode()).map_err(|_| unhandled)?;
        if let Operation::String { what, repeated } = instruction.operation {
            return self.string(&instruction, what, repeated, exit, machine, host);
        }
        let linear = self.operand(&instruction);
        if linear % PAGE + u64::from(instruction.size) > PAGE {
            return Err(unhandled);
        }
        // Paging leaves these bits alone: if they differ, the instruction is another one by now, and is started anew.
        if linear % PAGE == fault.address % PAGE {
            self.operate(&instruction, fault.address, machine);
            self.skip(instruction.length.into());
        }
        Ok(())
    }

    /// Linear address of what an instruction accesses in memory.
    fn operand(&self, instruction: &Instruction) -> u64 {
        let Instruction { operation, size, address, length } = *instruction;
        let offset = self.offset(&address, length);
        // A bit that is not in the operand is in one before or behind it (volume 3, BT).
        let distance = match operation {
            Operation::Bit { index: Source::Register(register), .. } => {
                let index = extend(self.register(register), size) as i64;
                (index >> (size * 8).trailing_zeros()).wrapping_mul(size.into()) as u64
            }
            _ => 0,
        };
        let offset = offset.wrapping_add(distance) & u64::MAX >> (64 - u32::from(address.size) * 8);
        self.linear(address.segment, offset)
    }

    /// Does what an instruction does, with its operand at a guest physical address where no memory is.
    fn operate(&mut self, instruction: &Instruction, at: u64, machine: &mut Machine) {
        let size = instruction.size;
        let flags = self.vmcb.rflags();
        match instruction.operation {
            Operation::Load { to, result, signed } => {
                let value = machine.read_device(at, size);
                self.set_register(to, result, if signed { extend(value, size) } else { value });
            }
            Operation::Store { from } => machine.write_device(at, size, self.source(from)),
            Operation::Modify { what, with } => {
                let outcome = binary(what, machine.read_device(at, size), self.source(with), size, flags);
                if arithmetic::writes(what) {
                    machine.write_device(at, size, outcome.value);
                }
                self.vmcb.set_rflags(outcome.flags);
            }
            Operation::Combine { what, to } => {
                let outcome = binary(what, self.register(to), machine.read_device(at, size), size, flags);
                if arithmetic::writes(what) {
                    self.set_register(to, size, outcome.value);
                }
                self.vmcb.set_rflags(outcome.flags);
            }
            Operation::Unary(what) => {
                let outcome = unary(what, machine.read_device(at, size), size, flags);
                machine.write_device(at, size, outcome.value);
                self.vmcb.set_rflags(outcome.flags);
            }
            Operation::Exchange(register) => {
                let old = machine.read_device(at, size);
                machine.write_device(at, size, self.register(register));
                self.set_register(register, size, old);
            }
            Operation::ExchangeAdd(register) => {
                let old = machine.read_device(at, size);
                let outcome = binary(Arithmetic::Add, old, self.register(register), size, flags);
                machine.write_device(at, size, outcome.value);
                self.set_register(register, size, old);
                self.vmcb.set_rflags(outcome.flags);
            }
            Operation::CompareExchange(register) => {
                let old = machine.read_device(at, size);
                let outcome = binary(Arithmetic::Cmp, self.register(Register::RAX), old, size, flags);
                if outcome.flags & arithmetic::flag::ZF != 0 {
                    machine.write_device(at, size, self.register(register));
                } else {
                    self.set_register(Register::RAX, size, old);
                }
                self.vmcb.set_rflags(outcome.flags);
            }
            Operation::Bit { what, index } => {
                let index = self.source(index) as u32 % (u32::from(size) * 8);
                let outcome = bit(what, machine.read_device(at, size), index, flags);
                if what != BitOperation::Test {
                    machine.write_device(at, size, outcome.value);
                }
                self.vmcb.set_rflags(outcome.flags);
            }
            Operation::String { .. } => unreachable!("strings are done element by element"),
        }
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processor::register;
    use crate::processor::testing::{TestGuest, guest};
    use crate::start::efer;
    use crate::vmcb::{Segment, SegmentRegister};

    const CODE: u64 = 0x2000;
    const LONG: u16 = 1 << 9;

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

    /// The I/O APIC's register of number 0x10, an entry, is selected, and its mask is what can be changed.
    fn entry(value: u32) -> TestGuest {
        let mut guest = at(&[]);
        guest.machine.write_device(0xfec0_0000, 4, 0x10);
        guest.machine.write_device(0xfec0_0010, 4, value.into());
        guest.processor.registers.general[register::RDI] = 0xfec0_0010;
        guest
    }

    #[test]
    fn instructions_read_and_write_the_device_and_set_flags() {
        const MASK: u32 = 1 << 16;
        const CF: u64 = 1 << 0;
        const ZF: u64 = 1 << 6;
        const FLAGS: u64 = CF | ZF;
        const RBX: usize = register::RBX;
        // Instruction; the entry, RAX and RBX before; the entry, RBX and flags after.
        type Case = (&'static [u8], (u32, u64, u64), (u32, u64, u64));
        let cases: [Case; 14] = [
            (&[0x81, 0x0f, 0, 0, 1, 0], (0x31, 0, 0), (MASK | 0x31, 0, 0)), // or dword ptr [rdi], 0x10000
            (&[0x21, 0x1f], (MASK | 0x31, 0, 0xff), (0x31, 0xff, 0)),       // and [rdi], ebx
            (&[0xf7, 0x07, 0, 0, 1, 0], (0x31, 0, 0), (0x31, 0, ZF)),       // test dword ptr [rdi], 0x10000
            (&[0x83, 0x3f, 0x32], (0x31, 0, 0), (0x31, 0, CF)),             // cmp dword ptr [rdi], 0x32
            (&[0x03, 0x1f], (0x31, 0, 0xffff_ffff), (0x31, 0x30, CF)),      // add ebx, [rdi]
            (&[0xff, 0x07], (0x31, 0, 0), (0x32, 0, 0)),                    // inc dword ptr [rdi]
            (&[0x87, 0x1f], (0x31, 0, 0x42), (0x42, 0x31, 0)),              // xchg [rdi], ebx
            (&[0xf0, 0x0f, 0xc1, 0x1f], (0x31, 0, 2), (0x33, 0x31, 0)),     // lock xadd [rdi], ebx
            (&[0xf0, 0x0f, 0xb1, 0x1f], (0x31, 0x31, 0x42), (0x42, 0x42, ZF)), // lock cmpxchg [rdi], ebx
            (&[0xf0, 0x0f, 0xb1, 0x1f], (0x31, 0x32, 0x42), (0x31, 0x42, 0)),
            (&[0x0f, 0xba, 0x2f, 16], (0x31, 0, 0), (MASK | 0x31, 0, 0)), // bts dword ptr [rdi], 16
            (&[0x0f, 0xba, 0x37, 16], (MASK | 0x31, 0, 0), (0x31, 0, CF)), // btr dword ptr [rdi], 16
            (&[0x0f, 0xa3, 0x1f], (0x31, 0, 4), (0x31, 4, CF)),           // bt [rdi], ebx
            (&[0xc7, 0x07, 0x55, 0, 0, 0], (0x31, 0, 0), (0x55, 0, 0)),   // mov dword ptr [rdi], 0x55
        ];
        for (instruction, (before, rax, rbx), (after, rbx_after, flags)) in cases {
            let mut guest = entry(before);
            guest.machine.memory.write(CODE, instruction).unwrap();
            (guest.processor.registers.general[register::RAX], guest.processor.registers.general[RBX]) = (rax, rbx);
            fault(&mut guest, 0xfec0_0010, 0).unwrap();
            let found = (
                guest.machine.read_device(0xfec0_0010, 4) as u32,
                guest.processor.registers.general[RBX],
                guest.processor.vmcb.rflags() & FLAGS,
            );
            assert_eq!(found, (after, rbx_after, flags), "{instruction:02x?}");
            assert_eq!(guest.processor.vmcb.rip(), CODE + instruction.len() as u64, "{instruction:02x?}");
        }
    }

    #[test]
    fn a_bit_far_away_is_in_another_operand() {
        // bt [rdi], rbx: bit -1 of 0xfec00018 is bit 63 of what is 8 bytes before.
        let mut guest = entry(0);
        guest.machine.memory.write(CODE, &[0x48, 0x0f, 0xa3, 0x1f]).unwrap();
        (guest.processor.registers.general[register::RDI], guest.processor.registers.general[register::RBX]) =
            (0xfec0_0018, u64::MAX);
        fault(&mut guest, 0xfec0_0010, 0).unwrap();
        assert_eq!(guest.processor.vmcb.rip(), CODE + 4);
    }

    #[test]
    fn strings_go_between_memory_and_devices() {
        // rep movsd, from the window of the I/O APIC on; without paging what lies above 4 GiB is no matter.
        let mut guest = entry(0x31);
        guest.machine.memory.write(CODE, &[0xf3, 0xa5]).unwrap();
        let general = &mut guest.processor.registers.general;
        (general[register::RSI], general[register::RDI], general[register::RCX]) = (0xfec0_0010, 0x4000, 2);
        fault(&mut guest, 0xfec0_0010, 0).unwrap();
        assert_eq!(guest.machine.memory.read_number(0x4000, 4), Ok(0x31));
        assert_eq!((guest.processor.vmcb.rip(), guest.processor.registers.general[register::RDI]), (CODE + 2, 0x4008));
        // stosd
        let mut guest = entry(0x31);
        guest.machine.memory.write(CODE, &[0xab]).unwrap();
        guest.processor.registers.general[register::RAX] = 0x66;
        fault(&mut guest, 0xfec0_0010, 2).unwrap();
        assert_eq!(guest.machine.read_device(0xfec0_0010, 4), 0x66);
    }

    #[test]
    fn an_instruction_that_has_changed_starts_again() {
        let mut guest = at(&[0x8b, 0x47, 0x20]); // mov eax, [rdi+0x20]
        fault(&mut guest, 0xfec0_0010, 0).unwrap();
        assert_eq!((guest.processor.vmcb.rip(), guest.processor.registers.general[register::RAX]), (CODE, 0));
    }

    #[test]
    fn what_is_no_access_to_a_device_stops_the_guest() {
        let unhandled = |mut guest: TestGuest, address, bits| fault(&mut guest, address, bits).unwrap_err().name();
        assert_eq!(unhandled(at(&[0xff, 0x37]), 0xfec0_0000, 0), "unhandled-exit", "push [rdi]");
        let across = at(&[0x8b, 0x87, 0xfe, 0x0f, 0, 0]);
        assert_eq!(unhandled(across, 0xfec0_0ffe, 0), "unhandled-exit", "mov eax, [rdi+0xffe]");
        assert_eq!(unhandled(at(&[0x8b, 0x07]), 0xfec0_0000, 1 << 4), "unhandled-exit", "a fetch");
        assert_eq!(unhandled(at(&[0x8b, 0x07]), 0xfec0_0000, 1 << 33), "unhandled-exit", "a page table");
        assert_eq!(unhandled(at(&[0x8b, 0x07]), 0x3000, 2), "unhandled-exit", "memory");
        let nowhere = at(&[]);
        nowhere.processor.vmcb.set_rip(1 << 20);
        assert_eq!(unhandled(nowhere, 0xfec0_0000, 0), "unhandled-exit");
    }
}
