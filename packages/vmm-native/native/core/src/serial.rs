//! A 16550 serial port, as its data sheet (National Semiconductor PC16550D, 8.0) describes it.
//!
//! What the guest sends is sent at once, so the transmitter is always empty. Line speed, parity and the like are
//! remembered and have no effect.

use crate::state::{Reader, StateError, Writer};

/// How many ports a serial port has.
pub const PORTS: u16 = 8;
/// How many received bytes the receiver holds.
pub const FIFO: usize = 16;

mod register {
    pub const DATA: u16 = 0;
    pub const INTERRUPT_ENABLE: u16 = 1;
    pub const INTERRUPT_IDENTIFICATION: u16 = 2;
    pub const LINE_CONTROL: u16 = 3;
    pub const MODEM_CONTROL: u16 = 4;
    pub const LINE_STATUS: u16 = 5;
    pub const MODEM_STATUS: u16 = 6;
    pub const SCRATCH: u16 = 7;
}

mod enable {
    pub const RECEIVED: u8 = 1 << 0;
    pub const TRANSMITTER_EMPTY: u8 = 1 << 1;
    pub const ALL: u8 = 0x0f;
}

mod cause {
    pub const NONE: u8 = 0x01;
    pub const TRANSMITTER_EMPTY: u8 = 0x02;
    pub const RECEIVED: u8 = 0x04;
    pub const FIFO_ENABLED: u8 = 0xc0;
}

mod control {
    pub const FIFO_ENABLE: u8 = 1 << 0;
    pub const CLEAR_RECEIVER: u8 = 1 << 1;
    pub const DIVISOR_LATCH: u8 = 1 << 7;
    pub const LOOPBACK: u8 = 1 << 4;
    pub const MODEM: u8 = 0x1f;
}

mod status {
    pub const RECEIVED: u8 = 1 << 0;
    pub const OVERRUN: u8 = 1 << 1;
    pub const TRANSMITTER_EMPTY: u8 = 0b11 << 5;
    /// Carrier detect, data set ready, clear to send: somebody listens.
    pub const CONNECTED: u8 = 0xb0;
}

/// A 16550.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serial {
    received: [u8; FIFO],
    held: usize,
    overrun: bool,
    fifo_enabled: bool,
    interrupt_enable: u8,
    /// The transmitter has become empty, and nobody has been told.
    emptied: bool,
    line_control: u8,
    modem_control: u8,
    scratch: u8,
    divisor: [u8; 2],
}

impl Serial {
    /// A port as it is after a reset.
    pub const fn new() -> Serial {
        Serial {
            received: [0; FIFO],
            held: 0,
            overrun: false,
            fifo_enabled: false,
            interrupt_enable: 0,
            emptied: false,
            line_control: 0,
            modem_control: 0,
            scratch: 0,
            divisor: [12, 0],
        }
    }

    /// Whether the port asks for an interrupt, as a level.
    pub fn interrupt(&self) -> bool {
        self.cause() != cause::NONE
    }

    /// How many bytes can be received now.
    pub fn room(&self) -> usize {
        if self.fifo_enabled { FIFO - self.held } else { usize::from(self.held == 0) }
    }

    /// Receives a byte; one that there is no room for is lost, which the guest can see.
    pub fn receive(&mut self, byte: u8) {
        if self.room() == 0 {
            self.overrun = true;
            return;
        }
        self.received[self.held] = byte;
        self.held += 1;
    }

    /// What the guest reads from the port with a number below [`PORTS`].
    pub fn read(&mut self, port: u16) -> u8 {
        match port {
            register::DATA | register::INTERRUPT_ENABLE if self.latched() => self.divisor[usize::from(port)],
            register::DATA => self.take(),
            register::INTERRUPT_ENABLE => self.interrupt_enable,
            register::INTERRUPT_IDENTIFICATION => {
                let cause = self.cause();
                if cause == cause::TRANSMITTER_EMPTY {
                    self.emptied = false;
                }
                cause | if self.fifo_enabled { cause::FIFO_ENABLED } else { 0 }
            }
            register::LINE_CONTROL => self.line_control,
            register::MODEM_CONTROL => self.modem_control,
            register::LINE_STATUS => {
                let overrun = if core::mem::take(&mut self.overrun) { status::OVERRUN } else { 0 };
                let received = if self.held > 0 { status::RECEIVED } else { 0 };
                status::TRANSMITTER_EMPTY | overrun | received
            }
            register::MODEM_STATUS if self.loops() => {
                // In loopback the four outputs are the four inputs: DTR DSR, RTS CTS, OUT1 RI, OUT2 DCD.
                let out = self.modem_control;
                (out & 1) << 5 | (out & 2) << 3 | (out & 4) << 4 | (out & 8) << 4
            }
            register::MODEM_STATUS => status::CONNECTED,
            register::SCRATCH => self.scratch,
            _ => 0xff,
        }
    }

