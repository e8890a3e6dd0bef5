//! Disks of the machine: virtio block devices (Virtual I/O Device specification 1.2, 5.2).
//!
//! A guest's memory is the machine's, so the device reads and writes it itself.

use crate::memory::FreeMemory;
use crate::pci::Function;
use crate::virtio::{self, Descriptor, Device, Queue, flag};
use core::{fmt, hint, ptr};
use vmm_core::memory::GuestMemory;
use vmm_core::virtio::block::{Action, Backend, ID_SIZE, MAX_REQUESTS};
use vmm_core::virtio::queue::Segment;

/// Offset of the number of sectors in the configuration.
const CAPACITY: usize = 0;

const READ_ONLY: u64 = 1 << 5;
const FLUSH: u64 = 1 << 9;

mod kind {
    pub const READ: u32 = 0;
    pub const WRITE: u32 = 1;
    pub const FLUSH: u32 = 4;
    pub const GET_ID: u32 = 8;
}

/// Most parts of a request's data that are in one piece: with header and status as many as the device takes.
const MAX_PARTS: usize = 254;

/// A request of the device (5.2.6), with the table that describes it.
#[repr(C, align(16))]
struct Request {
    kind: u32,
    reserved: u32,
    sector: u64,
    table: [Descriptor; MAX_PARTS + 2],
    status: u8,
}

/// A disk.
pub struct Disk {
    device: Device,
    queue: Queue,
    requests: &'static mut [Request],
    sectors: u64,
    id: [u8; ID_SIZE as usize],
    /// Requests that there was nothing to do for, and that could not be done, a bit for each.
    done: u32,
    failed: u32,
}

impl fmt::Debug for Disk {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Disk {{ sectors: {} }}", self.sectors)
    }
}

/// All disks of the machine.
pub fn find() -> impl Iterator<Item = Function> {
    virtio::find(virtio::BLOCK)
}

impl Disk {
    /// Makes a disk ready; `None` when it is none that can be used.
    pub fn start(function: Function, memory: &mut FreeMemory) -> Option<Disk> {
        let mut device = Device::reset(function, READ_ONLY | FLUSH)?;
        let queue = device.queue(0, memory)?;
        device.begin();
        let requests = memory.take_all(MAX_REQUESTS, |_, _| {
            Some(Request { kind: 0, reserved: 0, sector: 0, table: [Descriptor::EMPTY; MAX_PARTS + 2], status: 0 })
        })?;
        let sectors = u64::from(device.config(CAPACITY + 4)) << 32 | u64::from(device.config(CAPACITY));
        let mut disk = Disk { device, queue, requests, sectors, id: [0; ID_SIZE as usize], done: 0, failed: 0 };
        disk.id = disk.identify(memory)?;
        Some(disk)
    }

    /// Asks the device what it is called. No guest runs yet, so nobody is kept waiting.
    fn identify(&mut self, memory: &mut FreeMemory) -> Option<[u8; ID_SIZE as usize]> {
        let id = memory.take([0; ID_SIZE as usize])?;
        let buffer = Descriptor::buffer(id, size_of_val(id), flag::WRITE);
        // SAFETY: memory that was taken for this.
        unsafe { self.begin(0, kind::GET_ID, 0, core::iter::once(buffer)) };
        loop {
            match self.finish() {
                // SAFETY: the device may have written to it, and does not any more.
                Some((_, true)) => return Some(unsafe { ptr::from_ref(id).read_volatile() }),
                Some((_, false)) => return Some([0; ID_SIZE as usize]),
                None => hint::spin_loop(),
            }
        }
    }

    /// Hands a request to the device.
    ///
    /// # Safety
    ///
    /// Nobody refers to its buffers, and those to write take writes, until it is finished.
    unsafe fn begin(&mut self, number: u16, kind: u32, sector: u64, buffers: impl Iterator<Item = Descriptor>) {
        const HEADER_SIZE: usize = 16;
        let request = ptr::from_mut(&mut self.requests[usize::from(number)]);
        // SAFETY: the request is not the device's before it is offered; it lies where it is for ever. Nothing refers to
        // it while the device may write to its status: it is reached by this pointer only.
        unsafe {
            (&raw mut (*request).kind).write_volatile(kind);
            (&raw mut (*request).sector).write_volatile(sector);
            (&raw mut (*request).status).write_volatile(u8::MAX);
            let table = (&raw mut (*request).table).cast::<Descriptor>();
            let header = Descriptor::buffer(request, HEADER_SIZE, 0);
            let status = Descriptor::buffer(&raw const (*request).status, 1, flag::WRITE);
            let mut length = 0;
            let all = core::iter::once(header).chain(buffers.take(MAX_PARTS)).chain(core::iter::once(status));
            for descriptor in all {
                let flags = descriptor.flags | flag::NEXT;
                table.add(length).write_volatile(Descriptor { flags, next: length as u16 + 1, ..descriptor });
                length += 1;
            }
            let last = table.add(length - 1);
            last.write_volatile(Descriptor { flags: flag::WRITE, next: 0, ..last.read_volatile() });
            let table = Descriptor::buffer(table, length * size_of::<Descriptor>(), flag::INDIRECT);
            self.queue.offer(number, table);
        }
    }
}

impl Backend for Disk {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn is_read_only(&self) -> bool {
        self.device.features & READ_ONLY != 0
    }

    fn id(&self) -> [u8; ID_SIZE as usize] {
        self.id
    }

    fn start(&mut self, number: u16, action: Action, segments: &[Segment], memory: &mut GuestMemory) -> bool {
        let (kind, sector, flags) = match action {
            Action::Read { sector } => (kind::READ, sector, flag::WRITE),
            Action::Write { sector } => (kind::WRITE, sector, 0),
            // Without the feature everything is made last at once.
            Action::Flush if self.device.features & FLUSH == 0 => {
                self.done |= 1 << number;
                return true;
            }
            Action::Flush => (kind::FLUSH, 0, 0),
        };
        let (mut parts, mut count) = ([Descriptor::EMPTY; MAX_PARTS], 0);
        for segment in segments {
            let (mut address, mut left) = (segment.address, u64::from(segment.length));
            while left > 0 {
                let Ok((at, length)) = memory.host_range(address, left, flags == flag::WRITE) else { return false };
                let part = Descriptor::buffer(at, length as usize, flags);
                match parts[..count].last_mut() {
                    Some(last) if last.address + u64::from(last.length) == part.address => last.length += part.length,
                    _ if count == MAX_PARTS => {
                        // It is told how many segments of which size there can be.
                        self.failed |= 1 << number;
                        return true;
                    }
                    _ => {
                        parts[count] = part;
                        count += 1;
                    }
                }
                (address, left) = (address + length, left - length);
            }
        }
        // SAFETY: parts of the guest's memory, which nothing refers to, and which takes writes at any time.
        unsafe { self.begin(number, kind, sector, parts[..count].iter().copied()) };
        true
    }

    fn finish(&mut self) -> Option<(u16, bool)> {
        for (numbers, well) in [(&mut self.done, true), (&mut self.failed, false)] {
            if *numbers != 0 {
                let number = numbers.trailing_zeros();
                *numbers &= *numbers - 1;
                return Some((number as u16, well));
            }
        }
        let (number, _) = self.queue.used()?;
        let request = self.requests.get(usize::from(number))?;
        // SAFETY: the device has written to it, and does not any more.
        let status = unsafe { (&raw const request.status).read_volatile() };
        Some((number, status == 0))
    }
}
