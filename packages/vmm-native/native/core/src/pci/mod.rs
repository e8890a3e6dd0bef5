//! PCI (PCI Local Bus specification 3.0): one bus with a host bridge, and whatever functions a guest is given.
//!
//! | module | what it is | specification |
//! | --- | --- | --- |
//! | [`config`] | configuration space: identification, BARs, capabilities | 6.1, 6.2, 6.7 |
//! | [`msix`] | interrupts that are messages | 6.8.2 |
//! | [`bus`] | how processors reach configuration spaces and BARs | 3.2.2.3.2; PCI Express 7.2.2 |
//!
//! What functions do beyond that is a [`Device`]'s.

pub mod bus;
pub mod config;
pub mod msix;

use crate::lapic::Command;
use crate::memory::GuestMemory;
use crate::state::{Reader, StateError, Writer};
use config::Function;
use core::fmt;

/// A function of the bus.
///
/// Accesses have 1, 2, 4 or 8 bytes and lie anywhere: guests choose both. What an access makes necessary beyond changing
/// registers is done by [`Device::service`], after it.
pub trait Device: fmt::Debug {
    /// Its configuration space.
    fn function(&self) -> &Function;
    /// Its configuration space, for whoever gives out addresses.
    fn function_mut(&mut self) -> &mut Function;
    /// What a processor reads from its configuration space.
    fn read_config(&mut self, offset: u16, size: u8) -> u64;
    /// Takes what a processor writes to its configuration space.
    fn write_config(&mut self, offset: u16, size: u8, value: u64);
    /// What a processor reads from one of its BARs.
    fn read_bar(&mut self, bar: usize, offset: u64, size: u8) -> u64;
    /// Takes what a processor writes to one of its BARs.
    fn write_bar(&mut self, bar: usize, offset: u64, size: u8, value: u64);
    /// Does what there is to do: after an access, and when something may have happened outside.
    fn service(&mut self, memory: &mut GuestMemory);
    /// The next message that it sends.
    fn take_message(&mut self) -> Option<Command>;
    /// Whether it asserts its interrupt pin.
    fn interrupt(&self) -> bool;
    /// Goes back to how it was made, without addresses; whether nothing of it goes on outside, or this has to be asked again.
    fn reset(&mut self) -> bool;
    /// Whether nothing of it goes on outside.
    fn is_idle(&self) -> bool {
        true
    }
    /// Saves all that a guest can tell apart.
    fn save(&self, state: &mut Writer) -> Result<(), StateError>;
    /// Goes on where another one of its kind was saved. On an error it is in no state to be used.
    fn restore(&mut self, state: &mut Reader) -> Result<(), StateError>;
}
