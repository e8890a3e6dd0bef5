//! The machine's memory in blocks, each of which several guests can have; one that nobody has is zero.

use core::ops::Range;
use core::sync::atomic::{AtomicU8, Ordering};

/// Bytes of a block, which is as large as a large page.
pub const BLOCK: u64 = 2 << 20;
/// Most of them: 4 GiB.
pub const BLOCKS: usize = 2048;
/// Users of a block that does not exist.
const NONE: u8 = u8::MAX;

/// How many guests have each block.
#[derive(Debug)]
pub struct Blocks {
    first: u64,
    users: [AtomicU8; BLOCKS],
}

impl Blocks {
    /// Those in a range of host physical addresses, as nobody's.
    pub fn new(range: Range<u64>) -> Blocks {
        let first = range.start.next_multiple_of(BLOCK);
        let blocks = Blocks { first, users: [const { AtomicU8::new(NONE) }; BLOCKS] };
        let count = range.end.saturating_sub(first) / BLOCK;
        blocks.users.iter().take(count as usize).for_each(|users| users.store(0, Ordering::Relaxed));
        blocks
    }

    /// Address of a block.
    pub fn address(&self, number: usize) -> u64 {
        self.first + number as u64 * BLOCK
    }

    /// Number of the block that an address is in.
    pub fn number(&self, address: u64) -> usize {
        ((address - self.first) / BLOCK) as usize
    }

    /// How many bytes nobody has.
    pub fn left(&self) -> u64 {
        self.users.iter().filter(|users| users.load(Ordering::Relaxed) == 0).count() as u64 * BLOCK
    }

    /// Number of a block that nobody has had, for its first user.
    pub fn take(&self) -> Option<usize> {
        let first = |users: &AtomicU8| users.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok();
        self.users.iter().position(first)
    }

    /// One more has a block.
    pub fn share(&self, number: usize) {
        self.users[number].fetch_add(1, Ordering::Relaxed);
    }

    /// Whether several have it.
    pub fn is_shared(&self, number: usize) -> bool {
        self.users[number].load(Ordering::Acquire) > 1
    }

    /// One fewer has it; the last one makes it zero.
    pub fn leave(&self, number: usize, clear: impl FnOnce()) {
        if !self.is_shared(number) {
            clear();
        }
        self.users[number].fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_leaves_last_clears() {
        let blocks = Blocks::new(BLOCK + 1..4 * BLOCK + 1);
        assert_eq!((blocks.left(), blocks.take(), blocks.take(), blocks.take()), (2 * BLOCK, Some(0), Some(1), None));
        assert_eq!((blocks.address(1), blocks.number(3 * BLOCK + 5)), (3 * BLOCK, 1));
        blocks.share(0);
        assert!(blocks.is_shared(0) && !blocks.is_shared(1));
        blocks.leave(0, || panic!("somebody has it"));
        let mut cleared = false;
        blocks.leave(0, || cleared = true);
        assert_eq!((cleared, blocks.left(), blocks.take()), (true, BLOCK, Some(0)));
        assert_eq!(Blocks::new(0..0).take(), None);
    }
}
