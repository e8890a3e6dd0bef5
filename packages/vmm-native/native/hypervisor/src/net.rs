//! Network cards of the machine: virtio network devices (Virtual I/O Device specification 1.2, 5.1).

use crate::memory::FreeMemory;
use crate::pci::Function;
use crate::pipes::Pipes;
use crate::virtio::{self, Device};
use core::fmt;
use vmm_core::virtio::net::{ADDRESS_SIZE, HEADER_SIZE, Link, MAX_FRAME};

/// The card has an address, at the beginning of its configuration.
const HAS_ADDRESS: u64 = 1 << 5;

/// A card. Frames lie behind a header that says nothing as long as there are no offloads (5.1.6).
pub struct Card {
    pipes: Pipes<{ HEADER_SIZE + MAX_FRAME }>,
    address: [u8; ADDRESS_SIZE],
}

impl fmt::Debug for Card {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Card {{ address: {:x?} }}", self.address)
    }
}

/// All cards of the machine.
pub fn find() -> impl Iterator<Item = Function> {
    virtio::find(virtio::NETWORK)
}

impl Card {
    /// Makes a card ready; `None` when it is none that can be used.
    pub fn start(function: Function, memory: &mut FreeMemory) -> Option<Card> {
        let device = Device::reset(function, HAS_ADDRESS)?;
        if device.features & HAS_ADDRESS == 0 {
            return None;
        }
        let [a, b, c, d] = device.config(0).to_le_bytes();
        let [e, f, ..] = device.config(4).to_le_bytes();
        Some(Card { pipes: Pipes::start(device, memory)?, address: [a, b, c, d, e, f] })
    }
}

impl Link for Card {
    fn address(&self) -> [u8; ADDRESS_SIZE] {
        self.address
    }

    fn room(&mut self) -> Option<&mut [u8; MAX_FRAME]> {
        self.pipes.room()?.last_chunk_mut()
    }

    fn send(&mut self, length: usize) {
        self.pipes.send(HEADER_SIZE + length);
    }

    fn received(&mut self) -> Option<&[u8]> {
        let frame = self.pipes.arrived()?;
        Some(frame.get(HEADER_SIZE..).unwrap_or_default())
    }

    fn drop_received(&mut self) {
        self.pipes.drop_arrived();
    }
}
