//! Split virtqueues (Virtual I/O Device specification 1.2, 2.7): buffers that a driver makes available, and a device uses.
//!
//! Everything a queue consists of lies in the guest's memory, and may be anything at any time. What is read is read once,
//! and checked before it is used: indices against sizes, addresses against the memory, chains against the longest.

use crate::memory::{GuestMemory, OutOfMemory};
use crate::state::{Reader, StateError, Writer};
use core::fmt;
use core::sync::atomic::{Ordering, fence};

/// Most entries of a queue, and most descriptors of a chain.
pub const MAX_SIZE: u16 = 128;

/// Layout of the three parts (2.7.5, 2.7.6, 2.7.8).
mod layout {
    pub const DESCRIPTOR: u64 = 16;
    pub const FLAGS: u64 = 0;
    pub const INDEX: u64 = 2;
    pub const RING: u64 = 4;
    pub const AVAILABLE: u64 = 2;
    pub const USED: u64 = 8;
}

/// Flags of descriptors, and of what is available.
mod flag {
    pub const NEXT: u16 = 1 << 0;
    pub const WRITE: u16 = 1 << 1;
    pub const INDIRECT: u16 = 1 << 2;
    pub const NO_INTERRUPT: u16 = 1 << 0;
}

/// What a driver must not do, and has done: the device needs a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueError {
    /// A part of the queue, or a buffer, lies outside of the guest's memory.
    Memory(OutOfMemory),
    /// A part of the queue is not aligned.
    Misaligned,
    /// More has become available than the queue has entries.
    TooMuchAvailable {
        /// How much.
        available: u16,
    },
    /// A descriptor that the table does not have.
    NoDescriptor {
        /// Its index.
        index: u16,
    },
    /// A chain is longer than the queue has entries, perhaps without an end.
    TooLong,
    /// A buffer that is read follows one that is written.
    Order,
    /// An indirect table where none may be, or of an impossible size.
    Indirect,
    /// A chain that is no request to this device.
    Malformed,
}

impl From<OutOfMemory> for QueueError {
    fn from(reason: OutOfMemory) -> QueueError {
        QueueError::Memory(reason)
    }
}

impl fmt::Display for QueueError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QueueError::Memory(reason) => reason.fmt(out),
            QueueError::Misaligned => out.write_str("expected an aligned queue, got one that is not"),
            QueueError::TooMuchAvailable { available } => {
                write!(out, "expected at most as many available chains as entries, got {available}")
            }
            QueueError::NoDescriptor { index } => write!(out, "expected the index of a descriptor, got {index}"),
            QueueError::TooLong => out.write_str("expected a chain of at most as many descriptors as the queue has"),
            QueueError::Order => out.write_str("expected buffers to read before buffers to write"),
            QueueError::Indirect => out.write_str("expected no such indirect table"),
            QueueError::Malformed => out.write_str("expected a request to this device"),
        }
    }
}

impl core::error::Error for QueueError {}

/// A part of a buffer, all of it in the guest's memory, and not empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Guest physical address.
    pub address: u64,
    /// How many bytes.
    pub length: u32,
}

/// Buffers that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// What the driver calls it: the index of its first descriptor.
    pub head: u16,
    segments: [Segment; MAX_SIZE as usize],
    count: usize,
    /// How many of them are read; the others are written.
    readable: usize,
}

impl Chain {
    /// What the device reads.
    pub fn readable(&self) -> &[Segment] {
        &self.segments[..self.readable]
    }

    /// What the device writes.
    pub fn writable(&self) -> &[Segment] {
        &self.segments[self.readable..self.count]
    }

    fn push(&mut self, memory: &GuestMemory, segment: Segment, write: bool) -> Result<(), QueueError> {
        memory.check(segment.address, segment.length.into())?;
        if !write && self.readable < self.count {
            return Err(QueueError::Order);
        }
        if segment.length > 0 {
            *self.segments.get_mut(self.count).ok_or(QueueError::TooLong)? = segment;
            self.count += 1;
            self.readable += usize::from(!write);
        }
        Ok(())
    }
}

/// How many bytes segments have together.
pub fn length(segments: &[Segment]) -> u64 {
    segments.iter().map(|segment| u64::from(segment.length)).sum()
}

/// Those parts of segments that lie from `start` up to `end`, in bytes from their beginning; each may be empty.
pub fn cut(segments: &[Segment], start: u64, end: u64) -> impl Iterator<Item = Segment> + '_ {
    let mut position = 0;
    segments.iter().filter_map(move |segment| {
        let first = position;
        position += u64::from(segment.length);
        let (from, to) = (start.max(first), end.min(position));
        (from < to).then(|| Segment { address: segment.address + (from - first), length: (to - from) as u32 })
    })
}

