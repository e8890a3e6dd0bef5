//! What all virtio devices look like on the PCI bus (Virtual I/O Device specification 1.2, 2.1 to 2.4 and 4.1), without
//! what there was before version 1.
//!
//! Registers are in memory, but for the one that drivers tell by: that is a port, whose accesses need no decoding.

use super::queue::{Queue, QueueError, is_size};
use super::{CONFIG_SIZE, Device, MAX_QUEUES};
use crate::lapic::Command;
use crate::memory::GuestMemory;
use crate::pci;
use crate::pci::config::{Function, Identity, Space};
use crate::pci::msix::{MsiX, Place};
use crate::state::{Reader, StateError, Writer};

const VENDOR: u16 = 0x1af4;
/// A device's number is added to it.
const FIRST_DEVICE: u16 = 0x1040;
const REVISION: u8 = 1;

/// BARs, and what is where in the one of memory.
mod place {
    pub const MEMORY_BAR: usize = 0;
    pub const MEMORY_SIZE: u64 = 0x2000;
    pub const NOTIFY_BAR: usize = 2;
    pub const NOTIFY_SIZE: u64 = 4;
    pub const COMMON: u64 = 0x000;
    pub const COMMON_SIZE: u64 = 0x38;
    pub const ISR: u64 = 0x100;
    pub const DEVICE: u64 = 0x200;
    pub const MSIX_TABLE: u32 = 0x1000;
    pub const MSIX_PENDING: u32 = 0x1800;
}

/// Types of capabilities (4.1.4).
mod capability {
    pub const VENDOR_SPECIFIC: u8 = 0x09;
    pub const COMMON: u8 = 1;
    pub const NOTIFY: u8 = 2;
    pub const ISR: u8 = 3;
    pub const DEVICE: u8 = 4;
    pub const WINDOW: u8 = 5;
    /// Offsets in a capability.
    pub const BAR: u16 = 4;
    pub const OFFSET: u16 = 8;
    pub const LENGTH: u16 = 12;
    pub const DATA: u16 = 16;
}

/// Offsets in the common configuration (4.1.4.3).
mod common {
    pub const DEVICE_FEATURE_SELECT: u64 = 0x00;
    pub const DEVICE_FEATURE: usize = 0x04;
    pub const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub const DRIVER_FEATURE: u64 = 0x0c;
    pub const CONFIG_VECTOR: u64 = 0x10;
    pub const QUEUES: usize = 0x12;
    pub const STATUS: u64 = 0x14;
    pub const QUEUE_SELECT: u64 = 0x16;
    pub const QUEUE_SIZE: u64 = 0x18;
    pub const QUEUE_VECTOR: u64 = 0x1a;
    pub const QUEUE_ENABLE: u64 = 0x1c;
    pub const QUEUE_DESCRIPTORS: u64 = 0x20;
    pub const QUEUE_AVAILABLE: u64 = 0x28;
    pub const QUEUE_USED: u64 = 0x30;
    pub const SIZE: usize = super::place::COMMON_SIZE as usize;
}

/// Bits of the device status (2.1).
mod status {
    pub const DRIVER_OK: u8 = 1 << 2;
    pub const FEATURES_OK: u8 = 1 << 3;
    pub const NEEDS_RESET: u8 = 1 << 6;
    /// ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, FAILED.
    pub const DRIVERS: u8 = 0x8f;
    pub const ALL: u8 = DRIVERS | NEEDS_RESET;
}

/// Features that do not depend on the device (6).
mod feature {
    pub const INDIRECT: u64 = 1 << 28;
    pub const EVENT_INDEX: u64 = 1 << 29;
    pub const VERSION_1: u64 = 1 << 32;
    pub const ALL: u64 = INDIRECT | EVENT_INDEX | VERSION_1;
}

/// Bits of the ISR status (4.1.4.5).
mod isr {
    pub const QUEUE: u8 = 1 << 0;
    pub const CONFIGURATION: u8 = 1 << 1;
    pub const ALL: u8 = QUEUE | CONFIGURATION;
}

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
            if self.device.reset() {
                self.registers = RESET;
                self.queues = [const { Queue::new() }; MAX_QUEUES];
                self.msix.clear();
            }
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
mod tests {
    use super::super::queue::testing::{self, WRITE, offer, used};
    use super::super::rng::{Entropy, Rng};
    use super::*;
    use crate::lapic::{Destination, Kind};
    use crate::memory::leaked;
    use crate::pci::Device as _;

