//! A guest's memory, seen from outside: the only module of this crate with unsafe code.
//!
//! A guest may run on another processor while its memory is read, and write to it at any time. So nothing here hands out
//! a reference: bytes are copied, one volatile access each, and what is read twice may differ.
#![allow(unsafe_code)]

use crate::blocks::{BLOCK, BLOCKS, Blocks};
use crate::npt::{Access, Frames, NestedPageTables, NotOwned, SharedFrames};
use core::fmt;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const PAGE: u64 = 4096;

/// Blocks of the machine that a guest has, and pages of them that are used for nothing yet. When this is dropped it has none.
#[derive(Debug)]
pub struct GuestFrames {
    blocks: &'static Blocks,
    /// A bit for each.
    owned: [u64; BLOCKS / 64],
    next: u64,
    end: u64,
}

impl GuestFrames {
    /// No block.
    ///
    /// # Safety
    ///
    /// Host physical addresses of these blocks are addresses of Rust, valid for reads and writes for ever, and nothing refers to
    /// memory of a block but what has taken it from here.
    pub unsafe fn new(blocks: &'static Blocks) -> GuestFrames {
        GuestFrames { blocks, owned: [0; BLOCKS / 64], next: 0, end: 0 }
    }

    /// Address of another block, which is zero.
    pub fn take_block(&mut self) -> Option<u64> {
        let number = self.blocks.take()?;
        self.owned[number / 64] |= 1 << (number % 64);
        Some(self.blocks.address(number))
    }

    /// Takes pages from a range first, which is a part of a block that was taken.
    pub fn begin_with(&mut self, pages: Range<u64>) {
        (self.next, self.end) = (pages.start, pages.end);
    }

    /// Has all blocks that another guest has.
    fn join(&mut self, other: &GuestFrames) {
        other.all().for_each(|number| self.blocks.share(number));
        self.owned.iter_mut().zip(other.owned).for_each(|(own, others)| *own |= others);
    }

    fn all(&self) -> impl Iterator<Item = usize> + '_ {
        (0..BLOCKS).filter(|number| self.owned[number / 64] >> (number % 64) & 1 != 0)
    }
}

impl Frames for GuestFrames {
    fn take(&mut self) -> Option<u64> {
        if self.next == self.end {
            let block = self.take_block()?;
            (self.next, self.end) = (block, block + BLOCK);
        }
        self.next += PAGE;
        Some(self.next - PAGE)
    }

    fn read(&self, address: u64) -> u64 {
        // SAFETY: an entry of a table that was taken from here.
        unsafe { (address as *const u64).read_volatile() }
    }

    fn write(&mut self, address: u64, entry: u64) {
        // SAFETY: as above.
        unsafe { (address as *mut u64).write_volatile(entry) };
    }
}

impl SharedFrames for GuestFrames {
    fn is_shared(&self, address: u64) -> bool {
        self.blocks.is_shared(self.blocks.number(address))
    }

    fn copy(&mut self, from: u64, to: u64) {
        for offset in (0..PAGE).step_by(8) {
            self.write(to + offset, self.read(from + offset));
        }
    }
}

impl Drop for GuestFrames {
    fn drop(&mut self) {
        for number in self.all() {
            self.blocks.leave(number, || {
                let block = self.blocks.address(number);
                for address in (block..block + BLOCK).step_by(8) {
                    // SAFETY: nobody else has it, and this one no longer.
                    unsafe { (address as *mut u64).write_volatile(0) };
                }
            });
        }
    }
}

/// Memory of a guest, from guest physical address 0 on.
#[derive(Debug)]
pub struct GuestMemory {
    place: Place,
    size: u64,
    /// How often pages have become its own, or others' too.
    changes: u64,
    is_short: bool,
}

/// Where it is.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "each guest has one, where nothing is allocated")]
enum Place {
    /// In one piece.
    Whole(*mut u8),
    /// Where its tables say, and others may have some of it, too.
    Mapped(NestedPageTables<GuestFrames>),
}

/// An address outside of a guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    /// First guest physical address of the access.
    pub address: u64,
    /// How many bytes it was to be.
    pub length: u64,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} bytes at {:#x} are not in the guest's memory", self.length, self.address)
    }
}

impl core::error::Error for OutOfMemory {}

