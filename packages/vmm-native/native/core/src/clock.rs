//! The paravirtual clock of KVM, from which Linux learns the frequency of the time stamp counter and the time (Linux,
//! Documentation/virt/kvm/x86/msr.rst and arch/x86/include/asm/pvclock-abi.h).

use crate::state::{Reader, StateError, Writer};

const NANOSECONDS: u64 = 1_000_000_000;

/// Time as a guest has it: nanoseconds since it began, by a time stamp counter of constant frequency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    began: u64,
    frequency: u64,
    multiplier: u32,
    shift: i8,
    /// Seconds since 1970 at the beginning.
    epoch_seconds: u32,
}

impl Clock {
    /// A clock that begins at a value of a counter with `frequency` ticks a second, not 0.
    pub fn new(began: u64, frequency: u64, epoch_seconds: u32) -> Clock {
        // Nanoseconds are ticks, shifted, times the multiplier, over 2^32: the multiplier is to be below 2^32.
        let (mut shift, mut shifted) = (0, frequency);
        while shifted <= NANOSECONDS {
            shifted <<= 1;
            shift += 1;
        }
        while shifted > 2 * NANOSECONDS {
            shifted >>= 1;
            shift -= 1;
        }
        let multiplier = ((u128::from(NANOSECONDS) << 32) / u128::from(shifted)) as u32;
        Clock { began, frequency, multiplier, shift, epoch_seconds }
    }

    /// Saves what it shows at a value of the counter.
    pub fn save(&self, now: u64, state: &mut Writer) -> Result<(), StateError> {
        [now.wrapping_sub(self.began), self.frequency].into_iter().try_for_each(|number| state.number::<8>(number))?;
        state.number::<4>(self.epoch_seconds.into())
    }

    /// Goes on where another one was saved, as if no time had passed since. The counter here has to have about the same
    /// frequency: guests have measured it.
    pub fn restore(&mut self, now: u64, state: &mut Reader) -> Result<(), StateError> {
        let began = now.wrapping_sub(state.number::<8>()?);
        let (saved, here) = (state.number::<8>()?, self.frequency);
        if saved.abs_diff(here) > here / 16 {
            return Err(StateError::Frequency { saved, here });
        }
        *self = Clock::new(began, saved, state.number::<4>()? as u32);
        Ok(())
    }

    /// Ticks of the time stamp counter in a number of microseconds.
    pub fn ticks(&self, microseconds: u64) -> u64 {
        (u128::from(self.frequency) * u128::from(microseconds) / 1_000_000) as u64
    }

    /// `struct pvclock_vcpu_time_info` as of `now`, for a guest whose counter is ahead by `offset`.
    pub fn system_time(&self, now: u64, offset: u64) -> [u8; 32] {
        const VERSION: u32 = 2;
        const TSC_STABLE: u8 = 1 << 0;
        let nanoseconds =
            (u128::from(now.wrapping_sub(self.began)) * u128::from(NANOSECONDS) / u128::from(self.frequency)) as u64;
        let mut info = [0; 32];
        info[0..4].copy_from_slice(&VERSION.to_le_bytes());
        info[8..16].copy_from_slice(&now.wrapping_add(offset).to_le_bytes());
        info[16..24].copy_from_slice(&nanoseconds.to_le_bytes());
        info[24..28].copy_from_slice(&self.multiplier.to_le_bytes());
        info[28] = self.shift as u8;
        info[29] = TSC_STABLE;
        info
    }

    /// `struct pvclock_wall_clock`: the time of day when [`Clock::system_time`] was 0.
    pub fn wall_clock(&self) -> [u8; 12] {
        const VERSION: u32 = 2;
        let mut info = [0; 12];
        info[0..4].copy_from_slice(&VERSION.to_le_bytes());
        info[4..8].copy_from_slice(&self.epoch_seconds.to_le_bytes());
        info
    }
}

