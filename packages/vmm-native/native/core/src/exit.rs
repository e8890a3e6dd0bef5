//! Why a guest stopped: EXITCODE and what belongs to it, decoded (manual, 15.6 to 15.14 and appendix C).

use crate::vmcb::Vmcb;
use core::fmt;

/// Why a guest stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// An interrupt for the host.
    Intr,
    /// A non-maskable interrupt for the host.
    Nmi,
    /// The guest can take a virtual interrupt now.
    Vintr,
    /// A move to CR8.
    Cr8Write,
    /// CPUID.
    Cpuid,
    /// HLT.
    Hlt,
    /// IN, OUT, INS or OUTS.
    Io(IoAccess),
    /// RDMSR, or WRMSR when `write`.
    Msr {
        /// Whether the guest writes the register.
        write: bool,
    },
    /// The guest triple-faulted.
    Shutdown,
    /// VMMCALL, a call of the hypervisor.
    Vmmcall,
    /// A guest physical address that the nested page tables do not allow.
    NestedPageFault(NestedPageFault),
    /// VMRUN refused the control block. It also overwrote parts of it.
    Invalid,
    /// An instruction that exists in no guest: it gets #UD.
    Undefined(u64),
    /// Any other code.
    Other(u64),
}

/// An access to a port, EXITINFO1 of an IOIO exit (15.10.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoAccess {
    /// First port.
    pub port: u16,
    /// How many bytes: 1, 2 or 4.
    pub size: u8,
    /// Whether the guest reads.
    pub input: bool,
    /// INS or OUTS: memory is the other side, not RAX.
    pub string: bool,
    /// With a REP prefix.
    pub repeated: bool,
    /// Where the instruction ends, EXITINFO2.
    pub next_rip: u64,
}

/// EXITINFO1 and EXITINFO2 of a nested page fault (15.25.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NestedPageFault {
    /// Guest physical address.
    pub address: u64,
    /// Whether the guest writes.
    pub write: bool,
    /// Whether the guest fetches an instruction.
    pub fetch: bool,
    /// Whether the fault is in the walk of the guest's own page tables, not in the access itself.
    pub table_walk: bool,
}

impl Exit {
    /// What the block says about the exit that wrote it.
    pub fn decode(vmcb: &Vmcb) -> Exit {
        let (info_1, info_2) = (vmcb.exit_info_1(), vmcb.exit_info_2());
        // Some versions of QEMU write only 32 bits of VMEXIT_INVALID, which is -1.
        if vmcb.exit_code() as i32 == -1 {
            return Exit::Invalid;
        }
        match vmcb.exit_code() {
            0x18 => Exit::Cr8Write,
            0x60 => Exit::Intr,
            0x61 => Exit::Nmi,
            0x64 => Exit::Vintr,
            0x72 => Exit::Cpuid,
            0x78 => Exit::Hlt,
            0x7b => Exit::Io(IoAccess {
                port: (info_1 >> 16) as u16,
                // SZ8, SZ16 and SZ32 are bits 4 to 6, of which one is set.
                size: match info_1 >> 4 & 3 {
                    0 => 4,
                    2 => 2,
                    _ => 1,
                },
                input: info_1 & 1 != 0,
                string: info_1 & 1 << 2 != 0,
                repeated: info_1 & 1 << 3 != 0,
                next_rip: info_2,
            }),
            0x7c => Exit::Msr { write: info_1 & 1 != 0 },
            0x7f => Exit::Shutdown,
            0x81 => Exit::Vmmcall,
            // RDPMC, INVD, INVLPGA, then VMRUN, VMLOAD, VMSAVE, STGI, CLGI, SKINIT, then MONITOR, MWAIT, XSETBV.
            code @ (0x6f | 0x76 | 0x7a | 0x80 | 0x82..=0x86 | 0x8a..=0x8d) => Exit::Undefined(code),
            0x400 => Exit::NestedPageFault(NestedPageFault {
                address: info_2,
                write: info_1 & 1 << 1 != 0,
                fetch: info_1 & 1 << 4 != 0,
                table_walk: info_1 & 1 << 33 != 0,
            }),
            code => Exit::Other(code),
        }
    }

    /// The manual's name for it, short of `VMEXIT_`.
    pub fn name(self) -> &'static str {
        match self {
            Exit::Cr8Write => "CR8_WRITE",
            Exit::Intr => "INTR",
            Exit::Nmi => "NMI",
            Exit::Vintr => "VINTR",
            Exit::Cpuid => "CPUID",
            Exit::Hlt => "HLT",
            Exit::Io(_) => "IOIO",
            Exit::Msr { .. } => "MSR",
            Exit::Shutdown => "SHUTDOWN",
            Exit::Vmmcall => "VMMCALL",
            Exit::NestedPageFault(_) => "NPF",
            Exit::Invalid => "INVALID",
            Exit::Undefined(_) => "UD",
            Exit::Other(_) => "OTHER",
        }
    }
}

