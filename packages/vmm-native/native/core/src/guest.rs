//! A guest: its memory, its devices, its processor, and what happens when that exits.

use crate::clock::Clock;
use crate::cpuid::{self, Identity};
use crate::exit::{Exit, ExitLedger, IoAccess};
use crate::ioapic::{IoApic, Message};
use crate::lapic::{GeneralProtection, LocalApic};
use crate::memory::GuestMemory;
use crate::platform;
use crate::serial::{PORTS, Serial};
use crate::vmcb::{Event, Intercept, Vmcb};
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
    /// RCX.
    pub const RCX: usize = 1;
    /// RDX.
    pub const RDX: usize = 2;
    /// RBX.
    pub const RBX: usize = 3;
    /// RSP.
    pub const RSP: usize = 4;
    /// RSI.
    pub const RSI: usize = 6;
}

/// The machine under the guest, as far as a guest's devices need it.
pub trait Host {
    /// Takes a byte that the guest sends by its serial port.
    fn send(&mut self, byte: u8);
    /// The time stamp counter.
    fn tsc(&mut self) -> u64;
    /// EAX, EBX, ECX and EDX of a CPUID function; zeros where there is none.
    fn cpuid(&self, function: u32, index: u32) -> [u32; 4];
}

/// Why a guest does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It switched itself off.
    PoweredOff,
    /// It reset itself.
    Reset,
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
            Stop::PoweredOff => "power-off",
            Stop::Reset => "reset",
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
            Stop::PoweredOff => out.write_str("it switched itself off"),
            Stop::Reset => out.write_str("it reset itself"),
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

/// Exceptions (manual, 8.2).
const UNDEFINED_OPCODE: u8 = 6;
const GENERAL_PROTECTION: u8 = 13;

const SERIAL_END: u16 = platform::SERIAL_PORT + PORTS;