    #[derive(Debug)]
    struct Counter(u8);

    impl Entropy for Counter {
        fn fill(&mut self, bytes: &mut [u8]) {
            for byte in bytes {
                self.0 = self.0.wrapping_add(1);
                *byte = self.0;
            }
        }
    }

    type TestDevice = VirtioPci<Rng<Counter>>;

    fn device() -> TestDevice {
        let mut device = VirtioPci::new(Rng(Counter(0)));
        device.write_config(4, 2, 7);
        device
    }

    fn write(device: &mut TestDevice, offset: u64, size: u8, value: u64) {
        device.write_bar(0, offset, size, value);
    }

    fn status(device: &mut TestDevice) -> u64 {
        device.read_bar(0, common::STATUS, 1)
    }

    fn queue() -> Queue {
        testing::queue(8, 0)
    }

    /// What a driver does first (3.1.1), up to the queue.
    fn agree(device: &mut TestDevice, features: u64) {
        write(device, common::STATUS, 1, 1);
        write(device, common::STATUS, 1, 3);
        for half in [0, 1] {
            write(device, common::DRIVER_FEATURE_SELECT, 4, half);
            write(device, common::DRIVER_FEATURE, 4, features >> (half * 32) & 0xffff_ffff);
        }
        write(device, common::STATUS, 1, 11);
    }

    /// And what it does then.
    fn start(device: &mut TestDevice, features: u64) {
        agree(device, features);
        let queue = queue();
        write(device, common::QUEUE_SELECT, 2, 0);
        write(device, common::QUEUE_SIZE, 2, queue.size.into());
        write(device, common::QUEUE_DESCRIPTORS, 8, queue.descriptors);
        write(device, common::QUEUE_AVAILABLE, 4, queue.available);
        write(device, common::QUEUE_AVAILABLE + 4, 4, 0);
        write(device, common::QUEUE_USED, 8, queue.used);
        write(device, common::QUEUE_ENABLE, 2, 1);
        write(device, common::STATUS, 1, 15);
    }

    #[test]
    fn capabilities_lead_to_the_registers() {
        let mut device = device();
        assert_eq!((device.read_config(0, 4), device.read_config(8, 1)), (0x1044_1af4, 1));
        let mut at = device.read_config(0x34, 1) as u16;
        let mut found = std::vec::Vec::new();
        while at != 0 {
            if device.read_config(at, 1) == 9 {
                let field = |device: &mut TestDevice, offset, size| device.read_config(at + offset, size);
                found.push((
                    field(&mut device, 3, 1),
                    field(&mut device, 4, 1),
                    field(&mut device, 8, 4),
                    field(&mut device, 12, 4),
                    field(&mut device, 2, 1),
                ));
            }
            at = device.read_config(at + 1, 1) as u16;
        }
        assert_eq!(
            found,
            [(1, 0, 0, 0x38, 16), (2, 2, 0, 4, 20), (3, 0, 0x100, 1, 16), (4, 0, 0x200, 64, 16), (5, 0, 0, 0, 20)]
        );
    }

    #[test]
    fn features_are_agreed_upon_or_not() {
        let offered = |device: &mut TestDevice, half| {
            write(device, common::DEVICE_FEATURE_SELECT, 4, half);
            device.read_bar(0, common::DEVICE_FEATURE as u64, 4)
        };
        let mut device = device();
        assert_eq!([0, 1, 2].map(|half| offered(&mut device, half)), [0x3000_0000, 1, 0]);
        agree(&mut device, feature::VERSION_1 | feature::INDIRECT);
        assert_eq!(status(&mut device), 11);
        write(&mut device, common::DRIVER_FEATURE, 4, 0);
        assert_eq!(device.registers.features, feature::VERSION_1 | feature::INDIRECT, "settled");
        for features in [0, feature::INDIRECT, feature::VERSION_1 | 1, feature::VERSION_1 | 1 << 33] {
            let mut device = super::tests::device();
            agree(&mut device, features);
            assert_eq!(status(&mut device), 3, "{features:#x}");
        }
    }

