use super::testing::TestDevice;
use super::*;

const ADDRESS: u16 = platform::PCI_CONFIG_ADDRESS;
const DATA: u16 = platform::PCI_CONFIG_DATA;

fn with_bus(test: impl FnOnce(&mut Bus)) {
    let (mut one, mut two) = (TestDevice::new(0x1111), TestDevice::new(0x2222));
    let mut functions: [&mut dyn Device; 2] = [&mut one, &mut two];
    test(&mut Bus::new(&mut functions));
}

fn select(bus: &mut Bus, device: u32, offset: u32) {
    assert!(bus.write_ports(ADDRESS, 4, 1 << 31 | device << 11 | offset));
}

// What Linux does to find out whether there is mechanism #1 (arch/x86/pci/direct.c, pci_check_type1).
#[test]
fn the_mechanism_is_there() {
    with_bus(|bus| {
        bus.write_ports(0xcfb, 1, 1);
        assert_eq!(bus.read_ports(0xcfb, 1), None, "parts of CONFIG_ADDRESS are other ports");
        bus.write_ports(ADDRESS, 4, 0x8000_0000);
        assert_eq!(bus.read_ports(ADDRESS, 4), Some(0x8000_0000));
        assert_eq!(bus.read_ports(DATA, 4), Some(0x0008_1b36));
        assert_eq!(bus.read_ports(0xcfe, 2), Some(0x0008));
        select(bus, 0, 8);
        assert_eq!(bus.read_ports(DATA, 4), Some(0x0600_0000));
    });
}

#[test]
fn both_ways_lead_to_the_same_functions() {
    with_bus(|bus| {
        for (device, found) in [(0, 0x0008_1b36), (1, 0x1111_1234), (2, 0x2222_1234), (3, u32::MAX), (31, u32::MAX)] {
            select(bus, device, 0);
            let address = platform::PCI_CONFIG + u64::from(device << 15);
            assert_eq!(bus.read_ports(DATA, 4), Some(found));
            assert_eq!(bus.read_memory(address, 4) as u32, found);
            assert_eq!(bus.read_memory(address + (1 << 12), 4) as u32, u32::MAX, "another function");
            assert_eq!(bus.read_memory(address + 0x100, 4) as u32, u32::MAX, "the extended space");
        }
        bus.write_memory(platform::PCI_CONFIG + (1 << 15) + 0x3c, 1, 0x55);
        select(bus, 1, 0x3c);
        assert_eq!(bus.read_ports(DATA, 1), Some(0x55));
        for address in [0, 1 << 31 | 1 << 16, 1 << 31 | 1 << 8] {
            bus.write_ports(ADDRESS, 4, address);
            assert_eq!(bus.read_ports(DATA, 4), Some(u32::MAX), "disabled, another bus, another function");
            bus.write_ports(DATA, 4, 0);
        }
    });
}

#[test]
fn firmware_has_given_out_addresses_that_do_not_overlap() {
    with_bus(|bus| {
        assert_eq!(bus.read_ports(0x1000, 1), Some(0), "first device, ports");
        for (address, expected) in [
            (platform::PCI_HIGH_MEMORY.0 + 0x1ffc, 0x1ffc),
            (platform::PCI_HIGH_MEMORY.0 + 0x2004, 0x0004),
            (platform::PCI_MEMORY.0 + 4, 0x3_0004),
            (platform::PCI_MEMORY.0 + 0x1004, 0x3_0004),
        ] {
            assert_eq!(bus.read_memory(address, 4), expected, "{address:#x}");
        }
        assert_eq!(bus.read_memory(platform::PCI_MEMORY.0 + 0x2000, 4), u64::MAX);
        assert_eq!((bus.read_ports(0x1021, 4), bus.read_ports(0x1040, 1)), (Some(0x2_0001), None));
        assert!(!bus.write_ports(0x1040, 1, 1));
    });
}

