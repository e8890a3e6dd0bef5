//! The virtual machine control block: 4 KiB that VMRUN reads a guest from and that #VMEXIT writes it back to.
//!
//! Manual, 15.5 and appendix B: a control area (B-1) and, from 0x400, a state save area (B-2). The block is kept as the
//! bytes it is, so encoding and decoding it is nothing; the tables below give each field its name, place and size.

mod event;

pub use event::{Event, EventKind};

/// Where the state save area begins in the block.
const SAVE: usize = 0x400;
/// Bytes of it that VMRUN, VMLOAD and their like access (table B-2).
pub const STATE_SIZE: usize = 0x270;

/// A virtual machine control block.
#[derive(Clone, PartialEq, Eq)]
#[repr(C, align(4096))]
pub struct Vmcb([u8; 4096]);

/// A field of the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// What the function that reads it is called.
    pub name: &'static str,
    /// Where it is, in bytes.
    pub offset: u16,
    /// How many bytes it has.
    pub size: u8,
}

/// Words of bits that say what is intercepted, 32 each.
pub const INTERCEPT_WORDS: usize = 6;

macro_rules! fields {
    ($list:ident: $($(#[$doc:meta])* $get:ident, $set:ident: $type:ty = $offset:expr;)*) => {
        const $list: &[Field] =
            &[$(Field { name: stringify!($get), offset: $offset as u16, size: size_of::<$type>() as u8 },)*];

        impl Vmcb {
            $(
                $(#[$doc])*
                pub fn $get(&self) -> $type {
                    <$type>::from_le_bytes(*self.bytes_at($offset))
                }

                #[doc = concat!("Sets [`Vmcb::", stringify!($get), "`].")]
                pub fn $set(&mut self, value: $type) {
                    *self.bytes_at_mut($offset) = value.to_le_bytes();
                }
            )*
        }
    };
}

// Control area, table B-1.
fields! { CONTROL_FIELDS:
    /// Host physical address of the I/O permission map, 12 KiB (15.10.1).
    iopm_base, set_iopm_base: u64 = 0x040;
    /// Host physical address of the MSR permission map, 8 KiB (15.11).
    msrpm_base, set_msrpm_base: u64 = 0x048;
    /// Added to what the guest reads as time stamp counter.
    tsc_offset, set_tsc_offset: u64 = 0x050;
    /// Address space identifier; 0 is the host's, and makes VMRUN fail (15.5.1).
    guest_asid, set_guest_asid: u32 = 0x058;
    /// What VMRUN does with cached translations (15.16.1).
    tlb_control, set_tlb_control: u8 = 0x05c;
    /// Virtual interrupts: V_TPR 7:0, V_IRQ 8, V_INTR_PRIO 19:16, V_IGN_TPR 20, V_INTR_MASKING 24, V_INTR_VECTOR 39:32.
    virtual_interrupt, set_virtual_interrupt: u64 = 0x060;
    /// Bit 0: the guest is in an interrupt shadow (15.21.5).
    interrupt_shadow, set_interrupt_shadow: u64 = 0x068;
    /// Why the guest stopped (appendix C); see [`crate::exit`].
    exit_code, set_exit_code: u64 = 0x070;
    /// Particulars of the exit.
    exit_info_1, set_exit_info_1: u64 = 0x078;
    /// More of them.
    exit_info_2, set_exit_info_2: u64 = 0x080;
    /// The event that was being delivered when the guest stopped, in the form of [`Event`] (15.7.2).
    exit_int_info, set_exit_int_info: u64 = 0x088;
    /// Bit 0: nested paging (15.25.3).
    nested_paging, set_nested_paging: u64 = 0x090;
    /// The event that VMRUN delivers first, in the form of [`Event`] (15.20).
    event_injection, set_event_injection: u64 = 0x0a8;
    /// Host physical address of the nested page tables (15.25.3).
    nested_cr3, set_nested_cr3: u64 = 0x0b0;
    /// Which parts of the block are as they were at the last exit (15.15.3).
    clean_bits, set_clean_bits: u32 = 0x0c0;
    /// Where the instruction that exited ends; 0 on processors that do not save it (15.7.1).
    next_rip, set_next_rip: u64 = 0x0c8;
}

// State save area, table B-2.
fields! { SAVE_FIELDS:
    /// Current privilege level.
    cpl, set_cpl: u8 = SAVE + 0x0cb;
    /// Extended feature enable register; VMRUN wants its SVME bit set.
    efer, set_efer: u64 = SAVE + 0x0d0;
    /// CR4.
    cr4, set_cr4: u64 = SAVE + 0x148;
    /// CR3.
    cr3, set_cr3: u64 = SAVE + 0x150;
    /// CR0.
    cr0, set_cr0: u64 = SAVE + 0x158;
    /// DR7.
    dr7, set_dr7: u64 = SAVE + 0x160;
    /// DR6.
    dr6, set_dr6: u64 = SAVE + 0x168;
    /// RFLAGS.
    rflags, set_rflags: u64 = SAVE + 0x170;
    /// RIP.
    rip, set_rip: u64 = SAVE + 0x178;
    /// RSP.
    rsp, set_rsp: u64 = SAVE + 0x1d8;
    /// What shadow stacks do outside of programs (volume 1, 18.4); only where there are some.
    s_cet, set_s_cet: u64 = SAVE + 0x1e0;
    /// RAX, the one general register that VMRUN loads.
    rax, set_rax: u64 = SAVE + 0x1f8;
    /// CR2.
    cr2, set_cr2: u64 = SAVE + 0x240;
    /// The guest's page attribute table.
    guest_pat, set_guest_pat: u64 = SAVE + 0x268;
}

/// Every field but segments and interceptions.
pub const FIELDS: [Field; CONTROL_FIELDS.len() + SAVE_FIELDS.len()] = {
    let mut all = [CONTROL_FIELDS[0]; CONTROL_FIELDS.len() + SAVE_FIELDS.len()];
    let (first, second) = all.split_at_mut(CONTROL_FIELDS.len());
    first.copy_from_slice(CONTROL_FIELDS);
    second.copy_from_slice(SAVE_FIELDS);
    all
};

/// Events that can be intercepted, as `32 * vector word + bit`: words at 0x00 (CR), 0x04 (DR), 0x08 (exceptions), 0x0c,
/// 0x10 and 0x14 (the rest), table B-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[expect(missing_docs, reason = "each has the name that the manual gives it")]
pub enum Intercept {
    /// Moves to CR8. QEMU ends itself when one comes while a virtual interrupt is waiting, so none may run.
    Cr8Write = 16 + 8,
    Intr = 32 * 3,
    Nmi = 32 * 3 + 1,
    Smi = 32 * 3 + 2,
    Init = 32 * 3 + 3,
    Vintr = 32 * 3 + 4,
    Rdpmc = 32 * 3 + 15,
    Cpuid = 32 * 3 + 18,
    Invd = 32 * 3 + 22,
    Hlt = 32 * 3 + 24,
    Invlpga = 32 * 3 + 26,
    /// Ports whose bit in the I/O permission map is set.
    IoioProt = 32 * 3 + 27,
    /// Model-specific registers whose bit in the MSR permission map is set.
    MsrProt = 32 * 3 + 28,
    Shutdown = 32 * 3 + 31,
    Vmrun = 32 * 4,
    Vmmcall = 32 * 4 + 1,
    Vmload = 32 * 4 + 2,
    Vmsave = 32 * 4 + 3,
    Stgi = 32 * 4 + 4,
    Clgi = 32 * 4 + 5,
    Skinit = 32 * 4 + 6,
    Monitor = 32 * 4 + 10,
    Mwait = 32 * 4 + 11,
    Xsetbv = 32 * 4 + 13,
}

/// Segment registers and descriptor tables of the state save area, by their offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[expect(missing_docs, reason = "each has the name that the manual gives it")]
pub enum SegmentRegister {
    Es = 0x000,
    Cs = 0x010,
    Ss = 0x020,
    Ds = 0x030,
    Fs = 0x040,
    Gs = 0x050,
    Gdtr = 0x060,
    Ldtr = 0x070,
    Idtr = 0x080,
    Tr = 0x090,
}

/// A segment register with what the processor remembers of its descriptor (15.5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// What the register itself holds.
    pub selector: u16,
    /// Bits 55:52 and 47:40 of the descriptor, put together: G, D/B, L, AVL, P, DPL, S, type.
    pub attributes: u16,
    /// Last byte, in bytes.
    pub limit: u32,
    /// Linear address of the first byte.
    pub base: u64,
}

impl Vmcb {
    /// A block of zeros, which no processor would run.
    pub const fn new() -> Vmcb {
        Vmcb([0; 4096])
    }

    /// A block that somebody else has written.
    pub const fn from_bytes(bytes: [u8; 4096]) -> Vmcb {
        Vmcb(bytes)
    }

    /// What a field holds.
    pub fn number(&self, field: Field) -> u64 {
        let at = usize::from(field.offset);
        let mut bytes = [0; 8];
        bytes[..field.size.into()].copy_from_slice(&self.0[at..at + usize::from(field.size)]);
        u64::from_le_bytes(bytes)
    }

    /// Sets a field, to as many of the lowest bytes as it has.
    pub fn set_number(&mut self, field: Field, value: u64) {
        let at = usize::from(field.offset);
        let size = usize::from(field.size);
        self.0[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
    }

    /// A word of the bits that say what is intercepted, of [`INTERCEPT_WORDS`].
    pub fn intercept_word(&self, word: usize) -> u32 {
        u32::from_le_bytes(*self.bytes_at(word * 4))
    }

    /// Sets [`Vmcb::intercept_word`].
    pub fn set_intercept_word(&mut self, word: usize, value: u32) {
        *self.bytes_at_mut(word * 4) = value.to_le_bytes();
    }

    /// The block as the processor sees it.
    pub fn as_bytes(&self) -> &[u8; 4096] {
        &self.0
    }

    /// The state save area: what a guest's processor is, as far as it is in the block, and nothing that confines it.
    pub fn state_mut(&mut self) -> &mut [u8; STATE_SIZE] {
        self.bytes_at_mut(SAVE)
    }

    /// Whether an event makes the guest exit.
    pub fn intercepts(&self, what: Intercept) -> bool {
        let (byte, bit) = (what as usize / 8, what as usize % 8);
        self.0[byte] & 1 << bit != 0
    }

    /// Makes an event exit from now on, or no longer.
    pub fn set_intercept(&mut self, what: Intercept, on: bool) {
        let (byte, bit) = (what as usize / 8, what as usize % 8);
        self.0[byte] = self.0[byte] & !(1 << bit) | u8::from(on) << bit;
    }

    /// A segment register or descriptor table.
    pub fn segment(&self, register: SegmentRegister) -> Segment {
        let at = SAVE + register as usize;
        Segment {
            selector: u16::from_le_bytes(*self.bytes_at(at)),
            attributes: u16::from_le_bytes(*self.bytes_at(at + 2)),
            limit: u32::from_le_bytes(*self.bytes_at(at + 4)),
            base: u64::from_le_bytes(*self.bytes_at(at + 8)),
        }
    }

    /// Sets a segment register or descriptor table.
    pub fn set_segment(&mut self, register: SegmentRegister, segment: Segment) {
        let at = SAVE + register as usize;
        *self.bytes_at_mut(at) = segment.selector.to_le_bytes();
        *self.bytes_at_mut(at + 2) = segment.attributes.to_le_bytes();
        *self.bytes_at_mut(at + 4) = segment.limit.to_le_bytes();
        *self.bytes_at_mut(at + 8) = segment.base.to_le_bytes();
    }

    fn bytes_at<const N: usize>(&self, offset: usize) -> &[u8; N] {
        self.0[offset..].first_chunk().expect("fields lie within the block")
    }

    fn bytes_at_mut<const N: usize>(&mut self, offset: usize) -> &mut [u8; N] {
        self.0[offset..].first_chunk_mut().expect("fields lie within the block")
    }
}

impl Default for Vmcb {
    fn default() -> Vmcb {
        Vmcb::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intercepts_are_the_bits_of_table_b_1() {
        let mut vmcb = Vmcb::new();
        vmcb.set_intercept(Intercept::Cpuid, true);
        vmcb.set_intercept(Intercept::Shutdown, true);
        vmcb.set_intercept(Intercept::Vmrun, true);
        vmcb.set_intercept(Intercept::Xsetbv, true);
        vmcb.set_intercept(Intercept::Xsetbv, false);
        assert_eq!(vmcb.as_bytes()[0x0c..0x14], [0, 0, 0x04, 0x80, 0x01, 0, 0, 0]);
        assert!(vmcb.intercepts(Intercept::Cpuid) && !vmcb.intercepts(Intercept::Xsetbv));
    }

    #[test]
    fn fields_lie_where_the_manual_says_and_nowhere_else() {
        let mut vmcb = Vmcb::new();
        vmcb.set_guest_asid(0x0403_0201);
        vmcb.set_tlb_control(5);
        vmcb.set_rip(0x1122_3344_5566_7788);
        vmcb.set_cpl(3);
        let mut expected = [0; 4096];
        expected[0x58..0x5d].copy_from_slice(&[1, 2, 3, 4, 5]);
        expected[0x578..0x580].copy_from_slice(&0x1122_3344_5566_7788_u64.to_le_bytes());
        expected[0x4cb] = 3;
        assert_eq!(vmcb.as_bytes(), &expected);
        assert_eq!((vmcb.guest_asid(), vmcb.rip(), vmcb.cpl()), (0x0403_0201, 0x1122_3344_5566_7788, 3));
    }

    #[test]
    fn fields_by_name_are_those_by_function() {
        let mut vmcb = Vmcb::new();
        for (index, field) in FIELDS.into_iter().enumerate() {
            vmcb.set_number(field, index as u64 + 1);
        }
        for (index, field) in FIELDS.into_iter().enumerate() {
            assert_eq!(vmcb.number(field), index as u64 + 1, "{}", field.name);
        }
        let number = |name| FIELDS.into_iter().find(|field| field.name == name).map(|field| vmcb.number(field));
        assert_eq!((number("rip"), number("guest_asid")), (Some(vmcb.rip()), Some(vmcb.guest_asid().into())));
        vmcb.set_intercept(Intercept::Cpuid, true);
        assert_eq!(vmcb.intercept_word(3), 1 << 18);
    }

    #[test]
    fn segments_are_read_as_they_were_written() {
        let mut vmcb = Vmcb::new();
        let segment = Segment { selector: 0x10, attributes: 0xa9b, limit: 0xffff_ffff, base: 0x1234_5678_9abc };
        vmcb.set_segment(SegmentRegister::Tr, segment);
        assert_eq!(vmcb.segment(SegmentRegister::Tr), segment);
        assert_eq!(vmcb.as_bytes()[0x490..0x494], [0x10, 0, 0x9b, 0x0a]);
    }
}
