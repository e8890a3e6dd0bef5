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

#[test]
fn a_reset_of_the_machine_leaves_what_was_made() {
    let saved = |device: &TestDevice| {
        let mut bytes = [0; 1024];
        device.save(&mut Writer::new(&mut bytes)).unwrap();
        bytes
    };
    let made = saved(&VirtioPci::new(Rng(Counter(0))));
    let mut device = device();
    start(&mut device, feature::ALL);
    write(&mut device, place::MSIX_TABLE.into(), 4, 0xfee0_0000);
    device.write_config(0x10, 4, 0xc000_0000);
    assert_ne!(saved(&device), made);
    assert!(pci::Device::reset(&mut device));
    assert_eq!(saved(&device), made);
}
