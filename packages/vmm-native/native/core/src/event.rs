//! What is delivered to a processor when it is entered, and when it is not entered (manual, 15.20 and 15.21).

use crate::mailbox::Signals;
use crate::processor::{Activity, Processor};
use crate::start;
use crate::vmcb::{Event, EventKind, Intercept};

const INTERRUPT_FLAG: u64 = 1 << 9;
const NMI_VECTOR: u8 = 2;

/// Fields of [`crate::vmcb::Vmcb::virtual_interrupt`].
mod virtual_interrupt {
    pub const TASK_PRIORITY: u64 = 0xf;
    pub const REQUEST: u64 = 1 << 8;
    pub const HIGHEST_PRIORITY: u64 = 0xf << 16;
    pub const IGNORE_TASK_PRIORITY: u64 = 1 << 20;
    /// The host's RFLAGS.IF decides about interrupts for the host (15.21.1).
    pub const MASKING: u64 = 1 << 24;
}

/// What to do with a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Enter it.
    Run,
    /// Wait: it is in HLT.
    Wait,
    /// Wait for other processors: it cannot wake by itself.
    WaitForOthers,
}

impl Processor<'_> {
    /// Settles what the processor is entered with; `now` is the time stamp counter of the host.
    pub fn prepare(&mut self, now: u64) -> Next {
        self.open_mail();
        self.lapic.advance(now.wrapping_add(self.vmcb.tsc_offset()));
        let open = self.vmcb.rflags() & INTERRUPT_FLAG != 0;
        match self.activity {
            Activity::WaitsForStartup => return Next::WaitForOthers,
            Activity::Halted if !self.nmi && !open => return Next::WaitForOthers,
            Activity::Halted if !self.nmi && self.lapic.deliverable().is_none() => return Next::Wait,
            Activity::Halted | Activity::Runs => self.activity = Activity::Runs,
        }
        if self.pending.is_none() {
            self.pending = self.next_event(open && self.vmcb.interrupt_shadow() & 1 == 0);
        }
        self.vmcb.set_event_injection(self.pending.take().map_or(0, Event::encode));
        self.ask_for_window(self.nmi || self.lapic.deliverable().is_some());
        Next::Run
    }

    /// The event that is next of those that wait: a non-maskable one, or the highest interrupt.
    fn next_event(&mut self, takes_interrupts: bool) -> Option<Event> {
        if core::mem::take(&mut self.nmi) {
            return Some(Event { kind: EventKind::Nmi, vector: NMI_VECTOR, error_code: None });
        }
        let vector = self.lapic.deliverable().filter(|_| takes_interrupts)?;
        self.lapic.acknowledge(vector);
        Some(Event { kind: EventKind::Interrupt, vector, error_code: None })
    }

    /// Takes what other processors and devices have posted.
    pub(crate) fn open_mail(&mut self) {
        let Signals { init, startup, nmi } = self.mailbox.take_signals();
        if init {
            self.activity = Activity::WaitsForStartup;
            self.lapic.reset();
            (self.pending, self.nmi) = (None, false);
        }
        // A processor that does not wait for it takes no notice.
        if let Some(page) = startup
            && self.activity == Activity::WaitsForStartup
        {
            start::enter_real_mode(self.vmcb, &mut self.registers, page);
            self.activity = Activity::Runs;
        }
        self.nmi |= nmi && self.activity != Activity::WaitsForStartup;
        let lapic = &mut self.lapic;
        self.mailbox.take_interrupts(|vector, level| lapic.request(vector, level));
    }

    /// Whether it wants to run at a value of the host's time stamp counter, as far as that is known without its mail.
    pub fn is_busy(&self, now: u64) -> bool {
        self.activity == Activity::Runs || self.wakes_at().is_some_and(|wakes_at| wakes_at <= now)
    }

    /// When [`Processor::prepare`] has something to do next, as a value of the host's time stamp counter.
    pub fn wakes_at(&self) -> Option<u64> {
        self.lapic.fires_at().map(|fires_at| fires_at.wrapping_sub(self.vmcb.tsc_offset()))
    }

    /// Raises an exception at the instruction that the processor is at.
    pub(crate) fn raise(&mut self, vector: u8, error_code: Option<u32>) {
        self.pending = Some(Event { kind: EventKind::Exception, vector, error_code });
    }

    /// Takes back what the exit has left in the block: an event that was not delivered to its end, and CR8.
    pub(crate) fn take_back(&mut self) {
        self.pending = Event::decode(self.vmcb.exit_int_info());
        self.lapic.set_priority_class((self.vmcb.virtual_interrupt() & virtual_interrupt::TASK_PRIORITY) as u8);
    }

    /// Makes the processor exit as soon as it can take an interrupt: by a virtual one that is intercepted, and never arrives.
    fn ask_for_window(&mut self, wanted: bool) {
        use virtual_interrupt::{HIGHEST_PRIORITY, IGNORE_TASK_PRIORITY, MASKING, REQUEST};
        let window = if wanted { REQUEST | HIGHEST_PRIORITY | IGNORE_TASK_PRIORITY } else { 0 };
        self.vmcb.set_virtual_interrupt(MASKING | window | u64::from(self.lapic.priority_class()));
        self.vmcb.set_intercept(Intercept::Vintr, wanted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processor::register;
    use crate::processor::testing::{TestGuest, guest};
    use crate::vmcb::SegmentRegister;

    const VECTOR: u8 = 0x41;
    const HLT: u64 = 0x78;
    const INTR: u64 = 0x60;
    const MSR: u64 = 0x7c;

    /// A guest whose first processor's APIC is on and has an interrupt for it.
    fn interrupted() -> TestGuest {
        let mut guest = guest(2);
        guest.processor.lapic.write(0x80f, 0x1ff, 0).unwrap();
        guest.processor.lapic.request(VECTOR, false);
        guest
    }

    fn injected(guest: &TestGuest) -> Option<Event> {
        Event::decode(guest.processor.vmcb.event_injection())
    }

    fn window(guest: &TestGuest) -> bool {
        let vmcb = &guest.processor.vmcb;
        assert_eq!(vmcb.intercepts(Intercept::Vintr), vmcb.virtual_interrupt() & 1 << 8 != 0);
        vmcb.intercepts(Intercept::Vintr)
    }

    #[test]
    fn an_interrupt_is_injected_when_the_guest_takes_it() {
        let mut guest = interrupted();
        guest.processor.vmcb.set_rflags(INTERRUPT_FLAG);
        assert_eq!(guest.processor.prepare(0), Next::Run);
        let event = Event { kind: EventKind::Interrupt, vector: VECTOR, error_code: None };
        assert_eq!((injected(&guest), window(&guest)), (Some(event), false));
        assert_eq!(guest.processor.prepare(0), Next::Run);
        assert_eq!(injected(&guest), None, "it is in service now");
    }

    #[test]
    fn an_interrupt_that_has_to_wait_opens_a_window() {
        let mut guest = interrupted();
        for (rflags, shadow) in [(0, 0), (INTERRUPT_FLAG, 1)] {
            guest.processor.vmcb.set_rflags(rflags);
            guest.processor.vmcb.set_interrupt_shadow(shadow);
            assert_eq!(guest.processor.prepare(0), Next::Run);
            assert_eq!((injected(&guest), window(&guest)), (None, true));
        }
        guest.processor.vmcb.set_interrupt_shadow(0);
        guest.processor.prepare(0);
        assert_eq!((injected(&guest).map(|event| event.vector), window(&guest)), (Some(VECTOR), false));
    }

    #[test]
    fn an_event_that_an_exit_has_cut_short_comes_first() {
        let mut guest = interrupted();
        let cut = Event { kind: EventKind::Exception, vector: 14, error_code: Some(2) };
        guest.processor.vmcb.set_rflags(INTERRUPT_FLAG);
        guest.processor.vmcb.set_exit_int_info(cut.encode());
        guest.exit(INTR, 0, 0).unwrap();
        guest.processor.prepare(0);
        assert_eq!((injected(&guest), window(&guest)), (Some(cut), true));
    }

    #[test]
    fn a_halted_processor_waits_until_it_is_interrupted() {
        let mut guest = guest(1);
        guest.processor.lapic.write(0x80f, 0x1ff, 0).unwrap();
        guest.processor.lapic.write(0x832, 2 << 17 | u64::from(VECTOR), 0).unwrap();
        guest.processor.lapic.set_deadline(5000);
        guest.processor.vmcb.set_rflags(INTERRUPT_FLAG);
        guest.processor.vmcb.set_rip(0x100);
        guest.exit(HLT, 0, 0).unwrap();
        assert_eq!((guest.processor.prepare(4999), guest.processor.wakes_at()), (Next::Wait, Some(5000)));
        assert_eq!([4999, 5000].map(|now| guest.processor.is_busy(now)), [false, true]);
        assert_eq!(guest.processor.prepare(5000), Next::Run);
        assert_eq!(injected(&guest).map(|event| event.vector), Some(VECTOR));
        assert_eq!(guest.processor.vmcb.rip(), 0x101);
    }

    #[test]
    fn a_processor_that_halts_with_interrupts_disabled_is_woken_by_others_only() {
        let mut guest = interrupted();
        guest.exit(HLT, 0, 0).unwrap();
        assert_eq!(guest.processor.prepare(0), Next::WaitForOthers);
        guest.mailboxes[0].post_nmi();
        assert_eq!(guest.processor.prepare(0), Next::Run);
        assert_eq!(injected(&guest).map(|event| event.kind), Some(EventKind::Nmi));
    }

    #[test]
    fn a_register_that_does_not_exist_is_a_fault_at_the_instruction() {
        let mut guest = guest(1);
        guest.processor.registers.general[register::RCX] = 0x1234;
        guest.processor.vmcb.set_rip(0x100);
        for write in [0, 1] {
            guest.exit(MSR, write, 0).unwrap();
            guest.processor.prepare(0);
            let fault = Event { kind: EventKind::Exception, vector: 13, error_code: Some(0) };
            assert_eq!((injected(&guest), guest.processor.vmcb.rip()), (Some(fault), 0x100));
        }
    }

    #[test]
    fn the_task_priority_is_cr8_in_both_directions() {
        let mut guest = interrupted();
        guest.processor.vmcb.set_rflags(INTERRUPT_FLAG);
        guest.processor.vmcb.set_virtual_interrupt(0x5);
        guest.exit(INTR, 0, 0).unwrap();
        guest.processor.prepare(0);
        assert_eq!((injected(&guest), guest.processor.vmcb.virtual_interrupt() & 0xf), (None, 5));
    }

    /// What writing to the interrupt command register does.
    fn send(guest: &mut TestGuest, command: u64) {
        let general = &mut guest.processor.registers.general;
        (general[register::RCX], general[register::RAX]) = (0x830, command & 0xffff_ffff);
        general[register::RDX] = command >> 32;
        guest.exit(MSR, 1, 0).unwrap();
    }

    #[test]
    fn interrupts_between_processors_arrive_at_those_that_are_named() {
        let mut guest = guest(3);
        send(&mut guest, 1 << 32 | 0x4041);
        send(&mut guest, 3 << 18 | 0x4042);
        send(&mut guest, 1 << 18 | 0x4043);
        let taken = guest.mailboxes.iter().map(|mailbox| {
            let mut vectors = std::vec::Vec::new();
            mailbox.take_interrupts(|vector, _| vectors.push(vector));
            vectors
        });
        assert_eq!(taken.collect::<std::vec::Vec<_>>(), [std::vec![0x43], std::vec![0x41, 0x42], std::vec![0x42]]);
        assert!(guest.machine.take_posted());
    }

    #[test]
    fn init_and_startup_make_a_processor_begin_in_real_mode_once() {
        let mut guest = guest(1);
        guest.processor.registers.general[register::RBX] = 7;
        guest.mailboxes[0].post_init();
        assert_eq!(guest.processor.prepare(0), Next::WaitForOthers);
        guest.mailboxes[0].post_interrupt(VECTOR, false);
        guest.mailboxes[0].post_nmi();
        assert_eq!(guest.processor.prepare(0), Next::WaitForOthers, "neither wakes it");
        guest.mailboxes[0].post_startup(0x9a);
        assert_eq!(guest.processor.prepare(0), Next::Run);
        let vmcb = &guest.processor.vmcb;
        let code = vmcb.segment(SegmentRegister::Cs);
        assert_eq!((code.selector, code.base, vmcb.rip(), injected(&guest)), (0x9a00, 0x9_a000, 0, None));
        assert_eq!((vmcb.cr0(), guest.processor.registers.general[register::RBX]), (0x10, 0));
        guest.processor.vmcb.set_rip(0x1234);
        guest.mailboxes[0].post_startup(0x9b);
        guest.processor.prepare(0);
        assert_eq!(guest.processor.vmcb.rip(), 0x1234, "a second startup is not heard");
    }
}