    #[test]
    fn a_driver_tells_of_buffers_and_is_told_by_a_message() {
        let (mut device, mut memory) = (device(), leaked(1 << 16));
        let msix = device.read_config(0x34, 1) as u16;
        device.write_config(msix + 2, 2, 1 << 15);
        write(&mut device, 0x1010, 8, 0xfee0_1000);
        write(&mut device, 0x1018, 8, 0x45);
        start(&mut device, feature::VERSION_1);
        write(&mut device, common::QUEUE_VECTOR, 2, 1);
        device.service(&mut memory);
        offer(&mut memory, &mut queue(), 2, &[(0x9000, 3, WRITE), (0x9100, 2, WRITE)]);
        device.service(&mut memory);
        assert_eq!(used(&memory, &queue()), [], "nobody has told");
        device.write_bar(2, 0, 2, 0);
        device.service(&mut memory);
        assert_eq!(used(&memory, &queue()), [(2, 5)]);
        let message = device.take_message().unwrap();
        assert_eq!((message.kind, message.vector, message.destination), (Kind::Fixed, 0x45, Destination::Physical(1)));
        assert_eq!((device.take_message(), device.interrupt()), (None, false));
        assert_eq!(memory.read_u16(0x9100), Ok(0x0504));
    }

    #[test]
    fn without_messages_the_pin_is_asserted_until_the_status_is_read() {
        let (mut device, mut memory) = (device(), leaked(1 << 16));
        start(&mut device, feature::VERSION_1);
        offer(&mut memory, &mut queue(), 0, &[(0x9000, 1, WRITE)]);
        device.service(&mut memory);
        assert!(device.interrupt(), "what was available before it was ready counts");
        assert_eq!(device.read_config(6, 2), 0x18);
        device.write_config(4, 2, 0x407);
        assert!(!device.interrupt());
        device.write_config(4, 2, 7);
        assert_eq!((device.read_bar(0, place::ISR, 1), device.read_bar(0, place::ISR, 1)), (1, 0));
        device.service(&mut memory);
        assert_eq!((device.interrupt(), device.read_config(6, 2)), (false, 0x10));
    }

    #[test]
    fn a_driver_that_breaks_the_rules_has_to_reset_the_device() {
        let (mut device, mut memory) = (device(), leaked(1 << 16));
        start(&mut device, feature::VERSION_1);
        offer(&mut memory, &mut queue(), 0, &[(1 << 16, 1, WRITE)]);
        device.service(&mut memory);
        assert_eq!((status(&mut device), device.read_bar(0, place::ISR, 1)), (0x4f, 2));
        memory.write(0, &[0; 1 << 15]).unwrap();
        offer(&mut memory, &mut queue(), 0, &[(0x9000, 1, WRITE)]);
        device.write_bar(2, 0, 2, 0);
        device.service(&mut memory);
        assert_eq!(used(&memory, &queue()), []);
        write(&mut device, common::STATUS, 1, 0);
        device.service(&mut memory);
        assert_eq!((device.registers, device.queues[0].clone()), (RESET, Queue::new()));
        start(&mut device, feature::VERSION_1);
        device.service(&mut memory);
        assert_eq!(used(&memory, &queue()), [(0, 1)]);
    }

    #[test]
    fn a_device_that_is_not_ready_or_not_master_touches_nothing() {
        let (mut device, mut memory) = (device(), leaked(1 << 16));
        start(&mut device, feature::VERSION_1);
        offer(&mut memory, &mut queue(), 0, &[(0x9000, 1, WRITE)]);
        device.write_config(4, 2, 3);
        device.service(&mut memory);
        assert_eq!(used(&memory, &queue()), []);
        device.write_config(4, 2, 7);
        device.service(&mut memory);
        assert_eq!(used(&memory, &queue()), [(0, 1)]);
        // DRIVER_OK without FEATURES_OK.
        let mut hasty = super::tests::device();
        write(&mut hasty, common::QUEUE_ENABLE, 2, 1);
        write(&mut hasty, common::STATUS, 1, 7);
        hasty.service(&mut memory);
        assert_eq!((status(&mut hasty), hasty.read_bar(0, place::ISR, 1)), (7, 0));
    }

