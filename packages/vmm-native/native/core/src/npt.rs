//! Nested page tables: guest physical to host physical addresses (manual, 15.25, with the table formats of 5.3).
//!
//! They have the form of long mode's tables with four levels. A walk of them is a user access (15.25.5), so every entry
//! has its user bit set.

use core::fmt;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// In an entry above the last level: it maps a page, and points to no table.
const LARGE: u64 = 1 << 7;
/// In an entry that maps a page, of the bits that are software's: others may have it, and it is copied before it is written to.
const COPIED: u64 = 1 << 9;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Bytes that an entry of each level maps, from the last level to the first.
const SPAN: [u64; 4] = [1 << 12, 1 << 21, 1 << 30, 1 << 39];
/// Highest level whose entries can map pages: 1 GiB.
const MAX_LEAF_LEVEL: usize = 2;
const TOP: usize = 3;
/// Guest physical addresses end here: four levels.
const END: u64 = 1 << 48;

/// One page of 512 entries.
#[derive(Clone, Debug)]
#[repr(C, align(4096))]
pub struct Table([u64; 512]);

impl Table {
    /// A table that maps nothing.
    pub const EMPTY: Table = Table([0; 512]);

    /// Its entries.
    pub fn entries(&self) -> [u64; 512] {
        self.0
    }
}

/// What a guest may do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everything: memory.
    Full,
    /// Reads and fetches: firmware. The guest cannot have page tables there, for walks of those are writes.
    ReadOnly,
    /// Reads and writes, no fetches.
    NoExecute,
}

/// What the tables say about a guest physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Host physical address.
    pub address: u64,
    /// Size of the page that the address is in.
    pub page_size: u64,
    /// What the guest may do there.
    pub access: Access,
    /// Whether the guest has touched the page.
    pub accessed: bool,
    /// Whether the guest has written to the page.
    pub dirty: bool,
}

/// Why something cannot be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// An address or a size that is no multiple of 4 KiB.
    Unaligned {
        /// The address or size.
        value: u64,
    },
    /// A range that ends behind 2^48.
    TooHigh {
        /// Its first guest physical address.
        guest: u64,
    },
    /// Something is mapped at this guest physical address.
    Mapped {
        /// The guest physical address.
        guest: u64,
    },
    /// There is no table left.
    NoTables,
}

impl fmt::Display for MapError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MapError::Unaligned { value } => write!(out, "expected a multiple of 4096, got {value:#x}"),
            MapError::TooHigh { guest } => write!(out, "expected addresses below 2^48, got {guest:#x} and above"),
            MapError::Mapped { guest } => write!(out, "{guest:#x} is mapped already"),
            MapError::NoTables => out.write_str("all tables are in use"),
        }
    }
}

impl core::error::Error for MapError {}

/// Where tables, and pages of guests, come from.
pub trait Frames {
    /// Host physical address of a page that is nobody's, and zero.
    fn take(&mut self) -> Option<u64>;
    /// Reads an entry of a table, by its host physical address.
    fn read(&self, address: u64) -> u64;
    /// Writes one.
    fn write(&mut self, address: u64, entry: u64);
}

/// Frames of which others have some, too.
pub trait SharedFrames: Frames {
    /// Whether others have the page at a host physical address.
    fn is_shared(&self, address: u64) -> bool;
    /// Copies a page.
    fn copy(&mut self, from: u64, to: u64);
}

/// An array of tables whose host physical address is known.
#[derive(Debug)]
pub struct TableArray<'a> {
    tables: &'a mut [Table],
    base: u64,
    /// How many tables are in use.
    pub used: usize,
}

impl<'a> TableArray<'a> {
    /// Tables that map nothing, without gaps between them.
    pub fn new(tables: &'a mut [Table], base: u64) -> TableArray<'a> {
        tables.fill(Table::EMPTY);
        TableArray { tables, base, used: 0 }
    }

    fn place(&self, address: u64) -> (usize, usize) {
        let offset = (address - self.base) as usize;
        (offset / SPAN[0] as usize, offset % SPAN[0] as usize / 8)
    }
}

impl Frames for TableArray<'_> {
    fn take(&mut self) -> Option<u64> {
        let next = self.used;
        self.used += usize::from(next < self.tables.len());
        (next < self.tables.len()).then_some(self.base + next as u64 * SPAN[0])
    }

