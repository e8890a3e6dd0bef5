//! The host bridge and its bus: how processors reach functions (PCI 3.0, 3.2.2.3.2; PCI Express base specification 3.0,
//! 7.2.2; PCI Firmware specification 3.0, 4.1).
//!
//! The bridge is device 0; what a guest is given follows from device 1 on, one function each. Guests put BARs where they
//! like. Where two overlap the lower device answers; and what is not the bus's, such as memory, is never asked for here.

use super::Device;
use super::config::{Function, Identity, Space};
use crate::lapic::Command;
use crate::memory::GuestMemory;
use crate::platform;
use crate::state::{Reader, StateError, Writer};

/// How many functions a bus can have beside the bridge.
pub const MAX_FUNCTIONS: usize = 31;
/// Bytes of the enhanced configuration space of one function, and of a bus.
const ENHANCED: u64 = 1 << 12;
/// How many bytes of the address space [`platform::PCI_CONFIG`] takes: one bus.
pub const CONFIG_SIZE: u64 = 1 << 20;

/// Fields of CONFIG_ADDRESS: enable, bus, device, function, register.
mod address {
    pub const ENABLE: u32 = 1 << 31;
    pub const WRITABLE: u32 = ENABLE | 0x00ff_fffc;
}

/// Input of the I/O APIC that the pin of a device leads to.
pub fn interrupt_of(device: u8) -> u8 {
    platform::PCI_INTERRUPTS[usize::from(device) % platform::PCI_INTERRUPTS.len()]
}

/// A host bridge with its bus.
#[derive(Debug)]
pub struct Bus<'a> {
    config_address: u32,
    bridge: Function,
    functions: &'a mut [&'a mut dyn Device],
}