    /// Takes what the guest writes to the port with a number below [`PORTS`], and returns what it sends by that.
    pub fn write(&mut self, port: u16, value: u8) -> Option<u8> {
        match port {
            register::DATA | register::INTERRUPT_ENABLE if self.latched() => self.divisor[usize::from(port)] = value,
            register::DATA => {
                self.emptied = true;
                if !self.loops() {
                    return Some(value);
                }
                self.receive(value);
            }
            register::INTERRUPT_ENABLE => {
                // The transmitter is empty, so being told of it begins with an interrupt.
                self.emptied |= value & !self.interrupt_enable & enable::TRANSMITTER_EMPTY != 0;
                self.interrupt_enable = value & enable::ALL;
            }
            register::INTERRUPT_IDENTIFICATION => {
                let enabled = value & control::FIFO_ENABLE != 0;
                if value & control::CLEAR_RECEIVER != 0 || enabled != self.fifo_enabled {
                    self.held = 0;
                }
                self.fifo_enabled = enabled;
            }
            register::LINE_CONTROL => self.line_control = value,
            register::MODEM_CONTROL => self.modem_control = value & control::MODEM,
            register::SCRATCH => self.scratch = value,
            _ => {}
        }
        None
    }

    /// Saves all that a guest can tell apart.
    pub fn save(&self, state: &mut Writer) -> Result<(), StateError> {
        let flags = [self.overrun, self.fifo_enabled, self.emptied].map(u8::from);
        let registers = [self.interrupt_enable, self.line_control, self.modem_control, self.scratch];
        state.number::<1>(self.held as u64)?;
        [&self.received[..], &flags, &registers, &self.divisor].into_iter().try_for_each(|bytes| state.bytes(bytes))
    }

    /// Goes on where another one was saved.
    pub fn restore(&mut self, state: &mut Reader) -> Result<(), StateError> {
        self.held = state.checked::<1>(|held| held <= FIFO as u64)? as usize;
        state.bytes(&mut self.received)?;
        for flag in [&mut self.overrun, &mut self.fifo_enabled, &mut self.emptied] {
            *flag = state.flag()?;
        }
        self.interrupt_enable = state.checked::<1>(|bits| bits & !u64::from(enable::ALL) == 0)? as u8;
        self.line_control = state.number::<1>()? as u8;
        self.modem_control = state.checked::<1>(|bits| bits & !u64::from(control::MODEM) == 0)? as u8;
        self.scratch = state.number::<1>()? as u8;
        state.bytes(&mut self.divisor)
    }

    fn cause(&self) -> u8 {
        if self.held > 0 && self.interrupt_enable & enable::RECEIVED != 0 {
            cause::RECEIVED
        } else if self.emptied && self.interrupt_enable & enable::TRANSMITTER_EMPTY != 0 {
            cause::TRANSMITTER_EMPTY
        } else {
            cause::NONE
        }
    }

    fn take(&mut self) -> u8 {
        let byte = self.received[0];
        if self.held > 0 {
            self.received.copy_within(1..self.held, 0);
            self.held -= 1;
        }
        byte
    }

    fn latched(&self) -> bool {
        self.line_control & control::DIVISOR_LATCH != 0
    }

    fn loops(&self) -> bool {
        self.modem_control & control::LOOPBACK != 0
    }
}