/// Shortest period of a timer, in microseconds.
const SHORTEST_TIMER_PERIOD: u64 = 200;

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
    /// The processor's local APIC.
    pub lapic: LocalApic,
    pub(crate) io_apic: IoApic,
    pub(crate) identity: Identity,
    pub(crate) clock: Clock,
    /// What is delivered before anything else: an event whose delivery an exit has cut short, or a fault.
    pub(crate) pending: Option<Event>,
    /// In HLT.
    pub(crate) halted: bool,
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
    pub fn new(vmcb: &'a mut Vmcb, memory: GuestMemory, confinement: Confinement, clock: Clock) -> Guest<'a> {
        *vmcb = Vmcb::new();
        for intercept in INTERCEPTS {
            vmcb.set_intercept(intercept, true);
        }
        vmcb.set_iopm_base(confinement.iopm);
        vmcb.set_msrpm_base(confinement.msrpm);
        vmcb.set_guest_asid(confinement.asid);
        vmcb.set_nested_paging(1);
        vmcb.set_nested_cr3(confinement.nested_cr3);
        Guest {
            vmcb,
            registers: Registers::new(),
            memory,
            serial: Serial::new(),
            lapic: LocalApic::new(0, clock.ticks(SHORTEST_TIMER_PERIOD)),
            io_apic: IoApic::new(),
            identity: Identity { id: 0, processors: 1 },
            clock,
            pending: None,
            halted: false,
            ledger: ExitLedger::new(),
        }
    }

    /// Does what the guest exited for; `Err` when it cannot go on.
    pub fn handle_exit(&mut self, host: &mut impl Host) -> Result<(), Stop> {
        let exit = Exit::decode(self.vmcb);
        self.ledger.count(exit);
        self.take_back();
        match exit {
            Exit::Intr | Exit::Nmi | Exit::Vintr => {}
            Exit::Cpuid => self.cpuid(host),
            Exit::Msr { write } => self.access_msr(write, host),
            Exit::Io(access) if !access.string => self.access_port(access, host)?,
            Exit::Hlt => {
                self.skip(1);
                self.halted = true;
            }
            Exit::Vmmcall => self.vmmcall(),
            Exit::Undefined(_) => self.raise(UNDEFINED_OPCODE, None),
            Exit::Shutdown => return Err(Stop::TripleFault),
            Exit::Invalid => return Err(Stop::InvalidState),
            Exit::NestedPageFault(fault) => self.access_device(fault)?,
            Exit::Io(_) | Exit::Other(_) => return Err(Stop::Unhandled(exit)),
        }
        Ok(())
    }

    /// Takes an interrupt to the processors that its message names; this is the only one there is.
    pub(crate) fn deliver(&mut self, message: Option<Message>) {
        if let Some(Message { vector, level, .. }) = message {
            self.lapic.request(vector, level);
        }
    }

    /// Tells the I/O APIC what the devices want.
    fn update_interrupts(&mut self) {
        let message = self.io_apic.set_input(platform::SERIAL_INTERRUPT, self.serial.interrupt());
        self.deliver(message);
    }

    /// How many bytes the guest's console takes now.
    pub fn console_room(&self) -> usize {
        self.serial.room()
    }

    /// Gives the guest's console a byte.
    pub fn receive(&mut self, byte: u8) {
        self.serial.receive(byte);
        self.update_interrupts();
    }

    fn cpuid(&mut self, host: &mut impl Host) {
        let registers = &mut self.registers.general;
        let (function, index) = (registers[register::RAX] as u32, registers[register::RCX] as u32);
        let [a, b, c, d] = cpuid::answer(function, index, self.identity, |function, index| host.cpuid(function, index));
        for (number, value) in [(register::RAX, a), (register::RBX, b), (register::RCX, c), (register::RDX, d)] {
            registers[number] = value.into();
        }
        self.skip(2);
    }

    fn access_msr(&mut self, write: bool, host: &mut impl Host) {
        let [low, msr, high] =
            [register::RAX, register::RCX, register::RDX].map(|it| self.registers.general[it] as u32);
        let done = if write {
            self.write_msr(msr, u64::from(high) << 32 | u64::from(low), host)
        } else {
            self.read_msr(msr, host).map(|value| {
                self.registers.general[register::RAX] = value & 0xffff_ffff;
                self.registers.general[register::RDX] = value >> 32;
            })
        };
        match done {
            Ok(()) => self.skip(2),
            Err(GeneralProtection) => self.raise(GENERAL_PROTECTION, Some(0)),
        }
    }

    /// There are no calls yet. KVM's answer to one that it does not know is -ENOSYS.
    fn vmmcall(&mut self) {
        const ENOSYS: u64 = 1000;
        self.registers.general[register::RAX] = ENOSYS.wrapping_neg();
        self.skip(3);
    }

    /// Lets the guest access a port; `Err` when that was its last access.
    fn access_port(&mut self, access: IoAccess, host: &mut impl Host) -> Result<(), Stop> {
        let bits = u32::from(access.size) * 8;
        let mask = u64::MAX >> (64 - bits);
        let rax = self.registers.general[register::RAX];
        self.skip_to(access.next_rip);
        if access.input {
            let mut value = 0;
            for byte in 0..u16::from(access.size) {
                value |= u64::from(self.read_port(access.port.wrapping_add(byte))) << (byte * 8);
            }
            // 32-bit results clear the upper half, smaller ones leave the rest as it was.
            self.registers.general[register::RAX] = if bits == 32 { value } else { rax & !mask | value };
        } else {
            for (byte, value) in rax.to_le_bytes().into_iter().take(usize::from(access.size)).enumerate() {
                self.write_port(access.port.wrapping_add(byte as u16), value, host)?;
            }
        }
        self.update_interrupts();
        Ok(())
    }

    fn read_port(&mut self, port: u16) -> u8 {
        match port {
            platform::SERIAL_PORT..SERIAL_END => self.serial.read(port - platform::SERIAL_PORT),
            platform::SLEEP_CONTROL | platform::SLEEP_STATUS => 0,
            // Where nothing answers the bus floats.
            _ => 0xff,
        }
    }

    fn write_port(&mut self, port: u16, value: u8, host: &mut impl Host) -> Result<(), Stop> {
        /// SLP_EN and SLP_TYPx of SLEEP_CONTROL_REG (ACPI 6.5, 4.8.3.7).
        const SLEEP: u8 = 1 << 5 | platform::SOFT_OFF << 2;
        match port {
            platform::SERIAL_PORT..SERIAL_END => {
                if let Some(sent) = self.serial.write(port - platform::SERIAL_PORT, value) {
                    host.send(sent);
                }
            }
            platform::SLEEP_CONTROL if value == SLEEP => return Err(Stop::PoweredOff),
            platform::RESET if value == platform::RESET_VALUE => return Err(Stop::Reset),
            _ => {}
        }
        Ok(())
    }

    /// Goes on behind an instruction of this length.
    pub(crate) fn skip(&mut self, length: u64) {
        self.skip_to(self.vmcb.rip().wrapping_add(length));
    }

    /// Goes on behind an instruction, which also ends an interrupt shadow.
    fn skip_to(&mut self, rip: u64) {
        self.vmcb.set_rip(rip);
        self.vmcb.set_interrupt_shadow(0);
    }
}

