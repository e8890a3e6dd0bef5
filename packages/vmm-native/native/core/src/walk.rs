//! A guest's own page tables: linear to guest physical addresses (manual, 5.2 to 5.4).
//!
//! They are read while the guest may change them. Whatever they say, the walk ends, and reads nothing but the guest's
//! memory. Permissions are not looked at: the processor has done that.

use crate::memory::GuestMemory;
use crate::start::efer;
use crate::vmcb::Vmcb;

/// Pages of 4 KiB have no [`LARGE`] bit.
const PAGE_SHIFT: u32 = 12;
const PRESENT: u64 = 1 << 0;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const CR0_PAGING: u64 = 1 << 31;
const CR4_PAGE_SIZE_EXTENSION: u64 = 1 << 4;
const CR4_PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;

/// Guest physical address of a linear address; `None` where nothing is mapped.
pub fn translate(vmcb: &Vmcb, memory: &GuestMemory, linear: u64) -> Option<u64> {
    if vmcb.cr0() & CR0_PAGING == 0 {
        return Some(linear & 0xffff_ffff);
    }
    if vmcb.efer() & efer::LMA != 0 {
        return walk(memory, vmcb.cr3() & ADDRESS, linear, &[(39, false), (30, true), (21, true), (12, true)]);
    }
    let linear = linear & 0xffff_ffff;
    if vmcb.cr4() & CR4_PHYSICAL_ADDRESS_EXTENSION != 0 {
        return walk(memory, vmcb.cr3() & 0xffff_ffe0, linear, &[(30, false), (21, true), (12, true)]);
    }
    walk_legacy(memory, vmcb, linear)
}

/// Entries of eight bytes: long mode and PAE. Of each level it is said where its index begins, and whether it maps pages.
fn walk(memory: &GuestMemory, root: u64, linear: u64, levels: &[(u32, bool)]) -> Option<u64> {
    let mut table = root;
    for (shift, maps_pages) in levels {
        let entry = memory.read_u64(table + (linear >> shift & 511) * 8).ok()?;
        if entry & PRESENT == 0 {
            return None;
        }
        if *maps_pages && (*shift == PAGE_SHIFT || entry & LARGE != 0) {
            let offset = (1 << shift) - 1;
            return Some(entry & ADDRESS & !offset | linear & offset);
        }
        table = entry & ADDRESS;
    }
    None
}

/// Entries of four bytes: 32-bit paging, with pages of 4 MiB when they are enabled.
fn walk_legacy(memory: &GuestMemory, vmcb: &Vmcb, linear: u64) -> Option<u64> {
    let entry_at = |table: u64, shift: u32| {
        let mut bytes = [0; 4];
        memory.read(table + (linear >> shift & 1023) * 4, &mut bytes).ok()?;
        Some(u64::from(u32::from_le_bytes(bytes))).filter(|entry| entry & PRESENT != 0)
    };
    let directory = entry_at(vmcb.cr3() & 0xffff_f000, 22)?;
    if directory & LARGE != 0 && vmcb.cr4() & CR4_PAGE_SIZE_EXTENSION != 0 {
        // Bits 39:32 of the address are bits 20:13 of the entry (5.3.3.2).
        return Some((directory & 0xffc0_0000) | (directory >> 13 & 0xff) << 32 | linear & 0x3f_ffff);
    }
    let entry = entry_at(directory & 0xffff_f000, 12)?;
    Some(entry & 0xffff_f000 | linear & 0xfff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::leaked;
    use crate::start::efer::{LMA, LME};

    const PAGING: u64 = CR0_PAGING | 1;

    fn guest(cr4: u64, efer: u64, entries: &[(u64, u64)]) -> (Vmcb, GuestMemory) {
        let (mut vmcb, mut memory) = (Vmcb::new(), leaked(1 << 16));
        vmcb.set_cr0(PAGING);
        vmcb.set_cr3(0x1000);
        vmcb.set_cr4(cr4);
        vmcb.set_efer(efer);
        for (address, entry) in entries {
            memory.write(*address, &entry.to_le_bytes()).unwrap();
        }
        (vmcb, memory)
    }

    #[test]
    fn without_paging_addresses_are_physical() {
        assert_eq!(translate(&Vmcb::new(), &leaked(16), 0x1234_5678), Some(0x1234_5678));
    }

    #[test]
    fn long_mode_has_pages_of_three_sizes() {
        let (vmcb, memory) = guest(
            CR4_PHYSICAL_ADDRESS_EXTENSION,
            LME | LMA,
            &[
                (0x1ff8, 0x2003),
                (0x2000, 0x8000_0000_4000_0083),
                (0x2008, 0x3003),
                (0x3000, 0x60_0083),
                (0x3008, 0x4003),
                (0x4010, 0xabc003),
            ],
        );
        let base = 0xffff_ff80_0000_0000;
        let found = |offset: u64| translate(&vmcb, &memory, base + offset);
        assert_eq!(found(0x3fff_ffff), Some(0x7fff_ffff));
        assert_eq!(found(0x4001_2345), Some(0x61_2345));
        assert_eq!(found(0x4020_2345), Some(0xabc345));
        assert_eq!(found(0x4020_1000), None);
        assert_eq!(translate(&vmcb, &memory, 0), None);
    }

    #[test]
    fn pae_has_no_pages_of_1_gib() {
        let entries = [(0x1018, 0x2081), (0x2000, 0x3003), (0x2008, 0x80_0083), (0x3008, 0x5003)];
        let (vmcb, memory) = guest(CR4_PHYSICAL_ADDRESS_EXTENSION, 0, &entries);
        assert_eq!(translate(&vmcb, &memory, 0xc000_1234), Some(0x5234));
        assert_eq!(translate(&vmcb, &memory, 0xc020_1234), Some(0x80_1234));
    }

    #[test]
    fn legacy_paging_has_pages_of_4_mib_when_enabled() {
        let entries = [(0x1004, 0x3003_0000_0000), (0x1008, 0x0080_2083), (0x3008, 0x7003)];
        let (mut vmcb, memory) = guest(CR4_PAGE_SIZE_EXTENSION, 0, &entries);
        assert_eq!(translate(&vmcb, &memory, 0x80_1234), Some(0x1_0080_1234));
        vmcb.set_cr4(0);
        assert_eq!(translate(&vmcb, &memory, 0x80_1234), None);
    }

    #[test]
    fn tables_that_lead_outside_or_in_circles_end() {
        let (vmcb, memory) =
            guest(CR4_PHYSICAL_ADDRESS_EXTENSION, LME | LMA, &[(0x1000, 0x1003), (0x1008, !0xfff | 3)]);
        assert_eq!(translate(&vmcb, &memory, 0), Some(0x1000));
        assert_eq!(translate(&vmcb, &memory, 1 << 39), None);
    }
}
