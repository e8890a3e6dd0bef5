use super::testing::*;
use super::*;
use crate::memory::leaked;

const MEMORY: u64 = 1 << 16;

fn parts(size: u16) -> (GuestMemory, Queue) {
    (leaked(MEMORY as usize), queue(size, 0))
}

fn error(memory: &mut GuestMemory, queue: &mut Queue) -> QueueError {
    queue.pop(memory).unwrap_err()
}

#[test]
fn a_chain_is_what_is_read_and_what_is_written() {
    let (mut memory, mut queue) = parts(8);
    offer(&mut memory, &mut queue, 3, &[(0x8000, 16, 0), (0x9000, 0, 0), (0xa000, 512, WRITE), (0xb000, 1, WRITE)]);
    let chain = queue.pop(&mut memory).unwrap().unwrap();
    assert_eq!(chain.head, 3);
    assert_eq!(chain.readable(), [Segment { address: 0x8000, length: 16 }], "nothing is empty");
    let written = [Segment { address: 0xa000, length: 512 }, Segment { address: 0xb000, length: 1 }];
    assert_eq!(chain.writable(), written);
    assert_eq!(queue.pop(&mut memory), Ok(None));
    queue.put_back();
    queue.kicked = true;
    assert_eq!(queue.pop(&mut memory), Ok(Some(chain)));
}

#[test]
fn nothing_is_looked_at_until_the_driver_tells() {
    let (mut memory, mut queue) = parts(8);
    assert_eq!(queue.pop(&mut memory), Ok(None));
    offer(&mut memory, &mut queue, 0, &[(0x8000, 1, 0)]);
    queue.kicked = false;
    assert_eq!(queue.pop(&mut memory), Ok(None));
    queue.kicked = true;
    assert!(queue.pop(&mut memory).unwrap().is_some());
    queue.enabled = false;
    queue.kicked = true;
    assert_eq!(queue.pop(&mut memory), Ok(None));
}

#[test]
fn rings_wrap_at_their_size_and_indices_at_theirs() {
    let (mut memory, mut queue) = parts(4);
    (queue.next_available, queue.next_used, queue.told) = (0xfffe, 0xfffe, 0xfffe);
    memory.write_u16(AVAILABLE + 2, 0xfffe).unwrap();
    for round in 0..9 {
        offer(&mut memory, &mut queue, round % 4, &[(0x8000, 1, WRITE)]);
        let chain = queue.pop(&mut memory).unwrap().unwrap();
        queue.push(&mut memory, chain.head, 1).unwrap();
        assert_eq!(queue.needs_interrupt(&memory), Ok(true));
    }
    assert_eq!(memory.read_u16(USED + 2), Ok(7));
    // 0xfffe + 8 is in the place of 2: the last head was 8 % 4.
    assert_eq!(memory.read_u64(USED + 4 + 2 * 8), Ok(1 << 32));
}

#[test]
fn chains_without_an_end_are_too_long() {
    let (mut memory, mut queue) = parts(8);
    describe(&mut memory, DESCRIPTORS, 0, (0x8000, 1), NEXT, 1);
    describe(&mut memory, DESCRIPTORS, 1, (0x8000, 1), NEXT, 0);
    make_available(&mut memory, &mut queue, 0);
    assert_eq!(error(&mut memory, &mut queue), QueueError::TooLong);
    // Also when all of its buffers are empty, and in an indirect table.
    describe(&mut memory, DESCRIPTORS, 0, (0x8000, 0), NEXT, 0);
    make_available(&mut memory, &mut queue, 0);
    assert_eq!(error(&mut memory, &mut queue), QueueError::TooLong);
    describe(&mut memory, 0x8000, 0, (0x9000, 1), NEXT, 0);
    describe(&mut memory, DESCRIPTORS, 0, (0x8000, 16), INDIRECT, 0);
    make_available(&mut memory, &mut queue, 0);
    assert_eq!(error(&mut memory, &mut queue), QueueError::TooLong);
}

