//! A guest's processor, and what happens when it exits.

use crate::clock::Clock;
use crate::consistency::{self, Capabilities};
use crate::cpuid::{self, Identity};
use crate::exit::{Exit, ExitLedger, IoAccess};
use crate::lapic::{GeneralProtection, LocalApic};
use crate::machine::{Host, Machine, Stop};
use crate::mailbox::Mailbox;
use crate::start::FLUSH_TLB;
use crate::state::{Reader, StateError, Writer};
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
    /// RBP.
    pub const RBP: usize = 5;
    /// RSI.
    pub const RSI: usize = 6;
    /// RDI.
    pub const RDI: usize = 7;
}

/// What the general interceptions of every guest are.
const INTERCEPTS: [Intercept; 23] = [
    Intercept::Cr8Write,
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
pub(crate) const GENERAL_PROTECTION: u8 = 13;

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

/// Where MXCSR is in what FXSAVE64 saves.
const MXCSR: usize = 24;
/// What there is, by its number.
const ACTIVITIES: [Activity; 3] = [Activity::Runs, Activity::Halted, Activity::WaitsForStartup];

/// What a processor is doing when it does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// Nothing keeps it from running.
    Runs,
    /// In HLT.
    Halted,
    /// After INIT: it waits for a startup.
    WaitsForStartup,
}

/// A processor of a guest.
#[derive(Debug)]
pub struct Processor<'a> {
    /// What VMRUN gets.
    pub vmcb: &'a mut Vmcb,
    /// What VMRUN does not load.
    pub registers: Registers,
    /// Its local APIC.
    pub lapic: LocalApic,
    /// Why it has exited so far.
    pub ledger: ExitLedger,
    pub(crate) identity: Identity,
    pub(crate) mailbox: &'a Mailbox,
    pub(crate) activity: Activity,
    /// As many changes of the guest's memory are known to its translations.
    known: u64,
    /// What is delivered before anything else: an event whose delivery an exit has cut short, or a fault.
    pub(crate) pending: Option<Event>,
    /// A non-maskable interrupt is to be delivered.
    pub(crate) nmi: bool,
}

impl fmt::Debug for Vmcb {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Vmcb {{ rip: {:#x}, exit_code: {:#x} }}", self.rip(), self.exit_code())
    }
}

impl<'a> Processor<'a> {
    /// A processor that is confined, and waits for a startup.
    pub fn new(
        vmcb: &'a mut Vmcb,
        confinement: Confinement,
        identity: Identity,
        mailbox: &'a Mailbox,
        clock: &Clock,
    ) -> Processor<'a> {
        confine(vmcb, confinement);
        Processor {
            vmcb,
            registers: Registers::new(),
            lapic: LocalApic::new(identity.id, clock.ticks(SHORTEST_TIMER_PERIOD)),
            ledger: ExitLedger::new(),
            identity,
            mailbox,
            activity: Activity::WaitsForStartup,
            known: 0,
            pending: None,
            nmi: false,
        }
    }

    /// Forgets translations before it runs again, if memory has [changed](crate::memory::GuestMemory::changes) since.
    pub fn follow(&mut self, changes: u64) {
        if core::mem::replace(&mut self.known, changes) != changes {
            self.vmcb.set_tlb_control(FLUSH_TLB);
        }
    }

    /// Goes back to how it was made, confined as it is. Its ledger goes on.
    pub fn reset(&mut self) {
        let confinement = Confinement {
            nested_cr3: self.vmcb.nested_cr3(),
            iopm: self.vmcb.iopm_base(),
            msrpm: self.vmcb.msrpm_base(),
            asid: self.vmcb.guest_asid(),
        };
        confine(self.vmcb, confinement);
        self.registers = Registers::new();
        self.lapic.reset();
        self.activity = Activity::WaitsForStartup;
        (self.pending, self.nmi) = (None, false);
    }

    /// Saves all that makes it go on elsewhere; `now` is the host's time stamp counter. Its ledger, and what confines it, are
    /// not among that.
    pub fn save(&mut self, now: u64, state: &mut Writer) -> Result<(), StateError> {
        // What it has been sent is in its APIC then.
        self.open_mail();
        let tsc = now.wrapping_add(self.vmcb.tsc_offset());
        state.bytes(self.vmcb.state_mut())?;
        state.bytes(&self.registers.extended)?;
        let pending = self.pending.map_or(0, Event::encode);
        let numbers = self.registers.general.into_iter().chain([tsc, self.vmcb.interrupt_shadow(), pending]);
        numbers.into_iter().try_for_each(|number| state.number::<8>(number))?;
        state.bytes(&[self.activity as u8, self.nmi.into()])?;
        self.lapic.save(state)
    }