impl Default for Serial {
    fn default() -> Serial {
        Serial::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::testing::round_trip;

    fn with_fifo() -> Serial {
        let mut serial = Serial::new();
        serial.write(register::INTERRUPT_IDENTIFICATION, control::FIFO_ENABLE);
        serial
    }

    #[test]
    fn what_the_guest_writes_is_sent_and_the_transmitter_is_empty() {
        let mut serial = Serial::new();
        assert_eq!(serial.write(register::DATA, b'a'), Some(b'a'));
        assert_eq!(serial.read(register::LINE_STATUS), 0x60);
    }

    #[test]
    fn what_is_received_is_read_in_order_and_too_much_is_an_overrun() {
        let mut serial = with_fifo();
        for byte in 0..20 {
            serial.receive(byte);
        }
        assert_eq!(serial.read(register::LINE_STATUS), 0x63);
        assert_eq!(serial.read(register::LINE_STATUS), 0x61, "an overrun is told once");
        for byte in 0..16 {
            assert_eq!(serial.read(register::DATA), byte);
        }
        assert_eq!(serial.read(register::LINE_STATUS), 0x60);
    }

    #[test]
    fn without_the_fifo_there_is_room_for_one() {
        let mut serial = Serial::new();
        assert_eq!(serial.room(), 1);
        serial.receive(1);
        assert_eq!(serial.room(), 0);
    }

    #[test]
    fn an_interrupt_is_asked_for_until_its_cause_is_gone() {
        let mut serial = with_fifo();
        serial.receive(b'x');
        assert!(!serial.interrupt());
        serial.write(register::INTERRUPT_ENABLE, enable::RECEIVED);
        assert!(serial.interrupt());
        assert_eq!(serial.read(register::INTERRUPT_IDENTIFICATION), 0xc4);
        assert!(serial.interrupt(), "reading the cause does not take the byte");
        assert_eq!(serial.read(register::DATA), b'x');
        assert_eq!(serial.read(register::INTERRUPT_IDENTIFICATION), 0xc1);
        assert!(!serial.interrupt());
    }

    #[test]
    fn an_empty_transmitter_is_told_of_once_for_each_byte() {
        let mut serial = with_fifo();
        serial.write(register::INTERRUPT_ENABLE, enable::TRANSMITTER_EMPTY);
        assert_eq!(serial.read(register::INTERRUPT_IDENTIFICATION), 0xc2);
        assert_eq!(serial.read(register::INTERRUPT_IDENTIFICATION), 0xc1);
        serial.write(register::DATA, b'x');
        assert!(serial.interrupt());
    }

    #[test]
    fn the_divisor_is_behind_its_latch() {
        let mut serial = Serial::new();
        serial.write(register::LINE_CONTROL, control::DIVISOR_LATCH);
        assert_eq!(serial.write(register::DATA, 1), None);
        serial.write(register::INTERRUPT_ENABLE, 2);
        assert_eq!((serial.read(register::DATA), serial.read(register::INTERRUPT_ENABLE)), (1, 2));
        serial.write(register::LINE_CONTROL, 3);
        assert_eq!(serial.read(register::INTERRUPT_ENABLE), 0);
    }

    // What Linux does to find out whether there is a port (drivers/tty/serial/8250/8250_port.c, autoconfig).
    #[test]
    fn in_loopback_nothing_leaves_and_the_outputs_are_the_inputs() {
        let mut serial = with_fifo();
        serial.write(register::MODEM_CONTROL, control::LOOPBACK | 0x0a);
        assert_eq!(serial.read(register::MODEM_STATUS) & 0xf0, 0x90);
        assert_eq!(serial.write(register::DATA, b'y'), None);
        assert_eq!(serial.read(register::DATA), b'y');
    }

    #[test]
    fn no_port_and_no_value_is_too_much() {
        let mut serial = Serial::new();
        for port in 0..16 {
            for value in 0..=255 {
                serial.write(port, value);
                serial.receive(value);
                serial.read(port);
            }
        }
    }

    #[test]
    fn what_was_saved_is_restored() {
        let mut port = Serial::new();
        for (register, value) in [(3, 0x80), (0, 1), (3, 0x03), (2, 0x01), (1, 0x0f), (4, 0x0b), (7, 0x5a)] {
            port.write(register, value);
        }
        (0..20).for_each(|byte| port.receive(byte));
        round_trip(&mut port, Serial::new, |port, state| port.save(state), Serial::restore);
    }
}
