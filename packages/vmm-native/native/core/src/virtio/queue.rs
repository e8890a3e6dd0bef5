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
        memory.host_range(segment.address, segment.length.into())?;
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

/// Copies bytes into segments, from their beginning on; returns how many there was room for.
pub fn write(segments: &[Segment], memory: &mut GuestMemory, bytes: &[u8]) -> Result<usize, OutOfMemory> {
    let mut done = 0;
    for part in cut(segments, 0, bytes.len() as u64) {
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
pub(crate) mod testing {
    use super::*;

    pub const DESCRIPTORS: u64 = 0x1000;
    pub const AVAILABLE: u64 = 0x2000;
    pub const USED: u64 = 0x3000;

    pub const NEXT: u16 = flag::NEXT;
    pub const WRITE: u16 = flag::WRITE;
    pub const INDIRECT: u16 = flag::INDIRECT;

    /// A queue that is ready, all of whose parts are at a distance from the usual places.
    pub fn queue(size: u16, distance: u64) -> Queue {
        Queue {
            size,
            enabled: true,
            kicked: true,
            indirect: true,
            descriptors: DESCRIPTORS + distance,
            available: AVAILABLE + distance,
            used: USED + distance,
            ..Queue::new()
        }
    }

    pub fn describe(memory: &mut GuestMemory, table: u64, index: u16, buffer: (u64, u32), flags: u16, next: u16) {
        let mut bytes = std::vec::Vec::from(buffer.0.to_le_bytes());
        bytes.extend(buffer.1.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        memory.write(table + u64::from(index) * 16, &bytes).unwrap();
    }

    /// Describes a chain of buffers from a descriptor on, and makes it available.
    pub fn offer(memory: &mut GuestMemory, queue: &mut Queue, head: u16, buffers: &[(u64, u32, u16)]) {
        for (index, (address, length, flags)) in (head..).zip(buffers) {
            let next = if usize::from(index - head) + 1 < buffers.len() { NEXT } else { 0 };
            describe(memory, queue.descriptors, index, (*address, *length), flags | next, index + 1);
        }
        make_available(memory, queue, head);
    }

    pub fn make_available(memory: &mut GuestMemory, queue: &mut Queue, head: u16) {
        let index = memory.read_u16(queue.available + 2).unwrap();
        memory.write_u16(queue.available + 4 + u64::from(index % queue.size) * 2, head).unwrap();
        memory.write_u16(queue.available + 2, index.wrapping_add(1)).unwrap();
        queue.kicked = true;
    }

    /// What the device has given back: head and how much was written.
    pub fn used(memory: &GuestMemory, queue: &Queue) -> std::vec::Vec<(u32, u32)> {
        let index = memory.read_u16(queue.used + 2).unwrap();
        let first = index.saturating_sub(queue.size);
        (first..index)
            .map(|index| {
                let entry = memory.read_u64(queue.used + 4 + u64::from(index % queue.size) * 8).unwrap();
                (entry as u32, (entry >> 32) as u32)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;
    use crate::memory::leaked;

    const MEMORY: u64 = 1 << 16;

    fn parts(size: u16) -> (GuestMemory, Queue) {
        (leaked(MEMORY as usize), queue(size, 0))
    }

    fn error(memory: &mut GuestMemory, queue: &mut Queue) -> QueueError {
        queue.pop(memory).unwrap_err()
    }

    #[test]
    fn a_chain_is_what_is_read_and_what_is_written() {
        let (mut memory, mut queue) = parts(8);
        offer(&mut memory, &mut queue, 3, &[(0x8000, 16, 0), (0x9000, 0, 0), (0xa000, 512, WRITE), (0xb000, 1, WRITE)]);
        let chain = queue.pop(&mut memory).unwrap().unwrap();
        assert_eq!(chain.head, 3);
        assert_eq!(chain.readable(), [Segment { address: 0x8000, length: 16 }], "nothing is empty");
        let written = [Segment { address: 0xa000, length: 512 }, Segment { address: 0xb000, length: 1 }];
        assert_eq!(chain.writable(), written);
        assert_eq!(queue.pop(&mut memory), Ok(None));
        queue.put_back();
        queue.kicked = true;
        assert_eq!(queue.pop(&mut memory), Ok(Some(chain)));
    }

    #[test]
    fn nothing_is_looked_at_until_the_driver_tells() {
        let (mut memory, mut queue) = parts(8);
        assert_eq!(queue.pop(&mut memory), Ok(None));
        offer(&mut memory, &mut queue, 0, &[(0x8000, 1, 0)]);
        queue.kicked = false;
        assert_eq!(queue.pop(&mut memory), Ok(None));
        queue.kicked = true;
        assert!(queue.pop(&mut memory).unwrap().is_some());
        queue.enabled = false;
        queue.kicked = true;
        assert_eq!(queue.pop(&mut memory), Ok(None));
    }

    #[test]
    fn rings_wrap_at_their_size_and_indices_at_theirs() {
        let (mut memory, mut queue) = parts(4);
        (queue.next_available, queue.next_used, queue.told) = (0xfffe, 0xfffe, 0xfffe);
        memory.write_u16(AVAILABLE + 2, 0xfffe).unwrap();
        for round in 0..9 {
            offer(&mut memory, &mut queue, round % 4, &[(0x8000, 1, WRITE)]);
            let chain = queue.pop(&mut memory).unwrap().unwrap();
            queue.push(&mut memory, chain.head, 1).unwrap();
            assert_eq!(queue.needs_interrupt(&memory), Ok(true));
        }
        assert_eq!(memory.read_u16(USED + 2), Ok(7));
        // 0xfffe + 8 is in the place of 2: the last head was 8 % 4.
        assert_eq!(memory.read_u64(USED + 4 + 2 * 8), Ok(1 << 32));
    }

    #[test]
    fn chains_without_an_end_are_too_long() {
        let (mut memory, mut queue) = parts(8);
        describe(&mut memory, DESCRIPTORS, 0, (0x8000, 1), NEXT, 1);
        describe(&mut memory, DESCRIPTORS, 1, (0x8000, 1), NEXT, 0);
        make_available(&mut memory, &mut queue, 0);
        assert_eq!(error(&mut memory, &mut queue), QueueError::TooLong);
        // Also when all of its buffers are empty, and in an indirect table.
        describe(&mut memory, DESCRIPTORS, 0, (0x8000, 0), NEXT, 0);
        make_available(&mut memory, &mut queue, 0);
        assert_eq!(error(&mut memory, &mut queue), QueueError::TooLong);
        describe(&mut memory, 0x8000, 0, (0x9000, 1), NEXT, 0);
        describe(&mut memory, DESCRIPTORS, 0, (0x8000, 16), INDIRECT, 0);
        make_available(&mut memory, &mut queue, 0);
        assert_eq!(error(&mut memory, &mut queue), QueueError::TooLong);
    }

    #[test]
    fn a_chain_may_be_as_long_as_the_queue_and_as_an_indirect_table() {
        let (mut memory, mut queue) = parts(128);
        let buffers: std::vec::Vec<_> = (0..128_u64).map(|index| (0x8000 + index, 1, 0)).collect();
        offer(&mut memory, &mut queue, 0, &buffers);
        assert_eq!(queue.pop(&mut memory).unwrap().unwrap().readable().len(), 128);
        for index in 0..128_u16 {
            describe(&mut memory, 0xa000, index, (0x8000, 2), if index < 127 { NEXT } else { 0 }, index + 1);
        }
        describe(&mut memory, DESCRIPTORS, 5, (0xa000, 128 * 16), INDIRECT, 0);
        make_available(&mut memory, &mut queue, 5);
        let chain = queue.pop(&mut memory).unwrap().unwrap();
        assert_eq!((chain.head, chain.readable().len(), length(chain.readable())), (5, 128, 256));
    }

    #[test]
    fn indirect_tables_that_may_not_be_are_refused() {
        let refused = |length: u32, flags: u16, allowed: bool| {
            let (mut memory, mut queue) = parts(8);
            queue.indirect = allowed;
            describe(&mut memory, DESCRIPTORS, 0, (0x8000, length), INDIRECT | flags, 1);
            describe(&mut memory, 0x8000, 0, (0x9000, 16), 0, 0);
            make_available(&mut memory, &mut queue, 0);
            queue.pop(&mut memory).is_err_and(|error| error == QueueError::Indirect)
        };
        assert!(!refused(16, 0, true));
        assert!(refused(16, 0, false), "not agreed upon");
        assert!(refused(0, 0, true) && refused(17, 0, true) && refused(9 * 16, 0, true) && refused(!15, 0, true));
        assert!(refused(16, NEXT, true), "with a next one");
        let (mut memory, mut queue) = parts(8);
        describe(&mut memory, DESCRIPTORS, 0, (0x8000, 32), INDIRECT, 0);
        describe(&mut memory, 0x8000, 0, (0x8000, 32), INDIRECT, 0);
        make_available(&mut memory, &mut queue, 0);
        assert_eq!(error(&mut memory, &mut queue), QueueError::Indirect, "in an indirect table");
    }

    #[test]
    fn buffers_outside_of_the_memory_are_refused() {
        for buffer in [(MEMORY, 1), (MEMORY - 1, 2), (u64::MAX, 1), (u64::MAX - 1, u32::MAX), (0, u32::MAX)] {
            let (mut memory, mut queue) = parts(8);
            describe(&mut memory, DESCRIPTORS, 0, buffer, WRITE, 0);
            make_available(&mut memory, &mut queue, 0);
            assert!(matches!(error(&mut memory, &mut queue), QueueError::Memory(_)), "{buffer:x?}");
            describe(&mut memory, DESCRIPTORS, 0, (buffer.0, 16), INDIRECT, 0);
            make_available(&mut memory, &mut queue, 0);
            assert!(buffer.0 == 0 || matches!(error(&mut memory, &mut queue), QueueError::Memory(_)), "{buffer:x?}");
        }
    }

    #[test]
    fn queues_outside_of_the_memory_or_not_aligned_are_refused() {
        for address in [MEMORY, MEMORY - 16, !0xf] {
            for part in 0..3 {
                let (mut memory, mut queue) = parts(8);
                offer(&mut memory, &mut queue, 7, &[(0x8000, 1, 0)]);
                queue.event_index = true;
                *[&mut queue.descriptors, &mut queue.available, &mut queue.used][part] = address;
                let popped = queue.pop(&mut memory).and_then(|_| queue.pop(&mut memory)).map(|_| ());
                let pushed = queue.push(&mut memory, 7, 0);
                assert!(popped.is_err() || pushed.is_err() || address == MEMORY - 16, "{address:x} {part}");
            }
        }
        for part in 0..3 {
            let (mut memory, mut queue) = parts(8);
            *[&mut queue.descriptors, &mut queue.available, &mut queue.used][part] += 1;
            assert_eq!(error(&mut memory, &mut queue), QueueError::Misaligned);
        }
    }

    #[test]
    fn indices_that_are_none_are_refused() {
        let (mut memory, mut queue) = parts(8);
        make_available(&mut memory, &mut queue, 8);
        assert_eq!(error(&mut memory, &mut queue), QueueError::NoDescriptor { index: 8 });
        describe(&mut memory, DESCRIPTORS, 0, (0x8000, 1), NEXT, 0xffff);
        make_available(&mut memory, &mut queue, 0);
        assert_eq!(error(&mut memory, &mut queue), QueueError::NoDescriptor { index: 0xffff });
        memory.write_u16(AVAILABLE + 2, 11).unwrap();
        assert_eq!(error(&mut memory, &mut queue), QueueError::TooMuchAvailable { available: 9 });
        memory.write_u16(AVAILABLE + 2, 0).unwrap();
        assert_eq!(error(&mut memory, &mut queue), QueueError::TooMuchAvailable { available: 0xfffe });
    }

    #[test]
    fn what_is_read_does_not_follow_what_is_written() {
        let (mut memory, mut queue) = parts(8);
        offer(&mut memory, &mut queue, 0, &[(0x8000, 1, WRITE), (0x8000, 1, 0)]);
        assert_eq!(error(&mut memory, &mut queue), QueueError::Order);
    }

    #[test]
    fn a_driver_is_told_when_it_wants_to_be() {
        let (mut memory, mut queue) = parts(8);
        assert_eq!(queue.needs_interrupt(&memory), Ok(false), "nothing is new");
        memory.write_u16(AVAILABLE, 1).unwrap();
        queue.push(&mut memory, 0, 0).unwrap();
        assert_eq!(queue.needs_interrupt(&memory), Ok(false));
        memory.write_u16(AVAILABLE, 0).unwrap();
        queue.push(&mut memory, 0, 0).unwrap();
        assert_eq!(queue.needs_interrupt(&memory), Ok(true));
        assert_eq!(queue.needs_interrupt(&memory), Ok(false), "it has been told");
        queue.event_index = true;
        let mut tells = |wanted: u16, pushes: usize| {
            memory.write_u16(AVAILABLE + 4 + 8 * 2, wanted).unwrap();
            (0..pushes).for_each(|_| queue.push(&mut memory, 0, 0).unwrap());
            queue.needs_interrupt(&memory).unwrap()
        };
        assert!(!tells(3, 1), "2 is used, 3 is waited for");
        assert!(tells(3, 1));
        assert!(!tells(3, 1));
        assert!(tells(6, 3));
        // And it says itself when it wants to be told: when something is made available behind what it has seen.
        offer(&mut memory, &mut queue, 0, &[(0x8000, 1, 0)]);
        queue.pop(&mut memory).unwrap();
        queue.pop(&mut memory).unwrap();
        assert_eq!(memory.read_u16(USED + 4 + 8 * 8), Ok(1));
    }

    #[test]
    fn segments_are_cut_read_and_written() {
        let (mut memory, _) = parts(8);
        let segments = [Segment { address: 0x8000, length: 3 }, Segment { address: 0x9000, length: 4 }];
        assert_eq!(write(&segments, &mut memory, &[1, 2, 3, 4, 5]), Ok(5));
        assert_eq!(write(&segments[..1], &mut memory, &[1, 2, 3, 4, 5]), Ok(3));
        let mut bytes = [0; 8];
        assert_eq!(read(&segments, 2, &memory, &mut bytes), Ok(5));
        assert_eq!(bytes, [3, 4, 5, 0, 0, 0, 0, 0]);
        let parts: std::vec::Vec<_> = cut(&segments, 1, 4).map(|part| (part.address, part.length)).collect();
        assert_eq!(parts, [(0x8001, 2), (0x9000, 1)]);
    }

    #[test]
    fn what_was_saved_is_restored_and_what_cannot_be_is_refused() {
        let saved = Queue { next_available: 5, next_used: 4, told: 3, event_index: true, ..queue(16, 0x40) };
        let mut bytes = [0; 64];
        let mut writer = Writer::new(&mut bytes);
        saved.save(&mut writer).unwrap();
        let length = writer.length();
        let mut restored = Queue::new();
        restored.restore(&mut Reader::new(&bytes[..length])).unwrap();
        assert_eq!(restored, saved);
        for length in 0..length {
            assert!(Queue::new().restore(&mut Reader::new(&bytes[..length])).is_err());
        }
        for (offset, value) in [(0, 0), (0, 3), (1, 1), (26, 2)] {
            let mut impossible = bytes;
            impossible[offset] = value;
            let refused = Queue::new().restore(&mut Reader::new(&impossible));
            assert!(matches!(refused, Err(StateError::Impossible { .. })), "{offset}");
        }
    }
}