    fn read(&self, address: u64) -> u64 {
        let (table, index) = self.place(address);
        self.tables[table].0[index]
    }

    fn write(&mut self, address: u64, entry: u64) {
        let (table, index) = self.place(address);
        self.tables[table].0[index] = entry;
    }
}

/// Nested page tables.
#[derive(Debug)]
pub struct NestedPageTables<F> {
    root: u64,
    /// Where they come from.
    pub frames: F,
}

impl<F: Frames> NestedPageTables<F> {
    /// Tables that map nothing; `None` when there is no frame for the first one.
    pub fn new(mut frames: F) -> Option<NestedPageTables<F>> {
        Some(NestedPageTables { root: frames.take()?, frames })
    }

    /// What goes into nCR3.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Maps `size` bytes from `guest` on to those from `host` on, with the largest pages that fit.
    ///
    /// What was mapped before the one that failed stays mapped.
    pub fn map(&mut self, guest: u64, host: u64, size: u64, access: Access) -> Result<(), MapError> {
        for value in [guest, host, size] {
            if value % SPAN[0] != 0 {
                return Err(MapError::Unaligned { value });
            }
        }
        if guest.checked_add(size).is_none_or(|end| end > END) {
            return Err(MapError::TooHigh { guest });
        }
        let mut done = 0;
        while done < size {
            let fits = |level: &usize| {
                ((guest + done) | (host + done)).is_multiple_of(SPAN[*level]) && size - done >= SPAN[*level]
            };
            let level = (0..=MAX_LEAF_LEVEL).rev().find(fits).unwrap_or(0);
            self.map_page(guest + done, host + done, level, access)?;
            done += SPAN[level];
        }
        Ok(())
    }

    /// Where a guest physical address leads to; `None` where nothing is mapped.
    pub fn translate(&self, guest: u64) -> Option<Translation> {
        walk(self.root, guest, |address| Some(self.frames.read(address))).unwrap_or(None)
    }

    fn map_page(&mut self, guest: u64, host: u64, leaf: usize, access: Access) -> Result<(), MapError> {
        let mut table = self.root;
        for level in (leaf + 1..=TOP).rev() {
            let place = table + index(guest, level) as u64 * 8;
            let entry = self.frames.read(place);
            table = if entry & PRESENT == 0 {
                let new = self.frames.take().ok_or(MapError::NoTables)?;
                self.frames.write(place, new | PRESENT | WRITABLE | USER);
                new
            } else if entry & LARGE != 0 {
                return Err(MapError::Mapped { guest });
            } else {
                entry & ADDRESS
            };
        }
        let place = table + index(guest, leaf) as u64 * 8;
        if self.frames.read(place) & PRESENT != 0 {
            return Err(MapError::Mapped { guest });
        }
        let large = if leaf == 0 { 0 } else { LARGE };
        self.frames.write(place, host | PRESENT | USER | large | bits_of(access));
        Ok(())
    }
}

/// Why a page cannot be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOwned {
    /// Nothing that can be written is mapped there.
    Unmapped,
    /// There is no page left for a copy.
    NoFrames,
}

impl<F: SharedFrames> NestedPageTables<F> {
    /// Maps the same pages in tables that map nothing. From here on each that is written to in one of them is copied there, by
    /// [`NestedPageTables::own`]. Caches of translations have to forget those of these tables. `None` without enough frames.
    pub fn share(&mut self, other: &mut NestedPageTables<F>) -> Option<()> {
        self.share_table(self.root, TOP, &mut other.frames, other.root)
    }

    fn share_table(&mut self, from: u64, level: usize, frames: &mut F, to: u64) -> Option<()> {
        for offset in (0..SPAN[0]).step_by(8) {
            let mut entry = self.frames.read(from + offset);
            if entry & PRESENT == 0 {
                continue;
            }
            if level > 0 && entry & LARGE == 0 {
                let table = frames.take()?;
                self.share_table(entry & ADDRESS, level - 1, frames, table)?;
                entry = entry & !ADDRESS | table;
            } else if entry & WRITABLE != 0 {
                entry = entry & !WRITABLE | COPIED;
                self.frames.write(from + offset, entry);
            }
            frames.write(to + offset, entry);
        }
        Some(())
    }

