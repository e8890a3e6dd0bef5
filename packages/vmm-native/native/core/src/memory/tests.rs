use super::*;
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

#[test]
fn what_is_written_is_read() {
    let mut memory = leaked(16);
    memory.write(3, &[1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap();
    let mut bytes = [0; 4];
    memory.read(2, &mut bytes).unwrap();
    assert_eq!(bytes, [0, 1, 2, 3]);
    assert_eq!(memory.read_u64(3), Ok(0x0807_0605_0403_0201));
    assert_eq!(memory.read_u64(8), Ok(0x0000_0000_0908_0706));
    memory.write_u16(6, 0x1122).unwrap();
    memory.write_u16(1, 0x3344).unwrap();
    assert_eq!([memory.read_u16(6), memory.read_u16(1), memory.read_u16(0)], [Ok(0x1122), Ok(0x3344), Ok(0x4400)]);
}

#[test]
fn a_number_is_replaced_if_it_is_still_there() {
    let mut memory = leaked(16);
    memory.write(8, &7_u64.to_le_bytes()).unwrap();
    assert_eq!(memory.replace(8, 8, 6, 9), Ok(false));
    assert_eq!(memory.replace(8, 8, 7, 9), Ok(true));
    assert_eq!(memory.replace(12, 4, 0, 1), Ok(true));
    assert_eq!(memory.replace(9, 4, 0, 1), Ok(false));
    assert_eq!((memory.read_number(8, 8), memory.read_number(12, 4)), (Ok(0x1_0000_0009), Ok(1)));
    assert_eq!(memory.replace(12, 8, 0, 1), Err(OutOfMemory { address: 12, length: 8 }));
}

#[test]
fn nothing_outside_is_touched() {
    let mut memory = leaked(16);
    for (address, length) in [(16, 1), (15, 2), (u64::MAX, 1), (u64::MAX - 7, 16), (0, 17)] {
        let mut bytes = std::vec![0; length];
        let refused = Err(OutOfMemory { address, length: length as u64 });
        assert_eq!(memory.read(address, &mut bytes), refused);
        assert_eq!(memory.write(address, &bytes), refused);
    }
    assert_eq!(memory.read(16, &mut []), Ok(()));
    assert_eq!(memory.read_u64(9), Err(OutOfMemory { address: 9, length: 8 }));
    assert_eq!(memory.read_u16(15), Err(OutOfMemory { address: 15, length: 2 }));
    assert_eq!(memory.write_u16(u64::MAX, 0), Err(OutOfMemory { address: u64::MAX, length: 2 }));
}

/// A machine with some blocks for guests.
fn machine(blocks: usize) -> &'static Blocks {
    let words = vec![0_u64; (blocks + 1) * (BLOCK / 8) as usize].leak();
    let start = (words.as_ptr().addr() as u64).next_multiple_of(BLOCK);
    Box::leak(Box::new(Blocks::new(start..start + blocks as u64 * BLOCK)))
}

fn tables(blocks: &'static Blocks) -> NestedPageTables<GuestFrames> {
    // SAFETY: leaked, and nothing refers to it any more.
    NestedPageTables::new(unsafe { GuestFrames::new(blocks) }).unwrap()
}

fn contents(memory: &GuestMemory) -> Vec<u8> {
    let mut bytes = vec![0; memory.size() as usize];
    memory.read(0, &mut bytes).unwrap();
    bytes
}

/// Host physical addresses of the pages that a guest can write to without asking.
fn own_pages(memory: &GuestMemory) -> Vec<u64> {
    let Place::Mapped(tables) = &memory.place else { return Vec::new() };
    let pages = (0..memory.size()).step_by(PAGE as usize).map(|page| tables.translate(page).unwrap());
    pages.filter(|page| page.access == Access::Full).map(|page| page.address).collect()
}

const SIZE: u64 = BLOCK + 3 * PAGE;

#[test]
fn a_fork_takes_no_memory_but_for_what_is_written() {
    let blocks = machine(8);
    let mut parent = GuestMemory::of_blocks(tables(blocks), SIZE).unwrap();
    parent.write(BLOCK - 2, b"over").unwrap();
    assert_eq!(own_pages(&parent).len(), 515);
    let left = blocks.left();
    let mut child = parent.fork(tables(blocks)).unwrap();
    assert_eq!((left - blocks.left(), own_pages(&parent).len(), own_pages(&child).len()), (BLOCK, 0, 0));
    child.write(BLOCK - 1, b"XY").unwrap();
    assert_eq!(
        (contents(&parent)[(BLOCK - 2) as usize..][..4].to_vec(), own_pages(&child).len()),
        (b"over".to_vec(), 2)
    );
    assert_eq!(contents(&child)[(BLOCK - 2) as usize..][..4], *b"oXYr");
    assert_eq!((parent.changes(), child.changes()), (1, 2));
    // Who is left alone has everything, without copies.
    drop(child);
    let before = blocks.left();
    assert!(parent.own(0) && parent.own(BLOCK) && !parent.own(SIZE));
    assert_eq!((own_pages(&parent).len(), blocks.left()), (513, before));
    drop(parent);
    assert_eq!(blocks.left(), 8 * BLOCK);
}

#[test]
fn devices_of_the_host_write_to_no_page_of_others() {
    let blocks = machine(8);
    let mut parent = GuestMemory::of_blocks(tables(blocks), SIZE).unwrap();
    let mut child = parent.fork(tables(blocks)).unwrap();
    let (shared, length) = parent.host_range(PAGE - 8, 100, false).unwrap();
    assert_eq!((child.host_range(PAGE - 8, 100, false), length), (Ok((shared, 8)), 8));
    let (own, _) = child.host_range(PAGE - 8, 100, true).unwrap();
    assert_ne!(own, shared);
    assert_eq!(parent.host_range(PAGE - 8, 100, false), Ok((shared, 8)));
    assert_eq!(parent.host_range(SIZE - 4, 8, true), Err(OutOfMemory { address: SIZE - 4, length: 8 }));
    assert_eq!(child.replace(PAGE - 8, 8, 0, 7), Ok(true));
    assert_eq!((parent.read_u64(PAGE - 8), child.read_u64(PAGE - 8)), (Ok(0), Ok(7)));
}

#[test]
fn without_memory_for_a_copy_nothing_is_written() {
    let blocks = machine(4);
    let mut parent = GuestMemory::of_blocks(tables(blocks), SIZE).unwrap();
    let mut child = parent.fork(tables(blocks)).unwrap();
    assert_eq!((blocks.left(), parent.is_short()), (0, false));
    let mut written = 0;
    while child.write(written, &[1]).is_ok() {
        written += PAGE;
    }
    assert!(child.is_short() && written > 100 * PAGE, "{written}");
    assert!(contents(&parent).iter().all(|byte| *byte == 0));
    assert_eq!(contents(&child).iter().filter(|byte| **byte == 1).count() as u64, written / PAGE);
    assert!(parent.fork(tables_of_nothing(blocks)).is_none());
    drop(child);
    parent.write(0, &[2]).unwrap();
    assert!(!parent.is_short());
}

/// Tables that have a root, and no frame beside it.
fn tables_of_nothing(blocks: &'static Blocks) -> NestedPageTables<GuestFrames> {
    let page = std::vec![0_u64; 1024].leak();
    let start = (page.as_ptr().addr() as u64).next_multiple_of(PAGE);
    // SAFETY: leaked, and nothing refers to it any more.
    let mut frames = unsafe { GuestFrames::new(blocks) };
    frames.begin_with(start..start + PAGE);
    NestedPageTables::new(frames).unwrap()
}

#[test]
fn what_one_writes_no_other_sees_whatever_they_do() {
    const MACHINE: usize = 40;
    let blocks = machine(MACHINE);
    let mut state = 1_u64;
    let mut random = move |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let mut guests: Vec<(GuestMemory, Vec<u8>)> = Vec::new();
    for step in 0..4000 {
        if guests.is_empty() {
            guests.push((GuestMemory::of_blocks(tables(blocks), SIZE).unwrap(), vec![0; SIZE as usize]));
        }
        let index = random(guests.len() as u64) as usize;
        let count = guests.len();
        let (memory, model) = &mut guests[index];
        match random(100) {
            0..4 if count < 8 => {
                let forked = (memory.fork(tables(blocks)).unwrap(), model.clone());
                guests.push(forked);
            }
            4..6 => drop(guests.swap_remove(index)),
            choice => {
                let length = random(2 * PAGE).min(if choice < 50 { 16 } else { u64::MAX });
                let at = random(SIZE - length);
                let bytes: Vec<u8> = (0..length).map(|_| random(256) as u8).collect();
                memory.write(at, &bytes).unwrap();
                model[at as usize..][..bytes.len()].copy_from_slice(&bytes);
            }
        }
        if step % 200 == 0 {
            let mut own: Vec<u64> = guests.iter().flat_map(|(memory, _)| own_pages(memory)).collect();
            let count = own.len();
            own.sort_unstable();
            own.dedup();
            assert_eq!(own.len(), count, "no page can be written to by two (step {step})");
            assert!(guests.iter().all(|(memory, model)| contents(memory) == *model), "step {step}");
        }
    }
    guests.clear();
    assert_eq!(blocks.left(), MACHINE as u64 * BLOCK);
    for number in 0..MACHINE {
        let start = blocks.address(number);
        // SAFETY: memory of this machine, which is leaked.
        assert!((start..start + BLOCK).step_by(8).all(|at| unsafe { (at as *const u64).read_volatile() } == 0));
    }
}