#[test]
fn a_chain_may_be_as_long_as_the_queue_and_as_an_indirect_table() {
    let (mut memory, mut queue) = parts(128);
    let buffers: std::vec::Vec<_> = (0..128_u64).map(|index| (0x8000 + index, 1, 0)).collect();
    offer(&mut memory, &mut queue, 0, &buffers);
    assert_eq!(queue.pop(&mut memory).unwrap().unwrap().readable().len(), 128);
    for index in 0..128_u16 {
        describe(&mut memory, 0xa000, index, (0x8000, 2), if index < 127 { NEXT } else { 0 }, index + 1);
    }
    describe(&mut memory, DESCRIPTORS, 5, (0xa000, 128 * 16), INDIRECT, 0);
    make_available(&mut memory, &mut queue, 5);
    let chain = queue.pop(&mut memory).unwrap().unwrap();
    assert_eq!((chain.head, chain.readable().len(), length(chain.readable())), (5, 128, 256));
}

#[test]
fn indirect_tables_that_may_not_be_are_refused() {
    let refused = |length: u32, flags: u16, allowed: bool| {
        let (mut memory, mut queue) = parts(8);
        queue.indirect = allowed;
        describe(&mut memory, DESCRIPTORS, 0, (0x8000, length), INDIRECT | flags, 1);
        describe(&mut memory, 0x8000, 0, (0x9000, 16), 0, 0);
        make_available(&mut memory, &mut queue, 0);
        queue.pop(&mut memory).is_err_and(|error| error == QueueError::Indirect)
    };
    assert!(!refused(16, 0, true));
    assert!(refused(16, 0, false), "not agreed upon");
    assert!(refused(0, 0, true) && refused(17, 0, true) && refused(9 * 16, 0, true) && refused(!15, 0, true));
    assert!(refused(16, NEXT, true), "with a next one");
    let (mut memory, mut queue) = parts(8);
    describe(&mut memory, DESCRIPTORS, 0, (0x8000, 32), INDIRECT, 0);
    describe(&mut memory, 0x8000, 0, (0x8000, 32), INDIRECT, 0);
    make_available(&mut memory, &mut queue, 0);
    assert_eq!(error(&mut memory, &mut queue), QueueError::Indirect, "in an indirect table");
}

#[test]
fn buffers_outside_of_the_memory_are_refused() {
    for buffer in [(MEMORY, 1), (MEMORY - 1, 2), (u64::MAX, 1), (u64::MAX - 1, u32::MAX), (0, u32::MAX)] {
        let (mut memory, mut queue) = parts(8);
        describe(&mut memory, DESCRIPTORS, 0, buffer, WRITE, 0);
        make_available(&mut memory, &mut queue, 0);
        assert!(matches!(error(&mut memory, &mut queue), QueueError::Memory(_)), "{buffer:x?}");
        describe(&mut memory, DESCRIPTORS, 0, (buffer.0, 16), INDIRECT, 0);
        make_available(&mut memory, &mut queue, 0);
        assert!(buffer.0 == 0 || matches!(error(&mut memory, &mut queue), QueueError::Memory(_)), "{buffer:x?}");
    }
}

#[test]
fn queues_outside_of_the_memory_or_not_aligned_are_refused() {
    for address in [MEMORY, MEMORY - 16, !0xf] {
        for part in 0..3 {
            let (mut memory, mut queue) = parts(8);
            offer(&mut memory, &mut queue, 7, &[(0x8000, 1, 0)]);
            queue.event_index = true;
            *[&mut queue.descriptors, &mut queue.available, &mut queue.used][part] = address;
            let popped = queue.pop(&mut memory).and_then(|_| queue.pop(&mut memory)).map(|_| ());
            let pushed = queue.push(&mut memory, 7, 0);
            assert!(popped.is_err() || pushed.is_err() || address == MEMORY - 16, "{address:x} {part}");
        }
    }
    for part in 0..3 {
        let (mut memory, mut queue) = parts(8);
        *[&mut queue.descriptors, &mut queue.available, &mut queue.used][part] += 1;
        assert_eq!(error(&mut memory, &mut queue), QueueError::Misaligned);
    }
}

#[test]
fn indices_that_are_none_are_refused() {
    let (mut memory, mut queue) = parts(8);
    make_available(&mut memory, &mut queue, 8);
    assert_eq!(error(&mut memory, &mut queue), QueueError::NoDescriptor { index: 8 });
    describe(&mut memory, DESCRIPTORS, 0, (0x8000, 1), NEXT, 0xffff);
    make_available(&mut memory, &mut queue, 0);
    assert_eq!(error(&mut memory, &mut queue), QueueError::NoDescriptor { index: 0xffff });
    memory.write_u16(AVAILABLE + 2, 11).unwrap();
    assert_eq!(error(&mut memory, &mut queue), QueueError::TooMuchAvailable { available: 9 });
    memory.write_u16(AVAILABLE + 2, 0).unwrap();
    assert_eq!(error(&mut memory, &mut queue), QueueError::TooMuchAvailable { available: 0xfffe });
}