/// The name, and for those with particulars these.
impl fmt::Display for Exit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())?;
        match self {
            Exit::Io(IoAccess { port, size, input, string, repeated, .. }) => {
                let instruction = match (input, string) {
                    (true, false) => "IN",
                    (false, false) => "OUT",
                    (true, true) => "INS",
                    (false, true) => "OUTS",
                };
                let repeated = if *repeated { "REP " } else { "" };
                write!(out, " ({repeated}{instruction} of {size} bytes at port {port:#x})")
            }
            Exit::Msr { write } => out.write_str(if *write { " (WRMSR)" } else { " (RDMSR)" }),
            Exit::NestedPageFault(NestedPageFault { address, write, fetch, table_walk }) => {
                let access = match (table_walk, fetch, write) {
                    (true, ..) => "page table",
                    (_, true, _) => "fetch",
                    (.., true) => "write",
                    _ => "read",
                };
                write!(out, " ({access} at {address:#x})")
            }
            Exit::Undefined(code) | Exit::Other(code) => write!(out, " ({code:#x})"),
            _ => Ok(()),
        }
    }
}

/// How often a guest stopped, and why.
#[derive(Clone, Debug, Default)]
pub struct ExitLedger([(&'static str, u64); ExitLedger::REASONS]);

impl ExitLedger {
    const REASONS: usize = 14;

    /// A ledger without entries.
    pub const fn new() -> ExitLedger {
        ExitLedger([("", 0); ExitLedger::REASONS])
    }

    /// Counts one more.
    pub fn count(&mut self, exit: Exit) {
        self.add_to(exit.name(), 1);
    }

    /// Adds what another one has counted.
    pub fn add(&mut self, other: &ExitLedger) {
        for (name, count) in other.0.iter().take_while(|entry| entry.1 > 0) {
            self.add_to(name, *count);
        }
    }

    fn add_to(&mut self, name: &'static str, count: u64) {
        let entry = self.0.iter_mut().find(|entry| entry.0 == name || entry.1 == 0).expect("a place for each name");
        *entry = (name, entry.1 + count);
    }
}

/// A JSON object.
impl fmt::Display for ExitLedger {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("{")?;
        for (index, (name, count)) in self.0.iter().take_while(|entry| entry.1 > 0).enumerate() {
            write!(out, "{}\"{name}\":{count}", if index == 0 { "" } else { "," })?;
        }
        out.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    fn exited(code: u64, info_1: u64, info_2: u64) -> Exit {
        let mut vmcb = Vmcb::new();
        vmcb.set_exit_code(code);
        vmcb.set_exit_info_1(info_1);
        vmcb.set_exit_info_2(info_2);
        Exit::decode(&vmcb)
    }

    // Values that QEMU 7.2 wrote for `out dx, al`, `in eax, dx` and `rep outsb` at port 0x3f8.
    #[test]
    fn ports_directions_and_sizes_of_io() {
        let out = IoAccess { port: 0x3f8, size: 1, input: false, string: false, repeated: false, next_rip: 0x1011 };
        assert_eq!(exited(0x7b, 0x03f8_0010, 0x1011), Exit::Io(out));
        assert_eq!(exited(0x7b, 0x03f8_0041, 0x1011), Exit::Io(IoAccess { size: 4, input: true, ..out }));
        assert_eq!(exited(0x7b, 0x03f8_001c, 0x1011), Exit::Io(IoAccess { string: true, repeated: true, ..out }));
    }

    #[test]
    fn nested_page_faults() {
        let fault = NestedPageFault { address: 0xfee0_0030, write: false, fetch: false, table_walk: false };
        assert_eq!(exited(0x400, 0x1_0000_0004, 0xfee0_0030), Exit::NestedPageFault(fault));
        assert_eq!(
            exited(0x400, 0x2_0000_0007, 0xfee0_0030),
            Exit::NestedPageFault(NestedPageFault { write: true, table_walk: true, ..fault })
        );
    }

    #[test]
    fn a_refused_block_with_the_codes_of_either_width() {
        assert_eq!(exited(0xffff_ffff, 0, 0), Exit::Invalid);
        assert_eq!(exited(u64::MAX, 0, 0), Exit::Invalid);
    }

    #[test]
    fn directions_of_model_specific_registers() {
        assert_eq!(exited(0x7c, 1, 0), Exit::Msr { write: true });
        assert_eq!(exited(0x7c, 0, 0), Exit::Msr { write: false });
    }

    #[test]
    fn particulars_are_part_of_the_text() {
        assert_eq!(exited(0x7b, 0x03f8_001c, 0).to_string(), "IOIO (REP OUTS of 1 bytes at port 0x3f8)");
        assert_eq!(exited(0x400, 0x1_0000_0006, 0xfee0_0030).to_string(), "NPF (write at 0xfee00030)");
        assert_eq!(exited(0x400, 0x2_0000_0007, 0x1000).to_string(), "NPF (page table at 0x1000)");
        assert_eq!(
            (exited(0x43, 0, 0).to_string(), exited(0x72, 0, 0).to_string()),
            ("OTHER (0x43)".into(), "CPUID".into())
        );
    }

    #[test]
    fn every_code_is_counted_under_its_name() {
        let mut ledger = ExitLedger::new();
        for code in (0..0x500).chain([u64::MAX]) {
            ledger.count(exited(code, 0, 0));
        }
        let text = ledger.to_string();
        assert!(text.contains(r#""CPUID":1"#) && text.contains(r#""INVALID":1"#), "{text}");
        let mut twice = ledger.clone();
        twice.add(&ledger);
        assert!(twice.to_string().contains(r#""CPUID":2"#));
        assert_eq!(ExitLedger::new().to_string(), "{}");
    }
}
