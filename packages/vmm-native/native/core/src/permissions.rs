//! The maps that say which ports and model-specific registers make a guest exit. Both begin with everything exiting.

/// Which ports exit: one bit for each of 64 Ki ports, and three more for accesses that run over the end (15.10.1).
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct IoPermissionMap([u8; 12 * 1024]);

impl IoPermissionMap {
    /// Every port exits.
    pub const ALL_EXIT: IoPermissionMap = IoPermissionMap([0xff; 12 * 1024]);
}

/// Which accesses to model-specific registers exit: two bits for each of the 24 Ki registers that have any; all others
/// always exit (15.11).
#[derive(Clone, Debug)]
#[repr(C, align(4096))]
pub struct MsrPermissionMap([u8; 8 * 1024]);

/// First registers of the ranges that the map has bits for; each is 8 Ki registers long, and 2 KiB in the map.
const MSR_RANGES: [u32; 3] = [0x0000_0000, 0xc000_0000, 0xc001_0000];

impl MsrPermissionMap {
    /// Every register exits, read or written.
    pub const ALL_EXIT: MsrPermissionMap = MsrPermissionMap([0xff; 8 * 1024]);

    /// Lets the guest read and write a register without an exit.
    ///
    /// # Panics
    ///
    /// When the map has no bits for the register.
    pub const fn pass_through(mut self, msr: u32) -> MsrPermissionMap {
        let mut range = 0;
        while range < MSR_RANGES.len() {
            let index = msr.wrapping_sub(MSR_RANGES[range]) as usize;
            if index < 8192 {
                self.0[range * 2048 + index / 4] &= !(0b11 << (index % 4 * 2));
                return self;
            }
            range += 1;
        }
        panic!("a register without bits in the map");
    }

    /// Whether an access exits.
    pub fn exits(&self, msr: u32, write: bool) -> bool {
        let found = MSR_RANGES.iter().zip(0..).find(|(first, _)| msr.wrapping_sub(**first) < 8192);
        found.is_none_or(|(first, range)| {
            let index = (msr - first) as usize;
            self.0[range * 2048 + index / 4] >> (index % 4 * 2 + usize::from(write)) & 1 != 0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_through_does_not_exit() {
        const MAP: MsrPermissionMap = MsrPermissionMap::ALL_EXIT.pass_through(0x174).pass_through(0xc000_0082);
        for msr in (0..0x3000).chain(0xbfff_f000..0xc001_3000).chain([u32::MAX]) {
            let passes = msr == 0x174 || msr == 0xc000_0082;
            assert_eq!((MAP.exits(msr, false), MAP.exits(msr, true)), (!passes, !passes), "{msr:#x}");
        }
        // 15.11: the second range from 0x800 on, two bits a register.
        assert_eq!(MAP.0[0x800 + 0x82 / 4], 0b1100_1111);
        assert_eq!(MAP.0.iter().filter(|byte| **byte != 0xff).count(), 2);
    }

    #[test]
    #[should_panic(expected = "without bits")]
    fn a_register_without_bits_cannot_pass() {
        let _ = MsrPermissionMap::ALL_EXIT.pass_through(0x4b56_4d00);
    }
}
