//! Which rule makes VMRUN refuse a control block (manual, 15.5.1, 15.20, 15.21.10 and 15.25.4).
//!
//! What a block does not hold is not looked at: page-directory pointers of PAE, and what belongs to SEV and AVIC, which no
//! guest here has.

use crate::start::efer;
use crate::vmcb::{Intercept, SegmentRegister, Vmcb};
use core::fmt;

const CR0_PE: u64 = 1 << 0;
const CR0_WP: u64 = 1 << 16;
const CR0_NW: u64 = 1 << 29;
const CR0_CD: u64 = 1 << 30;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const CR4_CET: u64 = 1 << 23;
const CS_LONG: u16 = 1 << 9;
const CS_DEFAULT_32_BITS: u16 = 1 << 10;
const HIGH_HALF: u64 = 0xffff_ffff_0000_0000;
const NESTED_PAGING: u64 = 1 << 0;
/// V_NMI_ENABLE, of the field of virtual interrupts.
const VIRTUAL_NMI: u64 = 1 << 26;
/// SH_STK_EN and WR_SHSTK_EN, the only bits of S_CET that AMD's processors have.
const S_CET_BITS: u64 = 0b11;
/// CR3 of long mode ends here, whatever addresses the processor has (5.3.2).
const CR3_END: u32 = 52;
const EVENT_VALID: u64 = 1 << 31;
const MSR_MAP_SIZE: u64 = 8 << 10;
const IO_MAP_SIZE: u64 = 12 << 10;

/// What the rules depend on beside the block: the processor, and how the host runs on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// How many bits physical addresses have.
    pub physical_address_bits: u8,
    /// Whether there is long mode.
    pub long_mode: bool,
    /// Bits of CR4 that may be set.
    pub cr4: u64,
    /// Bits of EFER that may be set.
    pub efer: u64,
    /// Whether CET's shadow stacks exist, and with them the registers for them in the block.
    pub shadow_stacks: bool,
    /// Whether non-maskable interrupts can be virtual.
    pub virtual_nmi: bool,
    /// Whether the host has paging on, without which there is no nested paging.
    pub host_paging: bool,
}

impl Capabilities {
    /// What CPUID says (volume 3, appendix E), for a host that has paging on; `cpuid` returns EAX, EBX, ECX, EDX of a
    /// function and index, and zeros where there is none.
    pub fn from_cpuid(cpuid: impl Fn(u32, u32) -> [u32; 4]) -> Capabilities {
        let [_, _, c1, _] = cpuid(1, 0);
        let [_, b7, c7, _] = cpuid(7, 0);
        let [_, _, extended_c, extended_d] = cpuid(0x8000_0001, 0);
        let [sizes_a, sizes_b, ..] = cpuid(0x8000_0008, 0);
        let svm = cpuid(0x8000_000a, 0)[3];
        let more = cpuid(0x8000_0021, 0)[0];
        let bits = |always: u64, when: &[(u32, u32, u32)]| {
            when.iter().fold(always, |bits, (register, of, bit)| bits | u64::from(register >> of & 1) << bit)
        };
        let cr4 = [
            (c7, 2, 11),  // UMIP
            (c7, 16, 12), // LA57
            (b7, 0, 16),  // FSGSBASE
            (c1, 17, 17), // PCIDE
            (c1, 26, 18), // OSXSAVE
            (b7, 7, 20),  // SMEP
            (b7, 20, 21), // SMAP
            (c7, 3, 22),  // PKE
            (c7, 7, 23),  // CET
        ];
        let efer = [
            (extended_d, 20, 11), // NXE
            (extended_c, 2, 12),  // SVME
            (extended_d, 25, 14), // FFXSR
            (extended_c, 17, 15), // TCE
            (sizes_b, 8, 17),     // MCOMMIT
            (sizes_b, 13, 18),    // INTWB
            (more, 7, 20),        // UAIE
            (more, 8, 21),        // AIBRSE
        ];
        // LMSLE is there unless it is said not to be.
        let segment_limits = u64::from(!sizes_b >> 20 & 1) << 13;
        let long_mode = extended_d >> 29 & 1 != 0;
        let always = 1 | segment_limits | if long_mode { efer::LME | efer::LMA } else { 0 };
        Capabilities {
            physical_address_bits: (sizes_a as u8).clamp(32, 52),
            long_mode,
            cr4: bits(0x7ff, &cr4),
            efer: bits(always, &efer),
            shadow_stacks: c7 >> 7 & 1 != 0,
            virtual_nmi: svm >> 25 & 1 != 0,
            host_paging: true,
        }
    }
}

