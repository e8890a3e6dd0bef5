//! What all virtio devices look like on the PCI bus (Virtual I/O Device specification 1.2, 2.1 to 2.4 and 4.1), without
//! what there was before version 1.
//!
//! Registers are in memory, but for the one that drivers tell by: that is a port, whose accesses need no decoding.

mod registers;

use super::queue::{Queue, QueueError, is_size};
use super::{CONFIG_SIZE, Device, MAX_QUEUES};
use crate::lapic::Command;
use crate::memory::GuestMemory;
use crate::pci;
use crate::pci::config::{Function, Identity, Space};
use crate::pci::msix::{MsiX, Place};
use crate::state::{Reader, StateError, Writer};
use registers::{capability, common, feature, isr, place, status};

const VENDOR: u16 = 0x1af4;
/// A device's number is added to it.
const FIRST_DEVICE: u16 = 0x1040;
const REVISION: u8 = 1;

const NO_VECTOR: u16 = 0xffff;

/// A virtio device on the PCI bus.
#[derive(Debug)]
pub struct VirtioPci<D> {
    function: Function,
    msix: MsiX,
    /// Where the capability is by which BARs are reached from the configuration space (4.1.4.9).
    window: u16,
    registers: Registers,
    queues: [Queue; MAX_QUEUES],
    device: D,
}

/// What the driver has said, and been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Registers {
    status: u8,
    /// The driver has asked for a reset that is not over.
    resetting: bool,
    isr: u8,
    device_feature_select: u32,
    driver_feature_select: u32,
    features: u64,
    config_vector: u16,
    queue_select: u16,
    queue_vectors: [u16; MAX_QUEUES],
}

const RESET: Registers = Registers {
    status: 0,
    resetting: false,
    isr: 0,
    device_feature_select: 0,
    driver_feature_select: 0,
    features: 0,
    config_vector: NO_VECTOR,
    queue_select: 0,
    queue_vectors: [NO_VECTOR; MAX_QUEUES],
};

impl<D: Device> VirtioPci<D> {
    /// A device as it is after a reset.
    pub fn new(device: D) -> VirtioPci<D> {
        let mut function = Function::new(Identity {
            vendor: VENDOR,
            device: FIRST_DEVICE + D::ID,
            subsystem_vendor: VENDOR,
            subsystem: FIRST_DEVICE + D::ID,
            class: D::CLASS,
            revision: REVISION,
        });
        function.add_interrupt_pin();
        function.add_bar(place::MEMORY_BAR, Space::Memory64, place::MEMORY_SIZE);
        function.add_bar(place::NOTIFY_BAR, Space::Io, place::NOTIFY_SIZE);
        let msix_place = Place { bar: place::MEMORY_BAR as u8, table: place::MSIX_TABLE, pending: place::MSIX_PENDING };
        let msix = MsiX::new(&mut function, D::QUEUES + 1, msix_place);
        let mut add = |kind: u8, bar: usize, offset: u64, length: u64, writable: &[u8]| {
            // After the link: length, type, BAR, id, two bytes of padding, offset and length; then, for one type the
            // multiplier, and for another one the data.
            let size: usize = if matches!(kind, capability::NOTIFY | capability::WINDOW) { 18 } else { 14 };
            let mut body = [0; 18];
            body[..3].copy_from_slice(&[size as u8 + 2, kind, bar as u8]);
            body[6..10].copy_from_slice(&(offset as u32).to_le_bytes());
            body[10..14].copy_from_slice(&(length as u32).to_le_bytes());
            function.add_capability(capability::VENDOR_SPECIFIC, &body[..size], writable)
        };
        add(capability::COMMON, place::MEMORY_BAR, place::COMMON, place::COMMON_SIZE, &[]);
        // A multiplier of 0: all queues are told of by the same port.
        add(capability::NOTIFY, place::NOTIFY_BAR, 0, place::NOTIFY_SIZE, &[]);
        add(capability::ISR, place::MEMORY_BAR, place::ISR, 1, &[]);
        add(capability::DEVICE, place::MEMORY_BAR, place::DEVICE, CONFIG_SIZE as u64, &[]);
        let mut writable = [0xff; 18];
        [writable[0], writable[1], writable[3], writable[4], writable[5]] = [0; 5];
        let window = add(capability::WINDOW, 0, 0, 0, &writable);
        let queues = [const { Queue::new() }; MAX_QUEUES];
        VirtioPci { function, msix, window, registers: RESET, queues, device }
    }

    /// The device behind it.
    pub fn device(&mut self) -> &mut D {
        &mut self.device
    }

