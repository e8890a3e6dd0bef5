//! Linux bzImages, started by the 64-bit boot protocol (Linux, Documentation/arch/x86/boot.rst and zero-page.rst).
//!
//! A plan says which part of which file goes where; whoever has the files brings them there.

use crate::memory::{GuestMemory, OutOfMemory};
use core::fmt;

/// How many bytes of a file tell whether it is a kernel, and how to load it.
pub const HEADER_SIZE: usize = 0x290;

/// Where `struct boot_params`, the zero page, is.
const BOOT_PARAMS: u64 = 0x7000;
const COMMAND_LINE: u64 = 0x2_0000;
/// Longest command line, in bytes without the NUL; kernels may take less.
pub const MAX_COMMAND_LINE: usize = 0x1_0000 - 1;

const LOW_MEMORY_END: u64 = 0x9_fc00;
const HIGH_MEMORY: u64 = 0x10_0000;
const SECTOR: u64 = 512;
const PARAGRAPH: u64 = 16;
const PAGE: u64 = 4096;
/// The 64-bit entry, from the beginning of the loaded kernel on.
const ENTRY_64: u64 = 0x200;

/// Offsets in the file, and in `struct boot_params` alike.
mod header {
    pub const SETUP_SECTORS: usize = 0x1f1;
    /// Size without the real-mode part, in paragraphs; whoever signs a kernel appends to it.
    pub const PARAGRAPHS: usize = 0x1f4;
    pub const JUMP_LENGTH: usize = 0x201;
    pub const MAGIC: usize = 0x202;
    pub const VERSION: usize = 0x206;
    pub const TYPE_OF_LOADER: usize = 0x210;
    pub const LOAD_FLAGS: usize = 0x211;
    pub const RAMDISK_IMAGE: usize = 0x218;
    pub const RAMDISK_SIZE: usize = 0x21c;
    pub const COMMAND_LINE: usize = 0x228;
    pub const INITRD_ADDRESS_MAX: usize = 0x22c;
    pub const EXTENDED_LOAD_FLAGS: usize = 0x236;
    pub const COMMAND_LINE_SIZE: usize = 0x238;
    pub const PREFERRED_ADDRESS: usize = 0x258;
    pub const INIT_SIZE: usize = 0x260;
}

/// Offsets in `struct boot_params` only.
mod boot_params {
    pub const ACPI_RSDP: usize = 0x070;
    pub const E820_ENTRIES: usize = 0x1e8;
    pub const E820_TABLE: usize = 0x2d0;
}

const MAGIC: &[u8; 4] = b"HdrS";
/// Protocol 2.12, the first with `xloadflags`.
const MIN_VERSION: u16 = 0x020c;
const XLF_KERNEL_64: u16 = 1 << 0;
const LOADED_HIGH: u8 = 1 << 0;
const UNDEFINED_LOADER: u8 = 0xff;

const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;

/// Why a kernel cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinuxError {
    /// Its boot protocol is too old.
    OldProtocol {
        /// Its version, 8.8.
        version: u16,
    },
    /// It has no 64-bit entry: it is a 32-bit kernel.
    No64BitEntry,
    /// The file ends before the kernel does.
    Truncated {
        /// How many bytes it has.
        size: u64,
    },
    /// Kernel and initrd do not fit into the memory together.
    MemoryTooSmall {
        /// How much they need, in bytes.
        needed: u64,
        /// How much there is.
        size: u64,
    },
    /// The command line is longer than what the kernel takes.
    CommandLineTooLong {
        /// How long it is, in bytes.
        length: usize,
        /// What the kernel takes.
        max: usize,
    },
}

impl fmt::Display for LinuxError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinuxError::OldProtocol { version } => {
                write!(
                    out,
                    "expected a kernel with boot protocol 2.12 or newer, got {}.{}",
                    version >> 8,
                    version & 0xff
                )
            }
            LinuxError::No64BitEntry => out.write_str("expected a kernel with a 64-bit entry, got one without"),
            LinuxError::Truncated { size } => write!(out, "expected a whole kernel, got its first {size} bytes"),
            LinuxError::MemoryTooSmall { needed, size } => {
                write!(out, "expected {needed} bytes of memory for kernel and initrd, got {size}")
            }
            LinuxError::CommandLineTooLong { length, max } => {
                write!(out, "expected a command line of at most {max} bytes, got {length}")
            }
        }
    }
}