macro_rules! rules {
    ($($rule:ident $name:literal $section:literal $text:literal;)*) => {
        /// A rule that a control block has to keep.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Rule {
            $(#[doc = $text] $rule,)*
        }

        impl Rule {
            /// Every rule, in the order in which they are tested.
            pub const ALL: &[Rule] = &[$(Rule::$rule,)*];

            /// Its name, for programs.
            pub fn name(self) -> &'static str {
                match self { $(Rule::$rule => $name,)* }
            }

            /// The section of the manual that it is in.
            pub fn section(self) -> &'static str {
                match self { $(Rule::$rule => $section,)* }
            }
        }

        /// What the rule wants.
        impl fmt::Display for Rule {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(match self { $(Rule::$rule => $text,)* })
            }
        }
    };
}

rules! {
    EferSvme "efer-svme" "15.5.1" "EFER.SVME is set";
    Cr0CacheBits "cr0-cd-nw" "15.5.1" "CR0.NW is set only together with CR0.CD";
    Cr0High "cr0-high" "15.5.1" "CR0[63:32] are zero";
    Cr3Reserved "cr3-mbz" "15.5.1" "reserved bits of CR3 are zero";
    Cr4Reserved "cr4-mbz" "15.5.1" "reserved bits of CR4 are zero";
    Dr6High "dr6-high" "15.5.1" "DR6[63:32] are zero";
    Dr7High "dr7-high" "15.5.1" "DR7[63:32] are zero";
    EferReserved "efer-mbz" "15.5.1" "reserved bits of EFER are zero";
    LongModeSupported "long-mode-unsupported" "15.5.1" "EFER.LMA and EFER.LME are set only where there is long mode";
    LongModePae "long-mode-pae" "15.5.1" "with EFER.LME and CR0.PG, CR4.PAE is set";
    LongModeProtected "long-mode-pe" "15.5.1" "with EFER.LME and CR0.PG, CR0.PE is set";
    CodeSize "cs-l-and-d" "15.5.1" "in long mode CS.L and CS.D are not both set";
    VmrunIntercept "vmrun-intercept" "15.5.1" "VMRUN is intercepted";
    MsrMapAddress "msrpm-address" "15.5.1" "the MSR permission map ends within physical addresses";
    IoMapAddress "iopm-address" "15.5.1" "the I/O permission map ends within physical addresses";
    EventInjection "event-injection" "15.20" "the injected event has a type that exists, and an exception the vector of one";
    Asid "asid-zero" "15.5.1" "the address space identifier is not zero";
    ShadowStackBits "s-cet-mbz" "15.5.1" "reserved bits of S_CET are zero";
    ShadowStackProtect "cet-wp" "15.5.1" "CR4.CET is set only together with CR0.WP";
    VirtualNmi "vnmi-intercept" "15.21.10" "with virtual non-maskable interrupts, NMI is intercepted";
    NestedHostPaging "nested-host-paging" "15.25.3" "nested paging is enabled only while the host has paging on";
    NestedCr3 "ncr3-mbz" "15.25.4" "with nested paging, reserved bits of nCR3 are zero";
    NestedPat "g-pat" "15.25.4" "with nested paging, every field of G_PAT is a memory type";
}

