//! An entropy device (Virtual I/O Device specification 1.2, 5.4).

use super::queue::{self, Queue, QueueError};
use super::{CONFIG_SIZE, Device};
use crate::memory::GuestMemory;
use crate::state::{Reader, StateError, Writer};
use core::fmt;

/// Most bytes that one buffer gets; a driver that wants more asks again.
const MAX_BYTES: usize = 256;

/// Where entropy comes from.
pub trait Entropy: fmt::Debug {
    /// Fills bytes.
    fn fill(&mut self, bytes: &mut [u8]);
}

/// The device.
#[derive(Debug)]
pub struct Rng<E>(pub E);

impl<E: Entropy> Device for Rng<E> {
    const ID: u16 = 4;
    const CLASS: u32 = 0x10_00_00;
    const QUEUES: usize = 1;

    fn features(&self) -> u64 {
        0
    }

    fn config(&self) -> [u8; CONFIG_SIZE] {
        [0; CONFIG_SIZE]
    }

    fn service(&mut self, queues: &mut [Queue], memory: &mut GuestMemory) -> Result<(), QueueError> {
        let requests = &mut queues[0];
        while let Some(chain) = requests.pop(memory)? {
            if !chain.readable().is_empty() {
                return Err(QueueError::Malformed);
            }
            let mut bytes = [0; MAX_BYTES];
            self.0.fill(&mut bytes);
            let written = queue::write(chain.writable(), 0, memory, &bytes)?;
            requests.push(memory, chain.head, written as u32)?;
        }
        Ok(())
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