    fn offered(&self) -> u64 {
        self.device.features() | feature::ALL
    }

    /// The common configuration, as it is read.
    fn common(&self) -> [u8; common::SIZE] {
        let registers = &self.registers;
        let mut bytes = [0; common::SIZE];
        let mut set = |offset: usize, value: &[u8]| bytes[offset..][..value.len()].copy_from_slice(value);
        let half = |features: u64, select: u32| match select {
            0 => features as u32,
            1 => (features >> 32) as u32,
            _ => 0,
        };
        set(common::DEVICE_FEATURE_SELECT as usize, &registers.device_feature_select.to_le_bytes());
        set(common::DEVICE_FEATURE, &half(self.offered(), registers.device_feature_select).to_le_bytes());
        set(common::DRIVER_FEATURE_SELECT as usize, &registers.driver_feature_select.to_le_bytes());
        set(common::DRIVER_FEATURE as usize, &half(registers.features, registers.driver_feature_select).to_le_bytes());
        set(common::CONFIG_VECTOR as usize, &registers.config_vector.to_le_bytes());
        set(common::QUEUES, &(D::QUEUES as u16).to_le_bytes());
        set(common::STATUS as usize, &[registers.status]);
        set(common::QUEUE_SELECT as usize, &registers.queue_select.to_le_bytes());
        // A queue that there is not has size 0.
        if let Some(index) = self.selected() {
            let queue = &self.queues[index];
            set(common::QUEUE_SIZE as usize, &queue.size.to_le_bytes());
            set(common::QUEUE_VECTOR as usize, &registers.queue_vectors[index].to_le_bytes());
            set(common::QUEUE_ENABLE as usize, &u16::from(queue.enabled).to_le_bytes());
            set(common::QUEUE_DESCRIPTORS as usize, &queue.descriptors.to_le_bytes());
            set(common::QUEUE_AVAILABLE as usize, &queue.available.to_le_bytes());
            set(common::QUEUE_USED as usize, &queue.used.to_le_bytes());
        }
        bytes
    }

    /// Takes what is written to the common configuration. Other sizes than those of the registers are ignored, but that
    /// addresses come in halves.
    fn write_common(&mut self, offset: u64, size: u8, value: u64) {
        match (offset, size) {
            (common::DEVICE_FEATURE_SELECT, 4) => self.registers.device_feature_select = value as u32,
            (common::DRIVER_FEATURE_SELECT, 4) => self.registers.driver_feature_select = value as u32,
            (common::DRIVER_FEATURE, 4) if self.registers.status & status::FEATURES_OK == 0 => {
                let features = &mut self.registers.features;
                match self.registers.driver_feature_select {
                    0 => *features = *features >> 32 << 32 | value,
                    1 => *features = *features & 0xffff_ffff | value << 32,
                    _ => {}
                }
            }
            (common::CONFIG_VECTOR, 2) => self.registers.config_vector = self.vector(value as u16),
            (common::STATUS, 1) => self.set_status(value as u8),
            (common::QUEUE_SELECT, 2) => self.registers.queue_select = value as u16,
            _ => {
                if let Some(index) = self.selected() {
                    self.write_queue(index, offset, size, value);
                }
            }
        }
    }

    fn write_queue(&mut self, index: usize, offset: u64, size: u8, value: u64) {
        let vector = self.vector(value as u16);
        let queue = &mut self.queues[index];
        match (offset, size) {
            (common::QUEUE_VECTOR, 2) => self.registers.queue_vectors[index] = vector,
            // What else it is, is settled when it is enabled.
            _ if queue.enabled => {}
            (common::QUEUE_SIZE, 2) if is_size(value as u16) => queue.size = value as u16,
            (common::QUEUE_ENABLE, 2) => queue.enabled = value == 1,
            (common::QUEUE_DESCRIPTORS..common::QUEUE_AVAILABLE, _) => {
                set_half(&mut queue.descriptors, offset, size, value)
            }
            (common::QUEUE_AVAILABLE..common::QUEUE_USED, _) => set_half(&mut queue.available, offset, size, value),
            (common::QUEUE_USED..place::COMMON_SIZE, _) => set_half(&mut queue.used, offset, size, value),
            _ => {}
        }
    }

    fn selected(&self) -> Option<usize> {
        Some(usize::from(self.registers.queue_select)).filter(|index| *index < D::QUEUES)
    }

    /// A vector that there is, or none (4.1.5.1.2).
    fn vector(&self, vector: u16) -> u16 {
        if usize::from(vector) < self.msix.vectors() { vector } else { NO_VECTOR }
    }

