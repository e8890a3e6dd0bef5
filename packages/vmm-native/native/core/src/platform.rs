//! Where a guest finds its devices: the one list that devices, tables and memory maps are made from.

/// First port of the serial port.
pub const SERIAL_PORT: u16 = 0x3f8;
/// Input of the I/O APIC, and global system interrupt, of the serial port.
pub const SERIAL_INTERRUPT: u8 = 4;
/// Port for going to sleep: ACPI's SLEEP_CONTROL_REG.
pub const SLEEP_CONTROL: u16 = 0x600;
/// ACPI's SLEEP_STATUS_REG.
pub const SLEEP_STATUS: u16 = 0x601;
/// Port for a reset: ACPI's RESET_REG.
pub const RESET: u16 = 0xcf9;
/// What resets when it is written to [`RESET`].
pub const RESET_VALUE: u8 = 0x06;
/// SLP_TYPx of soft off.
pub const SOFT_OFF: u8 = 5;
/// Guest physical address of the I/O APIC.
pub const IO_APIC: u64 = 0xfec0_0000;
/// Guest physical address that local APICs have after a reset; in x2APIC mode nothing is there.
pub const LOCAL_APIC: u64 = 0xfee0_0000;
/// Where the ACPI tables are: in memory that the memory map calls reserved.
pub const ACPI_TABLES: u64 = 0xe_0000;
/// Port of PCI's CONFIG_ADDRESS, four bytes of which the second is [`RESET`] when it is written to by itself.
pub const PCI_CONFIG_ADDRESS: u16 = 0xcf8;
/// First port of PCI's CONFIG_DATA.
pub const PCI_CONFIG_DATA: u16 = 0xcfc;
/// Last one.
pub const PCI_CONFIG_DATA_LAST: u16 = 0xcff;
/// Guest physical address of PCI's enhanced configuration space, 1 MiB: one bus.
pub const PCI_CONFIG: u64 = 0xe000_0000;
/// First and last port for BARs.
pub const PCI_PORTS: (u16, u16) = (0x1000, 0xffff);
/// First and last guest physical address below 4 GiB for BARs; guests have no memory from there on.
pub const PCI_MEMORY: (u64, u64) = (0xc000_0000, 0xdfff_ffff);
/// First and last one above it, in reach of processors with 40 bits of address.
pub const PCI_HIGH_MEMORY: (u64, u64) = (0x80_0000_0000, 0xbf_ffff_ffff);
/// Inputs of the I/O APIC, and global system interrupts, of interrupt pins; devices take turns.
pub const PCI_INTERRUPTS: [u8; 4] = [16, 17, 18, 19];
