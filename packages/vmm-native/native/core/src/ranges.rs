//! Which addresses are nobody's: ranges are taken and given back.

use core::ops::Range;

/// Most free ranges: one behind each guest that there can be, and the rest.
const MAX_RANGES: usize = 8;

/// Free addresses, as ranges that do not touch each other; empty ones have no meaning.
#[derive(Debug)]
pub struct Ranges([Range<u64>; MAX_RANGES]);

impl Ranges {
    /// All of a range.
    pub fn new(range: Range<u64>) -> Ranges {
        let mut ranges = [const { 0..0 }; MAX_RANGES];
        ranges[0] = range;
        Ranges(ranges)
    }

    /// The largest free range has as many addresses.
    pub fn largest(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).max().unwrap_or(0)
    }

    /// Takes a range, of the smallest that is large enough; its size is what all sizes are multiples of.
    pub fn take(&mut self, size: u64) -> Option<Range<u64>> {
        let fits = |range: &&mut Range<u64>| range.end - range.start >= size;
        let range = self.0.iter_mut().filter(fits).min_by_key(|range| range.end - range.start)?;
        let taken = range.start..range.start + size;
        range.start = taken.end;
        Some(taken)
    }

    /// Gives back what has been taken. There is a place for it as long as there are fewer taken ranges than places.
    pub fn give_back(&mut self, mut range: Range<u64>) {
        for free in self.0.iter_mut().filter(|free| !free.is_empty()) {
            if free.end == range.start {
                range.start = free.start;
            } else if free.start == range.end {
                range.end = free.end;
            } else {
                continue;
            }
            *free = 0..0;
        }
        if let Some(place) = self.0.iter_mut().find(|free| free.is_empty()) {
            *place = range;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_one_again() {
        for order in [[0, 1, 2], [2, 1, 0], [0, 2, 1], [1, 0, 2]] {
            let mut ranges = Ranges::new(10..40);
            let taken = [(); 3].map(|()| ranges.take(10).unwrap());
            assert_eq!((ranges.largest(), ranges.take(1)), (0, None));
            for index in order {
                ranges.give_back(taken[index].clone());
            }
            assert_eq!(ranges.take(30), Some(10..40));
        }
    }

    #[test]
    fn the_smallest_that_is_large_enough_is_taken() {
        let mut ranges = Ranges::new(0..100);
        let [first, _, third, _] = [10, 1, 5, 1].map(|size| ranges.take(size).unwrap());
        ranges.give_back(first.clone());
        ranges.give_back(third.clone());
        assert_eq!(ranges.take(5), Some(third));
        assert_eq!(ranges.take(6), Some(0..6));
        assert_eq!(ranges.largest(), 83);
    }
}
