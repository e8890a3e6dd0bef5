//! How a device's state becomes bytes, and back: integers one after the other, little-endian, without names.
//!
//! Whoever keeps states keeps beside them of which version of which device they are.

use crate::consistency::Rule;
use core::fmt;

/// Why a state cannot be saved or restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateError {
    /// The place for it is too small, or the state ends too early.
    TooShort {
        /// How many bytes there are.
        length: usize,
    },
    /// A device with something going on outside cannot be made another one.
    Busy,
    /// No device is ever in this state.
    Impossible {
        /// Where in it.
        offset: usize,
    },
    /// The state goes on behind its end.
    Trailing {
        /// How many bytes.
        bytes: usize,
    },
    /// The time stamp counter runs at another frequency here, in ticks a second.
    Frequency {
        /// Where the state was saved.
        saved: u64,
        /// Here.
        here: u64,
    },
    /// A processor that the guest has seen has other features than those here.
    Features,
    /// VMRUN would refuse a processor in this state.
    Refused(Rule),
}

impl fmt::Display for StateError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateError::TooShort { length } => write!(out, "expected more than {length} bytes for a device's state"),
            StateError::Busy => out.write_str("expected a device that has just been made, got one that is busy"),
            StateError::Impossible { offset } => {
                write!(out, "expected a state that a device can be in, got another one (at byte {offset})")
            }
            StateError::Trailing { bytes } => write!(out, "expected the end of a state, got {bytes} bytes more"),
            StateError::Frequency { saved, here } => {
                write!(out, "expected a time stamp counter of about {saved} Hz, got one of {here} Hz")
            }
            StateError::Features => out.write_str("expected a processor with the same features, got another one"),
            StateError::Refused(rule) => write!(out, "expected that {rule}, as VMRUN does ({})", rule.section()),
        }
    }
}

impl core::error::Error for StateError {}

/// Takes a state.
#[derive(Debug)]
pub struct Writer<'a> {
    bytes: &'a mut [u8],
    length: usize,
}

impl<'a> Writer<'a> {
    /// One that writes to the beginning of some bytes.
    pub fn new(bytes: &'a mut [u8]) -> Writer<'a> {
        Writer { bytes, length: 0 }
    }

    /// How much has been written.
    pub fn length(&self) -> usize {
        self.length
    }

    /// How much more can be written.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.length
    }

    /// All that has not been written to, for other purposes.
    pub fn rest(&mut self) -> &mut [u8] {
        &mut self.bytes[self.length..]
    }

    /// A place for the next bytes, whoever writes them.
    pub fn room(&mut self, size: usize) -> Result<&mut [u8], StateError> {
        let length = self.bytes.len();
        let place = self.bytes.get_mut(self.length..).and_then(|rest| rest.get_mut(..size));
        self.length += if place.is_some() { size } else { 0 };
        place.ok_or(StateError::TooShort { length })
    }

    /// Appends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        self.room(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Appends a number of as many bytes as `N` says.
    pub fn number<const N: usize>(&mut self, value: u64) -> Result<(), StateError> {
        self.bytes(&value.to_le_bytes()[..N])
    }
}

impl fmt::Write for Writer<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

/// Gives a state back.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// One that begins at the beginning.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, offset: 0 }
    }

    /// Fills bytes with the next ones.
    pub fn bytes(&mut self, bytes: &mut [u8]) -> Result<(), StateError> {
        let next = self.bytes.get(self.offset..).and_then(|rest| rest.get(..bytes.len()));
        bytes.copy_from_slice(next.ok_or(StateError::TooShort { length: self.bytes.len() })?);
        self.offset += bytes.len();
        Ok(())
    }

    /// The next number, of as many bytes as `N` says.
    pub fn number<const N: usize>(&mut self) -> Result<u64, StateError> {
        let mut bytes = [0; 8];
        self.bytes(&mut bytes[..N])?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The next number, of which only some values are possible.
    pub fn checked<const N: usize>(&mut self, possible: impl FnOnce(u64) -> bool) -> Result<u64, StateError> {
        let offset = self.offset;
        let value = self.number::<N>()?;
        if possible(value) { Ok(value) } else { Err(StateError::Impossible { offset }) }
    }

    /// The next byte, which is 0 or 1.
    pub fn flag(&mut self) -> Result<bool, StateError> {
        Ok(self.checked::<1>(|value| value < 2)? != 0)
    }

    /// Nothing is left.
    pub fn end(self) -> Result<(), StateError> {
        let bytes = self.bytes.len() - self.offset;
        if bytes == 0 { Ok(()) } else { Err(StateError::Trailing { bytes }) }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use std::vec;

    /// Most bytes of a state.
    const SIZE: usize = 8192;

    /// Saves a device and restores it: the other one is the same then. Parts of the state are refused, and so is whatever would
    /// not be saved as it was restored, of all states that differ in a bit.
    pub fn round_trip<T: PartialEq + fmt::Debug>(
        saved: &mut T,
        make: impl Fn() -> T,
        save: impl Fn(&mut T, &mut Writer) -> Result<(), StateError>,
        restore: impl Fn(&mut T, &mut Reader) -> Result<(), StateError>,
    ) {
        let state_of = |device: &mut T| {
            let mut bytes = vec![0; SIZE];
            let mut writer = Writer::new(&mut bytes);
            save(device, &mut writer).unwrap();
            let length = writer.length();
            bytes.truncate(length);
            bytes
        };
        let mut state = state_of(saved);
        let mut restored = make();
        let mut reader = Reader::new(&state);
        restore(&mut restored, &mut reader).unwrap();
        reader.end().unwrap();
        assert_eq!(restored, *saved);
        for length in 0..state.len() {
            let refused = restore(&mut make(), &mut Reader::new(&state[..length]));
            assert_eq!(refused, Err(StateError::TooShort { length }));
        }
        for bit in 0..state.len() * 8 {
            state[bit / 8] ^= 1 << (bit % 8);
            let mut other = make();
            if restore(&mut other, &mut Reader::new(&state)).is_ok() {
                assert_eq!(state_of(&mut other), state, "bit {bit}");
            }
            state[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = [0xff; 8];
        let mut writer = Writer::new(&mut bytes);
        writer.number::<2>(0x0201).unwrap();
        writer.bytes(&[3, 4, 5]).unwrap();
        assert_eq!(writer.number::<8>(0), Err(StateError::TooShort { length: 8 }));
        assert_eq!(writer.length(), 5);
        assert_eq!(bytes, [1, 2, 3, 4, 5, 0xff, 0xff, 0xff]);
        let mut reader = Reader::new(&bytes[..5]);
        let mut middle = [0; 2];
        assert_eq!(reader.number::<2>(), Ok(0x0201));
        reader.bytes(&mut middle).unwrap();
        assert_eq!(middle, [3, 4]);
        assert_eq!(reader.checked::<1>(|value| value < 5), Err(StateError::Impossible { offset: 4 }));
        assert_eq!(reader.number::<1>(), Err(StateError::TooShort { length: 5 }));
        assert_eq!(Reader::new(&bytes).end(), Err(StateError::Trailing { bytes: 8 }));
    }
}