impl<'a> Bus<'a> {
    /// A bus with these functions, in order from device 1 on, with addresses as firmware gives them out.
    ///
    /// # Panics
    ///
    /// When there are more than [`MAX_FUNCTIONS`].
    pub fn new(functions: &'a mut [&'a mut dyn Device]) -> Bus<'a> {
        /// A host bridge, as QEMU's for PCI Express calls itself.
        const BRIDGE: Identity = Identity {
            vendor: 0x1b36,
            device: 0x0008,
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
            class: 0x06_00_00,
            revision: 0,
        };
        assert!(functions.len() <= MAX_FUNCTIONS, "more functions than a bus has places");
        place(functions);
        Bus { config_address: 0, bridge: Function::new(BRIDGE), functions }
    }

    /// How many functions there are beside the bridge.
    pub fn functions(&self) -> usize {
        self.functions.len()
    }

    /// What is read from ports; `None` when they are not the bus's.
    pub fn read_ports(&mut self, first: u16, size: u8) -> Option<u32> {
        let value = match first {
            // Only as a whole: a byte of it is the port that resets.
            platform::PCI_CONFIG_ADDRESS if size == 4 => self.config_address.into(),
            platform::PCI_CONFIG_DATA..=platform::PCI_CONFIG_DATA_LAST => match self.selected(first) {
                Some((device, offset)) => self.read_config(device, offset, size),
                None => u64::MAX,
            },
            _ => {
                let (function, bar, offset) = self.find(true, first.into())?;
                function.read_bar(bar, offset, size)
            }
        };
        Some(value as u32 & u32::MAX >> (32 - u32::from(size) * 8))
    }

    /// Takes what is written to ports; whether they are the bus's.
    pub fn write_ports(&mut self, first: u16, size: u8, value: u32) -> bool {
        match first {
            platform::PCI_CONFIG_ADDRESS if size == 4 => self.config_address = value & address::WRITABLE,
            platform::PCI_CONFIG_DATA..=platform::PCI_CONFIG_DATA_LAST => {
                if let Some((device, offset)) = self.selected(first) {
                    self.write_config(device, offset, size, value.into());
                }
            }
            _ => {
                let Some((function, bar, offset)) = self.find(true, first.into()) else { return false };
                function.write_bar(bar, offset, size, value.into());
            }
        }
        true
    }

    /// What is read from memory; all bits are set where nothing answers.
    pub fn read_memory(&mut self, address: u64, size: u8) -> u64 {
        if let Some((device, offset)) = enhanced(address) {
            return self.read_config(device, offset, size);
        }
        match self.find(false, address) {
            Some((function, bar, offset)) => function.read_bar(bar, offset, size),
            None => u64::MAX,
        }
    }

    /// Takes what is written to memory.
    pub fn write_memory(&mut self, address: u64, size: u8, value: u64) {
        if let Some((device, offset)) = enhanced(address) {
            self.write_config(device, offset, size, value);
        } else if let Some((function, bar, offset)) = self.find(false, address) {
            function.write_bar(bar, offset, size, value);
        }
    }

    /// Lets functions do what there is to do.
    pub fn service(&mut self, memory: &mut GuestMemory) {
        self.functions.iter_mut().for_each(|function| function.service(memory));
    }

    /// The next message that a function sends.
    pub fn take_message(&mut self) -> Option<Command> {
        self.functions.iter_mut().find_map(|function| function.take_message())
    }

    /// Whether a pin that leads to an input of the I/O APIC is asserted.
    pub fn interrupt(&self, input: u8) -> bool {
        (1..).zip(&*self.functions).any(|(device, function)| interrupt_of(device) == input && function.interrupt())
    }

    /// Goes back to how it was made; whether it has, or has to be asked again because of a function.
    pub fn reset(&mut self) -> bool {
        let mut is_over = true;
        for function in &mut *self.functions {
            is_over &= function.reset();
        }
        if is_over {
            self.config_address = 0;
            self.bridge.reset();
            place(self.functions);
        }
        is_over
    }

    /// Whether nothing of any function goes on outside.
    pub fn is_idle(&self) -> bool {
        self.functions.iter().all(|function| function.is_idle())
    }

    /// Saves the bridge and all functions.
    pub fn save(&self, state: &mut Writer) -> Result<(), StateError> {
        state.number::<4>(self.config_address.into())?;
        self.bridge.save(state)?;
        self.functions.iter().try_for_each(|function| function.save(state))
    }

    /// Restores the bridge and all functions, which are those that were saved.
    pub fn restore(&mut self, state: &mut Reader) -> Result<(), StateError> {
        self.config_address = state.checked::<4>(|value| value as u32 & !address::WRITABLE == 0)? as u32;
        self.bridge.restore(state)?;
        self.functions.iter_mut().try_for_each(|function| function.restore(state))
    }

    /// Device and offset that CONFIG_ADDRESS names for a port of CONFIG_DATA.
    fn selected(&self, port: u16) -> Option<(u8, u16)> {
        let selected = self.config_address;
        let (bus, function) = (selected >> 16 & 0xff, selected >> 8 & 7);
        let offset = (selected & 0xfc) as u16 + (port - platform::PCI_CONFIG_DATA);
        (selected & address::ENABLE != 0 && bus == 0 && function == 0).then_some(((selected >> 11 & 31) as u8, offset))
    }

    fn read_config(&mut self, device: u8, offset: u16, size: u8) -> u64 {
        match device.checked_sub(1) {
            None => self.bridge.read(offset, size),
            Some(index) => {
                self.functions.get_mut(usize::from(index)).map_or(u64::MAX, |found| found.read_config(offset, size))
            }
        }
    }

    fn write_config(&mut self, device: u8, offset: u16, size: u8, value: u64) {
        match device.checked_sub(1) {
            None => self.bridge.write(offset, size, value),
            Some(index) => {
                if let Some(function) = self.functions.get_mut(usize::from(index)) {
                    function.write_config(offset, size, value);
                }
            }
        }
    }

    fn find(&mut self, io: bool, address: u64) -> Option<(&mut dyn Device, usize, u64)> {
        self.functions.iter_mut().find_map(|function| {
            let (bar, offset) = function.function().find(io, address)?;
            Some((&mut **function as &mut dyn Device, bar, offset))
        })
    }
}

/// Device and offset that an address in the enhanced configuration space names; functions but the first are nobody's,
/// and so is what a device does not have.
fn enhanced(address: u64) -> Option<(u8, u16)> {
    let offset = address.checked_sub(platform::PCI_CONFIG).filter(|offset| *offset < CONFIG_SIZE)?;
    let (device, function) = (offset >> 15, offset >> 12 & 7);
    // No device has as high a number as the one that stands for nobody.
    Some((if function == 0 { device as u8 } else { u8::MAX }, (offset % ENHANCED) as u16))
}

/// Gives out addresses and interrupts.
fn place(functions: &mut [&mut dyn Device]) {
    let (mut port, mut low, mut high) =
        (u64::from(platform::PCI_PORTS.0), platform::PCI_MEMORY.0, platform::PCI_HIGH_MEMORY.0);
    for (device, function) in (1..).zip(functions) {
        let function = function.function_mut();
        let mut bars = [None; super::config::BARS];
        function.bars().for_each(|(index, space, size)| bars[index] = Some((space, size)));
        for (index, (space, size)) in (0..).zip(bars).filter_map(|(index, bar)| Some((index, bar?))) {
            let next = match space {
                Space::Io => &mut port,
                Space::Memory32 => &mut low,
                Space::Memory64 => &mut high,
            };
            let address = next.next_multiple_of(size);
            *next = address + size;
            function.place(index, space, address);
        }
        function.set_interrupt_line(interrupt_of(device));
    }
}

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests;
