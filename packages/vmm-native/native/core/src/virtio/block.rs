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
const SEGMENT_SIZE: u32 = 512 << 10;
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
                Begun::Finished(status::OK, queue::write(chain.writable(), memory, &id[..length])? as u32)
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
        self.pending.iter().all(Option::is_none)
    }

    /// What goes on is saved as what has to be begun again; reading or writing something twice changes nothing.
    fn save(&self, state: &mut Writer) -> Result<(), StateError> {
        let heads =
            || self.pending.iter().flatten().map(|pending| pending.head).chain(self.again.into_iter().flatten());
        state.number::<2>(heads().count() as u64)?;
        heads().try_for_each(|head| state.number::<2>(head.into()))
    }

    fn restore(&mut self, state: &mut Reader) -> Result<(), StateError> {
        if self.pending.iter().any(Option::is_some) {
            return Err(StateError::Busy);
        }
        let count = state.checked::<2>(|count| count <= MAX_REQUESTS as u64)?;
        self.again = [None; MAX_REQUESTS];
        for place in self.again.iter_mut().take(count as usize) {
            *place = Some(state.checked::<2>(|head| head < queue::MAX_SIZE.into())? as u16);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::testing::{WRITE, describe, offer, queue, used};
    use super::*;
    use crate::memory::leaked;
    use std::vec::Vec;

    const HEADER_AT: u64 = 0x8000;
    const DATA: u64 = 0x9000;
    const STATUS: u64 = 0xc000;

    /// A disk of 16 sectors in memory that finishes when it is let, last request first.
    #[derive(Debug, Default)]
    struct Disk {
        bytes: Vec<u8>,
        read_only: bool,
        waits: bool,
        busy: bool,
        fails: bool,
        done: Vec<u16>,
        flushes: usize,
    }

    impl Backend for Disk {
        fn sectors(&self) -> u64 {
            16
        }

        fn is_read_only(&self) -> bool {
            self.read_only
        }

        fn id(&self) -> [u8; 20] {
            *b"disk\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
        }

        fn start(&mut self, number: u16, action: Action, segments: &[Segment], memory: &mut GuestMemory) -> bool {
            if self.busy {
                return false;
            }
            self.bytes.resize(16 * 512, 0);
            let (sector, write) = match action {
                Action::Read { sector } => (sector, false),
                Action::Write { sector } => (sector, true),
                Action::Flush => (0, false),
            };
            self.flushes += usize::from(action == Action::Flush);
            let mut at = sector as usize * 512;
            for segment in segments {
                let place = &mut self.bytes[at..][..segment.length as usize];
                if write {
                    memory.read(segment.address, place).unwrap();
                } else {
                    memory.write(segment.address, place).unwrap();
                }
                at += segment.length as usize;
            }
            self.done.push(number);
            true
        }

        fn finish(&mut self) -> Option<(u16, bool)> {
            if self.waits { None } else { self.done.pop().map(|number| (number, !self.fails)) }
        }
    }

    struct Driver {
        memory: GuestMemory,
        queue: [Queue; 1],
        block: Block<Disk>,
    }

    fn driver() -> Driver {
        Driver { memory: leaked(1 << 16), queue: [queue(16, 0)], block: Block::new(Disk::default()) }
    }

    impl Driver {
        fn service(&mut self) -> Result<(), QueueError> {
            self.block.service(&mut self.queue, &mut self.memory)
        }

        /// Offers a request with data in these buffers.
        fn offer(&mut self, head: u16, kind: u32, sector: u64, buffers: &[(u64, u32, u16)]) {
            let mut header = Vec::from(u64::from(kind).to_le_bytes());
            header.extend(sector.to_le_bytes());
            let at = HEADER_AT + u64::from(head) * 16;
            self.memory.write(at, &header).unwrap();
            let mut chain = std::vec![(at, 16, 0)];
            chain.extend(buffers);
            chain.push((STATUS + u64::from(head), 1, WRITE));
            self.memory.write(STATUS + u64::from(head), &[0xff]).unwrap();
            offer(&mut self.memory, &mut self.queue[0], head, &chain);
        }

        /// Status, and how many bytes were written.
        fn request(&mut self, kind: u32, sector: u64, buffers: &[(u64, u32, u16)]) -> (u8, u32) {
            self.offer(0, kind, sector, buffers);
            self.service().unwrap();
            (self.status(0), used(&self.memory, &self.queue[0]).last().unwrap().1)
        }

        fn status(&self, head: u64) -> u8 {
            let mut status = [0];
            self.memory.read(STATUS + head, &mut status).unwrap();
            status[0]
        }

        fn sectors(&self, address: u64) -> Vec<u8> {
            let mut bytes = std::vec![0; 1024];
            self.memory.read(address, &mut bytes).unwrap();
            bytes
        }
    }

    #[test]
    fn what_is_written_is_read_however_it_is_divided() {
        let mut driver = driver();
        let pattern: Vec<u8> = (0..1024).map(|byte| (byte * 7) as u8).collect();
        driver.memory.write(DATA, &pattern).unwrap();
        assert_eq!(driver.request(kind::WRITE, 3, &[(DATA, 100, 0), (DATA + 100, 924, 0)]), (0, 1));
        assert_eq!(driver.request(kind::READ, 3, &[(DATA + 0x800, 1024, WRITE)]), (0, 1025));
        assert_eq!(driver.sectors(DATA + 0x800), pattern);
        // Header, data and status in one buffer each way, not where others begin.
        let mut chain = std::vec![0_u8; 16];
        chain[0] = 1;
        chain[8] = 9;
        chain.extend(&pattern[..512]);
        driver.memory.write(DATA, &chain).unwrap();
        offer(&mut driver.memory, &mut driver.queue[0], 4, &[(DATA, 528, 0), (STATUS, 1, WRITE)]);
        driver.service().unwrap();
        assert_eq!((driver.status(0), &driver.block.backend.bytes[9 * 512..][..512]), (0, &pattern[..512]));
        driver.memory.write(DATA, &[0; 16]).unwrap();
        driver.memory.write(DATA + 8, &[9]).unwrap();
        offer(&mut driver.memory, &mut driver.queue[0], 4, &[(DATA, 16, 0), (DATA + 0x803, 513, WRITE)]);
        driver.service().unwrap();
        assert_eq!(driver.sectors(DATA + 0x803)[..513], [&pattern[..512], &[0]].concat());
    }

    #[test]
    fn sectors_that_there_are_not_are_errors() {
        let mut driver = driver();
        for (sector, length) in [(16, 512), (15, 1024), (u64::MAX, 512), (1 << 55, 512), (0, 511), (0, 513), (0, 0)] {
            let expected = (status::IO_ERROR, 1);
            assert_eq!(driver.request(kind::READ, sector, &[(DATA, length, WRITE)]), expected, "{sector} {length}");
            assert_eq!(driver.request(kind::WRITE, sector, &[(DATA, length, 0)]), expected, "{sector} {length}");
        }
        // The same memory again and again: more than any request may have.
        let mut again = driver_with(leaked(1 << 20));
        let buffers: Vec<_> = (0..100).map(|_| (0, 1 << 20, WRITE)).collect();
        again.offer(0, kind::READ, 0, &buffers);
        again.service().unwrap();
        assert_eq!((again.status(0), again.block.backend.bytes.len()), (status::IO_ERROR, 0));
    }

    fn driver_with(memory: GuestMemory) -> Driver {
        Driver { memory, queue: [queue(128, 0)], ..driver() }
    }

    #[test]
    fn a_disk_that_cannot_be_written_is_not() {
        let mut driver = driver();
        driver.block.backend.read_only = true;
        assert_ne!(driver.block.features() & feature::READ_ONLY, 0);
        assert_eq!(driver.request(kind::WRITE, 0, &[(DATA, 512, 0)]), (status::IO_ERROR, 1));
        assert_eq!(driver.request(kind::READ, 0, &[(DATA, 512, WRITE)]), (status::OK, 513));
    }

    #[test]
    fn disks_are_flushed_named_and_asked_for_what_they_cannot() {
        let mut driver = driver();
        assert_eq!((driver.request(kind::FLUSH, 0, &[]), driver.block.backend.flushes), ((0, 1), 1));
        assert_eq!(driver.request(kind::GET_ID, 0, &[(DATA, 20, WRITE)]), (0, 21));
        assert_eq!(&driver.sectors(DATA)[..6], b"disk\0\0");
        assert_eq!(driver.request(kind::GET_ID, 0, &[(DATA, 2, WRITE)]), (0, 3));
        for kind in [2, 3, 11, 13, u32::MAX] {
            assert_eq!(driver.request(kind, 0, &[(DATA, 512, WRITE)]), (status::UNSUPPORTED, 1));
        }
        driver.block.backend.fails = true;
        assert_eq!(driver.request(kind::READ, 0, &[(DATA, 512, WRITE)]), (status::IO_ERROR, 1));
    }

    #[test]
    fn what_is_no_request_makes_the_device_need_a_reset() {
        for chain in
            [&[(DATA, 15, 0), (STATUS, 1, WRITE)][..], &[(DATA, 16, 0)], &[(STATUS, 1, WRITE)], &[(DATA, 0, 0)]]
        {
            let mut driver = driver();
            offer(&mut driver.memory, &mut driver.queue[0], 0, chain);
            assert_eq!(driver.service(), Err(QueueError::Malformed), "{chain:x?}");
        }
    }

    #[test]
    fn requests_go_on_at_once_and_finish_in_any_order() {
        let mut driver = driver();
        driver.block.backend.waits = true;
        driver.offer(0, kind::READ, 0, &[(DATA, 512, WRITE)]);
        driver.offer(4, kind::READ, 1, &[(DATA, 512, WRITE)]);
        driver.service().unwrap();
        assert_eq!((driver.status(0), used(&driver.memory, &driver.queue[0]).len()), (0xff, 0));
        assert!(!driver.block.reset(), "a reset waits for them");
        driver.block.backend.waits = false;
        driver.service().unwrap();
        assert_eq!(used(&driver.memory, &driver.queue[0]), [(4, 513), (0, 513)]);
    }

    #[test]
    fn what_cannot_be_begun_now_is_begun_later() {
        let mut driver = driver();
        driver.block.backend.busy = true;
        driver.offer(0, kind::READ, 0, &[(DATA, 512, WRITE)]);
        driver.service().unwrap();
        assert_eq!(used(&driver.memory, &driver.queue[0]), []);
        driver.block.backend.busy = false;
        driver.service().unwrap();
        assert_eq!(used(&driver.memory, &driver.queue[0]), [(0, 513)]);
    }

    #[test]
    fn no_more_than_so_many_go_on_at_once() {
        let mut driver = driver_with(leaked(1 << 16));
        driver.block.backend.waits = true;
        for head in 0..20 {
            driver.offer(head * 4, kind::READ, 0, &[(DATA, 512, WRITE)]);
        }
        driver.service().unwrap();
        assert_eq!(driver.block.backend.done.len(), MAX_REQUESTS);
        driver.block.backend.waits = false;
        driver.service().unwrap();
        driver.service().unwrap();
        assert_eq!(used(&driver.memory, &driver.queue[0]).len(), 20);
    }

    #[test]
    fn a_finish_of_nothing_is_none() {
        let mut driver = driver();
        driver.block.backend.done = std::vec![3, 16, u16::MAX];
        driver.service().unwrap();
        assert_eq!(used(&driver.memory, &driver.queue[0]), []);
    }

    #[test]
    fn what_went_on_when_it_was_saved_goes_on_when_it_is_restored() {
        let mut driver = driver();
        driver.block.backend.waits = true;
        driver.offer(0, kind::READ, 0, &[(DATA, 512, WRITE)]);
        driver.offer(4, kind::FLUSH, 0, &[]);
        driver.service().unwrap();
        let mut bytes = [0; 64];
        let mut writer = Writer::new(&mut bytes);
        driver.block.save(&mut writer).unwrap();
        assert_eq!(bytes[..7], [2, 0, 0, 0, 4, 0, 0]);
        assert_eq!(driver.block.restore(&mut Reader::new(&bytes)), Err(StateError::Busy));
        driver.block = Block::new(Disk::default());
        driver.block.restore(&mut Reader::new(&bytes)).unwrap();
        driver.service().unwrap();
        assert_eq!(used(&driver.memory, &driver.queue[0]), [(4, 1), (0, 513)]);
        for impossible in [&[17, 0][..], &[1, 0, 128, 0], &[1, 0, 0], &[0]] {
            assert!(driver.block.restore(&mut Reader::new(impossible)).is_err());
        }
        // The guest may have made something else of the chain.
        driver.block.restore(&mut Reader::new(&[1, 0, 0, 0])).unwrap();
        describe(&mut driver.memory, driver.queue[0].descriptors, 0, (u64::MAX, 16), 0, 0);
        assert!(matches!(driver.service(), Err(QueueError::Memory(_))));
    }
}