impl GuestMemory {
    /// Memory that begins at `base`.
    ///
    /// # Safety
    ///
    /// `size` bytes from `base` on, a multiple of 8, are valid for reads and writes as long as this exists, and no
    /// reference to any of them does.
    pub unsafe fn new(base: *mut u8, size: u64) -> GuestMemory {
        GuestMemory { place: Place::Whole(base), size, changes: 0, is_short: false }
    }

    /// Memory of zeros, in blocks that nobody has; `None` when there are not enough of them. The size is a multiple of 4096.
    pub fn of_blocks(tables: NestedPageTables<GuestFrames>, size: u64) -> Option<GuestMemory> {
        let mut tables = tables;
        for guest in (0..size).step_by(BLOCK as usize) {
            let block = tables.frames.take_block()?;
            tables.map(guest, block, BLOCK.min(size - guest), Access::Full).ok()?;
        }
        Some(GuestMemory { place: Place::Mapped(tables), size, changes: 0, is_short: false })
    }

    /// Memory with what this one holds, by tables that map nothing: pages are copied when one of both writes to them. `None`
    /// without enough memory for tables.
    pub fn fork(&mut self, tables: NestedPageTables<GuestFrames>) -> Option<GuestMemory> {
        let Place::Mapped(own) = &mut self.place else { return None };
        let mut tables = tables;
        tables.frames.join(&own.frames);
        self.changes += 1;
        own.share(&mut tables)?;
        Some(GuestMemory { place: Place::Mapped(tables), size: self.size, changes: 0, is_short: false })
    }

    /// Takes it away, and leaves none.
    pub fn take(&mut self) -> GuestMemory {
        let none = GuestMemory { place: Place::Whole(core::ptr::null_mut()), size: 0, changes: 0, is_short: false };
        core::mem::replace(self, none)
    }

    /// What goes into nCR3, if there are tables.
    pub fn root(&self) -> Option<u64> {
        let Place::Mapped(tables) = &self.place else { return None };
        Some(tables.root())
    }

    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Counts up whenever processors have to forget translations.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether something could not be written, because there was no page for it.
    pub fn is_short(&self) -> bool {
        self.is_short
    }

    /// Lets the page of an address be written to; whether the guest may try again, as it cannot where no memory is.
    pub fn own(&mut self, address: u64) -> bool {
        let Place::Mapped(tables) = &mut self.place else { return false };
        let owned = if address < self.size { tables.own(address) } else { Err(NotOwned::Unmapped) };
        self.changes += u64::from(owned == Ok(true));
        self.is_short |= owned == Err(NotOwned::NoFrames);
        owned != Err(NotOwned::Unmapped)
    }

    /// All of a range is memory.
    pub fn check(&self, address: u64, length: u64) -> Result<(), OutOfMemory> {
        let fits = address.checked_add(length).is_some_and(|end| end <= self.size);
        if fits { Ok(()) } else { Err(OutOfMemory { address, length }) }
    }

    /// Host address of a range, and how many bytes of it are there in one piece; for devices of the host, which read it or,
    /// unless that is all, write to it.
    pub fn host_range(&mut self, address: u64, length: u64, write: bool) -> Result<(*mut u8, u64), OutOfMemory> {
        let at = if write { self.place_to_write(address, length)? } else { self.place(address, length)? };
        Ok((at, length.min(PAGE - address % PAGE)))
    }

    /// Where a range begins, which is there up to the end of its page.
    fn place(&self, address: u64, length: u64) -> Result<*mut u8, OutOfMemory> {
        self.check(address, length)?;
        match &self.place {
            Place::Whole(base) => Ok(base.wrapping_add(address as usize)),
            Place::Mapped(tables) => {
                let found = tables.translate(address).ok_or(OutOfMemory { address, length })?;
                Ok(found.address as *mut u8)
            }
        }
    }

    fn place_to_write(&mut self, address: u64, length: u64) -> Result<*mut u8, OutOfMemory> {
        self.own(address);
        if self.is_short { Err(OutOfMemory { address, length }) } else { self.place(address, length) }
    }

