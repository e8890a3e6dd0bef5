//! A console with one port (Virtual I/O Device specification 1.2, 5.3).

use super::queue::{self, Queue, QueueError};
use super::{CONFIG_SIZE, Device};
use crate::memory::GuestMemory;
use crate::state::{Reader, StateError, Writer};
use core::fmt;

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// Most bytes that are received or sent at once: a guest can offer the same memory again and again.
const MAX_BYTES: usize = 64;
/// How often that is done in a row.
const ROUNDS: usize = 64;

/// What a console is connected with.
pub trait Terminal: fmt::Debug {
    /// How many bytes it takes now.
    fn room(&self) -> usize;
    /// Takes what the guest sends.
    fn send(&mut self, bytes: &[u8]);
    /// The next byte for the guest.
    fn receive(&mut self) -> Option<u8>;
}

/// The device.
#[derive(Debug)]
pub struct Console<T> {
    terminal: T,
    /// How much of what is to be sent next has been sent.
    sent: u64,
    /// For the guest, until it has a buffer.
    received: Option<u8>,
}

impl<T: Terminal> Console<T> {
    /// A console as it is after a reset.
    pub const fn new(terminal: T) -> Console<T> {
        Console { terminal, sent: 0, received: None }
    }

    fn receive(&mut self, queue: &mut Queue, memory: &mut GuestMemory) -> Result<(), QueueError> {
        for _ in 0..ROUNDS {
            self.received = self.received.or_else(|| self.terminal.receive());
            let Some(first) = self.received else { return Ok(()) };
            let Some(chain) = queue.pop(memory)? else { return Ok(()) };
            let room = queue::length(chain.writable()).min(MAX_BYTES as u64) as usize;
            if room == 0 || !chain.readable().is_empty() {
                return Err(QueueError::Malformed);
            }
            let mut bytes = [first; MAX_BYTES];
            let mut count = 1;
            self.received = None;
            while count < room
                && let Some(byte) = self.terminal.receive()
            {
                bytes[count] = byte;
                count += 1;
            }
            queue::write(chain.writable(), 0, memory, &bytes[..count])?;
            queue.push(memory, chain.head, count as u32)?;
        }
        Ok(())
    }

    fn send(&mut self, queue: &mut Queue, memory: &mut GuestMemory) -> Result<(), QueueError> {
        for _ in 0..ROUNDS {
            if self.terminal.room() < MAX_BYTES {
                return Ok(());
            }
            let Some(chain) = queue.pop(memory)? else { return Ok(()) };
            if !chain.writable().is_empty() {
                return Err(QueueError::Malformed);
            }
            let mut bytes = [0; MAX_BYTES];
            let count = queue::read(chain.readable(), self.sent, memory, &mut bytes)?;
            self.terminal.send(&bytes[..count]);
            self.sent += count as u64;
            if self.sent < queue::length(chain.readable()) {
                // The rest of it is next.
                queue.put_back();
            } else {
                self.sent = 0;
                queue.push(memory, chain.head, 0)?;
            }
        }
        Ok(())
    }
}

impl<T: Terminal> Device for Console<T> {
    const ID: u16 = 3;
    const CLASS: u32 = 0x07_80_00;
    const QUEUES: usize = 2;

    fn features(&self) -> u64 {
        0
    }

    fn config(&self) -> [u8; CONFIG_SIZE] {
        [0; CONFIG_SIZE]
    }

    fn service(&mut self, queues: &mut [Queue], memory: &mut GuestMemory) -> Result<(), QueueError> {
        self.receive(&mut queues[RECEIVE], memory)?;
        self.send(&mut queues[TRANSMIT], memory)
    }

    fn reset(&mut self) -> bool {
        self.sent = 0;
        true
    }

    fn save(&self, state: &mut Writer) -> Result<(), StateError> {
        state.number::<8>(self.sent)?;
        state.number::<2>(self.received.map_or(u64::from(u16::MAX), u64::from))
    }

