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
    for chain in [&[(DATA, 15, 0), (STATUS, 1, WRITE)][..], &[(DATA, 16, 0)], &[(STATUS, 1, WRITE)], &[(DATA, 0, 0)]] {
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
    assert_eq!(bytes[..15], [16, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0]);
    assert_eq!(driver.block.restore(&mut Reader::new(&bytes)), Err(StateError::Busy));
    driver.block = Block::new(Disk::default());
    driver.block.restore(&mut Reader::new(&bytes)).unwrap();
    driver.service().unwrap();
    assert_eq!(used(&driver.memory, &driver.queue[0]), [(4, 1), (0, 513)]);
    let of_16_sectors = |rest: &[u8]| [&[16, 0, 0, 0, 0, 0, 0, 0][..], rest].concat();
    for impossible in [&[17, 0][..], &[1, 0, 128, 0], &[1, 0, 0], &[0]] {
        assert!(driver.block.restore(&mut Reader::new(&of_16_sectors(impossible))).is_err());
    }
    let of_another_disk = driver.block.restore(&mut Reader::new(&[15, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(of_another_disk, Err(StateError::Impossible { offset: 0 }));
    // The guest may have made something else of the chain.
    driver.block.restore(&mut Reader::new(&of_16_sectors(&[1, 0, 0, 0]))).unwrap();
    describe(&mut driver.memory, driver.queue[0].descriptors, 0, (u64::MAX, 16), 0, 0);
    assert!(matches!(driver.service(), Err(QueueError::Memory(_))));
}
