//! A guest's memory, seen from outside: the only module of this crate with unsafe code.
//!
//! A guest may run on another processor while its memory is read, and write to it at any time. So nothing here hands out
//! a reference: bytes are copied, one volatile access each, and what is read twice may differ.
#![allow(unsafe_code)]

use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Memory of a guest, contiguous from guest physical address 0.
#[derive(Debug)]
pub struct GuestMemory {
    base: *mut u8,
    size: u64,
}

/// An address outside of a guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    /// First guest physical address of the access.
    pub address: u64,
    /// How many bytes it was to be.
    pub length: u64,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} bytes at {:#x} are not in the guest's memory", self.length, self.address)
    }
}

impl core::error::Error for OutOfMemory {}

impl GuestMemory {
    /// Memory that begins at `base`.
    ///
    /// # Safety
    ///
    /// `size` bytes from `base` on, a multiple of 8, are valid for reads and writes as long as this exists, and no
    /// reference to any of them does.
    pub unsafe fn new(base: *mut u8, size: u64) -> GuestMemory {
        GuestMemory { base, size }
    }

    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Host address of a range, for devices of the host that fill it.
    pub fn host_range(&self, address: u64, length: u64) -> Result<*mut u8, OutOfMemory> {
        match address.checked_add(length) {
            Some(end) if end <= self.size => Ok(self.base.wrapping_add(address as usize)),
            _ => Err(OutOfMemory { address, length }),
        }
    }

