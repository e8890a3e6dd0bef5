//! Bytes on their way between two sides that don't wait for each other: one puts in, one takes out.

use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// How many bytes fit, a power of two.
pub const RING_SIZE: usize = 4096;

/// A ring of bytes.
#[derive(Debug)]
pub struct Ring {
    bytes: [AtomicU8; RING_SIZE],
    /// How many have been put in, and taken out, since the beginning.
    written: AtomicU32,
    read: AtomicU32,
}

impl Ring {
    /// An empty one.
    #[allow(clippy::new_without_default, reason = "as large as it is, it is made where it lies")]
    pub const fn new() -> Ring {
        Ring { bytes: [const { AtomicU8::new(0) }; RING_SIZE], written: AtomicU32::new(0), read: AtomicU32::new(0) }
    }

    /// How many bytes wait.
    pub fn length(&self) -> usize {
        self.written.load(Ordering::Acquire).wrapping_sub(self.read.load(Ordering::Acquire)) as usize
    }

    /// How many more fit.
    pub fn room(&self) -> usize {
        RING_SIZE - self.length()
    }

    /// Puts bytes in; those that do not fit are lost, as on a line that nobody reads.
    pub fn put(&self, bytes: &[u8]) {
        let written = self.written.load(Ordering::Relaxed);
        let count = bytes.len().min(self.room());
        for (index, byte) in (0..).zip(&bytes[..count]) {
            self.bytes[written.wrapping_add(index) as usize % RING_SIZE].store(*byte, Ordering::Relaxed);
        }
        self.written.store(written.wrapping_add(count as u32), Ordering::Release);
    }

    /// Takes the next byte out.
    pub fn take(&self) -> Option<u8> {
        let read = self.read.load(Ordering::Relaxed);
        if self.length() == 0 {
            return None;
        }
        let byte = self.bytes[read as usize % RING_SIZE].load(Ordering::Relaxed);
        self.read.store(read.wrapping_add(1), Ordering::Release);
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn bytes_come_out_in_order_around_the_end() {
        let ring = Ring::new();
        let mut expected = (0..=u8::MAX).cycle();
        let mut sent = (0..=u8::MAX).cycle();
        for length in [1, 4000, 96, 4096, 17, 4095] {
            ring.put(&sent.by_ref().take(length).collect::<Vec<u8>>());
            assert_eq!((ring.length(), ring.room()), (length, RING_SIZE - length));
            for _ in 0..length {
                assert_eq!(ring.take(), expected.next());
            }
            assert_eq!(ring.take(), None);
        }
    }

    #[test]
    fn what_does_not_fit_is_lost_and_nothing_else() {
        let ring = Ring::new();
        ring.put(&[1; RING_SIZE - 1]);
        ring.put(&[2, 3]);
        assert_eq!((ring.length(), ring.room()), (RING_SIZE, 0));
        let all: Vec<u8> = core::iter::from_fn(|| ring.take()).collect();
        assert_eq!((all.len(), all.last()), (RING_SIZE, Some(&2)));
    }
}
