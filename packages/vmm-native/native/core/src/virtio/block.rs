//! A disk (Virtual I/O Device specification 1.2, 5.2), in sectors of 512 bytes.
//!
//! Requests go on outside while the guest runs, and are finished in any order. What reaches the backend has been checked:
//! whole sectors that the disk has, in memory that the guest has.

use super::queue::{self, Chain, Queue, QueueError, Segment};
use super::{CONFIG_SIZE, Device};
use crate::memory::GuestMemory;
use crate::state::{Reader, StateError, Writer};
use core::fmt;

/// Bytes of a sector.
pub const SECTOR: u64 = 512;
/// Bytes of a disk's id.
pub const ID_SIZE: u64 = 20;
/// Most requests that go on at once.
pub const MAX_REQUESTS: usize = 16;
/// Most segments of a request: one for each descriptor but those for its header and status.
pub const MAX_SEGMENTS: usize = queue::MAX_SIZE as usize;

/// What drivers are told about how large a request may be: this many segments, of this many bytes each.
const SEGMENTS: u32 = queue::MAX_SIZE as u32 - 2;
const SEGMENT_SIZE: u32 = 4096;
const MAX_BYTES: u64 = SEGMENTS as u64 * SEGMENT_SIZE as u64;

const HEADER: u64 = 16;

mod feature {
    pub const SEGMENT_SIZE: u64 = 1 << 1;
    pub const SEGMENTS: u64 = 1 << 2;
    pub const READ_ONLY: u64 = 1 << 5;
    pub const FLUSH: u64 = 1 << 9;
}

mod kind {
    pub const READ: u32 = 0;
    pub const WRITE: u32 = 1;
    pub const FLUSH: u32 = 4;
    pub const GET_ID: u32 = 8;
}

mod status {
    pub const OK: u8 = 0;
    pub const IO_ERROR: u8 = 1;
    pub const UNSUPPORTED: u8 = 2;
}

/// What a backend does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reads, from a sector on.
    Read {
        /// First sector.
        sector: u64,
    },
    /// Writes, from a sector on.
    Write {
        /// First sector.
        sector: u64,
    },
    /// Makes what has been written last.
    Flush,
}

/// What is behind a disk.
pub trait Backend: fmt::Debug {
    /// How many sectors it has.
    fn sectors(&self) -> u64;
    /// Whether it cannot be written to.
    fn is_read_only(&self) -> bool;
    /// What it is called; the rest is NUL.
    fn id(&self) -> [u8; ID_SIZE as usize];
    /// Begins with a request, which has a number that no other one has until it is finished; whether it can now.
    ///
    /// Segments are in the guest's memory and are whole sectors together, but no single one need be. There are none for a
    /// flush.
    fn start(&mut self, number: u16, action: Action, segments: &[Segment], memory: &mut GuestMemory) -> bool;
    /// A request that is finished: its number, and whether it went well.
    fn finish(&mut self) -> Option<(u16, bool)>;
}

/// A request that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pending {
    head: u16,
    status_address: u64,
    /// How many bytes of the guest's memory it writes, with its status.
    written: u32,
}

/// The device.
#[derive(Debug)]
pub struct Block<B> {
    backend: B,
    pending: [Option<Pending>; MAX_REQUESTS],
    /// Heads of requests that have to be begun again: they went on when this was saved.
    again: [Option<u16>; MAX_REQUESTS],
}

/// What a chain turned out to be.
enum Begun {
    /// It goes on.
    Yes,
    /// It is finished: its status, and how many bytes have been written before that.
    Finished(u8, u32),
    /// Nothing can be begun now.
    No,
}

impl<B: Backend> Block<B> {
    /// A disk as it is after a reset.
    pub const fn new(backend: B) -> Block<B> {
        Block { backend, pending: [None; MAX_REQUESTS], again: [None; MAX_REQUESTS] }
    }

    /// Gives back what is finished.
    fn finish(&mut self, queue: &mut Queue, memory: &mut GuestMemory) -> Result<(), QueueError> {
        while let Some((number, well)) = self.backend.finish() {
            let Some(done) = self.pending.get_mut(usize::from(number)).and_then(Option::take) else { continue };
            let written = if well { done.written } else { 1 };
            memory.write(done.status_address, &[if well { status::OK } else { status::IO_ERROR }])?;
            queue.push(memory, done.head, written)?;
        }
        Ok(())
    }

    /// Begins with a chain; whether it could.
    fn begin(&mut self, queue: &mut Queue, memory: &mut GuestMemory, chain: &Chain) -> Result<bool, QueueError> {
        // 5.2.6: a header that is read, and a byte that is written; what lies between them is data. How they are divided
        // into buffers is the driver's business (2.7.4.1).
        let (readable, writable) = (queue::length(chain.readable()), queue::length(chain.writable()));
        let Some(status) = chain.writable().last().filter(|_| readable >= HEADER) else {
            return Err(QueueError::Malformed);
        };
        let status_address = status.address + u64::from(status.length) - 1;
        let mut header = [0; HEADER as usize];
        queue::read(chain.readable(), 0, memory, &mut header)?;
        let [t0, t1, t2, t3, _, _, _, _, sector @ ..] = header;
        let (kind, sector) = (u32::from_le_bytes([t0, t1, t2, t3]), u64::from_le_bytes(sector));

        let (out, into) = (readable - HEADER, writable - 1);
        let begun = match kind {
            kind::READ => self.transfer(Action::Read { sector }, into, chain, memory, status_address),
            kind::WRITE => self.transfer(Action::Write { sector }, out, chain, memory, status_address),
            kind::FLUSH => self.start(Action::Flush, &[], 1, chain.head, memory, status_address),
            kind::GET_ID => {
                let id = self.backend.id();
                let length = into.min(ID_SIZE) as usize;
                Begun::Finished(status::OK, queue::write(chain.writable(), 0, memory, &id[..length])? as u32)
            }
            _ => Begun::Finished(status::UNSUPPORTED, 0),
        };
        if let Begun::Finished(status, written) = begun {
            memory.write(status_address, &[status])?;
            queue.push(memory, chain.head, written + 1)?;
        }
        Ok(!matches!(begun, Begun::No))
    }

