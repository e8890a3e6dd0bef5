//! The machine's own serial port, polled.

use crate::cpu::{inb, outb};
use core::fmt;

/// First serial port: what the hypervisor says.
pub const COM1: u16 = 0x3f8;

const LINE_STATUS: u16 = 5;
const TRANSMITTER_READY: u8 = 1 << 5;

/// A serial port, by its first port. It is used as the firmware or reset has left it.
pub struct Port(pub u16);

impl Port {
    /// Sends a byte; waits until there is room for it.
    pub fn send(&mut self, byte: u8) {
        // SAFETY: serial ports are this module's alone, and sending a byte is what they are for.
        unsafe {
            while inb(self.0 + LINE_STATUS) & TRANSMITTER_READY == 0 {}
            outb(self.0, byte);
        }
    }
}

impl fmt::Write for Port {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.send(byte));
        Ok(())
    }
}