/// What tests of all modules make guests of.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::memory::leaked;
    use std::boxed::Box;
    use std::vec::Vec;

    /// A host that keeps what is sent, whose clock stands still, and that has every feature.
    #[derive(Default)]
    pub struct TestHost {
        pub sent: Vec<u8>,
        pub now: u64,
    }

    impl Host for TestHost {
        fn send(&mut self, byte: u8) {
            self.sent.push(byte);
        }

        fn tsc(&mut self) -> u64 {
            self.now
        }

        fn cpuid(&self, _: u32, _: u32) -> [u32; 4] {
            [u32::MAX; 4]
        }
    }

    /// A guest with 64 KiB of memory and a clock of 1 GHz.
    pub fn guest() -> Guest<'static> {
        let confinement = Confinement { nested_cr3: 0x1000, iopm: 0x2000, msrpm: 0x5000, asid: 1 };
        let vmcb = Box::leak(Box::new(Vmcb::new()));
        Guest::new(vmcb, leaked(1 << 16), confinement, Clock::new(0, 1_000_000_000, 0))
    }

    /// What a guest does about an exit.
    pub fn exit(guest: &mut Guest, host: &mut TestHost, code: u64, info_1: u64, info_2: u64) -> Result<(), Stop> {
        guest.vmcb.set_exit_code(code);
        guest.vmcb.set_exit_info_1(info_1);
        guest.vmcb.set_exit_info_2(info_2);
        guest.handle_exit(host)
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{TestHost, exit, guest};
    use super::*;

    const IOIO: u64 = 0x7b;

    fn write_port(guest: &mut Guest, host: &mut TestHost, port: u64, value: u64) -> Result<(), Stop> {
        guest.registers.general[register::RAX] = value;
        exit(guest, host, IOIO, port << 16 | 1 << 4, 0x1002)
    }

    #[test]
    fn what_a_guest_writes_to_its_serial_port_is_sent() {
        let (mut guest, mut host) = (guest(), TestHost::default());
        guest.vmcb.set_interrupt_shadow(1);
        write_port(&mut guest, &mut host, 0x3f8, 0x4142).unwrap();
        assert_eq!(host.sent, b"B");
        assert_eq!((guest.vmcb.rip(), guest.vmcb.interrupt_shadow()), (0x1002, 0));
    }

    #[test]
    fn what_a_guest_reads_changes_as_much_of_rax_as_the_size_says() {
        for (size, expected) in [(1, 0x1111_1111_1111_1160), (2, 0x1111_1111_1111_b060), (4, 0xff00_b060)] {
            let (mut guest, mut host) = (guest(), TestHost::default());
            guest.registers.general[register::RAX] = 0x1111_1111_1111_1111;
            exit(&mut guest, &mut host, IOIO, 0x3fd << 16 | size << 4 | 1, 0x1002).unwrap();
            assert_eq!(guest.registers.general[register::RAX], expected, "{size}");
        }
    }

    #[test]
    fn nothing_is_behind_other_ports() {
        let (mut guest, mut host) = (guest(), TestHost::default());
        for port in 0..=0xffff {
            exit(&mut guest, &mut host, IOIO, port << 16 | 1 << 6 | 1, 0).unwrap();
            write_port(&mut guest, &mut host, port, 0).unwrap();
        }
        assert_eq!(host.sent, [0]);
    }

    #[test]
    fn a_guest_switches_itself_off_and_resets_itself() {
        let (mut guest, mut host) = (guest(), TestHost::default());
        assert_eq!(write_port(&mut guest, &mut host, 0x600, 0x34), Err(Stop::PoweredOff));
        assert_eq!(write_port(&mut guest, &mut host, 0xcf9, 6), Err(Stop::Reset));
    }

    #[test]
    fn cpuid_fills_four_registers_and_is_skipped() {
        let (mut guest, mut host) = (guest(), TestHost::default());
        guest.registers.general = [u64::MAX; 16];
        guest.registers.general[register::RAX] = 0x4000_0001;
        guest.vmcb.set_rip(0x100);
        exit(&mut guest, &mut host, 0x72, 0, 0).unwrap();
        assert_eq!(guest.registers.general[..4], [0x0100_000a, 0, 0, 0]);
        assert_eq!(guest.vmcb.rip(), 0x102);
    }

    #[test]
    fn a_guest_that_cannot_go_on_stops_with_the_reason() {
        let stop = |code| exit(&mut guest(), &mut TestHost::default(), code, 0, 0).unwrap_err().name();
        assert_eq!(stop(0x7f), "triple-fault");
        assert_eq!(stop(u64::MAX), "invalid-state");
        assert_eq!(stop(0x1234), "unhandled-exit");
    }
}