impl core::error::Error for LinuxError {}

/// A part of a file, and where in the guest's memory it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Offset in the file.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
    /// Guest physical address.
    pub address: u64,
}

/// How a kernel is loaded.
#[derive(Clone, Debug)]
pub struct LinuxPlan {
    header: [u8; HEADER_SIZE],
    memory_size: u64,
    /// The kernel without its real-mode part.
    pub kernel: Placement,
    /// All of the initrd.
    pub initrd: Placement,
}

impl LinuxPlan {
    /// Whether a file with this beginning is a Linux kernel.
    pub fn recognises(header: &[u8; HEADER_SIZE]) -> bool {
        header[header::MAGIC..].starts_with(MAGIC)
    }

    /// Settles where everything goes; the sizes are those of the files, 0 for an initrd that there is not.
    pub fn new(
        header: &[u8; HEADER_SIZE],
        kernel_size: u64,
        initrd_size: u64,
        memory_size: u64,
    ) -> Result<LinuxPlan, LinuxError> {
        let version = u16::from_le_bytes(field(header, header::VERSION));
        if version < MIN_VERSION {
            return Err(LinuxError::OldProtocol { version });
        }
        if u16::from_le_bytes(field(header, header::EXTENDED_LOAD_FLAGS)) & XLF_KERNEL_64 == 0 {
            return Err(LinuxError::No64BitEntry);
        }
        // 0 means 4, and the boot sector comes on top.
        let setup_sectors = match header[header::SETUP_SECTORS] {
            0 => 4,
            sectors => u64::from(sectors),
        };
        let offset = (setup_sectors + 1) * SECTOR;
        let whole = u64::from(u32::from_le_bytes(field(header, header::PARAGRAPHS))) * PARAGRAPH;
        let is_whole = |length: &u64| *length >= whole && *length > ENTRY_64;
        let Some(length) = kernel_size.checked_sub(offset).filter(is_whole) else {
            return Err(LinuxError::Truncated { size: kernel_size });
        };
        let address = u64::from_le_bytes(field(header, header::PREFERRED_ADDRESS));
        let init_size = u64::from(u32::from_le_bytes(field(header, header::INIT_SIZE)));
        let kernel_end = address.saturating_add(init_size.max(length));
        let needed = kernel_end.saturating_add(initrd_size.next_multiple_of(PAGE));
        if needed > memory_size || address < HIGH_MEMORY {
            return Err(LinuxError::MemoryTooSmall { needed, size: memory_size });
        }
        // As high as it may be: the kernel unpacks itself in place, and takes what lies below first.
        let highest = u64::from(u32::from_le_bytes(field(header, header::INITRD_ADDRESS_MAX))) + 1;
        let initrd_address = (memory_size.min(highest) - initrd_size) / PAGE * PAGE;
        if initrd_address < kernel_end {
            return Err(LinuxError::MemoryTooSmall { needed, size: memory_size });
        }
        let kernel = Placement { offset, length, address };
        let initrd = Placement { offset: 0, length: initrd_size, address: initrd_address };
        Ok(LinuxPlan { header: *header, memory_size, kernel, initrd })
    }

    /// Longest command line that the kernel takes, in bytes.
    pub fn max_command_line(&self) -> usize {
        MAX_COMMAND_LINE.min(u32::from_le_bytes(field(&self.header, header::COMMAND_LINE_SIZE)) as usize)
    }

    /// Where the kernel is entered, in 64-bit mode with RSI = [`LinuxPlan::boot_params`].
    pub fn entry(&self) -> u64 {
        self.kernel.address + ENTRY_64
    }

    /// Where the boot parameters are.
    pub fn boot_params(&self) -> u64 {
        BOOT_PARAMS
    }

