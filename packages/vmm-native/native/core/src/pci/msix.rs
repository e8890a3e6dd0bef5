//! MSI-X (PCI 3.0, 6.8.2): interrupts that are writes to memory, where local APICs listen (manual, 16.4.2 for the form).
//!
//! Addresses and data are a guest's to choose. Those that no local APIC listens to are sent nowhere.

use super::config::Function;
use crate::lapic::{Command, Destination, Kind, Shorthand};
use crate::state::{Reader, StateError, Writer};

/// Most vectors that a function here has.
pub const MAX_VECTORS: usize = 8;
/// How many bytes of a table there are for each vector.
pub const ENTRY: u64 = 16;

const CAPABILITY: u8 = 0x11;
/// Offset of the message control register in the capability, and bits of it.
const CONTROL: u16 = 2;
const FUNCTION_MASKED: u64 = 1 << 14;
const ENABLED: u64 = 1 << 15;
/// Bit of an entry's vector control.
const MASKED: u8 = 1 << 0;
const TABLE_SIZE: usize = MAX_VECTORS * ENTRY as usize;

/// Where table and pending bits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// BAR.
    pub bar: u8,
    /// Offset of the table in it, a multiple of 8.
    pub table: u32,
    /// Offset of the pending bits in it, a multiple of 8.
    pub pending: u32,
}

/// The messages of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MsiX {
    capability: u16,
    place: Place,
    vectors: usize,
    table: [u8; TABLE_SIZE],
    /// One bit for each vector that has not been sent.
    pending: u64,
}

impl MsiX {
    /// Gives a function the capability; everything is masked.
    ///
    /// # Panics
    ///
    /// When there are more vectors than [`MAX_VECTORS`], or none.
    pub fn new(function: &mut Function, vectors: usize, place: Place) -> MsiX {
        assert!((1..=MAX_VECTORS).contains(&vectors), "a number of vectors that no function here has");
        let mut body = [0; 10];
        body[..2].copy_from_slice(&(vectors as u16 - 1).to_le_bytes());
        body[2..6].copy_from_slice(&(place.table | u32::from(place.bar)).to_le_bytes());
        body[6..].copy_from_slice(&(place.pending | u32::from(place.bar)).to_le_bytes());
        let writable = ((ENABLED | FUNCTION_MASKED) as u16).to_le_bytes();
        let capability = function.add_capability(CAPABILITY, &body, &writable);
        MsiX { capability, place, vectors, table: all_masked(), pending: 0 }
    }

    /// Goes back to how it was made; its control register is the function's to reset.
    pub fn reset(&mut self) {
        (self.table, self.pending) = (all_masked(), 0);
    }

    /// How many vectors there are.
    pub fn vectors(&self) -> usize {
        self.vectors
    }

    /// Whether the function interrupts by messages, and not by its pin.
    pub fn is_enabled(&self, function: &Function) -> bool {
        function.read(self.capability + CONTROL, 2) & ENABLED != 0
    }

    /// What is read from the BAR that table and pending bits are in; `None` elsewhere in it.
    pub fn read(&self, offset: u64, size: u8) -> Option<u64> {
        let pending = self.pending.to_le_bytes();
        let (start, bytes) = self.bytes_at(offset).map_or((0, None), |(start, in_table)| {
            (start, Some(if in_table { &self.table[..self.vectors * ENTRY as usize] } else { &pending[..] }))
        });
        let mut value = [0; 8];
        for (index, byte) in value.iter_mut().take(size.into()).enumerate() {
            *byte = bytes?.get(start + index).copied().unwrap_or(0);
        }
        Some(u64::from_le_bytes(value))
    }

    /// Takes what is written to that BAR; whether it was to table or pending bits.
    pub fn write(&mut self, offset: u64, size: u8, value: u64) -> bool {
        let Some((start, in_table)) = self.bytes_at(offset) else { return false };
        let length = if in_table { self.vectors * ENTRY as usize } else { 0 };
        for (index, value) in (start..length).zip(value.to_le_bytes().into_iter().take(size.into())) {
            // The address is one of four bytes, and of the vector control only the mask exists.
            self.table[index] = match index % ENTRY as usize {
                0 => value & !3,
                12 => value & MASKED,
                13..16 => 0,
                _ => value,
            };
        }
        true
    }

    /// Makes a vector be sent, now or when it is no longer masked. One that does not exist is none.
    pub fn raise(&mut self, vector: u16) {
        if usize::from(vector) < self.vectors {
            self.pending |= 1 << vector;
        }
    }

