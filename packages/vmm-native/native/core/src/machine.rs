//! A guest's machine: what its processors have in common.

use crate::clock::Clock;
use crate::exit::Exit;
use crate::ioapic::{self, IoApic};
use crate::lapic::{Command, Kind, Shorthand};
use crate::mailbox::Mailbox;
use crate::memory::GuestMemory;
use crate::pci::Device;
use crate::pci::bus::Bus;
use crate::platform;
use crate::serial::{PORTS, Serial};
use crate::state::{Reader, StateError, Writer};
use core::fmt;

/// The machine under the guest, as far as a guest's devices need it.
pub trait Host {
    /// Takes a byte that the guest sends by its serial port.
    fn send(&mut self, byte: u8);
    /// The time stamp counter.
    fn tsc(&mut self) -> u64;
    /// EAX, EBX, ECX and EDX of a CPUID function; zeros where there is none.
    fn cpuid(&self, function: u32, index: u32) -> [u32; 4];
}

/// Why a guest does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It switched itself off.
    PoweredOff,
    /// It reset itself.
    Reset,
    /// All of its processors have halted with interrupts disabled, and nothing can wake them.
    Halted,
    /// It triple-faulted.
    TripleFault,
    /// VMRUN refused its control block.
    InvalidState,
    /// There was no page for what it wrote to memory that it has in common with others.
    NoMemory,
    /// It did something that this hypervisor does not know.
    Unhandled(Exit),
}

impl Stop {
    /// The reason, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Stop::PoweredOff => "power-off",
            Stop::Reset => "reset",
            Stop::Halted => "halted",
            Stop::TripleFault => "triple-fault",
            Stop::InvalidState => "invalid-state",
            Stop::NoMemory => "out-of-memory",
            Stop::Unhandled(_) => "unhandled-exit",
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::PoweredOff => out.write_str("it switched itself off"),
            Stop::Reset => out.write_str("it reset itself"),
            Stop::Halted => out.write_str("it halted with interrupts disabled"),
            Stop::TripleFault => out.write_str("it triple-faulted"),
            Stop::NoMemory => out.write_str("there is no memory left for what it writes"),
            Stop::InvalidState => out.write_str("VMRUN refused its control block"),
            Stop::Unhandled(exit) => write!(out, "nothing handles {exit}"),
        }
    }
}

/// The id of no processor, as the sender of what a device sends.
const NOBODY: u32 = u32::MAX;

/// How a state begins: what follows is this crate's, of this version.
const STATE_VERSION: &[u8; 8] = b"leveret1";

const SERIAL_END: u16 = platform::SERIAL_PORT + PORTS;

/// Whether an access to ports begins at one that is always the same device's: no BAR can be put there.
fn is_board(port: u16) -> bool {
    matches!(
        port,
        platform::SERIAL_PORT..SERIAL_END | platform::SLEEP_CONTROL | platform::SLEEP_STATUS | platform::RESET
    )
}

/// What the processors of a guest have in common.
#[derive(Debug)]
pub struct Machine<'a> {
    /// Its memory.
    pub memory: GuestMemory,
    /// Its time.
    pub clock: Clock,
    serial: Serial,
    io_apic: IoApic,
    pci: Bus<'a>,
    /// One for each processor, by its APIC id.
    mailboxes: &'a [Mailbox],
    /// Processors that have been posted something.
    posted: bool,
}

