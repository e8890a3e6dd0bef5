//! A guest: its memory, its devices, its processor, and what happens when that exits.

use crate::exit::{Exit, ExitLedger, IoAccess};
use crate::memory::GuestMemory;
use crate::serial::{COM1, PORTS, Serial};
use crate::vmcb::{Intercept, Vmcb};
use core::fmt;

/// What belongs to a processor and is not in its control block while the guest is stopped.
#[derive(Clone, Debug)]
#[repr(C, align(16))]
pub struct Registers {
    /// x87 and SSE state in the form of FXSAVE64 (manual, 11.4.4).
    pub extended: [u8; 512],
    /// General registers by their number in instructions (manual, volume 3, 1.8.2).
    pub general: [u64; 16],
}

impl Registers {
    /// What a reset leaves, with general registers of 0.
    pub const fn new() -> Registers {
        let mut extended = [0; 512];
        // FCW and MXCSR: all exceptions masked (manual, volume 1, 6.2.2 and 4.2.2).
        [extended[0], extended[1]] = 0x037f_u16.to_le_bytes();
        [extended[24], extended[25], extended[26], extended[27]] = 0x1f80_u32.to_le_bytes();
        Registers { extended, general: [0; 16] }
    }
}

impl Default for Registers {
    fn default() -> Registers {
        Registers::new()
    }
}

/// Numbers of registers.
pub mod register {
    /// RAX.
    pub const RAX: usize = 0;
    /// RSP.
    pub const RSP: usize = 4;
    /// RSI.
    pub const RSI: usize = 6;
}

/// The machine under the guest, as far as a guest's devices need it.
pub trait Host {
    /// Takes a byte that the guest sends by its serial port.
    fn send(&mut self, byte: u8);
}

/// Why a guest does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It halted with interrupts disabled, and nothing can wake it.
    Halted,
    /// It triple-faulted.
    TripleFault,
    /// VMRUN refused its control block.
    InvalidState,
    /// It did something that this hypervisor does not know.
    Unhandled(Exit),
}

impl Stop {
    /// The reason, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Stop::Halted => "halted",
            Stop::TripleFault => "triple-fault",
            Stop::InvalidState => "invalid-state",
            Stop::Unhandled(_) => "unhandled-exit",
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Halted => out.write_str("it halted with interrupts disabled"),
            Stop::TripleFault => out.write_str("it triple-faulted"),
            Stop::InvalidState => out.write_str("VMRUN refused its control block"),
            Stop::Unhandled(exit) => write!(out, "nothing handles {exit:?}"),
        }
    }
}

/// What the general interceptions of every guest are.
const INTERCEPTS: [Intercept; 22] = [
    Intercept::Intr,
    Intercept::Nmi,
    Intercept::Init,
    Intercept::Rdpmc,
    Intercept::Cpuid,
    Intercept::Invd,
    Intercept::Hlt,
    Intercept::Invlpga,
    Intercept::IoioProt,
    Intercept::MsrProt,
    Intercept::Shutdown,
    Intercept::Vmrun,
    Intercept::Vmmcall,
    Intercept::Vmload,
    Intercept::Vmsave,
    Intercept::Stgi,
    Intercept::Clgi,
    Intercept::Skinit,
    Intercept::Monitor,
    Intercept::Mwait,
    Intercept::Xsetbv,
    Intercept::Smi,
];

/// V_INTR_MASKING: the host's RFLAGS.IF decides about interrupts for the host (15.21.1).
const V_INTR_MASKING: u64 = 1 << 24;

/// Host physical addresses that a control block points to.
#[derive(Clone, Copy, Debug)]
pub struct Confinement {
    /// Root of the nested page tables.
    pub nested_cr3: u64,
    /// I/O permission map.
    pub iopm: u64,
    /// MSR permission map.
    pub msrpm: u64,
    /// Address space identifier, not 0.
    pub asid: u32,
}

/// A guest with one processor.
#[derive(Debug)]
pub struct Guest<'a> {
    /// What VMRUN gets.
    pub vmcb: &'a mut Vmcb,
    /// What VMRUN does not load.
    pub registers: Registers,
    /// Its memory.
    pub memory: GuestMemory,
    /// Its first serial port.
    pub serial: Serial,
    /// Why it has exited so far.
    pub ledger: ExitLedger,
}