    /// Writes what the kernel is told: boot parameters, memory map, command line.
    ///
    /// `acpi_rsdp` is where the ACPI tables begin, 0 when there are none.
    pub fn write(&self, memory: &mut GuestMemory, command_line: &[u8], acpi_rsdp: u64) -> Result<(), LinuxWriteError> {
        let max = self.max_command_line();
        if command_line.len() > max {
            let length = command_line.len();
            return Err(LinuxWriteError::Linux(LinuxError::CommandLineTooLong { length, max }));
        }
        let mut page = [0; PAGE as usize];
        let mut set = |offset: usize, bytes: &[u8]| page[offset..offset + bytes.len()].copy_from_slice(bytes);
        // The header ends where its jump at 0x200 leads to.
        let header_end = header::MAGIC + usize::from(self.header[header::JUMP_LENGTH]);
        let header = &self.header[header::SETUP_SECTORS..header_end.min(HEADER_SIZE)];
        set(header::SETUP_SECTORS, header);
        set(header::TYPE_OF_LOADER, &[UNDEFINED_LOADER]);
        set(header::LOAD_FLAGS, &[self.header[header::LOAD_FLAGS] | LOADED_HIGH]);
        if self.initrd.length > 0 {
            set(header::RAMDISK_IMAGE, &(self.initrd.address as u32).to_le_bytes());
            set(header::RAMDISK_SIZE, &(self.initrd.length as u32).to_le_bytes());
        }
        set(header::COMMAND_LINE, &(COMMAND_LINE as u32).to_le_bytes());
        set(boot_params::ACPI_RSDP, &acpi_rsdp.to_le_bytes());
        let map = [
            (0, LOW_MEMORY_END, E820_RAM),
            (LOW_MEMORY_END, HIGH_MEMORY, E820_RESERVED),
            (HIGH_MEMORY, self.memory_size, E820_RAM),
        ];
        set(boot_params::E820_ENTRIES, &[map.len() as u8]);
        for (index, (start, end, kind)) in map.into_iter().enumerate() {
            let at = boot_params::E820_TABLE + index * 20;
            set(at, &u64::to_le_bytes(start));
            set(at + 8, &u64::to_le_bytes(end - start));
            set(at + 16, &u32::to_le_bytes(kind));
        }
        memory.write(BOOT_PARAMS, &page)?;
        memory.write(COMMAND_LINE, command_line)?;
        memory.write(COMMAND_LINE + command_line.len() as u64, &[0])?;
        Ok(())
    }
}

/// Why boot parameters cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinuxWriteError {
    /// The kernel does not take them.
    Linux(LinuxError),
    /// There is no memory where they belong.
    Memory(OutOfMemory),
}

impl From<OutOfMemory> for LinuxWriteError {
    fn from(error: OutOfMemory) -> LinuxWriteError {
        LinuxWriteError::Memory(error)
    }
}

impl fmt::Display for LinuxWriteError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinuxWriteError::Linux(error) => error.fmt(out),
            LinuxWriteError::Memory(error) => error.fmt(out),
        }
    }
}

