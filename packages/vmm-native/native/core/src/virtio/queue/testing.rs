use super::*;

pub const DESCRIPTORS: u64 = 0x1000;
pub const AVAILABLE: u64 = 0x2000;
pub const USED: u64 = 0x3000;

pub const NEXT: u16 = flag::NEXT;
pub const WRITE: u16 = flag::WRITE;
pub const INDIRECT: u16 = flag::INDIRECT;

/// A queue that is ready, all of whose parts are at a distance from the usual places.
pub fn queue(size: u16, distance: u64) -> Queue {
    Queue {
        size,
        enabled: true,
        kicked: true,
        indirect: true,
        descriptors: DESCRIPTORS + distance,
        available: AVAILABLE + distance,
        used: USED + distance,
        ..Queue::new()
    }
}

pub fn describe(memory: &mut GuestMemory, table: u64, index: u16, buffer: (u64, u32), flags: u16, next: u16) {
    let mut bytes = std::vec::Vec::from(buffer.0.to_le_bytes());
    bytes.extend(buffer.1.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend(next.to_le_bytes());
    memory.write(table + u64::from(index) * 16, &bytes).unwrap();
}

/// Describes a chain of buffers from a descriptor on, and makes it available.
pub fn offer(memory: &mut GuestMemory, queue: &mut Queue, head: u16, buffers: &[(u64, u32, u16)]) {
    for (index, (address, length, flags)) in (head..).zip(buffers) {
        let next = if usize::from(index - head) + 1 < buffers.len() { NEXT } else { 0 };
        describe(memory, queue.descriptors, index, (*address, *length), flags | next, index + 1);
    }
    make_available(memory, queue, head);
}

pub fn make_available(memory: &mut GuestMemory, queue: &mut Queue, head: u16) {
    let index = memory.read_u16(queue.available + 2).unwrap();
    memory.write_u16(queue.available + 4 + u64::from(index % queue.size) * 2, head).unwrap();
    memory.write_u16(queue.available + 2, index.wrapping_add(1)).unwrap();
    queue.kicked = true;
}

/// What the device has given back: head and how much was written.
pub fn used(memory: &GuestMemory, queue: &Queue) -> std::vec::Vec<(u32, u32)> {
    let index = memory.read_u16(queue.used + 2).unwrap();
    let first = index.saturating_sub(queue.size);
    (first..index)
        .map(|index| {
            let entry = memory.read_u64(queue.used + 4 + u64::from(index % queue.size) * 8).unwrap();
            (entry as u32, (entry >> 32) as u32)
        })
        .collect()
}