impl fmt::Debug for Vmcb {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Vmcb {{ rip: {:#x}, exit_code: {:#x} }}", self.rip(), self.exit_code())
    }
}

impl<'a> Guest<'a> {
    /// A guest that is confined, and has no state to start from yet.
    pub fn new(vmcb: &'a mut Vmcb, memory: GuestMemory, confinement: Confinement) -> Guest<'a> {
        *vmcb = Vmcb::new();
        for intercept in INTERCEPTS {
            vmcb.set_intercept(intercept, true);
        }
        vmcb.set_iopm_base(confinement.iopm);
        vmcb.set_msrpm_base(confinement.msrpm);
        vmcb.set_guest_asid(confinement.asid);
        vmcb.set_virtual_interrupt(V_INTR_MASKING);
        vmcb.set_nested_paging(1);
        vmcb.set_nested_cr3(confinement.nested_cr3);
        let (serial, ledger) = (Serial::new(), ExitLedger::new());
        Guest { vmcb, registers: Registers::new(), memory, serial, ledger }
    }

    /// Does what the guest exited for; `Err` when it cannot go on.
    pub fn handle_exit(&mut self, host: &mut impl Host) -> Result<(), Stop> {
        let exit = Exit::decode(self.vmcb);
        self.ledger.count(exit);
        match exit {
            Exit::Intr | Exit::Nmi => Ok(()),
            Exit::Io(access) if !access.string => {
                self.access_port(access, host);
                Ok(())
            }
            Exit::Hlt => Err(Stop::Halted),
            Exit::Shutdown => Err(Stop::TripleFault),
            Exit::Invalid => Err(Stop::InvalidState),
            _ => Err(Stop::Unhandled(exit)),
        }
    }

    fn access_port(&mut self, access: IoAccess, host: &mut impl Host) {
        let bits = u32::from(access.size) * 8;
        let mask = u64::MAX >> (64 - bits);
        let rax = &mut self.registers.general[register::RAX];
        if access.input {
            let mut value = 0;
            for byte in 0..u16::from(access.size) {
                value |= u64::from(read_port(&mut self.serial, access.port.wrapping_add(byte))) << (byte * 8);
            }
            // 32-bit results clear the upper half, smaller ones leave the rest as it was.
            *rax = if bits == 32 { value } else { *rax & !mask | value };
        } else {
            for (byte, value) in rax.to_le_bytes().into_iter().take(usize::from(access.size)).enumerate() {
                let port = access.port.wrapping_add(byte as u16);
                if (COM1..COM1 + PORTS).contains(&port)
                    && let Some(sent) = self.serial.write(port - COM1, value)
                {
                    host.send(sent);
                }
            }
        }
        self.skip_to(access.next_rip);
    }

    /// Goes on behind an instruction, which also ends an interrupt shadow.
    fn skip_to(&mut self, rip: u64) {
        self.vmcb.set_rip(rip);
        self.vmcb.set_interrupt_shadow(0);
    }
}

fn read_port(serial: &mut Serial, port: u16) -> u8 {
    // Where nothing answers the bus floats.
    if (COM1..COM1 + PORTS).contains(&port) { serial.read(port - COM1) } else { 0xff }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::leaked;
    use std::vec::Vec;

    impl Host for Vec<u8> {
        fn send(&mut self, byte: u8) {
            self.push(byte);
        }
    }

    const CONFINEMENT: Confinement = Confinement { nested_cr3: 0x1000, iopm: 0x2000, msrpm: 0x5000, asid: 1 };

    fn port_access(vmcb: &mut Vmcb, port: u64, size: u64, input: bool) {
        vmcb.set_exit_code(0x7b);
        vmcb.set_exit_info_1(port << 16 | size << 4 | u64::from(input));
        vmcb.set_exit_info_2(0x1002);
        vmcb.set_interrupt_shadow(1);
    }

    #[test]
    fn what_a_guest_writes_to_its_serial_port_is_sent() {
        let mut vmcb = Vmcb::new();
        let mut guest = Guest::new(&mut vmcb, leaked(4096), CONFINEMENT);
        let mut sent = Vec::new();
        guest.registers.general[register::RAX] = 0x4142;
        port_access(guest.vmcb, 0x3f8, 1, false);
        guest.handle_exit(&mut sent).unwrap();
        assert_eq!(sent, b"B");
        assert_eq!((guest.vmcb.rip(), guest.vmcb.interrupt_shadow()), (0x1002, 0));
    }

    #[test]
    fn what_a_guest_reads_changes_as_much_of_rax_as_the_size_says() {
        for (size, expected) in [(1, 0x1111_1111_1111_1160), (2, 0x1111_1111_1111_b060), (4, 0xff00_b060)] {
            let mut vmcb = Vmcb::new();
            let mut guest = Guest::new(&mut vmcb, leaked(4096), CONFINEMENT);
            guest.registers.general[register::RAX] = 0x1111_1111_1111_1111;
            port_access(guest.vmcb, 0x3fd, size, true);
            guest.handle_exit(&mut Vec::new()).unwrap();
            assert_eq!(guest.registers.general[register::RAX], expected, "{size}");
        }
    }

    #[test]
    fn a_guest_that_cannot_go_on_stops_with_the_reason() {
        let stop = |code| {
            let mut vmcb = Vmcb::new();
            let mut guest = Guest::new(&mut vmcb, leaked(4096), CONFINEMENT);
            guest.vmcb.set_exit_code(code);
            guest.handle_exit(&mut Vec::new()).unwrap_err().name()
        };
        assert_eq!(stop(0x78), "halted");
        assert_eq!(stop(0x7f), "triple-fault");
        assert_eq!(stop(u64::MAX), "invalid-state");
        assert_eq!(stop(0x1234), "unhandled-exit");
    }
}
