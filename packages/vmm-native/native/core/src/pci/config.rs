//! Configuration space of a function (PCI 3.0, 6.1 and 6.2): 256 bytes, some bits of which can be written.
//!
//! That is all there is to it: a BAR is sized by writing ones to it, and finding that the low bits stay 0.

use crate::state::{Reader, StateError, Writer};

/// How many bytes there are. Behind them all bits are set: no function here has the extended space of PCI Express.
pub const SIZE: usize = 256;
/// How many BARs there are.
pub const BARS: usize = 6;

mod register {
    pub const VENDOR: usize = 0x00;
    pub const DEVICE: usize = 0x02;
    pub const COMMAND: usize = 0x04;
    pub const STATUS: usize = 0x06;
    pub const REVISION: usize = 0x08;
    pub const CLASS: usize = 0x09;
    pub const CACHE_LINE_SIZE: usize = 0x0c;
    pub const BAR: usize = 0x10;
    pub const SUBSYSTEM_VENDOR: usize = 0x2c;
    pub const SUBSYSTEM: usize = 0x2e;
    pub const CAPABILITIES: usize = 0x34;
    pub const INTERRUPT_LINE: usize = 0x3c;
    pub const INTERRUPT_PIN: usize = 0x3d;
    pub const FIRST_CAPABILITY: usize = 0x40;
}

/// Bits of the command register.
mod command {
    pub const IO: u16 = 1 << 0;
    pub const MEMORY: u16 = 1 << 1;
    pub const MASTER: u16 = 1 << 2;
    pub const INTERRUPT_DISABLE: u16 = 1 << 10;
}

/// Bits of the status register, of which the first is in its low byte as the second.
mod status {
    pub const INTERRUPT: u8 = 1 << 3;
    pub const CAPABILITIES: u8 = 1 << 4;
}

/// What a function says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who made it.
    pub vendor: u16,
    /// What it is, of those that the vendor makes.
    pub device: u16,
    /// Who made what it is part of.
    pub subsystem_vendor: u16,
    /// What that is.
    pub subsystem: u16,
    /// Class, subclass and programming interface, 8 bits each.
    pub class: u32,
    /// Revision.
    pub revision: u8,
}

/// What a BAR asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Ports.
    Io,
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere; it takes the next BAR as well.
    Memory64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bar {
    space: Space,
    size: u64,
}

/// A configuration space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    bytes: [u8; SIZE],
    writable: [u8; SIZE],
    bars: [Option<Bar>; BARS],
    /// Where the pointer to the next capability goes.
    last_pointer: usize,
    next_capability: usize,
}

impl Function {
    /// A function without BARs and capabilities, as it is after a reset.
    pub fn new(identity: Identity) -> Function {
        let mut function = Function {
            bytes: [0; SIZE],
            writable: [0; SIZE],
            bars: [None; BARS],
            last_pointer: register::CAPABILITIES,
            next_capability: register::FIRST_CAPABILITY,
        };
        function.put(register::VENDOR, &identity.vendor.to_le_bytes());
        function.put(register::DEVICE, &identity.device.to_le_bytes());
        function.put(register::SUBSYSTEM_VENDOR, &identity.subsystem_vendor.to_le_bytes());
        function.put(register::SUBSYSTEM, &identity.subsystem.to_le_bytes());
        function.put(register::REVISION, &[identity.revision]);
        function.put(register::CLASS, &identity.class.to_le_bytes()[..3]);
        let command = command::IO | command::MEMORY | command::MASTER | command::INTERRUPT_DISABLE;
        function.allow(register::COMMAND, &command.to_le_bytes());
        function.allow(register::CACHE_LINE_SIZE, &[0xff]);
        function.allow(register::INTERRUPT_LINE, &[0xff]);
        function
    }

    /// Gives it its first interrupt pin.
    pub fn add_interrupt_pin(&mut self) {
        self.put(register::INTERRUPT_PIN, &[1]);
    }

    /// Gives it a BAR.
    ///
    /// # Panics
    ///
    /// When the size is no power of two, or too small for its kind: sizes are constants.
    pub fn add_bar(&mut self, index: usize, space: Space, size: u64) {
        let (kind, smallest): (u64, u64) = match space {
            Space::Io => (0b01, 4),
            Space::Memory32 => (0b000, 16),
            Space::Memory64 => (0b100, 16),
        };
        assert!(size.is_power_of_two() && size >= smallest, "a size that no BAR has");
        let address = !(size - 1);
        let width = if space == Space::Memory64 { 8 } else { 4 };
        self.put(register::BAR + index * 4, &kind.to_le_bytes()[..4]);
        self.allow(register::BAR + index * 4, &address.to_le_bytes()[..width]);
        self.bars[index] = Some(Bar { space, size });
    }