    /// Goes on where another one was saved, confined as it is; `cpuid` as [`Host::cpuid`]. Its time stamp counter goes on as if
    /// no time had passed.
    pub fn restore(
        &mut self,
        now: u64,
        cpuid: impl Fn(u32, u32) -> [u32; 4],
        state: &mut Reader,
    ) -> Result<(), StateError> {
        self.reset();
        state.bytes(self.vmcb.state_mut())?;
        state.bytes(&mut self.registers.extended[..MXCSR])?;
        // Where FXRSTOR would fault, which is in the host.
        let mxcsr = state.checked::<4>(|mxcsr| mxcsr >> 16 == 0)? as u32;
        self.registers.extended[MXCSR..MXCSR + 4].copy_from_slice(&mxcsr.to_le_bytes());
        state.bytes(&mut self.registers.extended[MXCSR + 4..])?;
        for register in &mut self.registers.general {
            *register = state.number::<8>()?;
        }
        self.vmcb.set_tsc_offset(state.number::<8>()?.wrapping_sub(now));
        self.vmcb.set_interrupt_shadow(state.checked::<8>(|shadow| shadow < 2)?);
        self.pending =
            Event::decode(state.checked::<8>(|event| event == Event::decode(event).map_or(0, Event::encode))?);
        self.activity = ACTIVITIES[state.checked::<1>(|activity| activity < ACTIVITIES.len() as u64)? as usize];
        self.nmi = state.flag()?;
        self.lapic.restore(state)?;
        self.vmcb.set_event_injection(self.pending.map_or(0, Event::encode));
        self.vmcb.set_tlb_control(FLUSH_TLB);
        let capabilities = Capabilities::from_cpuid(cpuid);
        let broken = consistency::broken(self.vmcb, &capabilities).next();
        // One that waits for a startup has no state.
        broken
            .filter(|_| self.activity != Activity::WaitsForStartup)
            .map_or(Ok(()), |rule| Err(StateError::Refused(rule)))
    }

    /// Lets the processor begin with the state that it has been given, as the first one does.
    pub fn begin(&mut self) {
        self.activity = Activity::Runs;
    }

    /// Does what the guest exited for; `Err` when it cannot go on.
    pub fn handle_exit(&mut self, machine: &mut Machine, host: &mut impl Host) -> Result<(), Stop> {
        let exit = Exit::decode(self.vmcb);
        self.ledger.count(exit);
        self.vmcb.set_tlb_control(0);
        self.take_back();
        match exit {
            Exit::Intr | Exit::Nmi | Exit::Vintr => {}
            Exit::Cpuid => self.cpuid(host),
            Exit::Msr { write } => self.access_msr(write, machine, host),
            Exit::Io(access) if access.string => self.string_io(access, machine, host)?,
            Exit::Io(access) => self.access_port(access, machine, host)?,
            Exit::Hlt => {
                self.skip(1);
                self.activity = Activity::Halted;
            }
            Exit::Cr8Write => self.write_cr8(machine)?,
            Exit::Vmmcall => self.vmmcall(),
            Exit::Undefined(_) => self.raise(UNDEFINED_OPCODE, None),
            Exit::Shutdown => return Err(Stop::TripleFault),
            Exit::Invalid => return Err(Stop::InvalidState),
            Exit::NestedPageFault(fault) => self.access_device(fault, machine, host)?,
            Exit::Other(_) => return Err(Stop::Unhandled(exit)),
        }
        Ok(())
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

    fn access_msr(&mut self, write: bool, machine: &mut Machine, host: &mut impl Host) {
        let [low, msr, high] =
            [register::RAX, register::RCX, register::RDX].map(|it| self.registers.general[it] as u32);
        let done = if write {
            self.write_msr(msr, u64::from(high) << 32 | u64::from(low), machine, host)
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
    fn access_port(&mut self, access: IoAccess, machine: &mut Machine, host: &mut impl Host) -> Result<(), Stop> {
        let bits = u32::from(access.size) * 8;
        let mask = u64::MAX >> (64 - bits);
        let rax = self.registers.general[register::RAX];
        self.skip_to(access.next_rip);
        if access.input {
            let value = u64::from(machine.read_ports(access.port, access.size));
            // 32-bit results clear the upper half, smaller ones leave the rest as it was.
            self.registers.general[register::RAX] = if bits == 32 { value } else { rax & !mask | value };
        } else {
            machine.write_ports(access.port, access.size, rax as u32, host)?;
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

/// Makes a block that confines its guest, and has no state yet.
fn confine(vmcb: &mut Vmcb, confinement: Confinement) {
    *vmcb = Vmcb::new();
    for intercept in INTERCEPTS {
        vmcb.set_intercept(intercept, true);
    }
    vmcb.set_iopm_base(confinement.iopm);
    vmcb.set_msrpm_base(confinement.msrpm);
    vmcb.set_guest_asid(confinement.asid);
    vmcb.set_nested_paging(1);
    vmcb.set_nested_cr3(confinement.nested_cr3);
}

/// What tests of all modules make guests of.
#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests;
