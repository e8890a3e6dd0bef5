use super::super::queue::testing::{WRITE, offer, queue, used};
use super::*;
use crate::memory::leaked;
use std::collections::VecDeque;
use std::vec::Vec;

const BUFFER: u64 = 0x9000;

struct Test {
    busy: bool,
    room: [u8; MAX_FRAME],
    sent: Vec<Vec<u8>>,
    arrived: VecDeque<Vec<u8>>,
}

impl fmt::Debug for Test {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} sent, {} arrived", self.sent.len(), self.arrived.len())
    }
}

impl Link for Test {
    fn address(&self) -> [u8; ADDRESS_SIZE] {
        [0x52, 0x54, 0, 1, 2, 3]
    }

    fn room(&mut self) -> Option<&mut [u8; MAX_FRAME]> {
        (!self.busy).then_some(&mut self.room)
    }

    fn send(&mut self, length: usize) {
        self.sent.push(self.room[..length].to_vec());
    }

    fn received(&mut self) -> Option<&[u8]> {
        self.arrived.front().map(Vec::as_slice)
    }

    fn drop_received(&mut self) {
        self.arrived.pop_front();
    }
}

struct Driver {
    memory: GuestMemory,
    queues: [Queue; 2],
    net: Net<Test>,
}

fn driver() -> Driver {
    let test = Test { busy: false, room: [0; MAX_FRAME], sent: Vec::new(), arrived: VecDeque::new() };
    Driver { memory: leaked(1 << 16), queues: [queue(8, 0), queue(8, 0x4000)], net: Net(test) }
}

impl Driver {
    fn offer(&mut self, queue: usize, head: u16, buffers: &[(u64, u32, u16)]) {
        offer(&mut self.memory, &mut self.queues[queue], head, buffers);
    }

    fn service(&mut self) -> Result<(), QueueError> {
        self.net.service(&mut self.queues, &mut self.memory)
    }

    fn used(&self, queue: usize) -> Vec<(u32, u32)> {
        used(&self.memory, &self.queues[queue])
    }
}

#[test]
fn a_frame_is_sent_without_what_precedes_it_however_it_is_divided() {
    let mut driver = driver();
    let frame: Vec<u8> = (0..100).collect();
    driver.memory.write(BUFFER, &[0xff; 12]).unwrap();
    driver.memory.write(BUFFER + 12, &frame).unwrap();
    driver.offer(TRANSMIT, 0, &[(BUFFER, 5, 0), (BUFFER + 5, 20, 0), (BUFFER + 25, 87, 0)]);
    driver.offer(TRANSMIT, 3, &[(BUFFER, 112, 0)]);
    driver.service().unwrap();
    assert_eq!(driver.net.0.sent, [frame.clone(), frame]);
    assert_eq!(driver.used(TRANSMIT), [(0, 0), (3, 0)]);
}

#[test]
fn what_is_no_frame_is_used_and_not_sent() {
    let mut driver = driver();
    for (head, length) in [(0, 12), (1, 25), (2, 12 + MAX_FRAME as u32 + 1), (3, 0x8000)] {
        driver.offer(TRANSMIT, head, &[(0, length, 0)]);
    }
    driver.service().unwrap();
    assert_eq!((driver.net.0.sent.len(), driver.used(TRANSMIT).len()), (0, 4));
    for (head, length) in [(0, 26), (1, 12 + MAX_FRAME as u32)] {
        driver.offer(TRANSMIT, head, &[(0, length, 0)]);
    }
    driver.service().unwrap();
    assert_eq!(driver.net.0.sent.iter().map(Vec::len).collect::<Vec<_>>(), [14, MAX_FRAME]);
}

#[test]
fn frames_wait_until_there_is_room_to_send() {
    let mut driver = driver();
    driver.net.0.busy = true;
    driver.offer(TRANSMIT, 0, &[(BUFFER, 100, 0)]);
    driver.service().unwrap();
    assert_eq!(driver.used(TRANSMIT), []);
    driver.net.0.busy = false;
    driver.service().unwrap();
    assert_eq!((driver.net.0.sent.len(), driver.used(TRANSMIT)), (1, std::vec![(0, 0)]));
}

#[test]
fn a_frame_waits_for_a_buffer_and_is_received_behind_a_header_that_counts_one() {
    let mut driver = driver();
    driver.net.0.arrived.extend([std::vec![7; 60], std::vec![8; 60]]);
    driver.service().unwrap();
    assert_eq!(driver.net.0.arrived.len(), 2);
    driver.memory.write(BUFFER, &[0xff; 12]).unwrap();
    driver.offer(RECEIVE, 0, &[(BUFFER, 12, WRITE), (BUFFER + 0x100, 1514, WRITE)]);
    driver.service().unwrap();
    let mut found = [0; 62];
    driver.memory.read(BUFFER, &mut found[..12]).unwrap();
    assert_eq!(found[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    driver.memory.read(BUFFER + 0x100, &mut found).unwrap();
    assert_eq!((found[0], found[59], found[60]), (7, 7, 0));
    assert_eq!((driver.used(RECEIVE), driver.net.0.arrived.len()), (std::vec![(0, 72)], 1));
}

#[test]
fn a_frame_that_is_longer_than_the_buffer_is_lost_and_the_next_one_gets_it() {
    let mut driver = driver();
    driver.net.0.arrived.extend([std::vec![7; MAX_FRAME], std::vec![8; 1514]]);
    driver.offer(RECEIVE, 0, &[(BUFFER, 1526, WRITE)]);
    driver.service().unwrap();
    assert_eq!((driver.used(RECEIVE), driver.net.0.arrived.len()), (std::vec![(0, 1526)], 0));
    assert_eq!(driver.memory.read_u16(BUFFER + 12), Ok(0x0808));
}

#[test]
fn buffers_of_the_wrong_direction_or_size_are_refused() {
    for (index, buffer) in [
        (RECEIVE, (BUFFER, 1526, 0)),
        (RECEIVE, (BUFFER, 1525, WRITE)),
        (TRANSMIT, (BUFFER, 100, WRITE)),
        (TRANSMIT, (BUFFER, 11, 0)),
    ] {
        let mut driver = driver();
        driver.net.0.arrived.push_back(std::vec![7; 60]);
        driver.offer(index, 0, &[buffer]);
        assert_eq!(driver.service(), Err(QueueError::Malformed), "{buffer:?}");
        assert!(driver.net.0.sent.is_empty());
    }
}

#[test]
fn a_driver_that_always_has_more_is_stopped() {
    let mut driver = driver();
    // One buffer that is the ring: each frame that is sent makes another one available.
    driver.queues[TRANSMIT].size = 1;
    driver.queues[TRANSMIT].used = driver.queues[TRANSMIT].available;
    for _ in 0..10 {
        driver.offer(TRANSMIT, 0, &[(0, 100, 0)]);
        let _ = driver.service();
    }
    assert!(driver.net.0.sent.len() <= 10 * ROUNDS);
}

#[test]
fn drivers_are_told_the_address() {
    assert_eq!(driver().net.config()[..7], [0x52, 0x54, 0, 1, 2, 3, 0]);
}