    fn restore(&mut self, state: &mut Reader) -> Result<(), StateError> {
        // No chain of buffers is longer than this, and what lies behind the end of one is nothing.
        self.sent = state.checked::<8>(|sent| sent >> 48 == 0)?;
        let received = state.checked::<2>(|received| received < 256 || received == u16::MAX.into())?;
        self.received = u8::try_from(received).ok();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::testing::{WRITE, offer, queue, used};
    use super::*;
    use crate::memory::leaked;
    use std::vec::Vec;

    #[derive(Debug, Default)]
    struct Test {
        sent: Vec<u8>,
        typed: Vec<u8>,
        full: bool,
    }

    impl Terminal for Test {
        fn room(&self) -> usize {
            if self.full { MAX_BYTES - 1 } else { MAX_BYTES }
        }

        fn send(&mut self, bytes: &[u8]) {
            self.sent.extend(bytes);
        }

        fn receive(&mut self) -> Option<u8> {
            if self.typed.is_empty() { None } else { Some(self.typed.remove(0)) }
        }
    }

    fn parts() -> (GuestMemory, [Queue; 2], Console<Test>) {
        (leaked(1 << 16), [queue(8, 0), queue(8, 0x4000)], Console::new(Test::default()))
    }

    #[test]
    fn what_the_guest_writes_is_sent() {
        let (mut memory, mut queues, mut console) = parts();
        memory.write(0x9000, b"hello world").unwrap();
        offer(&mut memory, &mut queues[TRANSMIT], 0, &[(0x9000, 6, 0), (0x9006, 5, 0)]);
        offer(&mut memory, &mut queues[TRANSMIT], 2, &[(0x9000, 0, 0)]);
        console.service(&mut queues, &mut memory).unwrap();
        assert_eq!(console.terminal.sent, b"hello world");
        assert_eq!(used(&memory, &queues[TRANSMIT]), [(0, 0), (2, 0)]);
    }

    #[test]
    fn much_is_sent_bit_by_bit_and_saved_in_between() {
        let (mut memory, mut queues, mut console) = parts();
        offer(&mut memory, &mut queues[TRANSMIT], 0, &[(0, 0x3000, 0), (0, 0x3000, 0)]);
        console.service(&mut queues, &mut memory).unwrap();
        assert_eq!((console.terminal.sent.len(), used(&memory, &queues[TRANSMIT]).len()), (MAX_BYTES * ROUNDS, 0));
        let mut bytes = [0; 16];
        console.save(&mut Writer::new(&mut bytes)).unwrap();
        console.sent = 0;
        console.restore(&mut Reader::new(&bytes)).unwrap();
        for _ in 0..5 {
            console.service(&mut queues, &mut memory).unwrap();
        }
        assert_eq!((console.terminal.sent.len(), used(&memory, &queues[TRANSMIT])), (0x6000, std::vec![(0, 0)]));
        assert!(console.restore(&mut Reader::new(&bytes[..9])).is_err());
        assert!(console.restore(&mut Reader::new(&[0, 0, 0, 0, 0, 0, 1, 0, 0, 0])).is_err());
        assert!(console.restore(&mut Reader::new(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 1])).is_err());
    }

    #[test]
    fn what_is_sent_waits_for_room() {
        let (mut memory, mut queues, mut console) = parts();
        offer(&mut memory, &mut queues[TRANSMIT], 0, &[(0x9000, 5, 0)]);
        console.terminal.full = true;
        console.service(&mut queues, &mut memory).unwrap();
        assert_eq!((console.terminal.sent.len(), used(&memory, &queues[TRANSMIT]).len()), (0, 0));
        console.terminal.full = false;
        console.service(&mut queues, &mut memory).unwrap();
        assert_eq!((console.terminal.sent.len(), used(&memory, &queues[TRANSMIT]).len()), (5, 1));
    }

    #[test]
    fn what_is_typed_waits_for_a_buffer() {
        let (mut memory, mut queues, mut console) = parts();
        console.terminal.typed = b"typed".to_vec();
        console.service(&mut queues, &mut memory).unwrap();
        assert_eq!(console.received, Some(b't'));
        let mut bytes = [0; 10];
        console.save(&mut Writer::new(&mut bytes)).unwrap();
        console.restore(&mut Reader::new(&bytes)).unwrap();
        offer(&mut memory, &mut queues[RECEIVE], 0, &[(0x9000, 2, WRITE), (0x9800, 1, WRITE)]);
        offer(&mut memory, &mut queues[RECEIVE], 2, &[(0xa000, 64, WRITE)]);
        console.service(&mut queues, &mut memory).unwrap();
        assert_eq!(used(&memory, &queues[RECEIVE]), [(0, 3), (2, 2)]);
        let mut found = [0; 2];
        memory.read(0xa000, &mut found).unwrap();
        assert_eq!((&found, memory.read_u16(0x9000), console.received), (b"ed", Ok(0x7974), None));
    }

    #[test]
    fn buffers_of_the_wrong_direction_or_of_no_size_are_refused() {
        for (index, buffer) in
            [(RECEIVE, (0x9000, 1, 0)), (RECEIVE, (0x9000, 0, WRITE)), (TRANSMIT, (0x9000, 1, WRITE))]
        {
            let (mut memory, mut queues, mut console) = parts();
            console.terminal.typed = b"x".to_vec();
            offer(&mut memory, &mut queues[index], 0, &[buffer]);
            assert_eq!(console.service(&mut queues, &mut memory), Err(QueueError::Malformed));
        }
    }
}