    /// Gives it a capability with what follows its link, and which bits of that can be written; returns where it is.
    ///
    /// # Panics
    ///
    /// When there is no room: capabilities are constants.
    pub fn add_capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> u16 {
        let offset = self.next_capability;
        self.put(self.last_pointer, &[offset as u8]);
        self.put(register::STATUS, &[status::CAPABILITIES]);
        self.put(offset, &[id, 0]);
        self.put(offset + 2, body);
        self.allow(offset + 2, writable);
        self.last_pointer = offset + 1;
        self.next_capability = (offset + 2 + body.len()).next_multiple_of(4);
        offset as u16
    }

    /// What is read at an offset; all bits are set behind the end.
    pub fn read(&self, offset: u16, size: u8) -> u64 {
        let mut value = [0; 8];
        for (index, byte) in value.iter_mut().take(size.into()).enumerate() {
            *byte = self.bytes.get(usize::from(offset) + index).copied().unwrap_or(0xff);
        }
        u64::from_le_bytes(value)
    }

    /// Takes what is written at an offset, as far as it can be written.
    pub fn write(&mut self, offset: u16, size: u8, value: u64) {
        for (index, value) in value.to_le_bytes().into_iter().take(size.into()).enumerate() {
            let place = usize::from(offset) + index;
            if let (Some(byte), Some(writable)) = (self.bytes.get_mut(place), self.writable.get(place)) {
                *byte = *byte & !writable | value & writable;
            }
        }
    }

