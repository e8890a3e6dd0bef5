//! The machine's PCI bus (PCI Local Bus specification 3.0): functions of its first bus, as firmware has set them up.

use crate::apic::DEVICE_VECTOR;
use crate::cpu::{inl, outl};

const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;
const ENABLE: u32 = 1 << 31;

const IDENTITY: u8 = 0x00;
const COMMAND: u8 = 0x04;
const HEADER_TYPE: u8 = 0x0c;
const BAR: u8 = 0x10;
const CAPABILITIES: u8 = 0x34;

/// In the register that begins with the status: there are capabilities.
const HAS_CAPABILITIES: u32 = 1 << 20;
const MULTIPLE_FUNCTIONS: u32 = 1 << 23;
const MEMORY_AND_MASTER: u32 = 1 << 2 | 1 << 1;
const NOBODY: u32 = u32::MAX;
/// Most capabilities that fit into a configuration space: a list in a circle ends too.
const MAX_CAPABILITIES: usize = 48;

const MSIX: u8 = 0x11;
const MSIX_ENABLED: u32 = 1 << 31;
const MSIX_MASKED: u32 = 1 << 30;
/// Where the local APIC of the first processor takes messages (manual, 16.4.2).
const FIRST_PROCESSOR: u32 = 0xfee0_0000;

/// Addresses from here on are not mapped.
const MAPPED: u64 = 1 << 32;

/// A function.
#[derive(Clone, Copy, Debug)]
pub struct Function(u32);

/// All functions of the first bus with an identity: vendor in the lower half, device in the upper.
pub fn find(is_wanted: impl Fn(u32) -> bool) -> impl Iterator<Item = Function> {
    let functions = (0..32).flat_map(|device| {
        let first = Function(ENABLE | device << 11);
        let count = if first.read(HEADER_TYPE) & MULTIPLE_FUNCTIONS != 0 { 8 } else { 1 };
        (0..count).map(move |function| Function(first.0 | function << 8))
    });
    functions.filter(move |function| match function.read(IDENTITY) {
        NOBODY => false,
        identity => is_wanted(identity),
    })
}

impl Function {
    /// Reads a register of four bytes.
    pub fn read(self, offset: u8) -> u32 {
        // SAFETY: reading configuration spaces changes nothing.
        unsafe {
            outl(CONFIG_ADDRESS, self.0 | u32::from(offset & 0xfc));
            inl(CONFIG_DATA)
        }
    }

    /// Offsets of its capabilities of a kind.
    pub fn capabilities(self, id: u8) -> impl Iterator<Item = u8> {
        let first = if self.read(COMMAND) & HAS_CAPABILITIES != 0 { self.read(CAPABILITIES) as u8 } else { 0 };
        let next = move |offset: &u8| Some((self.read(*offset) >> 8) as u8);
        core::iter::successors(Some(first), next)
            .take_while(|offset| *offset != 0)
            .take(MAX_CAPABILITIES)
            .filter(move |offset| self.read(*offset) as u8 == id)
    }

    /// Address of a BAR of memory, if it is one and mapped.
    pub fn memory(self, bar: u8) -> Option<usize> {
        const IO: u32 = 1 << 0;
        const WIDE: u32 = 1 << 2;
        let register = BAR + bar % 6 * 4;
        let low = self.read(register);
        let high = if low & WIDE != 0 { self.read(register + 4) } else { 0 };
        let address = u64::from(high) << 32 | u64::from(low & !0xf);
        (low & IO == 0 && address != 0 && address < MAPPED).then_some(address as usize)
    }

    /// Lets it answer at its addresses, write to memory, and interrupt this processor by its first message.
    ///
    /// # Safety
    ///
    /// What it writes to is what its driver has named.
    pub unsafe fn enable(self) -> Option<()> {
        // SAFETY: the caller's promise. Status bits that are written as 0 stay as they are.
        unsafe { self.write(COMMAND, self.read(COMMAND) & 0xffff | MEMORY_AND_MASTER) };
        let msix = self.capabilities(MSIX).next()?;
        let place = self.read(msix + 4);
        let table = self.memory((place & 7) as u8)? + (place & !7) as usize;
        let entry = [FIRST_PROCESSOR, 0, DEVICE_VECTOR.into(), 0];
        for (index, value) in entry.into_iter().enumerate() {
            // SAFETY: the function's table, in mapped memory; interrupts with this vector are expected.
            unsafe { ((table + index * 4) as *mut u32).write_volatile(value) };
        }
        // SAFETY: as above.
        unsafe { self.write(msix, self.read(msix) & !MSIX_MASKED | MSIX_ENABLED) };
        Some(())
    }

    /// # Safety
    ///
    /// What the function does by that breaks nothing.
    unsafe fn write(self, offset: u8, value: u32) {
        // SAFETY: the caller's.
        unsafe {
            outl(CONFIG_ADDRESS, self.0 | u32::from(offset & 0xfc));
            outl(CONFIG_DATA, value);
        }
    }
}
