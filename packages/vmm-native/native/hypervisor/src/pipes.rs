//! Virtio devices with a queue for what comes and one for what goes: network cards and consoles.

use crate::memory::FreeMemory;
use crate::virtio::{Descriptor, Device, Queue, flag};

const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;

/// How many buffers there are for each direction: as many as a set of bits has.
pub const BUFFERS: usize = u32::BITS as usize;

#[repr(C, align(16))]
struct Buffer<const SIZE: usize>([u8; SIZE]);

/// Both queues with their buffers, which are reached by their pointers only: one that has been offered is the device's until
/// it has been used.
pub struct Pipes<const SIZE: usize> {
    receive: Queue,
    transmit: Queue,
    arrivals: *mut Buffer<SIZE>,
    departures: *mut Buffer<SIZE>,
    /// What came first: its buffer, and its length.
    first: Option<(u16, usize)>,
    /// Buffers to send that are not the device's, a bit for each.
    free: u32,
}

impl<const SIZE: usize> Pipes<SIZE> {
    /// Lets a device that has been reset begin, with buffers of `SIZE` bytes.
    pub fn start(mut device: Device, memory: &mut FreeMemory) -> Option<Pipes<SIZE>> {
        let (receive, transmit) = (device.queue(RECEIVE, memory)?, device.queue(TRANSMIT, memory)?);
        let mut buffers = || Some(memory.take_all(BUFFERS, |_, _| Some(Buffer([0; SIZE])))?.as_mut_ptr());
        let (arrivals, departures) = (buffers()?, buffers()?);
        device.begin();
        let mut pipes = Pipes { receive, transmit, arrivals, departures, first: None, free: u32::MAX };
        for number in 0..BUFFERS as u16 {
            pipes.offer_arrival(number);
        }
        Some(pipes)
    }

    /// Gives the device a buffer to receive into, which is not its own.
    fn offer_arrival(&mut self, number: u16) {
        // SAFETY: there are so many buffers, they lie where they are as long as the device is used, and nothing refers to
        // this one.
        unsafe {
            let buffer = self.arrivals.add(number.into());
            self.receive.offer(number, Descriptor::buffer(buffer, SIZE, flag::WRITE));
        }
    }

    /// What has come first, until it is dropped.
    pub fn arrived(&mut self) -> Option<&[u8]> {
        if self.first.is_none() {
            let (number, written) = self.receive.used().filter(|(number, _)| usize::from(*number) < BUFFERS)?;
            self.first = Some((number, (written as usize).min(SIZE)));
        }
        let (number, length) = self.first?;
        // SAFETY: there are so many buffers, and this one has been used, so it is not the device's.
        let buffer = unsafe { &(*self.arrivals.add(number.into())).0 };
        buffer.get(..length)
    }

    /// Makes room for more.
    pub fn drop_arrived(&mut self) {
        if let Some((number, _)) = self.first.take() {
            self.offer_arrival(number);
        }
    }

    /// How many buffers there are to send.
    pub fn free(&mut self) -> usize {
        while let Some((number, _)) = self.transmit.used() {
            self.free |= 1_u32.checked_shl(number.into()).unwrap_or(0);
        }
        self.free.count_ones() as usize
    }

    /// The buffer to send next.
    pub fn room(&mut self) -> Option<&mut [u8; SIZE]> {
        if self.free() == 0 {
            return None;
        }
        // SAFETY: there are so many buffers, and this one is not the device's.
        Some(unsafe { &mut (*self.departures.add(self.free.trailing_zeros() as usize)).0 })
    }

    /// Sends the beginning of that buffer.
    pub fn send(&mut self, length: usize) {
        // Nobody has no room and sends.
        let number = self.free.trailing_zeros() as usize;
        if number < BUFFERS {
            self.free &= self.free - 1;
            // SAFETY: as above; it is the device's now, and nothing refers to it.
            unsafe {
                let buffer = self.departures.add(number);
                self.transmit.offer(number as u16, Descriptor::buffer(buffer, length.min(SIZE), 0));
            }
        }
    }
}
