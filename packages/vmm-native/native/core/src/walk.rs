//! A guest's own page tables: linear to guest physical addresses (manual, 5.2 to 5.6).
//!
//! They are read while the guest may change them. Whatever they say, the walk ends, and reads nothing but the guest's
//! memory.

use crate::memory::GuestMemory;
use crate::start::efer;
use crate::vmcb::Vmcb;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const CR0_WRITE_PROTECT: u64 = 1 << 16;
const CR0_PAGING: u64 = 1 << 31;
const CR4_PAGE_SIZE_EXTENSION: u64 = 1 << 4;
const CR4_PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;
const CR4_SUPERVISOR_ACCESS_PREVENTION: u64 = 1 << 21;
const RFLAGS_ALIGNMENT_CHECK: u64 = 1 << 18;
const LEVELS: usize = 4;

/// What an instruction does with memory, as far as page tables care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Whether it writes.
    pub write: bool,
    /// Whether it is of a program: at privilege level 3.
    pub user: bool,
}

/// Why an access does not come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkError {
    /// The guest gets a page fault with this error code (8.4.2).
    PageFault {
        /// The error code.
        code: u32,
    },
    /// A table is not in the guest's memory.
    NoTable,
    /// The guest has changed an entry at this moment. Whatever it does next, it does without us having done anything.
    Changed,
}

/// An entry of a table.
#[derive(Clone, Copy, Default)]
struct Entry {
    /// Guest physical address of the entry.
    at: u64,
    value: u64,
    /// Bytes that it has.
    size: u8,
    /// Whether it says who may access, and remembers that somebody has: all but the first level of PAE.
    has_rights: bool,
}

/// Entries from the root to a page.
struct Path {
    entries: [Entry; LEVELS],
    length: usize,
    address: u64,
}

/// What ends a walk early.
enum End {
    NotPresent,
    NoTable,
}

/// Guest physical address of a linear address, whoever may access it; `None` where nothing is mapped.
pub fn translate(vmcb: &Vmcb, memory: &GuestMemory, linear: u64) -> Option<u64> {
    if vmcb.cr0() & CR0_PAGING == 0 {
        return Some(linear & 0xffff_ffff);
    }
    find(vmcb, memory, linear).ok().map(|path| path.address)
}

/// Guest physical address of a linear address for an access, which is checked, and remembered in the tables, as the
/// processor does it.
pub fn access(vmcb: &Vmcb, memory: &mut GuestMemory, linear: u64, access: Access) -> Result<u64, WalkError> {
    if vmcb.cr0() & CR0_PAGING == 0 {
        return Ok(linear & 0xffff_ffff);
    }
    let path = match find(vmcb, memory, linear) {
        Ok(path) => path,
        Err(End::NoTable) => return Err(WalkError::NoTable),
        Err(End::NotPresent) => return Err(WalkError::PageFault { code: error_code(access, false) }),
    };
    let entries = path.entries.iter().take(path.length).filter(|entry| entry.has_rights);
    let rights = entries.clone().fold(u64::MAX, |rights, entry| rights & entry.value);
    if !allowed(vmcb, rights, access) {
        return Err(WalkError::PageFault { code: error_code(access, true) });
    }
    for (index, entry) in entries.clone().enumerate() {
        let last = index + 1 == entries.clone().count();
        let marked = entry.value | ACCESSED | if last && access.write { DIRTY } else { 0 };
        if marked != entry.value && !memory.replace(entry.at, entry.size, entry.value, marked).unwrap_or(false) {
            return Err(WalkError::Changed);
        }
    }
    Ok(path.address)
}

/// 5.6.1 to 5.6.5.
fn allowed(vmcb: &Vmcb, rights: u64, access: Access) -> bool {
    let user_page = rights & USER != 0;
    let prevented = vmcb.cr4() & CR4_SUPERVISOR_ACCESS_PREVENTION != 0 && vmcb.rflags() & RFLAGS_ALIGNMENT_CHECK == 0;
    let protects = access.user || vmcb.cr0() & CR0_WRITE_PROTECT != 0;
    (user_page || !access.user)
        && (!access.write || rights & WRITABLE != 0 || !protects)
        && !(user_page && !access.user && prevented)
}

/// P, R/W and U/S (8.4.2).
fn error_code(access: Access, present: bool) -> u32 {
    u32::from(present) | u32::from(access.write) << 1 | u32::from(access.user) << 2
}

fn find(vmcb: &Vmcb, memory: &GuestMemory, linear: u64) -> Result<Path, End> {
    let mut path = Path { entries: [Entry::default(); LEVELS], length: 0, address: 0 };
    // Of each level: where its index in the linear address begins, and whether its entries can map pages.
    if vmcb.efer() & efer::LMA != 0 {
        let levels = [(39, false), (30, true), (21, true), (12, true)];
        path.follow(memory, vmcb.cr3() & ADDRESS, linear, 8, &levels)?;
    } else if vmcb.cr4() & CR4_PHYSICAL_ADDRESS_EXTENSION != 0 {
        let levels = [(30, false), (21, true), (12, true)];
        path.follow(memory, vmcb.cr3() & 0xffff_ffe0, linear & 0xffff_ffff, 8, &levels)?;
        path.entries[0].has_rights = false;
    } else {
        let large = vmcb.cr4() & CR4_PAGE_SIZE_EXTENSION != 0;
        path.follow(memory, vmcb.cr3() & 0xffff_f000, linear & 0xffff_ffff, 4, &[(22, large), (12, true)])?;
    }
    Ok(path)
}

