//! Virtio devices (Virtual I/O Device specification 1.2) on the PCI bus, with split queues.
//!
//! | module | what it is | specification |
//! | --- | --- | --- |
//! | [`queue`] | virtqueues | 2.7 |
//! | [`transport`] | what all devices look like on the PCI bus | 2.1 to 2.4, 4.1 |
//! | [`block`] | a disk | 5.2 |
//! | [`console`] | a terminal | 5.3 |
//! | [`net`] | a network card | 5.1 |
//! | [`rng`] | entropy | 5.4 |
//!
//! What is behind a device is its backend's, which the machine under the guest has.

pub mod block;
pub mod console;
pub mod net;
pub mod queue;
pub mod rng;
pub mod transport;

use crate::memory::GuestMemory;
use crate::state::{Reader, StateError, Writer};
use core::fmt;
use queue::{Queue, QueueError};

/// How many bytes of its own configuration a device has at most.
pub const CONFIG_SIZE: usize = 64;
/// Most queues of a device.
pub const MAX_QUEUES: usize = 2;

/// What kind of device there is behind a transport.
pub trait Device: fmt::Debug {
    /// Its number (5).
    const ID: u16;
    /// Class, subclass and programming interface of its PCI function.
    const CLASS: u32;
    /// How many queues it has, up to [`MAX_QUEUES`].
    const QUEUES: usize;

    /// Features of this kind of device that it offers, below bit 24.
    fn features(&self) -> u64;
    /// Its configuration, which drivers only read.
    fn config(&self) -> [u8; CONFIG_SIZE];
    /// Does what there is to do: uses what is available, and what is finished. On an error it needs a reset.
    fn service(&mut self, queues: &mut [Queue], memory: &mut GuestMemory) -> Result<(), QueueError>;
    /// Forgets what it was doing; whether nothing of it still goes on outside, or this has to be asked again.
    fn reset(&mut self) -> bool;
    /// Whether nothing of it goes on outside.
    fn is_idle(&self) -> bool {
        true
    }
    /// Saves all that a driver can tell apart.
    fn save(&self, state: &mut Writer) -> Result<(), StateError>;
    /// Goes on where another one of its kind was saved.
    fn restore(&mut self, state: &mut Reader) -> Result<(), StateError>;
}