impl Rule {
    /// Whether a block keeps the rule on such a processor.
    pub fn holds(self, vmcb: &Vmcb, processor: &Capabilities) -> bool {
        let (cr0, cr4, efer) = (vmcb.cr0(), vmcb.cr4(), vmcb.efer());
        let pages_long = efer & efer::LME != 0 && cr0 & CR0_PG != 0;
        let nested = vmcb.nested_paging() & NESTED_PAGING != 0;
        let above = u64::MAX << processor.physical_address_bits;
        // Bits 11:0 of the address of a map are not looked at.
        let ends_within =
            |base: u64, size: u64| (base & !0xfff).checked_add(size - 1).is_some_and(|end| end & above == 0);
        match self {
            Rule::EferSvme => efer & efer::SVME != 0,
            Rule::Cr0CacheBits => cr0 & (CR0_CD | CR0_NW) != CR0_NW,
            Rule::Cr0High => cr0 & HIGH_HALF == 0,
            Rule::Cr3Reserved => !pages_long || vmcb.cr3() & (above | u64::MAX << CR3_END) == 0,
            Rule::Cr4Reserved => cr4 & !processor.cr4 == 0,
            Rule::Dr6High => vmcb.dr6() & HIGH_HALF == 0,
            Rule::Dr7High => vmcb.dr7() & HIGH_HALF == 0,
            // A bit of long mode where there is none is the matter of the rule behind.
            Rule::EferReserved => efer & !(processor.efer | efer::LME | efer::LMA | efer::SVME) == 0,
            Rule::LongModeSupported => processor.long_mode || efer & (efer::LME | efer::LMA) == 0,
            Rule::LongModePae => !pages_long || cr4 & CR4_PAE != 0,
            Rule::LongModeProtected => !pages_long || cr0 & CR0_PE != 0,
            Rule::CodeSize => {
                let both = CS_LONG | CS_DEFAULT_32_BITS;
                let code = vmcb.segment(SegmentRegister::Cs).attributes;
                !pages_long || cr4 & CR4_PAE == 0 || code & both != both
            }
            Rule::VmrunIntercept => vmcb.intercepts(Intercept::Vmrun),
            Rule::MsrMapAddress => ends_within(vmcb.msrpm_base(), MSR_MAP_SIZE),
            Rule::IoMapAddress => ends_within(vmcb.iopm_base(), IO_MAP_SIZE),
            Rule::EventInjection => {
                let event = vmcb.event_injection();
                let (kind, vector) = (event >> 8 & 7, event & 0xff);
                event & EVENT_VALID == 0 || matches!(kind, 0 | 2 | 4) || (kind == 3 && vector < 32 && vector != 2)
            }
            Rule::Asid => vmcb.guest_asid() != 0,
            Rule::ShadowStackBits => !processor.shadow_stacks || vmcb.s_cet() & !S_CET_BITS == 0,
            Rule::ShadowStackProtect => cr4 & processor.cr4 & CR4_CET == 0 || cr0 & CR0_WP != 0,
            Rule::VirtualNmi => {
                let enabled = processor.virtual_nmi && vmcb.virtual_interrupt() & VIRTUAL_NMI != 0;
                !enabled || vmcb.intercepts(Intercept::Nmi)
            }
            Rule::NestedHostPaging => !nested || processor.host_paging,
            Rule::NestedCr3 => !nested || vmcb.nested_cr3() & above == 0,
            Rule::NestedPat => {
                !nested || vmcb.guest_pat().to_le_bytes().into_iter().all(|kind| matches!(kind, 0 | 1 | 4..=7))
            }
        }
    }