fn field<const N: usize>(header: &[u8; HEADER_SIZE], offset: usize) -> [u8; N] {
    *header[offset..].first_chunk().expect("fields lie within the header")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::leaked;

    const MIB: u64 = 1 << 20;

    /// Values of Debian's 6.12.117 cloud kernel.
    fn debian() -> [u8; HEADER_SIZE] {
        let mut header = [0; HEADER_SIZE];
        let mut set = |offset: usize, bytes: &[u8]| header[offset..offset + bytes.len()].copy_from_slice(bytes);
        set(header::SETUP_SECTORS, &[39]);
        set(header::PARAGRAPHS, &(MIB as u32 / 16).to_le_bytes());
        set(header::JUMP_LENGTH, &[0x6a]);
        set(header::MAGIC, MAGIC);
        set(header::VERSION, &0x020f_u16.to_le_bytes());
        set(header::LOAD_FLAGS, &[1]);
        set(header::INITRD_ADDRESS_MAX, &0x7fff_ffff_u32.to_le_bytes());
        set(header::EXTENDED_LOAD_FLAGS, &0x7f_u16.to_le_bytes());
        set(header::COMMAND_LINE_SIZE, &2047_u32.to_le_bytes());
        set(header::PREFERRED_ADDRESS, &(16 * MIB).to_le_bytes());
        set(header::INIT_SIZE, &0x02b4_6000_u32.to_le_bytes());
        header
    }

    #[test]
    fn a_kernel_is_recognised_by_its_magic() {
        assert!(LinuxPlan::recognises(&debian()));
        assert!(!LinuxPlan::recognises(&[0; HEADER_SIZE]));
    }

    #[test]
    fn the_kernel_goes_where_it_prefers_and_the_initrd_to_the_end() {
        let plan = LinuxPlan::new(&debian(), 10 * MIB, 5000, 128 * MIB).unwrap();
        let offset = 40 * 512;
        assert_eq!(plan.kernel, Placement { offset, length: 10 * MIB - offset, address: 16 * MIB });
        assert_eq!(plan.initrd, Placement { offset: 0, length: 5000, address: 128 * MIB - 8192 });
        assert_eq!(plan.entry(), 16 * MIB + 0x200);
    }

    #[test]
    fn boot_parameters_are_what_the_kernel_reads() {
        let plan = LinuxPlan::new(&debian(), 10 * MIB, 5000, 128 * MIB).unwrap();
        let mut memory = leaked(1 << 18);
        plan.write(&mut memory, b"quiet", 0xe_0000).unwrap();
        let read = |offset: usize, length: usize| {
            let mut bytes = std::vec![0; length];
            memory.read(plan.boot_params() + offset as u64, &mut bytes).unwrap();
            bytes
        };
        assert_eq!(read(header::MAGIC, 4), MAGIC);
        assert_eq!(read(header::TYPE_OF_LOADER, 2), [0xff, 1]);
        assert_eq!(read(header::RAMDISK_IMAGE, 8), [0, 0xe0, 0xff, 7, 0x88, 0x13, 0, 0]);
        assert_eq!(read(header::COMMAND_LINE, 4), [0, 0, 2, 0]);
        assert_eq!(read(boot_params::ACPI_RSDP, 8), 0xe_0000_u64.to_le_bytes());
        assert_eq!(read(boot_params::E820_ENTRIES, 1), [3]);
        assert_eq!(
            read(boot_params::E820_TABLE + 40, 20),
            [&MIB.to_le_bytes()[..], &(127 * MIB).to_le_bytes(), &[1, 0, 0, 0]].concat()
        );
        let mut line = [0; 6];
        memory.read(COMMAND_LINE, &mut line).unwrap();
        assert_eq!(&line, b"quiet\0");
    }

    #[test]
    fn what_cannot_be_loaded_is_refused_with_the_reason() {
        let plan = |change: &dyn Fn(&mut [u8; HEADER_SIZE]), kernel, initrd, memory| {
            let mut header = debian();
            change(&mut header);
            LinuxPlan::new(&header, kernel, initrd, memory).map(|plan| plan.kernel)
        };
        let old = |header: &mut [u8; HEADER_SIZE]| header[header::VERSION] = 0x0b;
        assert_eq!(plan(&old, 10 * MIB, 0, 128 * MIB), Err(LinuxError::OldProtocol { version: 0x020b }));
        let no_entry = |header: &mut [u8; HEADER_SIZE]| header[header::EXTENDED_LOAD_FLAGS] &= !1;
        assert_eq!(plan(&no_entry, 10 * MIB, 0, 128 * MIB), Err(LinuxError::No64BitEntry));
        let same = |_: &mut [u8; HEADER_SIZE]| {};
        for size in [0, HEADER_SIZE as u64, 40 * 512, 40 * 512 + 0x200, 40 * 512 + MIB - 1] {
            assert_eq!(plan(&same, size, 0, 128 * MIB), Err(LinuxError::Truncated { size }));
        }
        let needed = 16 * MIB + 0x02b4_6000 + 50 * MIB;
        assert_eq!(
            plan(&same, 10 * MIB, 50 * MIB, 100 * MIB),
            Err(LinuxError::MemoryTooSmall { needed, size: 100 * MIB })
        );
        let length = 2048;
        let written =
            LinuxPlan::new(&debian(), 10 * MIB, 0, 128 * MIB).unwrap().write(&mut leaked(1 << 18), &[b'x'; 2048], 0);
        assert_eq!(written, Err(LinuxWriteError::Linux(LinuxError::CommandLineTooLong { length, max: 2047 })));
    }

    #[test]
    fn no_header_makes_it_go_wrong() {
        for byte in header::SETUP_SECTORS..HEADER_SIZE {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut header = debian();
                header[byte] = value;
                if let Ok(plan) = LinuxPlan::new(&header, 10 * MIB, 5 * MIB, 128 * MIB) {
                    for Placement { address, length, .. } in [plan.kernel, plan.initrd] {
                        assert!(address >= HIGH_MEMORY && address + length <= 128 * MIB, "{byte:#x} = {value:#x}");
                    }
                    let _ = plan.write(&mut leaked(1 << 18), b"", 0);
                }
            }
        }
    }
}