    /// Takes a status. The driver sets bits, and clears all of them at once (2.1.1).
    fn set_status(&mut self, value: u8) {
        let registers = &mut self.registers;
        if registers.resetting {
            return;
        }
        if value == 0 {
            registers.resetting = true;
            self.queues.iter_mut().for_each(|queue| queue.enabled = false);
            return;
        }
        let mut set = value & status::DRIVERS & !registers.status;
        if set & status::FEATURES_OK != 0 {
            let features = registers.features;
            if features & !self.offered() != 0 || features & feature::VERSION_1 == 0 {
                set &= !status::FEATURES_OK;
            }
        }
        let registers = &mut self.registers;
        registers.status |= set;
        if set & status::DRIVER_OK != 0 {
            for queue in &mut self.queues[..D::QUEUES] {
                // What has been made available before counts as told of.
                queue.kicked = true;
                queue.indirect = registers.features & feature::INDIRECT != 0;
                queue.event_index = registers.features & feature::EVENT_INDEX != 0;
            }
        }
    }

    /// Goes on with a reset; whether it is over.
    fn reset(&mut self) -> bool {
        let is_over = self.device.reset();
        if is_over {
            self.registers = RESET;
            self.queues = [const { Queue::new() }; MAX_QUEUES];
            self.msix.clear();
        }
        is_over
    }

    fn runs(&self) -> bool {
        const RUNS: u8 = status::FEATURES_OK | status::DRIVER_OK;
        self.registers.status & (RUNS | status::NEEDS_RESET) == RUNS && self.function.is_master()
    }

    /// Lets the device work, and says which queues the driver is to be told of.
    fn work(&mut self, memory: &mut GuestMemory) -> Result<[bool; MAX_QUEUES], QueueError> {
        self.device.service(&mut self.queues[..D::QUEUES], memory)?;
        let mut told = [false; MAX_QUEUES];
        for (told, queue) in told.iter_mut().zip(&mut self.queues[..D::QUEUES]) {
            *told = queue.enabled && queue.needs_interrupt(memory)?;
        }
        Ok(told)
    }

    fn tell(&mut self, vector: u16, cause: u8) {
        if self.msix.is_enabled(&self.function) {
            self.msix.raise(vector);
        } else {
            self.registers.isr |= cause;
        }
    }

    /// What is read by the window in the configuration space: a BAR, at an offset and of a size that are said beside it.
    fn target(&self) -> Option<(usize, u64, u8)> {
        let field = |offset: u16, size: u8| self.function.read(self.window + offset, size);
        let (bar, offset, length) =
            (field(capability::BAR, 1), field(capability::OFFSET, 4), field(capability::LENGTH, 4));
        let known = bar == place::MEMORY_BAR as u64 || bar == place::NOTIFY_BAR as u64;
        (known && matches!(length, 1 | 2 | 4)).then_some((bar as usize, offset, length as u8))
    }

    /// Whether an access to the configuration space touches the data of that window.
    fn is_window(&self, offset: u16, size: u8) -> bool {
        let data = self.window + capability::DATA;
        offset < data + 4 && u32::from(offset) + u32::from(size) > data.into()
    }
}

impl<D: Device> pci::Device for VirtioPci<D> {
    fn function(&self) -> &Function {
        &self.function
    }

    fn function_mut(&mut self) -> &mut Function {
        &mut self.function
    }

    fn read_config(&mut self, offset: u16, size: u8) -> u64 {
        if self.is_window(offset, size)
            && let Some((bar, at, length)) = self.target()
        {
            let value = pci::Device::read_bar(self, bar, at, length) as u32;
            self.function.put((self.window + capability::DATA).into(), &value.to_le_bytes());
        }
        self.function.read(offset, size)
    }

    fn write_config(&mut self, offset: u16, size: u8, value: u64) {
        self.function.write(offset, size, value);
        if self.is_window(offset, size)
            && let Some((bar, at, length)) = self.target()
        {
            let value = self.function.read(self.window + capability::DATA, length);
            self.write_bar(bar, at, length, value);
        }
    }

    fn read_bar(&mut self, bar: usize, offset: u64, size: u8) -> u64 {
        if bar != place::MEMORY_BAR {
            return 0;
        }
        if let Some(value) = self.msix.read(offset, size) {
            return value;
        }
        match offset {
            place::COMMON..place::COMMON_SIZE => number(&self.common(), offset - place::COMMON, size),
            // Reading it is how the driver says that it knows.
            place::ISR => core::mem::take(&mut self.registers.isr).into(),
            place::DEVICE.. => number(&self.device.config(), offset - place::DEVICE, size),
            _ => 0,
        }
    }