    /// Makes a block that keeps every rule break this one alone, in one field; `false` when no block can on such a processor.
    pub fn violate(self, vmcb: &mut Vmcb, processor: &Capabilities) -> bool {
        let beyond = 1 << processor.physical_address_bits;
        match self {
            Rule::EferSvme => vmcb.set_efer(vmcb.efer() & !efer::SVME),
            Rule::Cr0CacheBits => vmcb.set_cr0(vmcb.cr0() & !CR0_CD | CR0_NW),
            Rule::Cr0High => vmcb.set_cr0(vmcb.cr0() | 1 << 32),
            Rule::Cr3Reserved => vmcb.set_cr3(vmcb.cr3() | 1 << CR3_END),
            Rule::Cr4Reserved => vmcb.set_cr4(vmcb.cr4() | 1 << 31),
            Rule::Dr6High => vmcb.set_dr6(vmcb.dr6() | 1 << 32),
            Rule::Dr7High => vmcb.set_dr7(vmcb.dr7() | 1 << 32),
            Rule::EferReserved => vmcb.set_efer(vmcb.efer() | 1 << 9),
            Rule::LongModeSupported => return !processor.long_mode && vmcb.efer() & efer::LME != 0,
            Rule::LongModePae => vmcb.set_cr4(vmcb.cr4() & !CR4_PAE),
            Rule::LongModeProtected => vmcb.set_cr0(vmcb.cr0() & !CR0_PE),
            Rule::CodeSize => {
                let mut code = vmcb.segment(SegmentRegister::Cs);
                code.attributes |= CS_LONG | CS_DEFAULT_32_BITS;
                vmcb.set_segment(SegmentRegister::Cs, code);
            }
            Rule::VmrunIntercept => vmcb.set_intercept(Intercept::Vmrun, false),
            // It begins within them.
            Rule::MsrMapAddress => vmcb.set_msrpm_base(beyond - 0x1000),
            Rule::IoMapAddress => vmcb.set_iopm_base(beyond - 0x2000),
            Rule::EventInjection => vmcb.set_event_injection(EVENT_VALID | 3 << 8 | 2),
            Rule::Asid => vmcb.set_guest_asid(0),
            Rule::ShadowStackBits if processor.shadow_stacks => vmcb.set_s_cet(1 << 9),
            Rule::ShadowStackProtect if processor.cr4 & CR4_CET != 0 => {
                vmcb.set_cr4(vmcb.cr4() | CR4_CET);
                vmcb.set_cr0(vmcb.cr0() & !CR0_WP);
            }
            Rule::VirtualNmi if processor.virtual_nmi => {
                vmcb.set_virtual_interrupt(vmcb.virtual_interrupt() | VIRTUAL_NMI);
                vmcb.set_intercept(Intercept::Nmi, false);
            }
            Rule::ShadowStackBits | Rule::ShadowStackProtect | Rule::VirtualNmi => return false,
            Rule::NestedHostPaging => return !processor.host_paging && vmcb.nested_paging() & NESTED_PAGING != 0,
            Rule::NestedCr3 if processor.physical_address_bits < 52 => vmcb.set_nested_cr3(vmcb.nested_cr3() | beyond),
            Rule::NestedCr3 => vmcb.set_nested_cr3(vmcb.nested_cr3() | 1 << 52),
            Rule::NestedPat => vmcb.set_guest_pat(2),
        }
        true
    }
}