impl<'a> Machine<'a> {
    /// A machine with as many processors as there are mailboxes, and these devices on its PCI bus.
    pub fn new(
        memory: GuestMemory,
        clock: Clock,
        mailboxes: &'a [Mailbox],
        devices: &'a mut [&'a mut dyn Device],
    ) -> Machine<'a> {
        let (serial, io_apic, pci) = (Serial::new(), IoApic::new(), Bus::new(devices));
        Machine { memory, clock, serial, io_apic, pci, mailboxes, posted: false }
    }

    /// Goes back to how it was made, with its memory as it is; whether it has, or has to be asked again because a device still
    /// does something for the guest.
    pub fn reset(&mut self) -> bool {
        (self.serial, self.io_apic, self.posted) = (Serial::new(), IoApic::new(), false);
        self.mailboxes.iter().for_each(Mailbox::clear);
        self.pci.reset()
    }

    /// Saves all that its processors have in common, but for its memory; `now` is the time stamp counter.
    pub fn save(&self, now: u64, state: &mut Writer) -> Result<(), StateError> {
        state.bytes(STATE_VERSION)?;
        state.number::<8>(self.memory.size())?;
        state.bytes(&[self.mailboxes.len() as u8, self.pci.functions() as u8])?;
        self.clock.save(now, state)?;
        self.serial.save(state)?;
        self.io_apic.save(state)?;
        self.pci.save(state)
    }

    /// Goes on where another one with as much memory, and as many processors and devices, was saved.
    pub fn restore(&mut self, now: u64, state: &mut Reader) -> Result<(), StateError> {
        for byte in STATE_VERSION {
            state.checked::<1>(|saved| saved == u64::from(*byte))?;
        }
        state.checked::<8>(|size| size == self.memory.size())?;
        for here in [self.mailboxes.len(), self.pci.functions()] {
            state.checked::<1>(|saved| saved == here as u64)?;
        }
        self.clock.restore(now, state)?;
        self.serial.restore(state)?;
        self.io_apic.restore(state)?;
        self.pci.restore(state)
    }

    /// Whether nothing goes on outside that writes to its memory.
    pub fn is_idle(&self) -> bool {
        self.pci.is_idle()
    }

    /// How many processors there are.
    pub fn processors(&self) -> u32 {
        self.mailboxes.len() as u32
    }

    /// How many devices are on its PCI bus.
    pub fn pci_devices(&self) -> usize {
        self.pci.functions()
    }

    /// Lets devices do what there is to do since something has happened outside.
    pub fn service(&mut self) {
        self.pci.service(&mut self.memory);
        while let Some(command) = self.pci.take_message() {
            self.send(NOBODY, command);
        }
        for input in platform::PCI_INTERRUPTS {
            let message = self.io_apic.set_input(input, self.pci.interrupt(input));
            self.deliver(message);
        }
    }

    /// Whether something has been posted to a processor since this was asked last.
    pub fn take_posted(&mut self) -> bool {
        core::mem::take(&mut self.posted)
    }

    /// How many bytes the console takes now.
    pub fn console_room(&self) -> usize {
        self.serial.room()
    }

    /// Gives the console a byte.
    pub fn receive(&mut self, byte: u8) {
        self.serial.receive(byte);
        self.update_interrupts();
    }

    /// What a processor reads from ports, 1, 2 or 4 of them at once.
    pub(crate) fn read_ports(&mut self, first: u16, size: u8) -> u32 {
        if !is_board(first)
            && let Some(value) = self.pci.read_ports(first, size)
        {
            self.service();
            return value;
        }
        let mut value = 0;
        for byte in 0..u16::from(size) {
            value |= u32::from(self.read_port(first.wrapping_add(byte))) << (byte * 8);
        }
        self.update_interrupts();
        value
    }

    /// Takes what a processor writes to ports, 1, 2 or 4 of them at once; `Err` when that was the guest's last access.
    pub(crate) fn write_ports(&mut self, first: u16, size: u8, value: u32, host: &mut impl Host) -> Result<(), Stop> {
        let value = value & u32::MAX >> (32 - u32::from(size) * 8);
        if !is_board(first) && self.pci.write_ports(first, size, value) {
            self.service();
            return Ok(());
        }
        for (byte, value) in (0..u16::from(size)).zip(value.to_le_bytes()) {
            self.write_port(first.wrapping_add(byte), value, host)?;
        }
        self.update_interrupts();
        Ok(())
    }

    fn read_port(&mut self, port: u16) -> u8 {
        match port {
            platform::SERIAL_PORT..SERIAL_END => self.serial.read(port - platform::SERIAL_PORT),
            platform::SLEEP_CONTROL | platform::SLEEP_STATUS => 0,
            // Where nothing answers the bus floats.
            _ => 0xff,
        }
    }

    fn write_port(&mut self, port: u16, value: u8, host: &mut impl Host) -> Result<(), Stop> {
        /// SLP_EN and SLP_TYPx of SLEEP_CONTROL_REG (ACPI 6.5, 4.8.3.7).
        const SLEEP: u8 = 1 << 5 | platform::SOFT_OFF << 2;
        match port {
            platform::SERIAL_PORT..SERIAL_END => {
                if let Some(sent) = self.serial.write(port - platform::SERIAL_PORT, value) {
                    host.send(sent);
                }
            }
            platform::SLEEP_CONTROL if value == SLEEP => return Err(Stop::PoweredOff),
            platform::RESET if value == platform::RESET_VALUE => return Err(Stop::Reset),
            _ => {}
        }
        Ok(())
    }

    /// What a processor reads from a device in memory.
    pub(crate) fn read_device(&mut self, address: u64, size: u8) -> u64 {
        let value = match address.checked_sub(platform::IO_APIC) {
            Some(offset) if offset < ioapic::SIZE => self.io_apic.read(offset).into(),
            _ => {
                let value = self.pci.read_memory(address, size);
                self.service();
                value
            }
        };
        value & u64::MAX >> (64 - u32::from(size) * 8)
    }

    /// Takes what a processor writes to a device in memory.
    pub(crate) fn write_device(&mut self, address: u64, size: u8, value: u64) {
        match address.checked_sub(platform::IO_APIC) {
            Some(offset) if offset < ioapic::SIZE => {
                if size == 4 {
                    let message = self.io_apic.write(offset, value as u32);
                    self.deliver(message);
                }
            }
            _ => {
                self.pci.write_memory(address, size, value & u64::MAX >> (64 - u32::from(size) * 8));
                self.service();
            }
        }
    }

    /// An interrupt of this vector is over.
    pub(crate) fn end_of_interrupt(&mut self, vector: u8) {
        let message = self.io_apic.end_of_interrupt(vector);
        self.deliver(message);
    }

    /// Posts an interrupt from outside to a processor: 2 is the non-maskable one, vectors below 16 are none.
    pub fn interrupt(&mut self, processor: u8, vector: u8) -> bool {
        let Some(mailbox) = self.mailboxes.get(usize::from(processor)) else { return false };
        match vector {
            2 => mailbox.post_nmi(),
            0..16 => return false,
            _ => mailbox.post_interrupt(vector, false),
        }
        true
    }

    /// Posts what a processor sends to the processors that it names.
    pub(crate) fn send(&mut self, sender: u32, command: Command) {
        for (id, mailbox) in (0..).zip(self.mailboxes) {
            let addressed = match command.shorthand {
                Shorthand::None => command.destination.names(id),
                Shorthand::Itself => id == sender,
                Shorthand::All => true,
                Shorthand::Others => id != sender,
            };
            if !addressed {
                continue;
            }
            match command.kind {
                Kind::Fixed => mailbox.post_interrupt(command.vector, false),
                Kind::Nmi => mailbox.post_nmi(),
                Kind::Init => mailbox.post_init(),
                Kind::Startup => mailbox.post_startup(command.vector),
            }
            self.posted = true;
        }
    }

    /// Tells the I/O APIC what the serial port wants.
    fn update_interrupts(&mut self) {
        let message = self.io_apic.set_input(platform::SERIAL_INTERRUPT, self.serial.interrupt());
        self.deliver(message);
    }

    fn deliver(&mut self, message: Option<ioapic::Message>) {
        let Some(message) = message else { return };
        for (id, mailbox) in (0..).zip(self.mailboxes) {
            if message.destination.names(id) {
                mailbox.post_interrupt(message.vector, message.level);
                self.posted = true;
            }
        }
    }
}
