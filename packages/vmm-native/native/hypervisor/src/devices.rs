//! What a guest has on its PCI bus, and what of this machine is behind it.

use crate::disk::{self, Disk};
use crate::memory::FreeMemory;
use crate::net::{self, Card};
use crate::serial::{COM3, Port};
use crate::time;
use core::arch::asm;
use vmm_core::pci::Device;
use vmm_core::virtio::block::Block;
use vmm_core::virtio::console::{Console, Terminal};
use vmm_core::virtio::net::Net;
use vmm_core::virtio::rng::{Entropy, Rng};
use vmm_core::virtio::transport::VirtioPci;

/// Most disks of a guest.
const MAX_DISKS: usize = 4;
/// Most network cards of a guest.
const MAX_CARDS: usize = 4;
/// How often it is looked at what has been typed, in parts of a second.
const LOOKS: u64 = 100;

/// Makes the devices: a console when there is a third serial port, a source of entropy when the processor is one, each disk
/// and each network card. `None` when memory is short, or one of the machine's devices is none that can be used.
pub fn make(memory: &mut FreeMemory, tsc_frequency: u64) -> Option<&'static mut [&'static mut dyn Device]> {
    let [disks, cards] = [disk::find().take(MAX_DISKS).count(), net::find().take(MAX_CARDS).count()];
    let first_entropy = usize::from(Port(COM3).exists());
    let first_disk = first_entropy + usize::from(Processor::is_source());
    let first_card = first_disk + disks;
    memory.take_all(first_card + cards, |memory, index| -> Option<&'static mut dyn Device> {
        if index < first_entropy {
            let terminal = ThirdPort { looks_at: 0, interval: tsc_frequency / LOOKS };
            Some(memory.take(VirtioPci::new(Console::new(terminal)))?)
        } else if index < first_disk {
            Some(memory.take(VirtioPci::new(Rng(Processor)))?)
        } else if index < first_card {
            let disk = Disk::start(disk::find().nth(index - first_disk)?, memory)?;
            Some(memory.take(VirtioPci::new(Block::new(disk)))?)
        } else {
            let card = Card::start(net::find().nth(index - first_card)?, memory)?;
            Some(memory.take(VirtioPci::new(Net(card)))?)
        }
    })
}

/// The third serial port. Looking at it takes as long as some exits do, so that is not done all the time.
#[derive(Debug)]
struct ThirdPort {
    looks_at: u64,
    interval: u64,
}

impl Terminal for ThirdPort {
    fn send(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| Port(COM3).send(*byte));
    }

    fn receive(&mut self) -> Option<u8> {
        let now = time::tsc();
        if now < self.looks_at {
            return None;
        }
        let byte = Port(COM3).receive();
        if byte.is_none() {
            self.looks_at = now + self.interval;
        }
        byte
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