/// Copies bytes out of segments, from an offset on; returns how many there were.
pub fn read(segments: &[Segment], offset: u64, memory: &GuestMemory, bytes: &mut [u8]) -> Result<usize, OutOfMemory> {
    let mut done = 0;
    for part in cut(segments, offset, offset + bytes.len() as u64) {
        memory.read(part.address, &mut bytes[done..][..part.length as usize])?;
        done += part.length as usize;
    }
    Ok(done)
}

/// Copies bytes into segments, from an offset on; returns how many there was room for.
pub fn write(segments: &[Segment], offset: u64, memory: &mut GuestMemory, bytes: &[u8]) -> Result<usize, OutOfMemory> {
    let mut done = 0;
    for part in cut(segments, offset, offset + bytes.len() as u64) {
        memory.write(part.address, &bytes[done..][..part.length as usize])?;
        done += part.length as usize;
    }
    Ok(done)
}

/// A queue, as its device sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// How many entries it has, a power of two up to [`MAX_SIZE`].
    pub size: u16,
    /// Whether the driver has finished setting it up.
    pub enabled: bool,
    /// Guest physical address of the descriptor table.
    pub descriptors: u64,
    /// Of what the driver makes available.
    pub available: u64,
    /// Of what the device has used.
    pub used: u64,
    /// Descriptors may lead to tables of more of them.
    pub indirect: bool,
    /// Both sides say at which index they want to be told, instead of whether.
    pub event_index: bool,
    /// The driver has told of something since there was nothing.
    pub kicked: bool,
    next_available: u16,
    next_used: u16,
    /// Up to where the driver has been told of what is used.
    told: u16,
}

impl Queue {
    /// A queue as it is after a reset.
    pub const fn new() -> Queue {
        Queue {
            size: MAX_SIZE,
            enabled: false,
            descriptors: 0,
            available: 0,
            used: 0,
            indirect: false,
            event_index: false,
            kicked: false,
            next_available: 0,
            next_used: 0,
            told: 0,
        }
    }

    /// The next chain that is available; `None` until the driver tells that there is one.
    pub fn pop(&mut self, memory: &mut GuestMemory) -> Result<Option<Chain>, QueueError> {
        if !self.enabled || !self.kicked {
            return Ok(None);
        }
        if !self.descriptors.is_multiple_of(16) || !self.available.is_multiple_of(2) || !self.used.is_multiple_of(4) {
            return Err(QueueError::Misaligned);
        }
        if !self.has_available(memory)? {
            self.kicked = false;
            if self.event_index {
                memory.write_u16(self.used.saturating_add(self.used_length()), self.next_available)?;
            }
            // What has become available before the driver could see that it should tell is found now.
            fence(Ordering::SeqCst);
            if !self.has_available(memory)? {
                return Ok(None);
            }
            self.kicked = true;
        }
        // The entry is read after the index that says that it is there.
        fence(Ordering::Acquire);
        let place = u64::from(self.next_available % self.size) * layout::AVAILABLE;
        let head = memory.read_u16(self.available + layout::RING + place)?;
        self.next_available = self.next_available.wrapping_add(1);
        self.chain(memory, head).map(Some)
    }

    /// Makes the chain that was popped last available again.
    pub fn put_back(&mut self) {
        self.next_available = self.next_available.wrapping_sub(1);
    }

    /// The chain that begins with a descriptor.
    pub fn chain(&self, memory: &GuestMemory, head: u16) -> Result<Chain, QueueError> {
        let mut chain = Chain { head, segments: [Segment::default(); MAX_SIZE as usize], count: 0, readable: 0 };
        let (mut table, mut size, mut index, mut in_indirect) = (self.descriptors, self.size, head, false);
        // 2.7.5.3.1: no chain is longer than the queue, with those in an indirect table counted and the one that leads
        // there not.
        let mut left = self.size;
        loop {
            if index >= size {
                return Err(QueueError::NoDescriptor { index });
            }
            left = left.checked_sub(1).ok_or(QueueError::TooLong)?;
            let mut bytes = [0; layout::DESCRIPTOR as usize];
            // 2^48 is the least that does not fit, so nothing overflows here; the memory checks the rest.
            let address = table.saturating_add(u64::from(index) * layout::DESCRIPTOR);
            memory.read(address, &mut bytes)?;
            let [a, b, c, d, e, f, g, h, l0, l1, l2, l3, f0, f1, n0, n1] = bytes;
            let segment = Segment {
                address: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
                length: u32::from_le_bytes([l0, l1, l2, l3]),
            };
            let (flags, next) = (u16::from_le_bytes([f0, f1]), u16::from_le_bytes([n0, n1]));
            if flags & flag::INDIRECT != 0 {
                let entries = u64::from(segment.length) / layout::DESCRIPTOR;
                let whole = u64::from(segment.length).is_multiple_of(layout::DESCRIPTOR);
                let possible = whole && (1..=u64::from(self.size)).contains(&entries);
                if !self.indirect || in_indirect || flags & flag::NEXT != 0 || !possible {
                    return Err(QueueError::Indirect);
                }
                left += 1;
                (table, size, index, in_indirect) = (segment.address, entries as u16, 0, true);
                continue;
            }
            chain.push(memory, segment, flags & flag::WRITE != 0)?;
            if flags & flag::NEXT == 0 {
                return Ok(chain);
            }
            index = next;
        }
    }

