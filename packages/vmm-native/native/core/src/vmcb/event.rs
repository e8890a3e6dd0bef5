//! Events on their way into a guest (manual, 15.20).

/// Kinds of [`Event`], by their number in its bits 10:8 (15.20).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EventKind {
    /// An external or virtual interrupt.
    Interrupt = 0,
    /// A non-maskable interrupt; the vector is not looked at.
    Nmi = 2,
    /// A fault or trap.
    Exception = 3,
    /// What INTn does.
    SoftwareInterrupt = 4,
}

/// An event on its way into a guest: what EVENTINJ takes and EXITINTINFO tells (15.20, 15.7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What it is.
    pub kind: EventKind,
    /// Entry of the interrupt descriptor table.
    pub vector: u8,
    /// What is pushed as error code, for the exceptions that have one.
    pub error_code: Option<u32>,
}

impl Event {
    const ERROR_CODE: u64 = 1 << 11;
    const VALID: u64 = 1 << 31;

    /// The event as EVENTINJ has it.
    pub fn encode(self) -> u64 {
        let error = self.error_code.map_or(0, |code| Event::ERROR_CODE | u64::from(code) << 32);
        u64::from(self.vector) | (self.kind as u64) << 8 | Event::VALID | error
    }

    /// The event that EXITINTINFO tells of, if there is one.
    ///
    /// Without the valid bit everything else is stale. QEMU's emulation calls an interrupt whose delivery faulted an
    /// exception, of a vector that exceptions do not have.
    pub fn decode(value: u64) -> Option<Event> {
        if value & Event::VALID == 0 {
            return None;
        }
        let vector = value as u8;
        let kind = match value >> 8 & 7 {
            0 => EventKind::Interrupt,
            2 => EventKind::Nmi,
            3 if vector >= 32 => EventKind::Interrupt,
            // VMRUN refuses an exception with the vector of a non-maskable interrupt.
            3 if vector == 2 => EventKind::Nmi,
            3 => EventKind::Exception,
            4 => EventKind::SoftwareInterrupt,
            _ => return None,
        };
        let error_code = (value & Event::ERROR_CODE != 0).then_some((value >> 32) as u32);
        Some(Event { kind, vector, error_code })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_as_they_were_written() {
        for kind in [EventKind::Interrupt, EventKind::Nmi, EventKind::Exception, EventKind::SoftwareInterrupt] {
            for error_code in [None, Some(0), Some(0xdead_beef)] {
                let event = Event { kind, vector: 13, error_code };
                assert_eq!(Event::decode(event.encode()), Some(event));
            }
        }
        assert_eq!(Event { kind: EventKind::Exception, vector: 13, error_code: Some(0) }.encode(), 0x8000_0b0d);
    }

    #[test]
    fn an_event_without_its_valid_bit_is_none() {
        assert_eq!(Event::decode(0x30d), None);
    }

    #[test]
    fn an_interrupt_that_qemu_calls_an_exception_is_an_interrupt() {
        let event = Event { kind: EventKind::Interrupt, vector: 0x30, error_code: None };
        assert_eq!(Event::decode(0x8000_0330), Some(event));
    }
}