    #[test]
    fn queues_that_there_are_not_and_sizes_that_are_none_are_ignored() {
        let mut device = device();
        for size in [0, 3, 256, 0xffff] {
            write(&mut device, common::QUEUE_SIZE, 2, size);
        }
        write(&mut device, common::QUEUE_VECTOR, 2, 2);
        assert_eq!((device.queues[0].size, device.registers.queue_vectors[0]), (128, NO_VECTOR));
        for index in [1, 2, 0xffff] {
            write(&mut device, common::QUEUE_SELECT, 2, index);
            write(&mut device, common::QUEUE_SIZE, 2, 4);
            write(&mut device, common::QUEUE_ENABLE, 2, 1);
            device.write_bar(2, 0, 2, index);
            assert_eq!(device.read_bar(0, common::QUEUE_SIZE, 8), 0);
        }
        assert_eq!(device.queues, [const { Queue::new() }; 2]);
        write(&mut device, common::QUEUE_SELECT, 2, 0);
        write(&mut device, common::QUEUE_ENABLE, 2, 1);
        write(&mut device, common::QUEUE_USED, 8, 0x5000);
        assert_eq!(device.read_bar(0, common::QUEUE_USED, 8), 0, "it is enabled");
    }

    #[test]
    fn registers_are_reached_by_the_configuration_space_too() {
        let mut device = device();
        let window = device.window;
        device.write_config(window + capability::OFFSET, 4, common::STATUS);
        device.write_config(window + capability::LENGTH, 4, 1);
        device.write_config(window + capability::DATA, 4, 3);
        assert_eq!((status(&mut device), device.read_config(window + capability::DATA, 4)), (3, 3));
        for (bar, offset, length) in [(1, 0, 4), (0, 0, 3), (0, 0, 8), (0xff, 0, 1), (0, u64::from(u32::MAX), 4)] {
            device.write_config(window + capability::BAR, 1, bar);
            device.write_config(window + capability::OFFSET, 4, offset);
            device.write_config(window + capability::LENGTH, 4, length);
            device.write_config(window + capability::DATA, 4, 0xff);
            device.read_config(window + capability::DATA - 2, 8);
        }
        assert_eq!(status(&mut device), 3);
    }

    #[test]
    fn accesses_of_any_size_anywhere_go_well() {
        let (mut device, mut memory) = (device(), leaked(1 << 12));
        for offset in (0..0x300).chain(0xfe0..0x1040).chain(0x17f0..0x1810).chain(0x1ff0..0x2000) {
            for size in [1, 2, 4, 8] {
                for value in [u64::MAX >> (64 - size * 8), 1, 0xf] {
                    device.write_bar(0, offset, size as u8, value);
                    device.write_bar(2, offset % 4, size as u8, value);
                    device.write_config(offset as u16, size as u8, value);
                    device.write_config(4, 2, 7);
                    device.service(&mut memory);
                    while device.take_message().is_some() {}
                    device.read_bar(0, offset, size as u8);
                    device.read_bar(2, offset % 4, size as u8);
                    device.read_config(offset as u16, size as u8);
                }
            }
        }
    }

    #[test]
    fn what_was_saved_is_restored_and_what_cannot_be_is_refused() {
        let (mut saved, mut memory) = (device(), leaked(1 << 16));
        start(&mut saved, feature::VERSION_1 | feature::EVENT_INDEX);
        write(&mut saved, common::CONFIG_VECTOR, 2, 1);
        offer(&mut memory, &mut queue(), 0, &[(0x9000, 1, WRITE)]);
        saved.service(&mut memory);
        let mut bytes = [0; 1024];
        let mut writer = Writer::new(&mut bytes);
        saved.save(&mut writer).unwrap();
        let length = writer.length();
        let mut restored = VirtioPci::new(Rng(Counter(0)));
        restored.restore(&mut Reader::new(&bytes[..length])).unwrap();
        assert_eq!((restored.registers, &restored.queues), (saved.registers, &saved.queues));
        assert_eq!((restored.function, restored.msix), (saved.function, saved.msix));
        for shorter in 0..length {
            assert!(VirtioPci::new(Rng(Counter(0))).restore(&mut Reader::new(&bytes[..shorter])).is_err());
        }
        // Whatever the state, a device that took it goes on, or needs a reset.
        for offset in 0..length {
            for bit in 0..8 {
                let mut flipped = bytes;
                flipped[offset] ^= 1 << bit;
                let mut device = VirtioPci::new(Rng(Counter(0)));
                if device.restore(&mut Reader::new(&flipped[..length])).is_ok() {
                    device.service(&mut memory);
                    device.write_bar(2, 0, 2, 0);
                    device.service(&mut memory);
                    while device.take_message().is_some() {}
                }
            }
        }
    }
}
