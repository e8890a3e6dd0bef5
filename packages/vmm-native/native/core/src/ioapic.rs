//! An I/O APIC with 24 inputs (Intel 82093AA data sheet, 3.0; manual, 16.6 for what its messages mean).

use crate::lapic::Destination;
use crate::state::{Reader, StateError, Writer};

/// How many inputs there are.
pub const INPUTS: usize = 24;
/// How many bytes of the address space it takes.
pub const SIZE: u64 = 0x1000;

const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;

mod register {
    pub const ID: u8 = 0x00;
    pub const VERSION: u8 = 0x01;
    pub const ARBITRATION: u8 = 0x02;
    pub const TABLE: u8 = 0x10;
    pub const TABLE_LAST: u8 = 0x3f;
}

const VERSION: u32 = 0x11 | (INPUTS as u32 - 1) << 16;
const ID_BITS: u32 = 0x0f00_0000;

/// Bits of an entry of the redirection table.
mod entry {
    pub const REMOTE_IRR: u64 = 1 << 14;
    pub const LEVEL: u64 = 1 << 15;
    pub const MASKED: u64 = 1 << 16;
    pub const WRITABLE: u64 = 0xff00_0000_0001_afff;
}

/// An interrupt on its way to a local APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// To whom.
    pub destination: Destination,
    /// Vector.
    pub vector: u8,
    /// Whether its end has to be told.
    pub level: bool,
}

/// An I/O APIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoApic {
    selected: u8,
    id: u32,
    table: [u64; INPUTS],
    /// Which inputs are high.
    high: u32,
}

impl IoApic {
    /// An I/O APIC as it is after a reset.
    pub const fn new() -> IoApic {
        IoApic { selected: 0, id: 0, table: [entry::MASKED; INPUTS], high: 0 }
    }

    /// What the guest reads at an offset.
    pub fn read(&self, offset: u64) -> u32 {
        match (offset, self.selected) {
            (SELECT, _) => self.selected.into(),
            (WINDOW, register::ID | register::ARBITRATION) => self.id,
            (WINDOW, register::VERSION) => VERSION,
            (WINDOW, selected @ register::TABLE..=register::TABLE_LAST) => {
                (self.table[usize::from(selected - register::TABLE) / 2] >> (selected % 2 * 32)) as u32
            }
            _ => 0,
        }
    }

    /// Takes what the guest writes at an offset. A level that was masked until now may be sent by that.
    pub fn write(&mut self, offset: u64, value: u32) -> Option<Message> {
        match (offset, self.selected) {
            (SELECT, _) => self.selected = value as u8,
            (WINDOW, register::ID) => self.id = value & ID_BITS,
            (WINDOW, selected @ register::TABLE..=register::TABLE_LAST) => {
                let input = usize::from(selected - register::TABLE) / 2;
                let shift = selected % 2 * 32;
                let bits = entry::WRITABLE & u64::from(u32::MAX) << shift;
                let place = &mut self.table[input];
                *place = *place & !bits | u64::from(value) << shift & bits;
                if *place & entry::LEVEL == 0 {
                    *place &= !entry::REMOTE_IRR;
                }
                return self.send_level(input);
            }
            _ => {}
        }
        None
    }

    /// Sets an input, and returns what that sends.
    pub fn set_input(&mut self, input: u8, high: bool) -> Option<Message> {
        let input = usize::from(input);
        let rises = high && self.high & 1 << input == 0;
        self.high = self.high & !(1 << input) | u32::from(high) << input;
        if self.table[input] & entry::LEVEL != 0 {
            return self.send_level(input);
        }
        (rises && self.table[input] & entry::MASKED == 0).then(|| message(self.table[input]))
    }

    /// An interrupt of this vector is over: inputs that are still high send it again.
    pub fn end_of_interrupt(&mut self, vector: u8) -> Option<Message> {
        let mut sent = None;
        for input in 0..INPUTS {
            if self.table[input] as u8 == vector && self.table[input] & entry::LEVEL != 0 {
                self.table[input] &= !entry::REMOTE_IRR;
                sent = sent.or(self.send_level(input));
            }
        }
        sent
    }

    /// Saves all of it.
    pub fn save(&self, state: &mut Writer) -> Result<(), StateError> {
        state.number::<1>(self.selected.into())?;
        [self.id, self.high].into_iter().try_for_each(|number| state.number::<4>(number.into()))?;
        self.table.iter().try_for_each(|entry| state.number::<8>(*entry))
    }