    /// Checks a transfer of `length` bytes, and begins with it.
    fn transfer(
        &mut self,
        action: Action,
        length: u64,
        chain: &Chain,
        memory: &mut GuestMemory,
        status_address: u64,
    ) -> Begun {
        let (sector, segments, start) = match action {
            Action::Read { sector } => (sector, chain.writable(), 0),
            Action::Write { sector } => (sector, chain.readable(), HEADER),
            Action::Flush => return Begun::Finished(status::UNSUPPORTED, 0),
        };
        let end = sector.checked_add(length / SECTOR);
        let fits = end.is_some_and(|end| end <= self.backend.sectors());
        let allowed = start == 0 || !self.backend.is_read_only();
        if length == 0 || length > MAX_BYTES || !length.is_multiple_of(SECTOR) || !fits || !allowed {
            return Begun::Finished(status::IO_ERROR, 0);
        }
        let written = if start == 0 { length as u32 + 1 } else { 1 };
        let mut data = [Segment::default(); MAX_SEGMENTS];
        let mut count = 0;
        for (place, segment) in data.iter_mut().zip(queue::cut(segments, start, start + length)) {
            *place = segment;
            count += 1;
        }
        self.start(action, &data[..count], written, chain.head, memory, status_address)
    }

    fn start(
        &mut self,
        action: Action,
        segments: &[Segment],
        written: u32,
        head: u16,
        memory: &mut GuestMemory,
        status_address: u64,
    ) -> Begun {
        let Some(number) = self.pending.iter().position(Option::is_none) else { return Begun::No };
        if !self.backend.start(number as u16, action, segments, memory) {
            return Begun::No;
        }
        self.pending[number] = Some(Pending { head, status_address, written });
        Begun::Yes
    }
}

impl<B: Backend> Device for Block<B> {
    const ID: u16 = 2;
    const CLASS: u32 = 0x01_80_00;
    const QUEUES: usize = 1;

    fn features(&self) -> u64 {
        let read_only = if self.backend.is_read_only() { feature::READ_ONLY } else { 0 };
        feature::SEGMENT_SIZE | feature::SEGMENTS | feature::FLUSH | read_only
    }

    fn config(&self) -> [u8; CONFIG_SIZE] {
        let mut config = [0; CONFIG_SIZE];
        config[0..8].copy_from_slice(&self.backend.sectors().to_le_bytes());
        config[8..12].copy_from_slice(&SEGMENT_SIZE.to_le_bytes());
        config[12..16].copy_from_slice(&SEGMENTS.to_le_bytes());
        config
    }

    fn service(&mut self, queues: &mut [Queue], memory: &mut GuestMemory) -> Result<(), QueueError> {
        let requests = &mut queues[0];
        self.finish(requests, memory)?;
        for index in 0..MAX_REQUESTS {
            let Some(head) = self.again[index] else { continue };
            let chain = requests.chain(memory, head)?;
            if !self.begin(requests, memory, &chain)? {
                return Ok(());
            }
            self.again[index] = None;
        }
        while let Some(chain) = requests.pop(memory)? {
            if !self.begin(requests, memory, &chain)? {
                requests.put_back();
                break;
            }
        }
        // Backends may be done at once.
        self.finish(requests, memory)
    }

    fn reset(&mut self) -> bool {
        self.again = [None; MAX_REQUESTS];
        while let Some((number, _)) = self.backend.finish() {
            if let Some(pending) = self.pending.get_mut(usize::from(number)) {
                *pending = None;
            }
        }
        self.is_idle()
    }

    fn is_idle(&self) -> bool {
        self.pending.iter().all(Option::is_none)
    }

    /// What goes on is saved as what has to be begun again; reading or writing something twice changes nothing.
    fn save(&self, state: &mut Writer) -> Result<(), StateError> {
        let heads =
            || self.pending.iter().flatten().map(|pending| pending.head).chain(self.again.into_iter().flatten());
        state.number::<8>(self.backend.sectors())?;
        state.number::<2>(heads().count() as u64)?;
        heads().try_for_each(|head| state.number::<2>(head.into()))
    }

    fn restore(&mut self, state: &mut Reader) -> Result<(), StateError> {
        if self.pending.iter().any(Option::is_some) {
            return Err(StateError::Busy);
        }
        // Its driver has been told how large it is.
        state.checked::<8>(|sectors| sectors == self.backend.sectors())?;
        let count = state.checked::<2>(|count| count <= MAX_REQUESTS as u64)?;
        self.again = [None; MAX_REQUESTS];
        for place in self.again.iter_mut().take(count as usize) {
            *place = Some(state.checked::<2>(|head| head < queue::MAX_SIZE.into())? as u16);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
