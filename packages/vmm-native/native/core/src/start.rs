//! The states in which processors of a guest start. The first one: in long mode, with everything below 4 GiB mapped to
//! itself. The others: in real mode.
//!
//! The first is what Linux asks for (Documentation/arch/x86/boot.rst, "64-bit boot protocol"), and flat binaries get the same.
//! What it needs in memory lies below 64 KiB; guests are free to overwrite it once they have tables of their own.

use crate::memory::{GuestMemory, OutOfMemory};
use crate::processor::{Registers, register};
use crate::vmcb::{Segment, SegmentRegister, Vmcb};

/// Guest physical address of the descriptor table.
const GDT: u64 = 0x500;
/// Guest physical addresses of the page tables: one root, one table of 512 GiB, four of 1 GiB.
const PAGE_TABLES: u64 = 0x9000;
const PAGE: u64 = 4096;
const GIBIBYTES: u64 = 4;

/// Where the stack of a flat binary ends.
const STACK_END: u64 = PAGE_TABLES;

const CODE_SELECTOR: u16 = 0x10;
const DATA_SELECTOR: u16 = 0x18;
/// 64-bit code, readable, accessed; present; granularity 4 KiB.
const CODE: u16 = 0xa9b;
/// Data, writable, accessed; present; 32-bit; granularity 4 KiB.
const DATA: u16 = 0xc93;
/// A busy task state segment, which long mode cannot be without.
const BUSY_TSS: u16 = 0x08b;
const LDT: u16 = 0x082;
const LIMIT: u32 = 0xffff_ffff;

mod cr0 {
    pub const PE: u64 = 1 << 0;
    pub const MP: u64 = 1 << 1;
    pub const ET: u64 = 1 << 4;
    pub const NE: u64 = 1 << 5;
    pub const PG: u64 = 1 << 31;
}

mod cr4 {
    pub const PAE: u64 = 1 << 5;
    pub const OSFXSR: u64 = 1 << 9;
    pub const OSXMMEXCPT: u64 = 1 << 10;
}

/// Bits of EFER, the extended feature enable register (manual, 3.1.7).
pub mod efer {
    /// Long mode is enabled.
    pub const LME: u64 = 1 << 8;
    /// Long mode is active.
    pub const LMA: u64 = 1 << 10;
    /// Secure virtual machine; VMRUN wants it set in guests.
    pub const SVME: u64 = 1 << 12;
}

/// TLB_CONTROL (manual, 15.16.1): a processor that starts knows no translations, and the next VMRUN flushes those of its life
/// before.
pub(crate) const FLUSH_TLB: u8 = 1;

/// Values of the registers after a reset that the state does not set (manual, table 14-1).
const RFLAGS: u64 = 0x2;
const DR6: u64 = 0xffff_0ff0;
const DR7: u64 = 0x400;
const PAT: u64 = 0x0007_0406_0007_0406;

/// Writes descriptor and page tables to memory, and gives a processor the state in which it begins at `rip`.
pub fn enter_long_mode(
    vmcb: &mut Vmcb,
    registers: &mut Registers,
    memory: &mut GuestMemory,
    rip: u64,
) -> Result<(), OutOfMemory> {
    write_descriptors(memory)?;
    write_page_tables(memory)?;
    let code = Segment { selector: CODE_SELECTOR, attributes: CODE, limit: LIMIT, base: 0 };
    let data = Segment { selector: DATA_SELECTOR, attributes: DATA, limit: LIMIT, base: 0 };
    use SegmentRegister::{Cs, Ds, Es, Fs, Gdtr, Gs, Idtr, Ldtr, Ss, Tr};
    vmcb.set_segment(Cs, code);
    for register in [Ds, Es, Fs, Gs, Ss] {
        vmcb.set_segment(register, data);
    }
    vmcb.set_segment(Gdtr, Segment { base: GDT, limit: 4 * 8 - 1, ..Segment::default() });
    vmcb.set_segment(Idtr, Segment::default());
    vmcb.set_segment(Ldtr, Segment { attributes: LDT, limit: 0xffff, ..Segment::default() });
    vmcb.set_segment(Tr, Segment { attributes: BUSY_TSS, limit: 0xffff, ..Segment::default() });
    vmcb.set_cpl(0);
    vmcb.set_efer(efer::LME | efer::LMA | efer::SVME);
    vmcb.set_cr0(cr0::PE | cr0::MP | cr0::ET | cr0::NE | cr0::PG);
    vmcb.set_cr3(PAGE_TABLES);
    vmcb.set_cr4(cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT);
    vmcb.set_dr6(DR6);
    vmcb.set_dr7(DR7);
    vmcb.set_guest_pat(PAT);
    vmcb.set_rflags(RFLAGS);
    vmcb.set_rip(rip);
    vmcb.set_tlb_control(FLUSH_TLB);
    // As if called: a multiple of 16, less the return address.
    registers.general[register::RSP] = STACK_END - 8;
    Ok(())
}

