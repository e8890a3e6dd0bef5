//! Virtio devices of the machine, from the driver's side (Virtual I/O Device specification 1.2, 3.1 and 4.1): finding them,
//! and their queues.

use crate::memory::FreeMemory;
use crate::pci::{self, Function};
use core::ptr;
use core::sync::atomic::{Ordering, fence};

const VENDOR: u32 = 0x1af4;
const VENDOR_SPECIFIC: u8 = 0x09;
/// A kind of device, by its numbers of PCI devices without and with what there was before version 1 (4.1.2.1).
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    modern: u32,
    transitional: u32,
}

/// Network cards.
pub const NETWORK: Kind = Kind { modern: 0x1041, transitional: 0x1000 };
/// Disks.
pub const BLOCK: Kind = Kind { modern: 0x1042, transitional: 0x1001 };

/// Consoles.
pub const CONSOLE: Kind = Kind { modern: 0x1043, transitional: 0x1003 };

/// Most entries of a queue: chains of disks are longer than 128 descriptors, and no chain is longer than its queue.
const ENTRIES: usize = 256;
/// Fewest that drivers can do with: each has at most as many chains.
const MIN_ENTRIES: usize = 32;

mod capability {
    pub const COMMON: u8 = 1;
    pub const NOTIFY: u8 = 2;
    pub const DEVICE: u8 = 4;
}

/// Offsets in the common configuration (4.1.4.3).
mod common {
    pub const DEVICE_FEATURE_SELECT: usize = 0x00;
    pub const DEVICE_FEATURE: usize = 0x04;
    pub const DRIVER_FEATURE_SELECT: usize = 0x08;
    pub const DRIVER_FEATURE: usize = 0x0c;
    pub const STATUS: usize = 0x14;
    pub const QUEUE_SELECT: usize = 0x16;
    pub const QUEUE_SIZE: usize = 0x18;
    pub const QUEUE_VECTOR: usize = 0x1a;
    pub const QUEUE_ENABLE: usize = 0x1c;
    pub const QUEUE_NOTIFY_OFFSET: usize = 0x1e;
    pub const QUEUE_DESCRIPTORS: usize = 0x20;
    pub const QUEUE_AVAILABLE: usize = 0x28;
    pub const QUEUE_USED: usize = 0x30;
}

mod status {
    pub const ACKNOWLEDGE: u8 = 1 << 0;
    pub const DRIVER: u8 = 1 << 1;
    pub const DRIVER_OK: u8 = 1 << 2;
    pub const FEATURES_OK: u8 = 1 << 3;
}

/// Status of a device whose driver is there, and has agreed upon nothing.
const AGREEING: u8 = status::ACKNOWLEDGE | status::DRIVER;
/// The device need not be told of what is available (2.7.10).
const NO_NOTIFY: u16 = 1 << 0;

/// Features of all devices that this driver needs.
const INDIRECT: u64 = 1 << 28;
const VERSION_1: u64 = 1 << 32;

/// Flags of descriptors.
pub mod flag {
    /// There is another one.
    pub const NEXT: u16 = 1 << 0;
    /// The device writes to it.
    pub const WRITE: u16 = 1 << 1;
    /// It leads to a table.
    pub const INDIRECT: u16 = 1 << 2;
}

/// A part of a buffer, or a table of them (2.7.5).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Descriptor {
    /// Address.
    pub address: u64,
    /// How many bytes.
    pub length: u32,
    /// See [`flag`].
    pub flags: u16,
    /// Index of the next one.
    pub next: u16,
}

impl Descriptor {
    /// Nothing.
    pub const EMPTY: Descriptor = Descriptor { address: 0, length: 0, flags: 0, next: 0 };

    /// A buffer by itself.
    pub fn buffer<T>(buffer: *const T, length: usize, flags: u16) -> Descriptor {
        Descriptor { address: buffer.addr() as u64, length: length as u32, flags, next: 0 }
    }
}

