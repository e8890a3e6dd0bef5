//! What processors of a guest tell each other: interrupts and signals that wait until the addressee looks.
//!
//! Anybody posts at any time, from any processor of the host; one reads.

use core::sync::atomic::{AtomicU32, Ordering};

const STARTUP_VECTOR: u32 = 0xff;
const STARTUP: u32 = 1 << 8;
const INIT: u32 = 1 << 9;
const NMI: u32 = 1 << 10;

/// A processor's mail.
#[derive(Debug, Default)]
pub struct Mailbox {
    edges: [AtomicU32; 8],
    levels: [AtomicU32; 8],
    signals: AtomicU32,
}

/// Signals that are no interrupts of the local APIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// Back to the state after a reset; comes before the others.
    pub init: bool,
    /// Start in real mode, at this page.
    pub startup: Option<u8>,
    /// A non-maskable interrupt.
    pub nmi: bool,
}

impl Mailbox {
    /// An empty one.
    pub const fn new() -> Mailbox {
        Mailbox {
            edges: [const { AtomicU32::new(0) }; 8],
            levels: [const { AtomicU32::new(0) }; 8],
            signals: AtomicU32::new(0),
        }
    }

    /// Posts an interrupt.
    pub fn post_interrupt(&self, vector: u8, level: bool) {
        let words = if level { &self.levels } else { &self.edges };
        words[usize::from(vector) / 32].fetch_or(1 << (vector % 32), Ordering::Release);
    }

    /// Posts a non-maskable interrupt.
    pub fn post_nmi(&self) {
        self.signals.fetch_or(NMI, Ordering::Release);
    }

    /// Posts INIT, which takes back a startup that has not been looked at.
    pub fn post_init(&self) {
        self.change_signals(|signals| signals & !(STARTUP | STARTUP_VECTOR) | INIT);
    }

    /// Posts a startup.
    pub fn post_startup(&self, vector: u8) {
        self.change_signals(|signals| signals & !STARTUP_VECTOR | STARTUP | u32::from(vector));
    }

    /// Takes the signals out.
    pub fn take_signals(&self) -> Signals {
        let signals = self.signals.swap(0, Ordering::Acquire);
        Signals {
            init: signals & INIT != 0,
            startup: (signals & STARTUP != 0).then_some((signals & STARTUP_VECTOR) as u8),
            nmi: signals & NMI != 0,
        }
    }

    /// Takes the interrupts out: vectors, and whether each is a level.
    pub fn take_interrupts(&self, mut take: impl FnMut(u8, bool)) {
        for (words, level) in [(&self.edges, false), (&self.levels, true)] {
            for (index, word) in words.iter().enumerate() {
                let mut bits = word.swap(0, Ordering::Acquire);
                while bits != 0 {
                    take((index * 32) as u8 + bits.trailing_zeros() as u8, level);
                    bits &= bits - 1;
                }
            }
        }
    }

    /// Takes everything back.
    pub fn clear(&self) {
        self.take_signals();
        self.take_interrupts(|_, _| ());
    }

    fn change_signals(&self, change: impl Fn(u32) -> u32) {
        let mut old = self.signals.load(Ordering::Relaxed);
        while let Err(now) = self.signals.compare_exchange_weak(old, change(old), Ordering::Release, Ordering::Relaxed)
        {
            old = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn interrupts_are_taken_once() {
        let mailbox = Mailbox::new();
        for (vector, level) in [(0x31, false), (0xff, true), (0x31, false), (0x20, false)] {
            mailbox.post_interrupt(vector, level);
        }
        let take = || {
            let mut taken = Vec::new();
            mailbox.take_interrupts(|vector, level| taken.push((vector, level)));
            taken
        };
        assert_eq!(take(), [(0x20, false), (0x31, false), (0xff, true)]);
        assert_eq!(take(), []);
    }

    #[test]
    fn init_takes_back_a_startup_and_a_startup_does_not_take_back_init() {
        let mailbox = Mailbox::new();
        mailbox.post_startup(0x9a);
        mailbox.post_init();
        assert_eq!(mailbox.take_signals(), Signals { init: true, ..Signals::default() });
        mailbox.post_init();
        mailbox.post_startup(0x9a);
        mailbox.post_nmi();
        mailbox.post_startup(0x9b);
        assert_eq!(mailbox.take_signals(), Signals { init: true, startup: Some(0x9b), nmi: true });
        assert_eq!(mailbox.take_signals(), Signals::default());
    }
}
