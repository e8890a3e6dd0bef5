//! What a guest has on its PCI bus, and what of this machine is behind it.

use crate::disk::{self, Disk};
use crate::guest;
use crate::memory::FreeMemory;
use crate::net::{self, Card};
use crate::pci::Function;
use crate::virtio;
use core::arch::asm;
use vmm_core::pci::Device;
use vmm_core::virtio::block::Block;
use vmm_core::virtio::console::{Console, Terminal};
use vmm_core::virtio::net::Net;
use vmm_core::virtio::rng::{Entropy, Rng};
use vmm_core::virtio::transport::VirtioPci;

/// Disks and cards of the machine, in the order of its bus, a bit for each.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Disks.
    pub disks: u8,
    /// Network cards.
    pub cards: u8,
}

impl Wanted {
    /// Whether others want one of them too.
    pub fn overlaps(self, other: Wanted) -> bool {
        self.disks & other.disks != 0 || self.cards & other.cards != 0
    }

    fn disks(self) -> impl Iterator<Item = Option<Function>> {
        chosen(self.disks).map(|index| disk::find().nth(index))
    }

    fn cards(self) -> impl Iterator<Item = Option<Function>> {
        chosen(self.cards).map(|index| net::find().nth(index))
    }
}

/// Numbers of the bits that are set.
fn chosen(bits: u8) -> impl Iterator<Item = usize> {
    (0..8).filter(move |bit| bits >> bit & 1 != 0)
}

/// Makes the devices: a console, a source of entropy when the processor is one, disks and network cards. `None` when memory
/// is short, or one of the machine's devices is not there or none that can be used.
pub fn make(
    memory: &mut FreeMemory,
    wanted: Wanted,
    console: &'static guest::Console,
) -> Option<&'static mut [&'static mut dyn Device]> {
    let entropy = usize::from(Processor::is_source());
    let [disks, cards] = [wanted.disks, wanted.cards].map(|bits| bits.count_ones() as usize);
    let (first_disk, first_card) = (1 + entropy, 1 + entropy + disks);
    memory.take_all(first_card + cards, |memory, index| -> Option<&'static mut dyn Device> {
        if index == 0 {
            Some(memory.take(VirtioPci::new(Console::new(OnChannel(console))))?)
        } else if index < first_disk {
            Some(memory.take(VirtioPci::new(Rng(Processor)))?)
        } else if index < first_card {
            let disk = Disk::start(wanted.disks().nth(index - first_disk)??, memory)?;
            Some(memory.take(VirtioPci::new(Block::new(disk)))?)
        } else {
            let card = Card::start(wanted.cards().nth(index - first_card)??, memory)?;
            Some(memory.take(VirtioPci::new(Net(card)))?)
        }
    })
}

/// Makes the machine's devices leave memory alone.
pub fn stop(wanted: Wanted) {
    wanted.disks().chain(wanted.cards()).flatten().for_each(virtio::stop);
}

/// A console on the control channel.
#[derive(Debug)]
struct OnChannel(&'static guest::Console);

impl Terminal for OnChannel {
    fn room(&self) -> usize {
        self.0.output.room()
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.output.put(bytes);
    }

    fn receive(&mut self) -> Option<u8> {
        self.0.input.take()
    }
}

/// This processor's random numbers: RDRAND (manual, volume 3).
#[derive(Debug)]
struct Processor;

impl Processor {
    fn is_source() -> bool {
        const RDRAND: u32 = 1 << 30;
        crate::cpu::cpuid(1, 0)[2] & RDRAND != 0
    }
}

impl Entropy for Processor {
    fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            let number = loop {
                let (number, valid): (u64, u8);
                // SAFETY: the device is only made when there is the instruction.
                unsafe { asm!("rdrand {}", "setc {}", out(reg) number, out(reg_byte) valid, options(nomem, nostack)) };
                if valid != 0 {
                    break number;
                }
            };
            part.copy_from_slice(&number.to_le_bytes()[..part.len()]);
        }
    }
}