/// The parts of a queue (2.7), of which the device writes the last.
#[repr(C, align(4096))]
struct Rings {
    descriptors: [Descriptor; ENTRIES],
    available_flags: u16,
    available_index: u16,
    available: [u16; ENTRIES],
    used_event: u16,
    used: Used,
}

#[repr(C, align(4))]
struct Used {
    flags: u16,
    index: u16,
    ring: [[u32; 2]; ENTRIES],
}

/// A device that is being made ready, or is.
pub struct Device {
    common: usize,
    function_config: usize,
    notify: usize,
    notify_multiplier: usize,
    /// What has been agreed upon.
    pub features: u64,
}

/// A queue of a device.
pub struct Queue {
    index: u16,
    notify: usize,
    entries: usize,
    rings: &'static mut Rings,
    next_available: u16,
    next_used: u16,
}

/// All devices of a kind, in the order of the bus.
pub fn find(kind: Kind) -> impl Iterator<Item = Function> {
    pci::find(move |identity| {
        identity & 0xffff == VENDOR && [kind.modern, kind.transitional].contains(&(identity >> 16))
    })
}

impl Device {
    /// Agrees with a device on features (3.1.1, steps 1 to 6); `None` when it is none that this driver can use.
    pub fn reset(function: Function, wanted: u64) -> Option<Device> {
        let [common, notify, function_config] =
            [capability::COMMON, capability::NOTIFY, capability::DEVICE].map(|kind| place(function, kind));
        let ((common, _), (notify, notify_at), (function_config, _)) = (common?, notify?, function_config?);
        let notify_multiplier = function.read(notify_at + 16) as usize;
        // SAFETY: nothing of the device is set up yet, so it writes nowhere.
        unsafe {
            function.enable()?;
            // Firmware may have used it.
            stop(function);
            put(common + common::STATUS, AGREEING);
            let features = wanted & offered(common) | INDIRECT | VERSION_1;
            for half in [0_u32, 1] {
                put(common + common::DRIVER_FEATURE_SELECT, half);
                put(common + common::DRIVER_FEATURE, (features >> (half * 32)) as u32);
            }
            put(common + common::STATUS, AGREEING | status::FEATURES_OK);
            if get::<u8>(common + common::STATUS) & status::FEATURES_OK == 0 {
                return None;
            }
            Some(Device { common, function_config, notify, notify_multiplier, features })
        }
    }

    /// Makes a queue ready (3.1.1, step 7), which interrupts by the function's first message.
    pub fn queue(&mut self, index: u16, memory: &mut FreeMemory) -> Option<Queue> {
        let rings = memory.take(Rings {
            descriptors: [Descriptor::EMPTY; ENTRIES],
            available_flags: 0,
            available_index: 0,
            available: [0; ENTRIES],
            used_event: 0,
            used: Used { flags: 0, index: 0, ring: [[0; 2]; ENTRIES] },
        })?;
        let common = self.common;
        // SAFETY: the device is given nothing but these rings, and nobody else has them.
        unsafe {
            put::<u16>(common + common::QUEUE_SELECT, index);
            let entries = usize::from(get::<u16>(common + common::QUEUE_SIZE)).min(ENTRIES);
            if entries < MIN_ENTRIES {
                return None;
            }
            put(common + common::QUEUE_SIZE, entries as u16);
            put::<u16>(common + common::QUEUE_VECTOR, 0);
            let parts = [
                (common::QUEUE_DESCRIPTORS, ptr::from_ref(&rings.descriptors).addr()),
                (common::QUEUE_AVAILABLE, ptr::from_ref(&rings.available_flags).addr()),
                (common::QUEUE_USED, ptr::from_ref(&rings.used).addr()),
            ];
            for (register, address) in parts {
                put(common + register, address as u32);
                put::<u32>(common + register + 4, 0);
            }
            let offset = usize::from(get::<u16>(common + common::QUEUE_NOTIFY_OFFSET));
            put::<u16>(common + common::QUEUE_ENABLE, 1);
            let notify = self.notify + offset * self.notify_multiplier;
            Some(Queue { index, notify, entries, rings, next_available: 0, next_used: 0 })
        }
    }