    /// Sets bytes that the guest cannot.
    pub fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.bytes[offset..][..bytes.len()].copy_from_slice(bytes);
    }

    fn allow(&mut self, offset: usize, bits: &[u8]) {
        self.writable[offset..][..bits.len()].copy_from_slice(bits);
    }

    /// Whether it may read and write memory, and send messages.
    pub fn is_master(&self) -> bool {
        self.command() & command::MASTER != 0
    }

    /// Whether it may assert its interrupt pin.
    pub fn may_interrupt(&self) -> bool {
        self.command() & command::INTERRUPT_DISABLE == 0
    }

    /// Says in its status whether it wants to interrupt.
    pub fn set_interrupt_status(&mut self, wants: bool) {
        let status = &mut self.bytes[register::STATUS];
        *status = *status & !status::INTERRUPT | if wants { status::INTERRUPT } else { 0 };
    }

    /// The BAR that an address is in, and where in it, if the function listens to such addresses.
    pub fn find(&self, io: bool, address: u64) -> Option<(usize, u64)> {
        let listens = if io { command::IO } else { command::MEMORY };
        if self.command() & listens == 0 {
            return None;
        }
        self.bars().filter(|(_, space, _)| (*space == Space::Io) == io).find_map(|(index, space, size)| {
            let offset = address.checked_sub(self.base(index, space, size))?;
            (offset < size).then_some((index, offset))
        })
    }

    /// Its BARs: index, kind, and size in bytes.
    pub fn bars(&self) -> impl Iterator<Item = (usize, Space, u64)> + '_ {
        self.bars.iter().enumerate().filter_map(|(index, bar)| bar.map(|Bar { space, size }| (index, space, size)))
    }

    /// Puts a BAR to an address, as firmware does, and lets the function listen to it.
    pub fn place(&mut self, index: usize, space: Space, address: u64) {
        let width = if space == Space::Memory64 { 8 } else { 4 };
        self.write((register::BAR + index * 4) as u16, width, address);
        let listens = if space == Space::Io { command::IO } else { command::MEMORY };
        self.write(register::COMMAND as u16, 2, (self.command() | listens).into());
    }

    /// Notes which input of the interrupt controller the pin leads to, as firmware does.
    pub fn set_interrupt_line(&mut self, line: u8) {
        self.write(register::INTERRUPT_LINE as u16, 1, line.into());
    }

    /// What a reset leaves: nothing of what can be written.
    pub fn reset(&mut self) {
        self.bytes.iter_mut().zip(&self.writable).for_each(|(byte, writable)| *byte &= !writable);
        self.set_interrupt_status(false);
    }

    /// Saves what it is, and what can be written.
    pub fn save(&self, state: &mut Writer) -> Result<(), StateError> {
        state.bytes(&self.bytes[..register::COMMAND])?;
        self.bytes.iter().zip(&self.writable).try_for_each(|(byte, writable)| state.bytes(&[byte & writable]))
    }

    /// Restores what can be written, of one that is the same.
    pub fn restore(&mut self, state: &mut Reader) -> Result<(), StateError> {
        for byte in &self.bytes[..register::COMMAND] {
            state.checked::<1>(|saved| saved == u64::from(*byte))?;
        }
        for offset in 0..SIZE {
            let writable = u64::from(self.writable[offset]);
            let byte = state.checked::<1>(|byte| byte & !writable == 0)?;
            self.write(offset as u16, 1, byte);
        }
        Ok(())
    }

    fn command(&self) -> u16 {
        self.read(register::COMMAND as u16, 2) as u16
    }

    fn base(&self, index: usize, space: Space, size: u64) -> u64 {
        let width = if space == Space::Memory64 { 8 } else { 4 };
        self.read((register::BAR + index * 4) as u16, width) & !(size - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = Identity {
        vendor: 0x1af4,
        device: 0x1042,
        subsystem_vendor: 0x1af4,
        subsystem: 0x0040,
        class: 0x01_80_00,
        revision: 1,
    };

    fn function() -> Function {
        let mut function = Function::new(IDENTITY);
        function.add_bar(0, Space::Memory64, 0x2000);
        function.add_bar(2, Space::Io, 4);
        function.add_bar(3, Space::Memory32, 0x1_0000);
        function
    }

    #[test]
    fn a_function_says_what_it_is_and_cannot_be_made_another() {
        let mut function = function();
        for offset in 0..0x10 {
            function.write(offset, 8, u64::MAX);
        }
        assert_eq!(function.read(0x00, 4), 0x1042_1af4);
        assert_eq!(function.read(0x08, 4), 0x0180_0001);
        assert_eq!(function.read(0x2c, 4), 0x0040_1af4);
        assert_eq!(function.read(0x04, 4), 0x0000_0407, "the bits that the command register has");
        assert_eq!(function.read(0x0c, 4), 0x0000_00ff);
    }

    #[test]
    fn bars_are_sized_by_writing_ones() {
        let mut function = function();
        for offset in (0x10..0x28).step_by(4) {
            function.write(offset, 4, u32::MAX.into());
        }
        let sized: std::vec::Vec<u64> = (0x10..0x28).step_by(4).map(|offset| function.read(offset, 4)).collect();
        assert_eq!(sized, [0xffff_e004, 0xffff_ffff, 0xffff_fffd, 0xffff_0000, 0, 0]);
    }

    #[test]
    fn a_bar_is_where_it_was_put_last_and_only_when_the_function_listens() {
        let mut function = function();
        function.write(0x10, 4, 0x8000_0123);
        function.write(0x14, 4, 0x12);
        assert_eq!(function.find(false, 0x12_8000_0008), None);
        function.write(0x04, 2, 2);
        assert_eq!(function.find(false, 0x12_8000_0008), Some((0, 8)));
        assert_eq!(function.find(false, 0x12_8000_2000), None);
        assert_eq!(function.find(true, 0x12_8000_0008), None);
        // Written in parts, it moves part by part.
        function.write(0x12, 1, 0x40);
        assert_eq!(function.find(false, 0x12_8040_1fff), Some((0, 0x1fff)));
        // At the very end nothing overflows.
        function.write(0x10, 8, u64::MAX);
        assert_eq!(function.find(false, u64::MAX), Some((0, 0x1fff)));
        assert_eq!(function.find(false, 0), Some((3, 0)));
        function.place(2, Space::Io, 0xc000);
        assert_eq!(function.find(true, 0xc003), Some((2, 3)));
        assert_eq!(function.find(true, 0xc004), None);
    }

    #[test]
    fn capabilities_are_a_list_that_ends() {
        let mut function = function();
        assert_eq!(function.read(0x06, 2), 0);
        let first = function.add_capability(0x11, &[2, 0, 0, 0, 0, 0, 0x08, 0, 0, 0], &[0, 0xc0]);
        let second = function.add_capability(0x09, &[5, 1, 0xff], &[]);
        assert_eq!((function.read(0x06, 2), function.read(0x34, 1)), (0x10, first.into()));
        assert_eq!((function.read(first, 2), function.read(second, 2)), (0x4c11, 0x0009));
        function.write(first, 8, u64::MAX);
        assert_eq!(function.read(first, 8), 0x0000_0000_c002_4c11);
    }

    #[test]
    fn a_reset_leaves_nothing_that_was_written() {
        let mut function = function();
        let before = function.clone();
        (0..SIZE as u16).for_each(|offset| function.write(offset, 1, 0xff));
        function.set_interrupt_status(true);
        assert_ne!(function, before);
        function.reset();
        assert_eq!(function, before);
    }

    #[test]
    fn behind_the_end_all_bits_are_set() {
        let mut function = function();
        assert_eq!((function.read(0x100, 4), function.read(0xfff, 8)), (0xffff_ffff, u64::MAX));
        assert_eq!(function.read(0xfe, 4), 0xffff_0000);
        function.write(0xfe, 8, 0);
        function.write(0xffff, 8, 0);
    }

    #[test]
    fn what_was_saved_is_restored_and_more_than_a_guest_can_write_is_refused() {
        let mut saved = function();
        saved.write(0x10, 8, 0x12_8000_0000);
        saved.write(0x04, 2, 7);
        let mut bytes = [0; SIZE + 4];
        saved.save(&mut Writer::new(&mut bytes)).unwrap();
        let mut restored = function();
        restored.restore(&mut Reader::new(&bytes)).unwrap();
        assert_eq!(restored, saved);
        for length in 0..SIZE + 4 {
            let refused = function().restore(&mut Reader::new(&bytes[..length]));
            assert_eq!(refused, Err(StateError::TooShort { length }));
        }
        for offset in [2, 6] {
            let mut other = bytes;
            other[offset] ^= 1;
            assert_eq!(function().restore(&mut Reader::new(&other)), Err(StateError::Impossible { offset }));
        }
    }
}