    /// Copies bytes out.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), OutOfMemory> {
        self.check(address, bytes.len() as u64)?;
        let (first, rest) = bytes.split_at_mut(bytes.len().min((PAGE - address % PAGE) as usize));
        let mut next = address;
        for piece in core::iter::once(first).chain(rest.chunks_mut(PAGE as usize)) {
            let from = self.place(next, piece.len() as u64)?;
            for (index, byte) in piece.iter_mut().enumerate() {
                // SAFETY: all of the piece is memory, in one page, which whoever made this has promised to be readable.
                *byte = unsafe { from.add(index).read_volatile() };
            }
            next += piece.len() as u64;
        }
        Ok(())
    }

    /// Whether a page is nothing but zeros; its address is a multiple of 8.
    pub fn is_zero(&self, address: u64, length: u64) -> Result<bool, OutOfMemory> {
        for offset in (0..length).step_by(8) {
            if self.read_u64(address + offset)? != 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Copies bytes in.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), OutOfMemory> {
        self.check(address, bytes.len() as u64)?;
        let (first, rest) = bytes.split_at(bytes.len().min((PAGE - address % PAGE) as usize));
        let mut next = address;
        for piece in core::iter::once(first).chain(rest.chunks(PAGE as usize)) {
            let to = self.place_to_write(next, piece.len() as u64)?;
            for (index, byte) in piece.iter().enumerate() {
                // SAFETY: as in `read`, and writable; nobody else has the page.
                unsafe { to.add(index).write_volatile(*byte) };
            }
            next += piece.len() as u64;
        }
        Ok(())
    }

    /// Copies two bytes out, in one access when they are aligned: indices of rings never come in halves.
    pub fn read_u16(&self, address: u64) -> Result<u16, OutOfMemory> {
        let from = self.place(address, 2)?;
        if from.addr() % 2 == 0 {
            // SAFETY: checked as in `read`, and aligned.
            return Ok(unsafe { from.cast::<u16>().read_volatile() });
        }
        let mut bytes = [0; 2];
        self.read(address, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    /// Copies two bytes in, in one access when they are aligned.
    pub fn write_u16(&mut self, address: u64, value: u16) -> Result<(), OutOfMemory> {
        let to = self.place_to_write(address, 2)?;
        if to.addr() % 2 == 0 {
            // SAFETY: checked as in `write`, and aligned.
            unsafe { to.cast::<u16>().write_volatile(value) };
            return Ok(());
        }
        self.write(address, &value.to_le_bytes())
    }

    /// Copies eight bytes out, in one access when they are aligned: entries of page tables never come in halves.
    pub fn read_u64(&self, address: u64) -> Result<u64, OutOfMemory> {
        let from = self.place(address, 8)?;
        if from.addr() % 8 == 0 {
            // SAFETY: checked as in `read`, and aligned.
            return Ok(unsafe { from.cast::<u64>().read_volatile() });
        }
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Copies a number of 4 or 8 bytes out, in one access when it is aligned.
    pub fn read_number(&self, address: u64, size: u8) -> Result<u64, OutOfMemory> {
        if size == 8 {
            return self.read_u64(address);
        }
        let from = self.place(address, 4)?;
        if from.addr() % 4 == 0 {
            // SAFETY: checked as in `read`, and aligned.
            return Ok(unsafe { from.cast::<u32>().read_volatile() }.into());
        }
        let mut bytes = [0; 4];
        self.read(address, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes).into())
    }

    /// Puts a number of 4 or 8 bytes in the place of another one, if that is what is there; returns whether it was. One
    /// that is not aligned never is.
    pub fn replace(&mut self, address: u64, size: u8, old: u64, new: u64) -> Result<bool, OutOfMemory> {
        let place = self.place_to_write(address, size.into())?;
        if place.addr() % usize::from(size) != 0 {
            return Ok(false);
        }
        let done = if size == 8 {
            // SAFETY: checked as in `write`, and aligned; whoever else accesses it does so as processors do.
            let place = unsafe { AtomicU64::from_ptr(place.cast()) };
            place.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        } else {
            // SAFETY: as above.
            let place = unsafe { AtomicU32::from_ptr(place.cast()) };
            place.compare_exchange(old as u32, new as u32, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        Ok(done)
    }
}

/// Memory for the tests of other modules, never given back.
#[cfg(test)]
pub(crate) fn leaked(size: usize) -> GuestMemory {
    let words = std::vec![0_u64; size.div_ceil(8)].leak();
    // SAFETY: leaked, and the reference is gone.
    unsafe { GuestMemory::new(words.as_mut_ptr().cast(), size as u64) }
}

#[cfg(test)]
mod tests;