    /// Lets the device use its queues (3.1.1, step 8); they may be told of something from now on.
    pub fn begin(&mut self) {
        // SAFETY: the device uses nothing but what its queues offer.
        unsafe { put(self.common + common::STATUS, AGREEING | status::FEATURES_OK | status::DRIVER_OK) };
    }

    /// Four bytes of the configuration of this kind of device.
    pub fn config(&self, offset: usize) -> u32 {
        // SAFETY: the device's registers.
        unsafe { get(self.function_config + offset) }
    }
}

impl Queue {
    /// Makes a chain of one descriptor available, which may lead to a table of them, and tells the device.
    ///
    /// # Safety
    ///
    /// The number is below [`MIN_ENTRIES`], and no chain that has not been used has it. Until this one has been used, its table and
    /// buffers stay where they are; those to write may be written to by the device at any time.
    pub unsafe fn offer(&mut self, number: u16, descriptor: Descriptor) {
        let place = usize::from(self.next_available) % self.entries;
        self.next_available = self.next_available.wrapping_add(1);
        // SAFETY: the rings are this driver's, and the device only reads these.
        unsafe {
            (&raw mut self.rings.descriptors[usize::from(number)]).write_volatile(descriptor);
            (&raw mut self.rings.available[place]).write_volatile(number);
            // The index says that all of this is there.
            fence(Ordering::Release);
            (&raw mut self.rings.available_index).write_volatile(self.next_available);
            // The device looks once more after it has said that it need not be told.
            fence(Ordering::SeqCst);
            if (&raw const self.rings.used.flags).read_volatile() & NO_NOTIFY == 0 {
                put::<u16>(self.notify, self.index);
            }
        }
    }

    /// A chain that the device has used: its number, and how many bytes have been written.
    pub fn used(&mut self) -> Option<(u16, u32)> {
        // SAFETY: the device may write to these at any time, so they are read as what changes.
        unsafe {
            if (&raw const self.rings.used.index).read_volatile() == self.next_used {
                return None;
            }
            // The entry is read after the index that says that it is there.
            fence(Ordering::Acquire);
            let place = usize::from(self.next_used) % self.entries;
            let [number, written] = (&raw const self.rings.used.ring[place]).read_volatile();
            self.next_used = self.next_used.wrapping_add(1);
            Some((number as u16, written))
        }
    }
}

/// Makes a device forget its queues, after which it leaves memory alone (2.4).
pub fn stop(function: Function) {
    let Some((common, _)) = place(function, capability::COMMON) else { return };
    // SAFETY: the device's registers; what it does by that is to stop.
    unsafe {
        put::<u8>(common + common::STATUS, 0);
        while get::<u8>(common + common::STATUS) != 0 {}
    }
}

/// Where a structure of a device lies, and the capability that says so (4.1.4).
fn place(function: Function, kind: u8) -> Option<(usize, u8)> {
    let found = function.capabilities(VENDOR_SPECIFIC).find(|at| (function.read(*at) >> 24) as u8 == kind)?;
    let base = function.memory(function.read(found + 4) as u8)?;
    Some((base + function.read(found + 8) as usize, found))
}

/// What a device offers.
///
/// # Safety
///
/// `common` is the address of its common configuration.
unsafe fn offered(common: usize) -> u64 {
    let mut features = 0;
    for half in [0_u32, 1] {
        // SAFETY: the caller's.
        unsafe {
            put(common + common::DEVICE_FEATURE_SELECT, half);
            features |= u64::from(get::<u32>(common + common::DEVICE_FEATURE)) << (half * 32);
        }
    }
    features
}

/// # Safety
///
/// It is the address of a register of this size of a device, which is the caller's.
unsafe fn get<T: Copy>(address: usize) -> T {
    // SAFETY: the caller's.
    unsafe { (address as *const T).read_volatile() }
}

/// # Safety
///
/// As [`get`], and what the device does by that breaks nothing.
unsafe fn put<T: Copy>(address: usize, value: T) {
    // SAFETY: the caller's.
    unsafe { (address as *mut T).write_volatile(value) };
}
