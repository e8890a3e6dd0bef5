//! The ACPI tables of a guest (Advanced Configuration and Power Interface specification, 6.5): what its operating system
//! knows of processors, interrupts and devices.
//!
//! It is hardware-reduced ACPI (3.11.1): no legacy timers, interrupt controllers or fixed power registers.

use crate::memory::{GuestMemory, OutOfMemory};
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

/// Writes all tables, and returns where the root pointer is.
pub fn write(memory: &mut GuestMemory, processors: u32) -> Result<u64, OutOfMemory> {
    let mut next = platform::ACPI_TABLES + FIRST_TABLE;
    let mut place = |table: &Bytes| -> Result<u64, OutOfMemory> {
        let address = next;
        memory.write(address, table.as_slice())?;
        next = (address + table.length as u64).next_multiple_of(ALIGNMENT);
        Ok(address)
    };
    let dsdt = place(&differentiated())?;
    let fadt = place(&fixed(dsdt))?;
    let madt = place(&interrupts(processors))?;
    let xsdt = place(&table(b"XSDT", 1, |table| {
        for address in [fadt, madt] {
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
    /// No VGA, no CMOS clock; and, by bits that are clear, no legacy devices and no keyboard controller.
    const BOOT_ARCHITECTURE: u16 = 1 << 2 | 1 << 5;
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

/// Differentiated System Description Table (5.2.11.1), in ACPI Machine Language (chapter 20).
fn differentiated() -> Bytes {
    const REVISION: u8 = 2;
    const SCOPE: &[u8] = &[0x10];
    const DEVICE: &[u8] = &[0x5b, 0x82];
    const PACKAGE: &[u8] = &[0x12];
    const BUFFER: &[u8] = &[0x11];
    const NAME: u8 = 0x08;
    const BYTE: u8 = 0x0a;
    const DWORD: u8 = 0x0c;
    /// PNP0501: a 16550 (19.3.4: three letters in five bits each, four digits).
    const SERIAL_ID: [u8; 4] = [0x41, 0xd0, 0x05, 0x01];
    table(b"DSDT", REVISION, |table| {
        block(table, SCOPE, |table| {
            table.push(b"\\_SB_");
            block(table, DEVICE, |table| {
                table.push(b"COM1");
                table.push(&[NAME, b'_', b'H', b'I', b'D', DWORD]);
                table.push(&SERIAL_ID);
                table.push(&[NAME, b'_', b'U', b'I', b'D', BYTE, 1]);
                table.push(&[NAME, b'_', b'C', b'R', b'S']);
                let resources = serial_resources();
                block(table, BUFFER, |table| {
                    table.push(&[BYTE, resources.length as u8]);
                    table.push(resources.as_slice());
                });
            });
        });
        table.push(&[NAME, b'_', b'S', b'5', b'_']);
        block(table, PACKAGE, |table| table.push(&[2, BYTE, platform::SOFT_OFF, BYTE, platform::SOFT_OFF]));
    })
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
    resources.push(&[0x79, 0]);
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
        let root = write(&mut memory, 2).unwrap();
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
        let [fadt, madt] = [36, 44].map(|offset| read_table(&memory, address(&xsdt, offset)));
        let dsdt = read_table(&memory, address(&fadt, 140));
        for (table, signature) in [(&xsdt, b"XSDT"), (&fadt, b"FACP"), (&madt, b"APIC"), (&dsdt, b"DSDT")] {
            assert_eq!((&table[..4], sum(table)), (&signature[..], 0));
        }
        assert_eq!(xsdt.len(), 52);
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

    #[test]
    fn blocks_know_their_length() {
        let mut bytes = Bytes::new();
        block(&mut bytes, &[0x12], |bytes| bytes.push(&[7; 100]));
        assert_eq!(bytes.as_slice()[..4], [0x12, 0x46, 0x06, 7]);
        assert_eq!(bytes.length, 103);
    }
}
