//! What an AMD-V hypervisor knows, apart from the machine it runs on.
//!
//! Everything here is tested on the host: no instruction is executed that a user program could not execute, nothing is
//! allocated, nothing outside of `core` is used. "The manual" is the AMD64 Architecture Programmer's Manual, volume 2
//! (24593, revision 3.42), unless another volume is named.
//!
//! | module | what it is | manual |
//! | --- | --- | --- |
//! | [`vmcb`] | the virtual machine control block, field by field | 15.5, appendix B |
//! | [`consistency`] | why VMRUN refuses one | 15.5.1 |
//! | [`exit`] | why a guest stopped, decoded | 15.6, appendix C |
//! | [`npt`] | nested page tables | 15.25 |
//! | [`permissions`] | which ports and model-specific registers exit | 15.10, 15.11 |
//! | [`memory`] | a guest's memory, the only module with unsafe code | |
//! | [`start`] | the state in which a guest begins | 14, 15.5 |
//! | [`linux`] | loading Linux | |
//! | [`firmware`] | what a reset finds | 14.1.3 |
//! | [`machine`] | a guest's machine: what its processors have in common | |
//! | [`processor`] | a processor, and what an exit does | |
//! | [`mailbox`] | what processors tell each other | |
//! | [`event`] | interrupts and exceptions on their way into a processor | 15.20, 15.21 |
//! | [`cpuid`], [`msr`] | what guests are told about their processor | volume 3, appendix E; appendix A |
//! | [`platform`] | where a guest finds its devices | |
//! | [`acpi`] | the tables that tell it | |
//! | [`mmio`] | devices in memory | 15.25.6 |
//! | [`decode`] | the instructions that access them | volume 3 |
//! | [`arithmetic`] | what they do with values and flags | volume 3 |
//! | `linear` | segments and operands | 4 |
//! | `string` | string instructions on ports and devices | volume 3 |
//! | [`walk`] | a guest's own page tables | 5 |
//! | [`ioapic`] | the I/O APIC | |
//! | [`lapic`] | the local APIC and its timer | 16 |
//! | [`clock`] | the paravirtual clock | |
//! | [`serial`] | the 16550 serial port | |
//! | [`pci`] | the PCI bus, and what all of its functions have | |
//! | [`virtio`] | virtio devices on it: disk, network card, console, entropy | |
//! | [`control`] | what the hypervisor is told, and says | |
//! | [`ring`] | bytes on their way from one owner to another | |
//! | [`blocks`] | which guests have which of the machine's memory | |
//! | [`state`] | how devices are saved and restored | |

#![no_std]
#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(test)]
extern crate std;

pub mod acpi;
pub mod arithmetic;
pub mod blocks;
pub mod clock;
pub mod consistency;
pub mod control;
pub mod cpuid;
pub mod decode;
pub mod event;
pub mod exit;
pub mod firmware;
pub mod ioapic;
pub mod lapic;
mod linear;
pub mod linux;
pub mod machine;
pub mod mailbox;
pub mod memory;
pub mod mmio;
pub mod msr;
pub mod npt;
pub mod pci;
pub mod permissions;
pub mod platform;
pub mod processor;
pub mod ring;
pub mod serial;
pub mod start;
pub mod state;
mod string;
pub mod virtio;
pub mod vmcb;
pub mod walk;