    fn write_bar(&mut self, bar: usize, offset: u64, size: u8, value: u64) {
        if bar == place::NOTIFY_BAR {
            if let (0, Some(queue)) = (offset, self.queues[..D::QUEUES].get_mut(usize::from(value as u16))) {
                queue.kicked = true;
            }
        } else if !self.msix.write(offset, size, value) && offset < place::COMMON_SIZE {
            self.write_common(offset, size, value);
        }
    }

    fn service(&mut self, memory: &mut GuestMemory) {
        if self.registers.resetting {
            VirtioPci::reset(self);
        } else if self.runs() {
            match self.work(memory) {
                Ok(told) => {
                    for (index, _) in told.iter().enumerate().filter(|(_, told)| **told) {
                        self.tell(self.registers.queue_vectors[index], isr::QUEUE);
                    }
                }
                // 2.1.2: the driver is told that something is wrong, and nothing goes on before it resets the device.
                Err(_) => {
                    self.registers.status |= status::NEEDS_RESET;
                    self.tell(self.registers.config_vector, isr::CONFIGURATION);
                }
            }
        }
        self.function.set_interrupt_status(self.registers.isr != 0);
    }

    fn take_message(&mut self) -> Option<Command> {
        self.msix.take(&self.function)
    }

    fn interrupt(&self) -> bool {
        self.registers.isr != 0 && self.function.may_interrupt() && !self.msix.is_enabled(&self.function)
    }

    fn reset(&mut self) -> bool {
        let is_over = VirtioPci::reset(self);
        if is_over {
            self.msix.reset();
            self.function.reset();
        }
        is_over
    }

    fn is_idle(&self) -> bool {
        self.device.is_idle()
    }

    fn save(&self, state: &mut Writer) -> Result<(), StateError> {
        self.function.save(state)?;
        self.msix.save(state)?;
        let registers = &self.registers;
        for value in [registers.status, registers.resetting.into(), registers.isr] {
            state.number::<1>(value.into())?;
        }
        state.number::<4>(registers.device_feature_select.into())?;
        state.number::<4>(registers.driver_feature_select.into())?;
        state.number::<8>(registers.features)?;
        for value in [registers.config_vector, registers.queue_select] {
            state.number::<2>(value.into())?;
        }
        for (vector, queue) in registers.queue_vectors.iter().zip(&self.queues).take(D::QUEUES) {
            state.number::<2>((*vector).into())?;
            queue.save(state)?;
        }
        self.device.save(state)
    }

    fn restore(&mut self, state: &mut Reader) -> Result<(), StateError> {
        self.function.restore(state)?;
        self.msix.restore(state)?;
        let vectors = self.msix.vectors() as u64;
        let is_vector = |vector: u64| vector < vectors || vector == NO_VECTOR.into();
        self.registers = Registers {
            status: state.checked::<1>(|status| status & !u64::from(status::ALL) == 0)? as u8,
            resetting: state.checked::<1>(|resetting| resetting < 2)? != 0,
            isr: state.checked::<1>(|isr| isr & !u64::from(isr::ALL) == 0)? as u8,
            device_feature_select: state.number::<4>()? as u32,
            driver_feature_select: state.number::<4>()? as u32,
            features: state.number::<8>()?,
            config_vector: state.checked::<2>(is_vector)? as u16,
            queue_select: state.number::<2>()? as u16,
            ..RESET
        };
        for (vector, queue) in self.registers.queue_vectors.iter_mut().zip(&mut self.queues).take(D::QUEUES) {
            *vector = state.checked::<2>(is_vector)? as u16;
            queue.restore(state)?;
        }
        self.function.set_interrupt_status(self.registers.isr != 0);
        self.device.restore(state)
    }
}

/// A number out of bytes, with zeros behind their end.
fn number(bytes: &[u8], offset: u64, size: u8) -> u64 {
    let mut value = [0; 8];
    for (value, byte) in value.iter_mut().take(size.into()).zip(bytes.iter().skip(offset as usize)) {
        *value = *byte;
    }
    u64::from_le_bytes(value)
}

/// Sets an address, or the half of it that an offset names.
fn set_half(address: &mut u64, offset: u64, size: u8, value: u64) {
    match (offset % 8, size) {
        (0, 8) => *address = value,
        (0, 4) => *address = *address >> 32 << 32 | value,
        (4, 4) => *address = *address & 0xffff_ffff | value << 32,
        _ => {}
    }
}

#[cfg(test)]
mod tests;
