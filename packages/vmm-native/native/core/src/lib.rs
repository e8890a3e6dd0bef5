//! What an AMD-V hypervisor knows, apart from the machine it runs on.
//!
//! Everything here is tested on the host: no instruction is executed that a user program could not execute, nothing is
//! allocated, nothing outside of `core` is used. "The manual" is the AMD64 Architecture Programmer's Manual, volume 2
//! (24593, revision 3.42), unless another volume is named.
//!
//! | module | what it is | manual |
//! | --- | --- | --- |
//! | [`vmcb`] | the virtual machine control block, field by field | 15.5, appendix B |
//! | [`exit`] | why a guest stopped, decoded | 15.6, appendix C |
//! | [`npt`] | nested page tables | 15.25 |
//! | [`permissions`] | which ports and model-specific registers exit | 15.10, 15.11 |
//! | [`memory`] | a guest's memory, the only module with unsafe code | |
//! | [`start`] | the state in which a guest begins | 14, 15.5 |
//! | [`serial`] | the 16550 serial port | |
//! | [`guest`] | all of these put together, and what an exit does | |

#![no_std]
#![deny(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(test)]
extern crate std;

pub mod exit;
pub mod guest;

pub mod memory;
pub mod npt;
pub mod permissions;
pub mod serial;
pub mod start;
pub mod vmcb;