#[test]
fn what_is_read_does_not_follow_what_is_written() {
    let (mut memory, mut queue) = parts(8);
    offer(&mut memory, &mut queue, 0, &[(0x8000, 1, WRITE), (0x8000, 1, 0)]);
    assert_eq!(error(&mut memory, &mut queue), QueueError::Order);
}

#[test]
fn a_driver_is_told_when_it_wants_to_be() {
    let (mut memory, mut queue) = parts(8);
    assert_eq!(queue.needs_interrupt(&memory), Ok(false), "nothing is new");
    memory.write_u16(AVAILABLE, 1).unwrap();
    queue.push(&mut memory, 0, 0).unwrap();
    assert_eq!(queue.needs_interrupt(&memory), Ok(false));
    memory.write_u16(AVAILABLE, 0).unwrap();
    queue.push(&mut memory, 0, 0).unwrap();
    assert_eq!(queue.needs_interrupt(&memory), Ok(true));
    assert_eq!(queue.needs_interrupt(&memory), Ok(false), "it has been told");
    queue.event_index = true;
    let mut tells = |wanted: u16, pushes: usize| {
        memory.write_u16(AVAILABLE + 4 + 8 * 2, wanted).unwrap();
        (0..pushes).for_each(|_| queue.push(&mut memory, 0, 0).unwrap());
        queue.needs_interrupt(&memory).unwrap()
    };
    assert!(!tells(3, 1), "2 is used, 3 is waited for");
    assert!(tells(3, 1));
    assert!(!tells(3, 1));
    assert!(tells(6, 3));
    // And it says itself when it wants to be told: when something is made available behind what it has seen.
    offer(&mut memory, &mut queue, 0, &[(0x8000, 1, 0)]);
    queue.pop(&mut memory).unwrap();
    queue.pop(&mut memory).unwrap();
    assert_eq!(memory.read_u16(USED + 4 + 8 * 8), Ok(1));
}

#[test]
fn segments_are_cut_read_and_written() {
    let (mut memory, _) = parts(8);
    let segments = [Segment { address: 0x8000, length: 3 }, Segment { address: 0x9000, length: 4 }];
    assert_eq!(write(&segments, 0, &mut memory, &[1, 2, 9, 9, 9]), Ok(5));
    assert_eq!(write(&segments, 2, &mut memory, &[3, 4, 5]), Ok(3));
    assert_eq!(write(&segments[..1], 0, &mut memory, &[1, 2, 3, 4, 5]), Ok(3));
    assert_eq!(write(&segments, 7, &mut memory, &[1]), Ok(0));
    let mut bytes = [0; 8];
    assert_eq!(read(&segments, 2, &memory, &mut bytes), Ok(5));
    assert_eq!(bytes, [3, 4, 5, 0, 0, 0, 0, 0]);
    let parts: std::vec::Vec<_> = cut(&segments, 1, 4).map(|part| (part.address, part.length)).collect();
    assert_eq!(parts, [(0x8001, 2), (0x9000, 1)]);
}

#[test]
fn what_was_saved_is_restored_and_what_cannot_be_is_refused() {
    let saved = Queue { next_available: 5, next_used: 4, told: 3, event_index: true, ..queue(16, 0x40) };
    let mut bytes = [0; 64];
    let mut writer = Writer::new(&mut bytes);
    saved.save(&mut writer).unwrap();
    let length = writer.length();
    let mut restored = Queue::new();
    restored.restore(&mut Reader::new(&bytes[..length])).unwrap();
    assert_eq!(restored, saved);
    for length in 0..length {
        assert!(Queue::new().restore(&mut Reader::new(&bytes[..length])).is_err());
    }
    for (offset, value) in [(0, 0), (0, 3), (1, 1), (26, 2)] {
        let mut impossible = bytes;
        impossible[offset] = value;
        let refused = Queue::new().restore(&mut Reader::new(&impossible));
        assert!(matches!(refused, Err(StateError::Impossible { .. })), "{offset}");
    }
}