/// The rules that a block breaks; VMRUN refuses it if there is any.
pub fn broken<'a>(vmcb: &'a Vmcb, processor: &'a Capabilities) -> impl Iterator<Item = Rule> + 'a {
    Rule::ALL.iter().copied().filter(|rule| !rule.holds(vmcb, processor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::leaked;
    use crate::processor::testing::guest;
    use crate::start::{enter_long_mode, enter_real_mode};
    use std::vec::Vec;

    const EVERYTHING: Capabilities = Capabilities {
        physical_address_bits: 48,
        long_mode: true,
        cr4: 0xf7_0fff,
        efer: 0x36_fd01,
        shadow_stacks: true,
        virtual_nmi: true,
        host_paging: true,
    };

    /// A block in long mode as guests begin with.
    fn legal() -> Vmcb {
        let guest = guest(1);
        let mut processor = guest.processor;
        enter_long_mode(processor.vmcb, &mut processor.registers, &mut leaked(1 << 20), 0x10_0000).unwrap();
        processor.vmcb.clone()
    }

    fn names(vmcb: &Vmcb, processor: &Capabilities) -> Vec<Rule> {
        broken(vmcb, processor).collect()
    }

    #[test]
    fn what_guests_begin_with_breaks_no_rule() {
        assert_eq!(names(&legal(), &EVERYTHING), []);
        let guest = guest(1);
        let mut processor = guest.processor;
        enter_real_mode(processor.vmcb, &mut processor.registers, 0x9a);
        assert_eq!(names(processor.vmcb, &EVERYTHING), []);
    }

    #[test]
    fn every_rule_can_be_broken_alone() {
        for rule in Rule::ALL {
            let processor = match rule {
                Rule::LongModeSupported => Capabilities { long_mode: false, ..EVERYTHING },
                Rule::NestedHostPaging => Capabilities { host_paging: false, ..EVERYTHING },
                _ => EVERYTHING,
            };
            let mut vmcb = legal();
            assert!(rule.violate(&mut vmcb, &processor), "{rule:?}");
            assert_eq!(names(&vmcb, &processor), [*rule]);
        }
    }

    #[test]
    fn what_a_processor_does_not_have_is_no_rule() {
        let plain = Capabilities { shadow_stacks: false, virtual_nmi: false, cr4: 0x7ff, ..EVERYTHING };
        let mut vmcb = legal();
        vmcb.set_s_cet(1 << 9);
        vmcb.set_virtual_interrupt(VIRTUAL_NMI);
        vmcb.set_intercept(Intercept::Nmi, false);
        assert_eq!(names(&vmcb, &plain), []);
        for rule in [Rule::ShadowStackBits, Rule::ShadowStackProtect, Rule::VirtualNmi, Rule::LongModeSupported] {
            assert!(!rule.violate(&mut legal(), &plain), "{rule:?}");
        }
    }

    #[test]
    fn rules_of_a_mode_hold_in_others() {
        // In real mode CR3 and the size of code mean nothing; without nested paging neither do nCR3 and G_PAT.
        let mut vmcb = legal();
        vmcb.set_cr0(0x10);
        vmcb.set_cr3(u64::MAX);
        Rule::CodeSize.violate(&mut vmcb, &EVERYTHING);
        vmcb.set_nested_paging(0);
        vmcb.set_nested_cr3(u64::MAX);
        vmcb.set_guest_pat(u64::MAX);
        assert_eq!(names(&vmcb, &EVERYTHING), []);
        // Paging in real mode can be loaded, long mode is another matter.
        vmcb.set_efer(efer::SVME);
        vmcb.set_cr0(CR0_PG);
        assert_eq!(names(&vmcb, &EVERYTHING), []);
    }

    #[test]
    fn events_are_those_that_exist() {
        for kind in 0..8_u64 {
            for vector in 0..=255_u64 {
                let mut vmcb = legal();
                vmcb.set_event_injection(EVENT_VALID | kind << 8 | vector);
                let exists = matches!(kind, 0 | 2 | 4) || (kind == 3 && vector < 32 && vector != 2);
                assert_eq!(names(&vmcb, &EVERYTHING).is_empty(), exists, "{kind}, {vector}");
                vmcb.set_event_injection(kind << 8 | vector);
                assert_eq!(names(&vmcb, &EVERYTHING), []);
            }
        }
    }

    #[test]
    fn maps_may_end_where_addresses_do() {
        let mut vmcb = legal();
        vmcb.set_msrpm_base((1 << 48) - 0x2000);
        vmcb.set_iopm_base((1 << 48) - 0x3000 + 0xfff);
        assert_eq!(names(&vmcb, &EVERYTHING), []);
        vmcb.set_iopm_base(u64::MAX);
        assert_eq!(names(&vmcb, &EVERYTHING), [Rule::IoMapAddress]);
    }

    #[test]
    fn what_a_processor_has_is_read_from_cpuid() {
        // QEMU 7.2, -cpu max, as far as it matters here.
        let found = Capabilities::from_cpuid(|function, _| match function {
            1 => [0, 0, 1 << 26 | 1 << 17, 0],
            7 => [0, 1 << 0 | 1 << 7 | 1 << 20, 1 << 2 | 1 << 16, 0],
            0x8000_0001 => [0, 0, 1 << 2, 1 << 29 | 1 << 20],
            0x8000_0008 => [0x3028, 0, 0, 0],
            _ => [0; 4],
        });
        let expected = Capabilities {
            physical_address_bits: 40,
            long_mode: true,
            cr4: 0x37_1fff,
            efer: 0x3d01,
            shadow_stacks: false,
            virtual_nmi: false,
            host_paging: true,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn names_are_different() {
        let mut names: Vec<&str> = Rule::ALL.iter().map(|rule| rule.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Rule::ALL.len());
    }
}