impl Path {
    fn follow(
        &mut self,
        memory: &GuestMemory,
        root: u64,
        linear: u64,
        size: u8,
        levels: &[(u32, bool)],
    ) -> Result<(), End> {
        let mut table = root;
        let indices = 4096 / u64::from(size) - 1;
        for (shift, maps_pages) in levels {
            let at = table + (linear >> shift & indices) * u64::from(size);
            let value = memory.read_number(at, size).map_err(|_| End::NoTable)?;
            if value & PRESENT == 0 {
                return Err(End::NotPresent);
            }
            self.entries[self.length] = Entry { at, value, size, has_rights: true };
            self.length += 1;
            // Entries for pages of 4 KiB have another bit in the place of this.
            if *maps_pages && (*shift == 12 || value & LARGE != 0) {
                let offset = (1 << shift) - 1;
                let page = if size == 4 && *shift > 12 { wide_page(value) } else { value & ADDRESS };
                self.address = page & !offset | linear & offset;
                return Ok(());
            }
            table = value & ADDRESS;
        }
        Err(End::NotPresent)
    }
}

/// Address of a page of 4 MiB: bits 39:32 are bits 20:13 of its entry (5.3.3.2).
fn wide_page(entry: u64) -> u64 {
    entry & 0xffc0_0000 | (entry >> 13 & 0xff) << 32
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

    fn long_mode() -> (Vmcb, GuestMemory) {
        // Page 0: supervisor's; page 1: a program's, read-only; page 2: a program's.
        let entries = [
            (0x1000, 0x2007),
            (0x2000, 0x3007),
            (0x3000, 0x4007),
            (0x4000, 0x5003),
            (0x4008, 0x6005),
            (0x4010, 0x7007),
        ];
        guest(CR4_PHYSICAL_ADDRESS_EXTENSION, LME | LMA, &entries)
    }

    const READ: Access = Access { write: false, user: false };
    const WRITE: Access = Access { write: true, user: false };

    #[test]
    fn accesses_that_the_tables_forbid_are_page_faults() {
        let (mut vmcb, mut memory) = long_mode();
        let user = |access: Access| Access { user: true, ..access };
        let fault = |code| Err(WalkError::PageFault { code });
        for (linear, how, expected) in [
            (0x10, READ, Ok(0x5010)),
            (0x10, WRITE, Ok(0x5010)),
            (0x10, user(READ), fault(5)),
            (0x10, user(WRITE), fault(7)),
            (0x1010, user(READ), Ok(0x6010)),
            (0x1010, user(WRITE), fault(7)),
            (0x1010, WRITE, Ok(0x6010)),
            (0x2010, user(WRITE), Ok(0x7010)),
            (0x3010, WRITE, fault(2)),
            (1 << 21, user(READ), fault(4)),
        ] {
            assert_eq!(access(&vmcb, &mut memory, linear, how), expected, "{linear:#x}, {how:?}");
        }
        vmcb.set_cr0(PAGING | CR0_WRITE_PROTECT);
        assert_eq!(access(&vmcb, &mut memory, 0x1010, WRITE), fault(3));
        vmcb.set_cr4(CR4_PHYSICAL_ADDRESS_EXTENSION | CR4_SUPERVISOR_ACCESS_PREVENTION);
        assert_eq!(access(&vmcb, &mut memory, 0x2010, READ), fault(1));
        vmcb.set_rflags(RFLAGS_ALIGNMENT_CHECK);
        assert_eq!(access(&vmcb, &mut memory, 0x2010, READ), Ok(0x7010));
    }

    #[test]
    fn accesses_are_remembered_in_the_tables() {
        let (vmcb, mut memory) = long_mode();
        access(&vmcb, &mut memory, 0, READ).unwrap();
        let entries = |memory: &GuestMemory| [0x1000, 0x4000, 0x4010].map(|at| memory.read_u64(at).unwrap());
        assert_eq!(entries(&memory), [0x2027, 0x5023, 0x7007]);
        access(&vmcb, &mut memory, 0x2000, WRITE).unwrap();
        assert_eq!(entries(&memory), [0x2027, 0x5023, 0x7067]);
        assert!(access(&vmcb, &mut memory, 0x1000, Access { write: true, user: true }).is_err());
        assert_eq!(memory.read_u64(0x4008), Ok(0x6005), "a fault is not remembered");

        let entries = [(0x1000, 0x2001), (0x2000, 0x3007), (0x3000, 0x5007)];
        let (vmcb, mut memory) = guest(CR4_PHYSICAL_ADDRESS_EXTENSION, 0, &entries);
        access(&vmcb, &mut memory, 0, Access { write: true, user: true }).unwrap();
        assert_eq!([0x1000, 0x2000, 0x3000].map(|at| memory.read_u64(at).unwrap()), [0x2001, 0x3027, 0x5067]);

        let (vmcb, mut memory) = guest(0, 0, &[(0x1000, 0x2007), (0x2000, 0x5007)]);
        access(&vmcb, &mut memory, 0, WRITE).unwrap();
        assert_eq!([0x1000, 0x2000].map(|at| memory.read_u64(at).unwrap()), [0x2027, 0x5067]);
    }

    #[test]
    fn tables_outside_of_the_memory_are_no_faults() {
        let (vmcb, mut memory) = guest(CR4_PHYSICAL_ADDRESS_EXTENSION, LME | LMA, &[(0x1000, 0xfec0_0003)]);
        assert_eq!(access(&vmcb, &mut memory, 0, READ), Err(WalkError::NoTable));
    }
}
