//! The machine's memory: what PVH says there is, given out piece by piece. What is taken is taken for ever, or as long as a
//! guest whose range it lies in.
//!
//! Host physical addresses below 4 GiB are addresses of Rust: `boot.s` maps them to themselves.

use core::ops::Range;
use core::ptr;

const PAGE: u64 = 4096;
const MAPPED: u64 = 1 << 32;

/// What a PVH boot loader tells (Xen, public/arch-x86/hvm/start_info.h).
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[repr(C)]
struct MemoryMapEntry {
    address: u64,
    size: u64,
    kind: u32,
    reserved: u32,
}

const MAGIC: u32 = 0x336e_c578;
const VERSION_WITH_MEMORY_MAP: u32 = 1;
const RAM: u32 = 1;

/// Memory that nobody has yet: the largest region that is mapped.
#[derive(Debug)]
pub struct FreeMemory {
    next: u64,
    end: u64,
}

impl FreeMemory {
    /// The largest region of the boot loader's memory map, without the hypervisor itself.
    ///
    /// # Safety
    ///
    /// `start_info` is what the boot loader passed, and nobody else takes memory by it.
    pub unsafe fn find(start_info: u64) -> Option<FreeMemory> {
        unsafe extern "C" {
            static hypervisor_end: u8;
        }
        let own_end = ptr::addr_of!(hypervisor_end).addr() as u64;
        // SAFETY: the boot loader's structure, in mapped memory that is not the hypervisor's.
        let info = unsafe { &*(start_info as *const StartInfo) };
        if info.magic != MAGIC || info.version < VERSION_WITH_MEMORY_MAP {
            return None;
        }
        // SAFETY: as above.
        let entries = unsafe {
            core::slice::from_raw_parts(info.memory_map as *const MemoryMapEntry, info.memory_map_entries as usize)
        };
        let regions = entries.iter().filter(|entry| entry.kind == RAM).map(|entry| {
            let end = (entry.address + entry.size).min(MAPPED);
            FreeMemory { next: entry.address.max(own_end).next_multiple_of(PAGE), end }
        });
        regions.max_by_key(|region| region.end.saturating_sub(region.next))
    }

    /// Memory of a range.
    ///
    /// # Safety
    ///
    /// It is mapped, and nobody's until everything that has been taken from it is forgotten.
    pub unsafe fn of(range: Range<u64>) -> FreeMemory {
        FreeMemory { next: range.start, end: range.end }
    }

    /// What is left, as a range of whole pieces of a size.
    pub fn into_range(self, alignment: u64) -> Range<u64> {
        let start = self.next.next_multiple_of(alignment);
        start..(self.end / alignment * alignment).max(start)
    }

    /// How many bytes are left.
    pub fn size(&self) -> u64 {
        self.end.saturating_sub(self.next)
    }

    /// Address of `size` bytes of nobody else's, at a multiple of `alignment`.
    pub fn take_range(&mut self, size: u64, alignment: u64) -> Option<u64> {
        let start = self.next.next_multiple_of(alignment);
        let end = start.checked_add(size).filter(|end| *end <= self.end)?;
        self.next = end;
        Some(start)
    }

    /// A place for a value, for ever.
    pub fn take<T>(&mut self, value: T) -> Option<&'static mut T> {
        let place = self.take_range(size_of::<T>() as u64, align_of::<T>() as u64)? as *mut T;
        // SAFETY: mapped, aligned, large enough, and nobody else's.
        unsafe {
            place.write(value);
            Some(&mut *place)
        }
    }

    /// A place for some values, for ever. Places are gone when there are not enough of them for all.
    pub fn take_all<T>(
        &mut self,
        count: usize,
        mut make: impl FnMut(&mut FreeMemory, usize) -> Option<T>,
    ) -> Option<&'static mut [T]> {
        let place = self.take_range((size_of::<T>() * count) as u64, align_of::<T>() as u64)? as *mut T;
        for index in 0..count {
            let value = make(self, index)?;
            // SAFETY: mapped, aligned, within the range, and nobody else's.
            unsafe { place.add(index).write(value) };
        }
        // SAFETY: all of them have been written.
        Some(unsafe { core::slice::from_raw_parts_mut(place, count) })
    }
}