    /// Lets a page be written to: copies it if others have it. Whether anything has changed, which caches of translations have to
    /// forget.
    pub fn own(&mut self, guest: u64) -> Result<bool, NotOwned> {
        let read = |address| Some(self.frames.read(address));
        let Ok(Some((place, entry, level))) = find(self.root, guest, read) else { return Err(NotOwned::Unmapped) };
        if entry & (WRITABLE | COPIED) != COPIED {
            return if entry & WRITABLE != 0 { Ok(false) } else { Err(NotOwned::Unmapped) };
        }
        let page = entry & ADDRESS & !(SPAN[level] - 1);
        let mut owned = entry & !COPIED | WRITABLE;
        if self.frames.is_shared(page) {
            let new = self.frames.take().ok_or(NotOwned::NoFrames)?;
            if level > 0 {
                // Only the page in question is copied: as many entries of the level below come first.
                let lower = if level == 1 { entry & !LARGE } else { entry } & !ADDRESS;
                for index in 0..512 {
                    self.frames.write(new + index * 8, lower | (page + index * SPAN[level - 1]));
                }
                self.frames.write(place, new | PRESENT | WRITABLE | USER);
                return self.own(guest);
            }
            self.frames.copy(page, new);
            owned = owned & !ADDRESS | new;
        }
        self.frames.write(place, owned);
        Ok(true)
    }
}

/// An entry that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoEntry {
    /// Its host physical address.
    pub address: u64,
}

impl fmt::Display for NoEntry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "expected an entry of a nested page table at {:#x}, got nothing", self.address)
    }
}

impl core::error::Error for NoEntry {}

/// Where a guest physical address leads to by the tables that begin at `root`, whoever has made them; `None` where nothing
/// is mapped. `read` gives an entry by its host physical address.
pub fn walk(root: u64, guest: u64, read: impl Fn(u64) -> Option<u64>) -> Result<Option<Translation>, NoEntry> {
    Ok(find(root, guest, read)?.map(|(_, entry, level)| Translation {
        address: (entry & ADDRESS & !(SPAN[level] - 1)) + guest % SPAN[level],
        page_size: SPAN[level],
        access: access_of(entry),
        accessed: entry & ACCESSED != 0,
        dirty: entry & DIRTY != 0,
    }))
}

/// The entry that maps a guest physical address: its host physical address, what it is, and its level.
fn find(root: u64, guest: u64, read: impl Fn(u64) -> Option<u64>) -> Result<Option<(u64, u64, usize)>, NoEntry> {
    if guest >= END {
        return Ok(None);
    }
    let mut table = root & ADDRESS;
    for level in (0..=TOP).rev() {
        let address = table + index(guest, level) as u64 * 8;
        let entry = read(address).ok_or(NoEntry { address })?;
        if entry & PRESENT == 0 {
            return Ok(None);
        }
        // Entries of the first level map no pages, whatever their bit says.
        if level <= MAX_LEAF_LEVEL && (level == 0 || entry & LARGE != 0) {
            return Ok(Some((address, entry, level)));
        }
        table = entry & ADDRESS;
    }
    Ok(None)
}

fn index(guest: u64, level: usize) -> usize {
    (guest / SPAN[level] % 512) as usize
}

fn bits_of(access: Access) -> u64 {
    match access {
        Access::Full => WRITABLE,
        Access::ReadOnly => 0,
        Access::NoExecute => WRITABLE | NO_EXECUTE,
    }
}