    /// Copies bytes out.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), OutOfMemory> {
        let from = self.host_range(address, bytes.len() as u64)?;
        for (index, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: `host_range` has checked that all of the range is memory, which `new` was promised to be readable.
            *byte = unsafe { from.add(index).read_volatile() };
        }
        Ok(())
    }

    /// Whether a page is nothing but zeros; its address is a multiple of 8.
    pub fn is_zero(&self, address: u64, length: u64) -> Result<bool, OutOfMemory> {
        for offset in (0..length).step_by(8) {
            if self.read_u64(address + offset)? != 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Copies bytes in.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), OutOfMemory> {
        let to = self.host_range(address, bytes.len() as u64)?;
        for (index, byte) in bytes.iter().enumerate() {
            // SAFETY: `host_range` has checked that all of the range is memory, which `new` was promised to be writable.
            unsafe { to.add(index).write_volatile(*byte) };
        }
        Ok(())
    }

    /// Copies two bytes out, in one access when they are aligned: indices of rings never come in halves.
    pub fn read_u16(&self, address: u64) -> Result<u16, OutOfMemory> {
        let from = self.host_range(address, 2)?;
        if from.addr() % 2 == 0 {
            // SAFETY: checked as in `read`, and aligned.
            return Ok(unsafe { from.cast::<u16>().read_volatile() });
        }
        let mut bytes = [0; 2];
        self.read(address, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    /// Copies two bytes in, in one access when they are aligned.
    pub fn write_u16(&mut self, address: u64, value: u16) -> Result<(), OutOfMemory> {
        let to = self.host_range(address, 2)?;
        if to.addr() % 2 == 0 {
            // SAFETY: checked as in `write`, and aligned.
            unsafe { to.cast::<u16>().write_volatile(value) };
            return Ok(());
        }
        self.write(address, &value.to_le_bytes())
    }

    /// Copies eight bytes out, in one access when they are aligned: entries of page tables never come in halves.
    pub fn read_u64(&self, address: u64) -> Result<u64, OutOfMemory> {
        let from = self.host_range(address, 8)?;
        if from.addr() % 8 == 0 {
            // SAFETY: checked as in `read`, and aligned.
            return Ok(unsafe { from.cast::<u64>().read_volatile() });
        }
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Copies a number of 4 or 8 bytes out, in one access when it is aligned.
    pub fn read_number(&self, address: u64, size: u8) -> Result<u64, OutOfMemory> {
        if size == 8 {
            return self.read_u64(address);
        }
        let from = self.host_range(address, 4)?;
        if from.addr() % 4 == 0 {
            // SAFETY: checked as in `read`, and aligned.
            return Ok(unsafe { from.cast::<u32>().read_volatile() }.into());
        }
        let mut bytes = [0; 4];
        self.read(address, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes).into())
    }

    /// Puts a number of 4 or 8 bytes in the place of another one, if that is what is there; returns whether it was. One
    /// that is not aligned never is.
    pub fn replace(&mut self, address: u64, size: u8, old: u64, new: u64) -> Result<bool, OutOfMemory> {
        let place = self.host_range(address, size.into())?;
        if place.addr() % usize::from(size) != 0 {
            return Ok(false);
        }
        let done = if size == 8 {
            // SAFETY: checked as in `write`, and aligned; whoever else accesses it does so as processors do.
            let place = unsafe { AtomicU64::from_ptr(place.cast()) };
            place.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        } else {
            // SAFETY: as above.
            let place = unsafe { AtomicU32::from_ptr(place.cast()) };
            place.compare_exchange(old as u32, new as u32, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        Ok(done)
    }
}

/// Memory for the tests of other modules, never given back.
#[cfg(test)]
pub(crate) fn leaked(size: usize) -> GuestMemory {
    let words = std::vec![0_u64; size.div_ceil(8)].leak();
    // SAFETY: leaked, and the reference is gone.
    unsafe { GuestMemory::new(words.as_mut_ptr().cast(), size as u64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut memory = leaked(16);
        memory.write(3, &[1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap();
        let mut bytes = [0; 4];
        memory.read(2, &mut bytes).unwrap();
        assert_eq!(bytes, [0, 1, 2, 3]);
        assert_eq!(memory.read_u64(3), Ok(0x0807_0605_0403_0201));
        assert_eq!(memory.read_u64(8), Ok(0x0000_0000_0908_0706));
        memory.write_u16(6, 0x1122).unwrap();
        memory.write_u16(1, 0x3344).unwrap();
        assert_eq!([memory.read_u16(6), memory.read_u16(1), memory.read_u16(0)], [Ok(0x1122), Ok(0x3344), Ok(0x4400)]);
    }

    #[test]
    fn a_number_is_replaced_if_it_is_still_there() {
        let mut memory = leaked(16);
        memory.write(8, &7_u64.to_le_bytes()).unwrap();
        assert_eq!(memory.replace(8, 8, 6, 9), Ok(false));
        assert_eq!(memory.replace(8, 8, 7, 9), Ok(true));
        assert_eq!(memory.replace(12, 4, 0, 1), Ok(true));
        assert_eq!(memory.replace(9, 4, 0, 1), Ok(false));
        assert_eq!((memory.read_number(8, 8), memory.read_number(12, 4)), (Ok(0x1_0000_0009), Ok(1)));
        assert_eq!(memory.replace(12, 8, 0, 1), Err(OutOfMemory { address: 12, length: 8 }));
    }

    #[test]
    fn nothing_outside_is_touched() {
        let mut memory = leaked(16);
        for (address, length) in [(16, 1), (15, 2), (u64::MAX, 1), (u64::MAX - 7, 16), (0, 17)] {
            let mut bytes = std::vec![0; length];
            let refused = Err(OutOfMemory { address, length: length as u64 });
            assert_eq!(memory.read(address, &mut bytes), refused);
            assert_eq!(memory.write(address, &bytes), refused);
        }
        assert_eq!(memory.read(16, &mut []), Ok(()));
        assert_eq!(memory.read_u64(9), Err(OutOfMemory { address: 9, length: 8 }));
        assert_eq!(memory.read_u16(15), Err(OutOfMemory { address: 15, length: 2 }));
        assert_eq!(memory.write_u16(u64::MAX, 0), Err(OutOfMemory { address: u64::MAX, length: 2 }));
    }
}
