//! What is delivered to a guest when it is entered, and when it is not entered (manual, 15.20 and 15.21).

use crate::guest::{Guest, Stop};
use crate::vmcb::{Event, EventKind, Intercept};

const INTERRUPT_FLAG: u64 = 1 << 9;

/// Fields of [`crate::vmcb::Vmcb::virtual_interrupt`].
mod virtual_interrupt {
    pub const TASK_PRIORITY: u64 = 0xf;
    pub const REQUEST: u64 = 1 << 8;
    pub const HIGHEST_PRIORITY: u64 = 0xf << 16;
    pub const IGNORE_TASK_PRIORITY: u64 = 1 << 20;
    /// The host's RFLAGS.IF decides about interrupts for the host (15.21.1).
    pub const MASKING: u64 = 1 << 24;
}

/// What to do with a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Enter it.
    Run,
    /// Wait: it is in HLT.
    Wait,
}

impl Guest<'_> {
    /// Settles what the guest is entered with; `now` is the time stamp counter. `Err` when it will never run again.
    pub fn prepare(&mut self, now: u64) -> Result<Next, Stop> {
        self.lapic.advance(now.wrapping_add(self.vmcb.tsc_offset()));
        let open = self.vmcb.rflags() & INTERRUPT_FLAG != 0;
        if self.halted {
            if !open {
                return Err(Stop::Halted);
            }
            if self.lapic.deliverable().is_none() {
                return Ok(Next::Wait);
            }
            self.halted = false;
        }
        let takes_interrupts = open && self.vmcb.interrupt_shadow() & 1 == 0;
        if self.pending.is_none()
            && takes_interrupts
            && let Some(vector) = self.lapic.deliverable()
        {
            self.lapic.acknowledge(vector);
            self.pending = Some(Event { kind: EventKind::Interrupt, vector, error_code: None });
        }
        self.vmcb.set_event_injection(self.pending.take().map_or(0, Event::encode));
        self.ask_for_window(self.lapic.deliverable().is_some());
        Ok(Next::Run)
    }

    /// When [`Guest::prepare`] has something to do next, as a value of the host's time stamp counter.
    pub fn wakes_at(&self) -> Option<u64> {
        self.lapic.fires_at().map(|fires_at| fires_at.wrapping_sub(self.vmcb.tsc_offset()))
    }

    /// Raises an exception at the instruction that the guest is at.
    pub(crate) fn raise(&mut self, vector: u8, error_code: Option<u32>) {
        self.pending = Some(Event { kind: EventKind::Exception, vector, error_code });
    }

    /// Takes back what the exit has left in the block: an event that was not delivered to its end, and CR8.
    pub(crate) fn take_back(&mut self) {
        self.pending = Event::decode(self.vmcb.exit_int_info());
        self.lapic.set_priority_class((self.vmcb.virtual_interrupt() & virtual_interrupt::TASK_PRIORITY) as u8);
    }

    /// Makes the guest exit as soon as it can take an interrupt: by a virtual one that is intercepted, and never arrives.
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
    use crate::guest::register;
    use crate::guest::testing::{TestHost, exit, guest};

    const VECTOR: u8 = 0x41;

    /// A guest whose APIC is on and has an interrupt for it.
    fn interrupted() -> Guest<'static> {
        let mut guest = guest();
        guest.lapic.write(0x80f, 0x1ff, 0).unwrap();
        guest.lapic.request(VECTOR, false);
        guest
    }

    fn injected(guest: &Guest) -> Option<Event> {
        Event::decode(guest.vmcb.event_injection())
    }

    fn window(guest: &Guest) -> bool {
        assert_eq!(guest.vmcb.intercepts(Intercept::Vintr), guest.vmcb.virtual_interrupt() & 1 << 8 != 0);
        guest.vmcb.intercepts(Intercept::Vintr)
    }

    #[test]
    fn an_interrupt_is_injected_when_the_guest_takes_it() {
        let mut guest = interrupted();
        guest.vmcb.set_rflags(INTERRUPT_FLAG);
        assert_eq!(guest.prepare(0), Ok(Next::Run));
        let event = Event { kind: EventKind::Interrupt, vector: VECTOR, error_code: None };
        assert_eq!((injected(&guest), window(&guest)), (Some(event), false));
        assert_eq!(guest.prepare(0), Ok(Next::Run));
        assert_eq!(injected(&guest), None, "it is in service now");
    }

    #[test]
    fn an_interrupt_that_has_to_wait_opens_a_window() {
        let mut guest = interrupted();
        for (rflags, shadow) in [(0, 0), (INTERRUPT_FLAG, 1)] {
            guest.vmcb.set_rflags(rflags);
            guest.vmcb.set_interrupt_shadow(shadow);
            assert_eq!(guest.prepare(0), Ok(Next::Run));
            assert_eq!((injected(&guest), window(&guest)), (None, true));
        }
        guest.vmcb.set_interrupt_shadow(0);
        guest.prepare(0).unwrap();
        assert_eq!((injected(&guest).map(|event| event.vector), window(&guest)), (Some(VECTOR), false));
    }

    #[test]
    fn an_event_that_an_exit_has_cut_short_comes_first() {
        let mut guest = interrupted();
        let cut = Event { kind: EventKind::Exception, vector: 14, error_code: Some(2) };
        guest.vmcb.set_rflags(INTERRUPT_FLAG);
        guest.vmcb.set_exit_int_info(cut.encode());
        exit(&mut guest, &mut TestHost::default(), 0x60, 0, 0).unwrap();
        guest.prepare(0).unwrap();
        assert_eq!((injected(&guest), window(&guest)), (Some(cut), true));
    }

    #[test]
    fn a_halted_guest_waits_until_it_is_interrupted() {
        let (mut guest, mut host) = (guest(), TestHost::default());
        guest.lapic.write(0x80f, 0x1ff, 0).unwrap();
        guest.lapic.write(0x832, 2 << 17 | u64::from(VECTOR), 0).unwrap();
        guest.lapic.set_deadline(5000);
        guest.vmcb.set_rflags(INTERRUPT_FLAG);
        guest.vmcb.set_rip(0x100);
        exit(&mut guest, &mut host, 0x78, 0, 0).unwrap();
        assert_eq!((guest.prepare(4999), guest.wakes_at()), (Ok(Next::Wait), Some(5000)));
        assert_eq!(guest.prepare(5000), Ok(Next::Run));
        assert_eq!((injected(&guest).map(|event| event.vector), guest.vmcb.rip()), (Some(VECTOR), 0x101));
    }

    #[test]
    fn a_guest_that_halts_with_interrupts_disabled_has_stopped() {
        let mut guest = interrupted();
        exit(&mut guest, &mut TestHost::default(), 0x78, 0, 0).unwrap();
        assert_eq!(guest.prepare(0), Err(Stop::Halted));
    }

    #[test]
    fn a_register_that_does_not_exist_is_a_fault_at_the_instruction() {
        let mut guest = guest();
        guest.registers.general[register::RCX] = 0x1234;
        guest.vmcb.set_rip(0x100);
        for write in [0, 1] {
            exit(&mut guest, &mut TestHost::default(), 0x7c, write, 0).unwrap();
            guest.prepare(0).unwrap();
            let fault = Event { kind: EventKind::Exception, vector: 13, error_code: Some(0) };
            assert_eq!((injected(&guest), guest.vmcb.rip()), (Some(fault), 0x100));
        }
    }

    #[test]
    fn the_task_priority_is_cr8_in_both_directions() {
        let mut guest = interrupted();
        guest.vmcb.set_rflags(INTERRUPT_FLAG);
        guest.vmcb.set_virtual_interrupt(0x5);
        exit(&mut guest, &mut TestHost::default(), 0x60, 0, 0).unwrap();
        guest.prepare(0).unwrap();
        assert_eq!((injected(&guest), guest.vmcb.virtual_interrupt() & 0xf), (None, 5));
    }
}
