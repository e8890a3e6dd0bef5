//! Network cards of the machine: virtio network devices (Virtual I/O Device specification 1.2, 5.1).

use crate::memory::FreeMemory;
use crate::pci::Function;
use crate::virtio::{self, Descriptor, Device, Queue, flag};
use core::fmt;
use vmm_core::virtio::net::{ADDRESS_SIZE, HEADER_SIZE, Link, MAX_FRAME};

const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
/// The card has an address, at the beginning of its configuration.
const HAS_ADDRESS: u64 = 1 << 5;

/// How many buffers there are for each direction: as many as a set of bits has.
const BUFFERS: usize = u32::BITS as usize;

/// A frame, behind the header that says nothing as long as there are no offloads (5.1.6).
#[repr(C, align(16))]
struct Buffer {
    header: [u8; HEADER_SIZE],
    frame: [u8; MAX_FRAME],
}

/// A card. Buffers are reached by their pointers only: one that has been offered is the device's until it has been used.
pub struct Card {
    receive: Queue,
    transmit: Queue,
    arrivals: *mut Buffer,
    departures: *mut Buffer,
    address: [u8; ADDRESS_SIZE],
    /// The frame that came first: its buffer, and its length.
    first: Option<(u16, usize)>,
    /// Buffers to send that are not the device's, a bit for each.
    free: u32,
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
        let mut device = Device::reset(function, HAS_ADDRESS)?;
        if device.features & HAS_ADDRESS == 0 {
            return None;
        }
        let (receive, transmit) = (device.queue(RECEIVE, memory)?, device.queue(TRANSMIT, memory)?);
        let mut buffers = || {
            let make = |_: &mut FreeMemory, _| Some(Buffer { header: [0; HEADER_SIZE], frame: [0; MAX_FRAME] });
            Some(memory.take_all(BUFFERS, make)?.as_mut_ptr())
        };
        let (arrivals, departures) = (buffers()?, buffers()?);
        let [a, b, c, d] = device.config(0).to_le_bytes();
        let [e, f, ..] = device.config(4).to_le_bytes();
        let address = [a, b, c, d, e, f];
        device.begin();
        let mut card = Card { receive, transmit, arrivals, departures, address, first: None, free: u32::MAX };
        for number in 0..BUFFERS as u16 {
            card.offer_arrival(number);
        }
        Some(card)
    }

    /// Gives the device a buffer to receive into, which is not its own.
    fn offer_arrival(&mut self, number: u16) {
        // SAFETY: there are so many buffers, they lie where they are for ever, and nothing refers to this one.
        unsafe {
            let buffer = self.arrivals.add(number.into());
            self.receive.offer(number, Descriptor::buffer(buffer, HEADER_SIZE + MAX_FRAME, flag::WRITE));
        }
    }
}

impl Link for Card {
    fn address(&self) -> [u8; ADDRESS_SIZE] {
        self.address
    }

    fn room(&mut self) -> Option<&mut [u8; MAX_FRAME]> {
        while let Some((number, _)) = self.transmit.used() {
            self.free |= 1_u32.checked_shl(number.into()).unwrap_or(0);
        }
        let number = self.free.trailing_zeros() as usize;
        // SAFETY: there are so many buffers, and this one is not the device's.
        (number < BUFFERS).then(|| unsafe { &mut (*self.departures.add(number)).frame })
    }

    fn send(&mut self, length: usize) {
        // Nobody has no room and sends.
        let number = self.free.trailing_zeros() as usize;
        if number < BUFFERS {
            self.free &= self.free - 1;
            // SAFETY: as above; it is the device's now, and nothing refers to it.
            unsafe {
                let buffer = self.departures.add(number);
                let length = HEADER_SIZE + length.min(MAX_FRAME);
                self.transmit.offer(number as u16, Descriptor::buffer(buffer, length, 0));
            }
        }
    }

    fn received(&mut self) -> Option<&[u8]> {
        if self.first.is_none() {
            let (number, written) = self.receive.used().filter(|(number, _)| usize::from(*number) < BUFFERS)?;
            self.first = Some((number, (written as usize).clamp(HEADER_SIZE, HEADER_SIZE + MAX_FRAME) - HEADER_SIZE));
        }
        let (number, length) = self.first?;
        // SAFETY: there are so many buffers, and this one has been used, so it is not the device's.
        let frame = unsafe { &(*self.arrivals.add(number.into())).frame };
        frame.get(..length)
    }

    fn drop_received(&mut self) {
        if let Some((number, _)) = self.first.take() {
            self.offer_arrival(number);
        }
    }
}