    /// Forgets what has not been sent.
    pub fn clear(&mut self) {
        self.pending = 0;
    }

    /// The next message that is sent. Those of a function that may not write to memory wait.
    pub fn take(&mut self, function: &Function) -> Option<Command> {
        let control = function.read(self.capability + CONTROL, 2);
        if self.pending == 0 || control & (ENABLED | FUNCTION_MASKED) != ENABLED || !function.is_master() {
            return None;
        }
        for vector in 0..self.vectors {
            let entry = &self.table[vector * ENTRY as usize..][..ENTRY as usize];
            if self.pending & 1 << vector == 0 || entry[12] & MASKED != 0 {
                continue;
            }
            self.pending &= !(1 << vector);
            let word = |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
            let command = decode(u64::from(word(4)) << 32 | u64::from(word(0)), word(8));
            if command.is_some() {
                return command;
            }
        }
        None
    }

    /// Saves table and pending bits.
    pub fn save(&self, state: &mut Writer) -> Result<(), StateError> {
        state.bytes(&self.table[..self.vectors * ENTRY as usize])?;
        state.number::<8>(self.pending)
    }

    /// Restores table and pending bits.
    pub fn restore(&mut self, state: &mut Reader) -> Result<(), StateError> {
        for index in 0..self.vectors * ENTRY as usize {
            let possible = match index % ENTRY as usize {
                0 => !3,
                12 => MASKED,
                13..16 => 0,
                _ => 0xff,
            };
            self.table[index] = state.checked::<1>(|byte| byte & !u64::from(possible) == 0)? as u8;
        }
        self.pending = state.checked::<8>(|pending| pending >> self.vectors == 0)?;
        Ok(())
    }

    /// Where in table or pending bits an offset in the BAR is, and in which of them.
    fn bytes_at(&self, offset: u64) -> Option<(usize, bool)> {
        let within = |start: u32, size: u64| offset.checked_sub(start.into()).filter(|offset| *offset < size);
        if let Some(start) = within(self.place.table, self.vectors as u64 * ENTRY) {
            return Some((start as usize, true));
        }
        within(self.place.pending, 8).map(|start| (start as usize, false))
    }
}

/// What a message is to local APICs; `None` when it is nothing to them.
fn decode(address: u64, data: u32) -> Option<Command> {
    const LOCAL_APICS: u64 = 0xfee;
    const LOGICAL: u64 = 1 << 2;
    if address >> 20 != LOCAL_APICS {
        return None;
    }
    let kind = match data >> 8 & 7 {
        // The lowest priority of those that are named is anybody's.
        0 | 1 => Kind::Fixed,
        4 => Kind::Nmi,
        _ => return None,
    };
    let destination = match (address >> 12 & 0xff) as u32 {
        0xff => Destination::Everybody,
        id if address & LOGICAL != 0 => Destination::Logical(id),
        id => Destination::Physical(id),
    };
    Some(Command { kind, vector: data as u8, destination, shorthand: Shorthand::None })
}

fn all_masked() -> [u8; TABLE_SIZE] {
    let mut table = [0; TABLE_SIZE];
    table.iter_mut().skip(12).step_by(ENTRY as usize).for_each(|control| *control = MASKED);
    table
}

#[cfg(test)]
mod tests {
    use super::super::config::{Identity, Space};
    use super::*;

    const PLACE: Place = Place { bar: 0, table: 0x1000, pending: 0x1800 };

    fn parts() -> (Function, MsiX) {
        let identity =
            Identity { vendor: 1, device: 2, subsystem_vendor: 3, subsystem: 4, class: 0x01_80_00, revision: 0 };
        let mut function = Function::new(identity);
        function.add_bar(0, Space::Memory64, 0x2000);
        let msix = MsiX::new(&mut function, 3, PLACE);
        (function, msix)
    }

    fn enable(function: &mut Function, msix: &MsiX, control: u64) {
        function.write(4, 2, 4);
        function.write(msix.capability + CONTROL, 2, control);
    }

    fn set(msix: &mut MsiX, vector: u64, address: u64, data: u64) {
        assert!(msix.write(0x1000 + vector * 16, 8, address));
        assert!(msix.write(0x1008 + vector * 16, 8, data));
    }

    #[test]
    fn the_capability_says_where_everything_is() {
        let (mut function, msix) = parts();
        function.write(msix.capability, 4, u32::MAX.into());
        assert_eq!(function.read(msix.capability, 8), 0x0000_1000_c002_0011);
        assert_eq!(function.read(msix.capability + 8, 4), 0x1800);
    }