#[test]
fn where_bars_overlap_the_lower_device_answers() {
    let (mut one, mut two) = (TestDevice::new(1), TestDevice::new(2));
    let mut functions: [&mut dyn Device; 2] = [&mut one, &mut two];
    let mut bus = Bus::new(&mut functions);
    for device in [1, 2] {
        let config = platform::PCI_CONFIG + (device << 15);
        bus.write_memory(config + 0x10, 8, platform::PCI_CONFIG);
        bus.write_memory(config + 0x1c, 4, 0xd000_0000);
        bus.write_memory(config + 0x18, 4, 0xcf0);
    }
    bus.write_memory(0xd000_0ffe, 8, 7);
    bus.write_memory(platform::PCI_CONFIG, 4, 8);
    assert!(bus.write_ports(0xce0, 4, 9), "the ports of the bus come first");
    bus.write_ports(ADDRESS, 4, 0x8000_0000);
    assert_eq!(bus.read_ports(ADDRESS, 4), Some(0x8000_0000));
    assert_eq!(one.written, [(3, 0xffe, 8, 7), (2, 0, 4, 9)]);
    assert_eq!(two.written, []);
}

#[test]
fn pins_are_shared_by_every_fourth_device() {
    let mut devices: std::vec::Vec<TestDevice> = (0..5).map(TestDevice::new).collect();
    devices[4].pin = true;
    let mut functions: std::vec::Vec<&mut dyn Device> =
        devices.iter_mut().map(|device| device as &mut dyn Device).collect();
    let bus = Bus::new(&mut functions);
    assert_eq!([16, 17, 18, 19].map(|input| bus.interrupt(input)), [false, true, false, false]);
}

#[test]
fn no_access_goes_wrong() {
    with_bus(|bus| {
        for address in (0..CONFIG_SIZE).step_by(0x3fd).map(|offset| platform::PCI_CONFIG + offset) {
            for size in [1, 2, 4, 8] {
                bus.read_memory(address, size);
                bus.write_memory(address, size, u64::MAX);
            }
        }
        for port in 0..=u16::MAX {
            for size in [1, 2, 4] {
                bus.write_ports(port, size, u32::MAX);
                bus.read_ports(port, size);
            }
        }
    });
}

#[test]
fn what_was_saved_is_restored() {
    let mut bytes = [0; 1024];
    let mut length = 0;
    with_bus(|bus| {
        select(bus, 2, 0x18);
        bus.write_ports(DATA, 4, 0x5000);
        let mut writer = Writer::new(&mut bytes);
        bus.save(&mut writer).unwrap();
        length = writer.length();
    });
    with_bus(|bus| {
        bus.restore(&mut Reader::new(&bytes[..length])).unwrap();
        assert_eq!(bus.read_ports(DATA, 4), Some(0x5001));
        assert_eq!(bus.read_ports(0x5002, 1), Some(2));
    });
    for shorter in 0..length {
        with_bus(|bus| assert!(bus.restore(&mut Reader::new(&bytes[..shorter])).is_err()));
    }
}

#[test]
fn after_a_reset_functions_are_where_they_were_made_as_soon_as_all_are_done() {
    let (mut one, mut two) = (TestDevice::new(0x1111), TestDevice::new(0x2222));
    two.message = Some(Command {
        kind: crate::lapic::Kind::Fixed,
        vector: 0x41,
        destination: crate::lapic::Destination::Physical(0),
        shorthand: crate::lapic::Shorthand::None,
    });
    let mut functions: [&mut dyn Device; 2] = [&mut one, &mut two];
    let mut bus = Bus::new(&mut functions);
    let saved = |bus: &Bus| {
        let mut bytes = [0; 1024];
        bus.save(&mut Writer::new(&mut bytes)).unwrap();
        bytes
    };
    let made = saved(&bus);
    select(&mut bus, 1, 0x10);
    bus.write_ports(DATA, 4, 0xc000_0000);
    assert_ne!(saved(&bus), made);
    assert!(!bus.reset(), "one waits");
    assert!(bus.reset());
    assert_eq!(saved(&bus), made);
}
