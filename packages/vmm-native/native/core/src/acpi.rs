//! The ACPI tables of a guest (Advanced Configuration and Power Interface specification, 6.5): what its operating system
//! knows of processors, interrupts and devices.
//!
//! It is hardware-reduced ACPI (3.11.1): no legacy timers, interrupt controllers or fixed power registers.

use crate::memory::{GuestMemory, OutOfMemory};
use crate::pci::bus::{self, interrupt_of};
use crate::platform;

const HEADER: usize = 36;
/// Where the tables begin behind the root pointer.
const FIRST_TABLE: u64 = 0x40;
const ALIGNMENT: u64 = 16;
const CAPACITY: usize = 4096;

/// Bytes that grow.
struct Bytes {
    bytes: [u8; CAPACITY],
    length: usize,
}

impl Bytes {
    const fn new() -> Bytes {
        Bytes { bytes: [0; CAPACITY], length: 0 }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..][..bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Writes all tables, and returns where the root pointer is; `devices` is how many PCI devices there are beside the bridge.
pub fn write(memory: &mut GuestMemory, processors: u32, devices: u8) -> Result<u64, OutOfMemory> {
    let mut next = platform::ACPI_TABLES + FIRST_TABLE;
    let mut place = |table: &Bytes| -> Result<u64, OutOfMemory> {
        let address = next;
        memory.write(address, table.as_slice())?;
        next = (address + table.length as u64).next_multiple_of(ALIGNMENT);
        Ok(address)
    };
    let dsdt = place(&differentiated(devices))?;
    let fadt = place(&fixed(dsdt))?;
    let madt = place(&interrupts(processors))?;
    let mcfg = place(&enhanced_configuration())?;
    let xsdt = place(&table(b"XSDT", 1, |table| {
        for address in [fadt, madt, mcfg] {
            table.push(&address.to_le_bytes());
        }
    }))?;
    memory.write(platform::ACPI_TABLES, root_pointer(xsdt).as_slice())?;
    Ok(platform::ACPI_TABLES)
}

/// Root System Description Pointer (5.2.5.3).
fn root_pointer(xsdt: u64) -> Bytes {
    const LENGTH: u32 = 36;
    const FIRST_LENGTH: usize = 20;
    let mut root = Bytes::new();
    root.push(b"RSD PTR \0LVERET\x02");
    root.push(&[0; 4]);
    root.push(&LENGTH.to_le_bytes());
    root.push(&xsdt.to_le_bytes());
    root.push(&[0; 4]);
    root.bytes[8] = checksum(&root.bytes[..FIRST_LENGTH]);
    root.bytes[32] = checksum(root.as_slice());
    root
}

/// A table with its header (5.2.6).
fn table(signature: &[u8; 4], revision: u8, fill: impl FnOnce(&mut Bytes)) -> Bytes {
    let mut table = Bytes::new();
    table.push(signature);
    table.push(&[0, 0, 0, 0, revision, 0]);
    table.push(b"LVERETGUEST   \x01\0\0\0LVRT\x01\0\0\0");
    debug_assert_eq!(table.length, HEADER);
    fill(&mut table);
    let length = (table.length as u32).to_le_bytes();
    table.bytes[4..8].copy_from_slice(&length);
    table.bytes[9] = checksum(table.as_slice());
    table
}

/// What makes all bytes add up to 0.
fn checksum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg()
}

/// Fixed ACPI Description Table (5.2.9).
fn fixed(dsdt: u64) -> Bytes {
    const LENGTH: usize = 276;
    const REVISION: u8 = 6;
    const MINOR_REVISION: u8 = 5;
    /// WBINVD works; no fixed power and sleep buttons; there is a reset register; hardware-reduced.
    const FLAGS: u32 = 1 << 0 | 1 << 4 | 1 << 5 | 1 << 10 | 1 << 20;
    /// No VGA, no power states of PCI Express links, no CMOS clock; and, by bits that are clear, no legacy devices and no
    /// keyboard controller.
    const BOOT_ARCHITECTURE: u16 = 1 << 2 | 1 << 4 | 1 << 5;
    table(b"FACP", REVISION, |table| {
        table.length = LENGTH;
        let mut set = |offset: usize, bytes: &[u8]| table.bytes[offset..][..bytes.len()].copy_from_slice(bytes);
        set(109, &BOOT_ARCHITECTURE.to_le_bytes());
        set(112, &FLAGS.to_le_bytes());
        set(116, &port(platform::RESET));
        set(128, &[platform::RESET_VALUE]);
        set(131, &[MINOR_REVISION]);
        set(140, &dsdt.to_le_bytes());
        set(244, &port(platform::SLEEP_CONTROL));
        set(256, &port(platform::SLEEP_STATUS));
        set(268, b"LEVERET\0");
    })
}

/// Generic Address Structure of a port that is one byte wide (5.2.3.2).
fn port(port: u16) -> [u8; 12] {
    const SYSTEM_IO: u8 = 1;
    let [low, high] = port.to_le_bytes();
    [SYSTEM_IO, 8, 0, 1, low, high, 0, 0, 0, 0, 0, 0]
}

/// Multiple APIC Description Table (5.2.12).
fn interrupts(processors: u32) -> Bytes {
    const REVISION: u8 = 5;
    const ENABLED: u8 = 1;
    const IO_APIC_ID: u8 = 0;
    table(b"APIC", REVISION, |table| {
        table.push(&(platform::LOCAL_APIC as u32).to_le_bytes());
        table.push(&[0; 4]);
        for id in 0..processors as u8 {
            table.push(&[0, 8, id, id, ENABLED, 0, 0, 0]);
        }
        table.push(&[1, 12, IO_APIC_ID, 0]);
        table.push(&(platform::IO_APIC as u32).to_le_bytes());
        table.push(&[0; 4]);
    })
}

/// PCI Express memory mapped configuration space base address table (PCI Firmware specification 3.0, 4.1.2).
fn enhanced_configuration() -> Bytes {
    const FIRST_BUS: u8 = 0;
    const LAST_BUS: u8 = 0;
    table(b"MCFG", 1, |table| {
        table.push(&[0; 8]);
        table.push(&platform::PCI_CONFIG.to_le_bytes());
        table.push(&[0, 0, FIRST_BUS, LAST_BUS, 0, 0, 0, 0]);
    })
}

/// Terms of ACPI Machine Language (chapter 20).
mod aml {
    pub const SCOPE: &[u8] = &[0x10];
    pub const DEVICE: &[u8] = &[0x5b, 0x82];
    pub const PACKAGE: &[u8] = &[0x12];
    pub const BUFFER: &[u8] = &[0x11];
    pub const NAME: u8 = 0x08;
    pub const BYTE: u8 = 0x0a;
    pub const WORD: u8 = 0x0b;
    pub const DWORD: u8 = 0x0c;
}

/// Differentiated System Description Table (5.2.11.1), in ACPI Machine Language.
fn differentiated(devices: u8) -> Bytes {
    const REVISION: u8 = 2;
    /// PNP0501, a 16550; PNP0A08 and PNP0A03, host bridges of PCI Express and PCI; PNP0C02, something on the board: three
    /// letters in five bits each, four digits (19.3.4).
    const SERIAL: [u8; 4] = [0x41, 0xd0, 0x05, 0x01];
    const EXPRESS_BRIDGE: [u8; 4] = [0x41, 0xd0, 0x0a, 0x08];
    const BRIDGE: [u8; 4] = [0x41, 0xd0, 0x0a, 0x03];
    const BOARD: [u8; 4] = [0x41, 0xd0, 0x0c, 0x02];
    table(b"DSDT", REVISION, |table| {
        block(table, aml::SCOPE, |table| {
            table.push(b"\\_SB_");
            block(table, aml::DEVICE, |table| {
                table.push(b"COM1");
                named_id(table, b"_HID", SERIAL);
                table.push(&[aml::NAME, b'_', b'U', b'I', b'D', aml::BYTE, 1]);
                resources(table, &serial_resources());
            });
            block(table, aml::DEVICE, |table| {
                table.push(b"PCI0");
                named_id(table, b"_HID", EXPRESS_BRIDGE);
                named_id(table, b"_CID", BRIDGE);
                table.push(&[aml::NAME, b'_', b'U', b'I', b'D', aml::BYTE, 0]);
                table.push(&[aml::NAME, b'_', b'B', b'B', b'N', aml::BYTE, 0]);
                resources(table, &bridge_resources());
                table.push(&[aml::NAME, b'_', b'P', b'R', b'T']);
                block(table, aml::PACKAGE, |table| {
                    table.push(&[devices]);
                    (1..=devices).for_each(|device| route(table, device));
                });
            });
            block(table, aml::DEVICE, |table| {
                table.push(b"ECAM");
                named_id(table, b"_HID", BOARD);
                table.push(&[aml::NAME, b'_', b'U', b'I', b'D', aml::BYTE, 0]);
                resources(table, &board_resources());
            });
        });
        table.push(&[aml::NAME, b'_', b'S', b'5', b'_']);
        block(table, aml::PACKAGE, |table| {
            table.push(&[2, aml::BYTE, platform::SOFT_OFF, aml::BYTE, platform::SOFT_OFF])
        });
    })
}

/// Names an id.
fn named_id(table: &mut Bytes, name: &[u8; 4], id: [u8; 4]) {
    table.push(&[aml::NAME]);
    table.push(name);
    table.push(&[aml::DWORD]);
    table.push(&id);
}

/// Names resources: `_CRS`, a buffer.
fn resources(table: &mut Bytes, resources: &Bytes) {
    table.push(&[aml::NAME, b'_', b'C', b'R', b'S']);
    block(table, aml::BUFFER, |table| {
        table.push(&[aml::WORD]);
        table.push(&(resources.length as u16).to_le_bytes());
        table.push(resources.as_slice());
    });
}

/// Which interrupt the first pin of a device is (6.2.13): all functions, pin, no link, input.
fn route(table: &mut Bytes, device: u8) {
    const FIRST_PIN: u8 = 0;
    block(table, aml::PACKAGE, |table| {
        table.push(&[4, aml::DWORD, 0xff, 0xff, device, 0]);
        table.push(&[aml::BYTE, FIRST_PIN, aml::BYTE, 0, aml::BYTE, interrupt_of(device)]);
    });
}

const END: &[u8] = &[0x79, 0];

/// Resources of the host bridge (6.4.3.5): its bus, its own ports, and what it passes on to devices.
fn bridge_resources() -> Bytes {
    const DECODES_16_BITS: u8 = 1;
    const PORTS: u8 = 8;
    let mut resources = Bytes::new();
    let [low, high] = platform::PCI_CONFIG_ADDRESS.to_le_bytes();
    resources.push(&[0x47, DECODES_16_BITS, low, high, low, high, 1, PORTS]);
    window::<2>(&mut resources, 0x88, window::BUSES, (0, 0));
    let (first, last) = platform::PCI_PORTS;
    window::<2>(&mut resources, 0x88, window::PORTS, (first.into(), last.into()));
    window::<4>(&mut resources, 0x87, window::MEMORY, platform::PCI_MEMORY);
    window::<8>(&mut resources, 0x8a, window::MEMORY, platform::PCI_HIGH_MEMORY);
    resources.push(END);
    resources
}

/// Types of address space descriptors and their flags: memory that is written to and not cached, all ports, buses.
mod window {
    pub const MEMORY: [u8; 2] = [0, 0x01];
    pub const PORTS: [u8; 2] = [1, 0x03];
    pub const BUSES: [u8; 2] = [2, 0x00];
}

/// An address space descriptor with addresses of `N` bytes, from the first to the last (6.4.3.5.1 to 6.4.3.5.3).
fn window<const N: usize>(resources: &mut Bytes, descriptor: u8, [kind, flags]: [u8; 2], (first, last): (u64, u64)) {
    /// What the bridge produces lies nowhere else.
    const FIXED: u8 = 1 << 3 | 1 << 2;
    resources.push(&[descriptor, 3 + 5 * N as u8, 0, kind, FIXED, flags]);
    for value in [0, first, last, 0, last - first + 1] {
        resources.push(&value.to_le_bytes()[..N]);
    }
}

/// Resources of the board (6.4.3.4): the enhanced configuration space, which systems do not use unless it is somebody's.
fn board_resources() -> Bytes {
    const WRITABLE: u8 = 1;
    let mut resources = Bytes::new();
    resources.push(&[0x86, 9, 0, WRITABLE]);
    resources.push(&(platform::PCI_CONFIG as u32).to_le_bytes());
    resources.push(&(bus::CONFIG_SIZE as u32).to_le_bytes());
    resources.push(END);
    resources
}

/// Resources of the serial port (6.4): its ports and its interrupt.
fn serial_resources() -> Bytes {
    const PORTS: u8 = 8;
    const DECODES_16_BITS: u8 = 1;
    /// Consumed, edge-triggered, active high, exclusive.
    const EDGE: u8 = 0b0011;
    let [low, high] = platform::SERIAL_PORT.to_le_bytes();
    let mut resources = Bytes::new();
    resources.push(&[0x47, DECODES_16_BITS, low, high, low, high, 1, PORTS]);
    resources.push(&[0x89, 6, 0, EDGE, 1, platform::SERIAL_INTERRUPT, 0, 0, 0]);
    resources.push(END);
    resources
}

/// A term with a length in front (20.2.4), always in its form of two bytes.
fn block(table: &mut Bytes, opcode: &[u8], fill: impl FnOnce(&mut Bytes)) {
    table.push(opcode);
    let start = table.length;
    table.push(&[0; 2]);
    fill(table);
    let length = table.length - start;
    table.bytes[start] = 0x40 | (length & 0xf) as u8;
    table.bytes[start + 1] = (length >> 4) as u8;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::leaked;
    use std::vec::Vec;

    fn tables() -> (GuestMemory, u64) {
        let mut memory = leaked(1 << 20);
        let root = write(&mut memory, 2, 3).unwrap();
        (memory, root)
    }

    fn read(memory: &GuestMemory, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = std::vec![0; length];
        memory.read(address, &mut bytes).unwrap();
        bytes
    }

    fn read_table(memory: &GuestMemory, address: u64) -> Vec<u8> {
        let length = u32::from_le_bytes(read(memory, address + 4, 4).try_into().unwrap());
        read(memory, address, length as usize)
    }

    fn address(bytes: &[u8], offset: usize) -> u64 {
        u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
    }

    #[test]
    fn every_table_is_reached_from_the_root_and_adds_up_to_0() {
        let (memory, root) = tables();
        let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        let pointer = read(&memory, root, 36);
        assert_eq!((&pointer[..8], sum(&pointer[..20]), sum(&pointer)), (&b"RSD PTR "[..], 0, 0));
        let xsdt = read_table(&memory, address(&pointer, 24));
        let [fadt, madt, mcfg] = [36, 44, 52].map(|offset| read_table(&memory, address(&xsdt, offset)));
        let dsdt = read_table(&memory, address(&fadt, 140));
        for (table, signature) in
            [(&xsdt, b"XSDT"), (&fadt, b"FACP"), (&madt, b"APIC"), (&mcfg, b"MCFG"), (&dsdt, b"DSDT")]
        {
            assert_eq!((&table[..4], sum(table)), (&signature[..], 0));
        }
        assert_eq!(xsdt.len(), 60);
        assert_eq!(mcfg[44..56], [0, 0, 0, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(fadt.len(), 276);
    }

    #[test]
    fn every_processor_and_the_io_apic_are_listed() {
        let (memory, root) = tables();
        let xsdt = read_table(&memory, address(&read(&memory, root, 36), 24));
        let madt = read_table(&memory, address(&xsdt, 44));
        assert_eq!(madt[44..52], [0, 8, 0, 0, 1, 0, 0, 0]);
        assert_eq!(madt[52..60], [0, 8, 1, 1, 1, 0, 0, 0]);
        assert_eq!(madt[60..], [1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
    }

    // As iasl 20200925 compiles `DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite, 0,
    // 0xC0000000, 0xDFFFFFFF, 0, 0x20000000)`.
    #[test]
    fn windows_are_descriptors_of_their_width() {
        let mut bytes = Bytes::new();
        window::<4>(&mut bytes, 0x87, window::MEMORY, platform::PCI_MEMORY);
        let expected =
            [0x87, 0x17, 0, 0, 0x0c, 1, 0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff, 0xff, 0xdf, 0, 0, 0, 0, 0, 0, 0, 0x20];
        assert_eq!(bytes.as_slice(), expected);
    }

    #[test]
    fn every_device_has_an_interrupt() {
        let table = differentiated(5);
        let route = |device: u8, input: u8| {
            let mut bytes = Bytes::new();
            route(&mut bytes, device);
            let expected = [0x12, 0x4e, 0, 4, 0x0c, 0xff, 0xff, device, 0, 0x0a, 0, 0x0a, 0, 0x0a, input];
            assert_eq!(bytes.as_slice(), expected);
            expected
        };
        for route in [route(1, 17), route(2, 18), route(3, 19), route(4, 16), route(5, 17)] {
            assert!(table.as_slice().windows(route.len()).any(|window| window == route));
        }
    }

    #[test]
    fn blocks_know_their_length() {
        let mut bytes = Bytes::new();
        block(&mut bytes, &[0x12], |bytes| bytes.push(&[7; 100]));
        assert_eq!(bytes.as_slice()[..4], [0x12, 0x46, 0x06, 7]);
        assert_eq!(bytes.length, 103);
    }
}