fn access_of(entry: u64) -> Access {
    match (entry & WRITABLE != 0, entry & NO_EXECUTE != 0) {
        (true, false) => Access::Full,
        (true, true) => Access::NoExecute,
        (false, _) => Access::ReadOnly,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    const BASE: u64 = 0x7_0000;
    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;

    #[test]
    fn a_range_gets_the_largest_pages_that_fit() {
        let mut tables = vec![Table::EMPTY; 8];
        let mut npt = NestedPageTables::new(TableArray::new(&mut tables, BASE)).unwrap();
        // 4 KiB below 1 GiB to 4 KiB above 2 GiB + 2 MiB.
        npt.map(GIB - 4096, 5 * GIB - 4096, GIB + 2 * MIB + 8192, Access::Full).unwrap();
        let page_size = |guest| npt.translate(guest).map(|found| (found.address, found.page_size));
        assert_eq!(page_size(GIB - 4097), None);
        assert_eq!(page_size(GIB - 1), Some((5 * GIB - 1, 4096)));
        assert_eq!(page_size(GIB + 0x1234_5678), Some((5 * GIB + 0x1234_5678, GIB)));
        assert_eq!(page_size(2 * GIB + 1), Some((6 * GIB + 1, 2 * MIB)));
        assert_eq!(page_size(2 * GIB + 2 * MIB + 1), Some((6 * GIB + 2 * MIB + 1, 4096)));
        assert_eq!(page_size(2 * GIB + 2 * MIB + 4096), None);
    }

    #[test]
    fn entries_are_as_the_manual_draws_them() {
        let mut tables = vec![Table::EMPTY; 4];
        let mut npt = NestedPageTables::new(TableArray::new(&mut tables, BASE)).unwrap();
        npt.map(0x3000, 0x8000, 0x1000, Access::ReadOnly).unwrap();
        npt.map(0x20_0000, 0x40_0000, 2 * MIB, Access::NoExecute).unwrap();
        assert_eq!(npt.root(), BASE);
        assert_eq!(tables[0].0[0], BASE + 0x1007);
        assert_eq!(tables[1].0[0], BASE + 0x2007);
        assert_eq!(tables[2].0[..2], [BASE + 0x3007, 0x8000_0000_0040_0087]);
        assert_eq!(tables[3].0[..5], [0, 0, 0, 0x8005, 0]);
    }

    #[test]
    fn access_accessed_and_dirty_are_read_back() {
        let mut tables = vec![Table::EMPTY; 4];
        let mut npt = NestedPageTables::new(TableArray::new(&mut tables, BASE)).unwrap();
        for (page, access) in [Access::Full, Access::ReadOnly, Access::NoExecute].into_iter().enumerate() {
            let guest = page as u64 * 4096;
            npt.map(guest, guest, 4096, access).unwrap();
            let found = npt.translate(guest).unwrap();
            assert_eq!((found.access, found.accessed, found.dirty), (access, false, false));
        }
        npt.frames.tables[3].0[0] |= ACCESSED | DIRTY;
        let found = npt.translate(0).unwrap();
        assert!(found.accessed && found.dirty);
    }

    #[test]
    fn tables_of_others_are_walked_as_far_as_they_can_be_read() {
        let read = |address| match address {
            0x1000 => Some(0x2087),
            0x2000 => Some(0x9007),
            0x2008 => Some(0x8000_0000_4000_00c3),
            0x2010 => Some(0),
            _ => None,
        };
        assert_eq!(walk(0x1000, 0x123, read), Err(NoEntry { address: 0x9000 }));
        let found = walk(0x1fff, GIB + 5, read).unwrap().unwrap();
        assert_eq!(
            (found.address, found.page_size, found.access, found.dirty),
            (GIB + 5, GIB, Access::NoExecute, true)
        );
        assert_eq!(walk(0x1000, 2 * GIB, read), Ok(None));
        assert_eq!(walk(0x1000, END, read), Ok(None));
    }

    #[test]
    fn what_cannot_be_mapped_is_refused() {
        let mut tables = vec![Table::EMPTY; 4];
        let mut npt = NestedPageTables::new(TableArray::new(&mut tables, BASE)).unwrap();
        assert_eq!(npt.map(1, 0, 4096, Access::Full), Err(MapError::Unaligned { value: 1 }));
        assert_eq!(npt.map(0, 0, 4097, Access::Full), Err(MapError::Unaligned { value: 4097 }));
        assert_eq!(npt.map(END - 4096, 0, 8192, Access::Full), Err(MapError::TooHigh { guest: END - 4096 }));
        assert_eq!(npt.map(!0xfff, 0, 8192, Access::Full), Err(MapError::TooHigh { guest: !0xfff }));
        npt.map(0, 0, 2 * MIB, Access::Full).unwrap();
        assert_eq!(npt.map(4096, 0, 4096, Access::Full), Err(MapError::Mapped { guest: 4096 }));
        assert_eq!(npt.map(0, 0, 2 * MIB, Access::Full), Err(MapError::Mapped { guest: 0 }));
        npt.map(2 * MIB, 0, 4096, Access::Full).unwrap();
        assert_eq!(npt.map(4 * MIB, 0, 4096, Access::Full), Err(MapError::NoTables));
    }
}