    /// Goes on where another one was saved.
    pub fn restore(&mut self, state: &mut Reader) -> Result<(), StateError> {
        self.selected = state.number::<1>()? as u8;
        self.id = state.checked::<4>(|id| id & !u64::from(ID_BITS) == 0)? as u32;
        self.high = state.checked::<4>(|high| high >> INPUTS == 0)? as u32;
        for entry in &mut self.table {
            *entry = state.checked::<8>(|entry| entry & !(entry::WRITABLE | entry::REMOTE_IRR) == 0)?;
        }
        Ok(())
    }

    fn send_level(&mut self, input: usize) -> Option<Message> {
        let place = &mut self.table[input];
        let sends = *place & (entry::LEVEL | entry::MASKED | entry::REMOTE_IRR) == entry::LEVEL;
        if !sends || self.high & 1 << input == 0 {
            return None;
        }
        *place |= entry::REMOTE_IRR;
        Some(message(*place))
    }
}

impl Default for IoApic {
    fn default() -> IoApic {
        IoApic::new()
    }
}

fn message(entry: u64) -> Message {
    const LOGICAL: u64 = 1 << 11;
    let destination = match (entry >> 56) as u32 {
        0xff => Destination::Everybody,
        id if entry & LOGICAL != 0 => Destination::Logical(id),
        id => Destination::Physical(id),
    };
    Message { destination, vector: entry as u8, level: entry & entry::LEVEL != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::testing::round_trip;

    fn set(apic: &mut IoApic, input: u8, value: u64) -> Option<Message> {
        apic.write(SELECT, u32::from(register::TABLE + input * 2 + 1));
        let _ = apic.write(WINDOW, (value >> 32) as u32);
        apic.write(SELECT, u32::from(register::TABLE + input * 2));
        apic.write(WINDOW, value as u32)
    }

    #[test]
    fn registers_are_behind_the_window() {
        let mut apic = IoApic::new();
        apic.write(SELECT, register::VERSION.into());
        assert_eq!(apic.read(WINDOW), 0x0017_0011);
        assert_eq!(set(&mut apic, 4, 0x0300_0000_0001_0033), None);
        assert_eq!(apic.read(WINDOW), 0x0001_0033);
        apic.write(SELECT, u32::from(register::TABLE + 9));
        assert_eq!(apic.read(WINDOW), 0x0300_0000);
    }

    #[test]
    fn an_edge_sends_once_and_one_that_is_masked_is_lost() {
        let mut apic = IoApic::new();
        set(&mut apic, 4, 0x0300_0000_0000_0033);
        let sent = Message { destination: Destination::Physical(3), vector: 0x33, level: false };
        assert_eq!(apic.set_input(4, true), Some(sent));
        assert_eq!(apic.set_input(4, true), None);
        apic.set_input(4, false);
        set(&mut apic, 4, 0x0001_0033);
        assert_eq!(apic.set_input(4, true), None);
        assert_eq!(set(&mut apic, 4, 0x0033), None);
    }

    #[test]
    fn a_level_is_sent_again_until_it_is_low() {
        let mut apic = IoApic::new();
        set(&mut apic, 9, 0x0001_8044);
        assert_eq!(apic.set_input(9, true), None, "masked");
        let sent = Some(Message { destination: Destination::Physical(0), vector: 0x44, level: true });
        assert_eq!(set(&mut apic, 9, 0x8044), sent);
        assert_eq!(apic.set_input(9, true), None, "its end has not been told");
        assert_eq!(apic.end_of_interrupt(0x44), sent);
        apic.set_input(9, false);
        assert_eq!(apic.end_of_interrupt(0x44), None);
    }

    #[test]
    fn no_access_goes_wrong() {
        let mut apic = IoApic::new();
        for selected in 0..=255 {
            for value in [0, 0xffff_ffff, 0x8044] {
                apic.write(SELECT, selected);
                let _ = apic.write(WINDOW, value);
                let _ = (apic.read(WINDOW), apic.read(selected.into()), apic.write(0x40, value));
            }
        }
    }

    #[test]
    fn what_was_saved_is_restored() {
        let mut apic = IoApic::new();
        for (register, value) in [(0, 0x0300_0000), (0x11, 0x0200_0000), (0x10, 0x8031), (0x18, 0x0032)] {
            apic.write(SELECT, register);
            apic.write(WINDOW, value);
        }
        assert!(apic.set_input(0, true).is_some_and(|message| message.level));
        round_trip(&mut apic, IoApic::new, |apic, state| apic.save(state), IoApic::restore);
    }
}