    /// Gives a chain back, so many bytes of which have been written.
    pub fn push(&mut self, memory: &mut GuestMemory, head: u16, written: u32) -> Result<(), QueueError> {
        let mut entry = [0; layout::USED as usize];
        entry[..4].copy_from_slice(&u32::from(head).to_le_bytes());
        entry[4..].copy_from_slice(&written.to_le_bytes());
        let place = u64::from(self.next_used % self.size) * layout::USED;
        memory.write(self.used.saturating_add(layout::RING + place), &entry)?;
        // The index says that the entry is there.
        fence(Ordering::Release);
        self.next_used = self.next_used.wrapping_add(1);
        Ok(memory.write_u16(self.used + layout::INDEX, self.next_used)?)
    }

    /// Whether the driver wants to be told of what has been used since this was asked last (2.7.7).
    pub fn needs_interrupt(&mut self, memory: &GuestMemory) -> Result<bool, QueueError> {
        let new = self.next_used.wrapping_sub(self.told);
        if new == 0 {
            return Ok(false);
        }
        // What is used is there before it is looked at whether to tell.
        fence(Ordering::SeqCst);
        self.told = self.next_used;
        if !self.event_index {
            return Ok(memory.read_u16(self.available.saturating_add(layout::FLAGS))? & flag::NO_INTERRUPT == 0);
        }
        let available_length = layout::RING + u64::from(self.size) * layout::AVAILABLE;
        let wanted = memory.read_u16(self.available.saturating_add(available_length))?;
        // 2.7.7.2: the index that is waited for is one of the new ones.
        Ok(self.next_used.wrapping_sub(wanted).wrapping_sub(1) < new)
    }

    /// Saves it.
    pub fn save(&self, state: &mut Writer) -> Result<(), StateError> {
        state.number::<2>(self.size.into())?;
        for value in [self.descriptors, self.available, self.used] {
            state.number::<8>(value)?;
        }
        for value in [self.enabled, self.indirect, self.event_index, self.kicked] {
            state.number::<1>(value.into())?;
        }
        for value in [self.next_available, self.next_used, self.told] {
            state.number::<2>(value.into())?;
        }
        Ok(())
    }

    /// Restores it.
    pub fn restore(&mut self, state: &mut Reader) -> Result<(), StateError> {
        self.size = state.checked::<2>(|size| is_size(size as u16))? as u16;
        for value in [&mut self.descriptors, &mut self.available, &mut self.used] {
            *value = state.number::<8>()?;
        }
        for value in [&mut self.enabled, &mut self.indirect, &mut self.event_index, &mut self.kicked] {
            *value = state.checked::<1>(|value| value < 2)? != 0;
        }
        for value in [&mut self.next_available, &mut self.next_used, &mut self.told] {
            *value = state.number::<2>()? as u16;
        }
        Ok(())
    }

    fn has_available(&self, memory: &GuestMemory) -> Result<bool, QueueError> {
        let index = memory.read_u16(self.available.saturating_add(layout::INDEX))?;
        let available = index.wrapping_sub(self.next_available);
        if available > self.size { Err(QueueError::TooMuchAvailable { available }) } else { Ok(available > 0) }
    }

    fn used_length(&self) -> u64 {
        layout::RING + u64::from(self.size) * layout::USED
    }
}

impl Default for Queue {
    fn default() -> Queue {
        Queue::new()
    }
}

/// Whether a queue can have so many entries.
pub fn is_size(size: u16) -> bool {
    size.is_power_of_two() && size <= MAX_SIZE
}

/// What tests of devices make drivers of.
#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests;
