//! A network card (Virtual I/O Device specification 1.2, 5.1) with one queue for each direction, and without offloads.
//!
//! A frame is copied once on its way, so what is sent does not change any more, and nothing that is outside refers to the
//! guest's memory: a reset has nothing to wait for, and there is nothing to save.

use super::queue::{self, Queue, QueueError};
use super::{CONFIG_SIZE, Device};
use crate::memory::GuestMemory;
use crate::state::{Reader, StateError, Writer};
use core::fmt;

const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// Bytes of an Ethernet address.
pub const ADDRESS_SIZE: usize = 6;
/// Bytes of the longest frame: one with a VLAN's tag, without the check sequence (IEEE 802.3, 3.2.7).
pub const MAX_FRAME: usize = 1518;
/// Bytes of the shortest: two addresses and a type. Whoever puts it on a wire makes it as long as it has to be there.
const MIN_FRAME: u64 = 14;

/// Bytes before each frame (5.1.6); all of them are 0 without offloads, but the number of buffers of what is received.
pub const HEADER_SIZE: usize = 12;
const NUMBER_OF_BUFFERS: usize = 10;
/// Least room of a buffer to receive into (5.1.6.3.1), in bytes.
const LEAST_ROOM: u64 = 1526;

/// Most frames in each direction before the guest runs again, and others are served.
const ROUNDS: usize = 64;

/// The card has an address.
const HAS_ADDRESS: u64 = 1 << 5;

/// What a card is connected with.
pub trait Link: fmt::Debug {
    /// Address of the card.
    fn address(&self) -> [u8; ADDRESS_SIZE];
    /// Room for the next frame to send, if there is any now.
    fn room(&mut self) -> Option<&mut [u8; MAX_FRAME]>;
    /// Sends the first bytes of what the room has been filled with.
    fn send(&mut self, length: usize);
    /// The frame that came first, until it is dropped.
    fn received(&mut self) -> Option<&[u8]>;
    /// Drops the frame that came first.
    fn drop_received(&mut self);
}

/// The device.
#[derive(Debug)]
pub struct Net<L>(pub L);

impl<L: Link> Net<L> {
    fn receive(&mut self, queue: &mut Queue, memory: &mut GuestMemory) -> Result<(), QueueError> {
        let mut header = [0; HEADER_SIZE];
        header[NUMBER_OF_BUFFERS] = 1;
        for _ in 0..ROUNDS {
            let Some(frame) = self.0.received() else { return Ok(()) };
            let Some(chain) = queue.pop(memory)? else { return Ok(()) };
            let room = queue::length(chain.writable());
            if room < LEAST_ROOM || !chain.readable().is_empty() {
                return Err(QueueError::Malformed);
            }
            let length = HEADER_SIZE + frame.len();
            if length as u64 <= room {
                queue::write(chain.writable(), 0, memory, &header)?;
                queue::write(chain.writable(), HEADER_SIZE as u64, memory, frame)?;
                queue.push(memory, chain.head, length as u32)?;
            } else {
                // Lost, as frames are that nobody has room for.
                queue.put_back();
            }
            self.0.drop_received();
        }
        Ok(())
    }

    fn send(&mut self, queue: &mut Queue, memory: &mut GuestMemory) -> Result<(), QueueError> {
        const HEADER: u64 = HEADER_SIZE as u64;
        const LONGEST: u64 = MAX_FRAME as u64;
        for _ in 0..ROUNDS {
            let Some(room) = self.0.room() else { return Ok(()) };
            let Some(chain) = queue.pop(memory)? else { return Ok(()) };
            let length = queue::length(chain.readable()).checked_sub(HEADER).ok_or(QueueError::Malformed)?;
            if !chain.writable().is_empty() {
                return Err(QueueError::Malformed);
            }
            // What is no frame is used too, and not sent.
            if (MIN_FRAME..=LONGEST).contains(&length) {
                queue::read(chain.readable(), HEADER, memory, &mut room[..length as usize])?;
                self.0.send(length as usize);
            }
            queue.push(memory, chain.head, 0)?;
        }
        Ok(())
    }
}

impl<L: Link> Device for Net<L> {
    const ID: u16 = 1;
    const CLASS: u32 = 0x02_00_00;
    const QUEUES: usize = 2;

    fn features(&self) -> u64 {
        HAS_ADDRESS
    }

    fn config(&self) -> [u8; CONFIG_SIZE] {
        let mut config = [0; CONFIG_SIZE];
        config[..ADDRESS_SIZE].copy_from_slice(&self.0.address());
        config
    }

    fn service(&mut self, queues: &mut [Queue], memory: &mut GuestMemory) -> Result<(), QueueError> {
        self.receive(&mut queues[RECEIVE], memory)?;
        self.send(&mut queues[TRANSMIT], memory)
    }

    fn reset(&mut self) -> bool {
        true
    }

    fn save(&self, _: &mut Writer) -> Result<(), StateError> {
        Ok(())
    }

    fn restore(&mut self, _: &mut Reader) -> Result<(), StateError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
