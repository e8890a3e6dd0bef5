//! The machine's own serial ports, polled.

use crate::cpu::{inb, outb};
use core::fmt;

/// First serial port: what the hypervisor says.
pub const COM1: u16 = 0x3f8;
/// Second serial port: the guest's console.
pub const COM2: u16 = 0x2f8;
/// Third serial port: the guest's virtio console.
pub const COM3: u16 = 0x3e8;

const LINE_STATUS: u16 = 5;
const RECEIVED: u8 = 1 << 0;
const TRANSMITTER_READY: u8 = 1 << 5;

/// A serial port, by its first port. It is used as the firmware or reset has left it.
pub struct Port(pub u16);

impl Port {
    /// Whether there is one: where nothing answers the bus floats, and no port has a status like that.
    pub fn exists(&self) -> bool {
        // SAFETY: reading the status changes nothing that anybody relies on.
        unsafe { inb(self.0 + LINE_STATUS) != 0xff }
    }

    /// Sends a byte; waits until there is room for it.
    pub fn send(&mut self, byte: u8) {
        // SAFETY: serial ports are this module's alone, and sending a byte is what they are for.
        unsafe {
            while inb(self.0 + LINE_STATUS) & TRANSMITTER_READY == 0 {}
            outb(self.0, byte);
        }
    }

    /// A byte that has been received.
    pub fn receive(&mut self) -> Option<u8> {
        // SAFETY: as above.
        unsafe { (inb(self.0 + LINE_STATUS) & RECEIVED != 0).then(|| inb(self.0)) }
    }
}

impl fmt::Write for Port {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.send(byte));
        Ok(())
    }
}