    #[test]
    fn a_message_is_sent_once() {
        let (mut function, mut msix) = parts();
        enable(&mut function, &msix, ENABLED);
        set(&mut msix, 1, 0xfee0_3000, 0x0000_0041);
        msix.raise(1);
        let sent = Command {
            kind: Kind::Fixed,
            vector: 0x41,
            destination: Destination::Physical(3),
            shorthand: Shorthand::None,
        };
        assert_eq!((msix.take(&function), msix.take(&function)), (Some(sent), None));
    }

    #[test]
    fn what_is_masked_is_pending_until_it_is_not() {
        let (mut function, mut msix) = parts();
        set(&mut msix, 0, 0xfee0_0000, 0x31);
        set(&mut msix, 2, 0xfee0_0000, 1 << 32 | 0x32);
        let pending = |msix: &MsiX| msix.read(0x1800, 8).unwrap();
        msix.raise(0);
        msix.raise(2);
        for control in [0, ENABLED | FUNCTION_MASKED] {
            enable(&mut function, &msix, control);
            assert_eq!((msix.take(&function), pending(&msix)), (None, 0b101), "{control:#x}");
        }
        enable(&mut function, &msix, ENABLED);
        function.write(4, 2, 0);
        assert_eq!(msix.take(&function), None, "without bus mastering nothing is written");
        function.write(4, 2, 4);
        assert_eq!(msix.take(&function).map(|command| command.vector), Some(0x31));
        assert_eq!((msix.take(&function), pending(&msix)), (None, 0b100));
        assert!(msix.write(0x102c, 4, 0));
        assert_eq!(msix.take(&function).map(|command| command.vector), Some(0x32));
        assert_eq!(pending(&msix), 0);
    }

    #[test]
    fn messages_that_mean_nothing_are_sent_nowhere_and_hold_nothing_up() {
        let (mut function, mut msix) = parts();
        enable(&mut function, &msix, ENABLED);
        for (address, data) in [(0, 0x31), (0x1_fee0_0000, 0x31), (0xfed0_0000, 0x31), (0xfee0_0000, 0x0531)] {
            set(&mut msix, 0, address, data);
            set(&mut msix, 1, 0xfeef_f004, 0x32);
            msix.raise(0);
            msix.raise(1);
            let sent = msix.take(&function).unwrap();
            assert_eq!((sent.vector, sent.destination, msix.pending), (0x32, Destination::Everybody, 0), "{address:x}");
        }
        set(&mut msix, 0, 0xfee0_3004, 0x0431);
        msix.raise(0);
        let sent = msix.take(&function).unwrap();
        assert_eq!((sent.kind, sent.destination), (Kind::Nmi, Destination::Logical(3)));
        msix.raise(3);
        msix.raise(0xffff);
        assert_eq!(msix.pending, 0, "vectors that do not exist");
    }

    #[test]
    fn the_table_takes_accesses_of_any_size_anywhere() {
        let (_, mut msix) = parts();
        for offset in 0..0x2000_u64 {
            for size in [1, 2, 4, 8] {
                let there = msix.read(offset, size).is_some();
                assert_eq!(msix.write(offset, size, u64::MAX), there);
                assert_eq!(there, (0x1000..0x1030).contains(&offset) || (0x1800..0x1808).contains(&offset));
            }
        }
        assert_eq!(msix.read(0x1000, 8), Some(0xffff_ffff_ffff_fffc));
        assert_eq!((msix.read(0x100c, 4), msix.read(0x102e, 8)), (Some(1), Some(0)));
        assert_eq!(msix.read(0x1800, 8), Some(0));
    }

    #[test]
    fn what_was_saved_is_restored() {
        let (_, mut saved) = parts();
        set(&mut saved, 1, 0xfee0_3000, 0x41);
        saved.raise(1);
        let mut bytes = [0; 256];
        let mut writer = Writer::new(&mut bytes);
        saved.save(&mut writer).unwrap();
        let length = writer.length();
        let (_, mut restored) = parts();
        restored.restore(&mut Reader::new(&bytes[..length])).unwrap();
        assert_eq!(restored, saved);
        for (offset, value) in [(0, 1), (12, 2), (13, 1), (48, 8), (55, 1)] {
            let mut impossible = bytes;
            impossible[offset] |= value;
            let refused = parts().1.restore(&mut Reader::new(&impossible));
            assert!(matches!(refused, Err(StateError::Impossible { .. })), "{offset}");
        }
    }
}