/// Seconds from the beginning of 1970 to a date (year, month, day) and a time (hour, minute, second); `None` when there
/// is no such date or time, or none that 32 bits hold.
pub fn seconds_since_1970([year, month, day]: [u32; 3], [hour, minute, second]: [u32; 3]) -> Option<u32> {
    let in_range = (1970..2100).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !in_range || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // A year begins in March here, so that the day that a leap year has more is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    /// Days from March 1968, which begins four years with one such day at their end, to January 1970.
    const MARCH_1968_TO_1970: u32 = 671;
    let days = (year - 1968) * 1461 / 4 + (month * 153 + 2) / 5 + day - 1 - MARCH_1968_TO_1970;
    days.checked_mul(86_400)?.checked_add(hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::testing::round_trip;

    /// What Linux computes (pvclock_scale_delta).
    fn guest_nanoseconds(info: &[u8; 32], now: u64) -> u64 {
        let field = |at: usize| u64::from_le_bytes(*info[at..].first_chunk().unwrap());
        let delta = now - field(8);
        let shift = info[28] as i8;
        let delta = if shift < 0 { delta >> -shift } else { delta << shift };
        field(16) + ((u128::from(delta) * u128::from(field(24) as u32)) >> 32) as u64
    }

    #[test]
    fn guests_compute_the_right_time_at_any_frequency() {
        for frequency in
            [3_579_545, 100_000_000, 999_999_999, 1_000_000_000, 1_000_000_001, 2_249_998_000, 6_000_000_000]
        {
            let clock = Clock::new(5_000, frequency, 0);
            let later = 5_000 + 10 * frequency;
            let info = clock.system_time(later, 0);
            let hour = guest_nanoseconds(&info, later + 3600 * frequency);
            assert!(hour.abs_diff(3610 * NANOSECONDS) < 20_000, "{frequency}: {hour}");
        }
    }

    #[test]
    fn ticks_are_those_of_the_frequency() {
        assert_eq!(Clock::new(0, 2_500_000_000, 0).ticks(200), 500_000);
    }

    // date -u -d '2026-11-22 13:09:07' +%s, of GNU coreutils 9.1.
    #[test]
    fn dates_are_seconds_since_1970() {
        assert_eq!(seconds_since_1970([1970, 1, 1], [0, 0, 0]), Some(0));
        assert_eq!(seconds_since_1970([2000, 2, 29], [23, 59, 59]), Some(951_868_799));
        assert_eq!(seconds_since_1970([2000, 3, 1], [0, 0, 0]), Some(951_868_800));
        assert_eq!(seconds_since_1970([2026, 11, 22], [13, 9, 7]), Some(1_795_352_947));
        assert_eq!(seconds_since_1970([2099, 12, 31], [23, 59, 59]), Some(4_102_444_799));
        for ([year, month, day], time) in [([1969, 1, 1], [0; 3]), ([2026, 0, 1], [0; 3]), ([2026, 1, 1], [24, 0, 0])] {
            assert_eq!(seconds_since_1970([year, month, day], time), None);
        }
    }

    #[test]
    fn the_wall_clock_says_when_time_began() {
        let clock = Clock::new(0, 1, 0x0102_0304);
        assert_eq!(clock.wall_clock(), [2, 0, 0, 0, 4, 3, 2, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn a_clock_goes_on_as_if_no_time_had_passed() {
        let mut saved = Clock::new(5_000_000_000, 2_000_000_000, 7);
        // The counter here is younger than the guest.
        let make = || Clock::new(900, 2_010_000_000, 8);
        let mut bytes = [0; 20];
        saved.save(9_000_000_000, &mut Writer::new(&mut bytes)).unwrap();
        let mut restored = make();
        restored.restore(1_000, &mut Reader::new(&bytes)).unwrap();
        let nanoseconds = |info: [u8; 32]| u64::from_le_bytes(info[16..24].try_into().unwrap());
        assert_eq!(nanoseconds(restored.system_time(1_000, 0)), 2_000_000_000);
        assert_eq!(nanoseconds(restored.system_time(1_000 + 2_000_000, 0)), 2_001_000_000);
        assert_eq!(restored.wall_clock(), saved.wall_clock());
        let refused = Clock::new(0, 3_000_000_000, 0).restore(0, &mut Reader::new(&bytes));
        assert_eq!(refused, Err(StateError::Frequency { saved: 2_000_000_000, here: 3_000_000_000 }));
        round_trip(&mut saved, make, |clock, state| clock.save(1, state), |clock, state| clock.restore(1, state));
    }
}