/// Gives a processor the state in which a startup makes it begin, in real mode at a page (manual, 14.1.3 and 16.5).
pub fn enter_real_mode(vmcb: &mut Vmcb, registers: &mut Registers, page: u8) {
    /// Code, readable, accessed; and data, writable, accessed; present, limit in bytes.
    const REAL_CODE: u16 = 0x09b;
    const REAL_DATA: u16 = 0x093;
    let page = u16::from(page);
    use SegmentRegister::{Cs, Ds, Es, Fs, Gdtr, Gs, Idtr, Ldtr, Ss, Tr};
    let table = Segment { limit: 0xffff, ..Segment::default() };
    vmcb.set_segment(Cs, Segment { selector: page << 8, attributes: REAL_CODE, base: u64::from(page) << 12, ..table });
    for register in [Ds, Es, Fs, Gs, Ss] {
        vmcb.set_segment(register, Segment { attributes: REAL_DATA, ..table });
    }
    vmcb.set_segment(Gdtr, table);
    vmcb.set_segment(Idtr, table);
    vmcb.set_segment(Ldtr, Segment { attributes: LDT, ..table });
    vmcb.set_segment(Tr, Segment { attributes: BUSY_TSS, ..table });
    vmcb.set_cpl(0);
    vmcb.set_efer(efer::SVME);
    vmcb.set_cr0(cr0::ET);
    vmcb.set_cr2(0);
    vmcb.set_cr3(0);
    vmcb.set_cr4(0);
    vmcb.set_dr6(DR6);
    vmcb.set_dr7(DR7);
    vmcb.set_guest_pat(PAT);
    vmcb.set_rflags(RFLAGS);
    vmcb.set_rip(0);
    vmcb.set_interrupt_shadow(0);
    vmcb.set_tlb_control(FLUSH_TLB);
    *registers = Registers::new();
}

fn write_descriptors(memory: &mut GuestMemory) -> Result<(), OutOfMemory> {
    for (index, attributes) in [(CODE_SELECTOR / 8, CODE), (DATA_SELECTOR / 8, DATA)] {
        let attributes = u64::from(attributes);
        // Base 0, limit 0xfffff: bits 15:0 and 51:48; attributes 7:0 at 40, 11:8 at 52 (manual, 4.8).
        let descriptor = 0xffff | 0xf << 48 | (attributes & 0xff) << 40 | (attributes >> 8) << 52;
        memory.write(GDT + u64::from(index) * 8, &descriptor.to_le_bytes())?;
    }
    Ok(())
}

fn write_page_tables(memory: &mut GuestMemory) -> Result<(), OutOfMemory> {
    const PRESENT_WRITABLE: u64 = 0b11;
    const LARGE: u64 = 1 << 7;
    let mut entry = |table: u64, index: u64, value: u64| {
        memory.write(PAGE_TABLES + table * PAGE + index * 8, &(value | PRESENT_WRITABLE).to_le_bytes())
    };
    entry(0, 0, PAGE_TABLES + PAGE)?;
    for gibibyte in 0..GIBIBYTES {
        let table = 2 + gibibyte;
        entry(1, gibibyte, PAGE_TABLES + table * PAGE)?;
        for index in 0..512 {
            entry(table, index, gibibyte << 30 | index << 21 | LARGE)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::leaked;

    #[test]
    fn descriptors_are_those_that_linux_asks_for() {
        let (mut vmcb, mut memory) = (Vmcb::new(), leaked(1 << 20));
        enter_long_mode(&mut vmcb, &mut Registers::new(), &mut memory, 0x10_0000).unwrap();
        assert_eq!(memory.read_u64(GDT), Ok(0));
        assert_eq!(memory.read_u64(GDT + 0x10), Ok(0x00af_9b00_0000_ffff));
        assert_eq!(memory.read_u64(GDT + 0x18), Ok(0x00cf_9300_0000_ffff));
        assert_eq!(vmcb.segment(SegmentRegister::Cs).selector, 0x10);
        assert_eq!(vmcb.segment(SegmentRegister::Ds).selector, 0x18);
    }

    #[test]
    fn everything_below_4_gib_is_mapped_to_itself() {
        let (mut vmcb, mut memory) = (Vmcb::new(), leaked(1 << 20));
        enter_long_mode(&mut vmcb, &mut Registers::new(), &mut memory, 0x10_0000).unwrap();
        for address in [0, 0x20_0000, 0x1234_5678, 0xffff_ffff_u64] {
            let mut table = vmcb.cr3();
            for shift in [39, 30, 21] {
                table = memory.read_u64(table + (address >> shift & 511) * 8).unwrap();
                assert_eq!(table & 0b11, 0b11);
                if shift > 21 {
                    assert_eq!(table & 1 << 7, 0);
                    table &= !0xfff;
                }
            }
            assert_eq!(table, address >> 21 << 21 | 0x83);
        }
    }

    #[test]
    fn memory_that_is_too_small_is_refused() {
        let refused = OutOfMemory { address: 0x9000, length: 8 };
        assert_eq!(enter_long_mode(&mut Vmcb::new(), &mut Registers::new(), &mut leaked(0x9000), 0), Err(refused));
    }
}
