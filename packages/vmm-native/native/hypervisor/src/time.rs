//! How fast the time stamp counter and the APIC's timer run, by the HPET (IA-PC HPET specification 1.0a, 2.3).
//!
//! Only pairs of readings are used that were taken right after each other, so a processor that stands still for a while
//! between two pairs changes nothing.

use crate::apic::Apic;
use core::arch::x86_64::_rdtsc;

const BASE: usize = 0xfed0_0000;
const CAPABILITIES: usize = 0x000;
const CONFIGURATION: usize = 0x010;
const COUNTER: usize = 0x0f0;

const ENABLE: u64 = 1 << 0;
/// Femtoseconds in a second.
const FEMTOSECONDS: u64 = 1_000_000_000_000_000;
/// Longest period that the specification allows, in femtoseconds.
const MAX_PERIOD: u64 = 100_000_000;
const MEASURED_SECONDS: f64 = 0.01;
/// How often a pair of readings is tried, of which the closest counts.
const TRIES: usize = 16;

/// Frequencies, in ticks a second.
#[derive(Clone, Copy, Debug)]
pub struct Frequencies {
    /// Time stamp counter.
    pub tsc: u64,
    /// Timer of the local APIC.
    pub apic: u64,
}

impl Frequencies {
    /// Ticks of the timer in a number of ticks of the time stamp counter.
    pub fn apic_ticks(self, tsc_ticks: u64) -> u32 {
        (u128::from(tsc_ticks) * u128::from(self.apic) / u128::from(self.tsc)) as u32
    }
}

/// The time stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: every processor in long mode has it.
    unsafe { _rdtsc() }
}

#[derive(Clone, Copy)]
struct Reading {
    hpet: u64,
    tsc: u64,
    apic: u32,
}

/// Measures; `None` on a machine without an HPET.
pub fn measure(apic: &mut Apic) -> Option<Frequencies> {
    let period = read(CAPABILITIES) >> 32;
    if period == 0 || period > MAX_PERIOD {
        return None;
    }
    write(CONFIGURATION, read(CONFIGURATION) | ENABLE);
    let hpet = FEMTOSECONDS / period;
    apic.fire_after(u32::MAX);
    let first = take(apic);
    while (read(COUNTER).wrapping_sub(first.hpet) as f64) < MEASURED_SECONDS * hpet as f64 {}
    let last = take(apic);
    let passed = u128::from(last.hpet - first.hpet);
    let frequency = |ticks: u64| (u128::from(ticks) * u128::from(hpet) / passed) as u64;
    let apic = frequency((first.apic - last.apic).into());
    Some(Frequencies { tsc: frequency(last.tsc - first.tsc), apic })
}

fn take(apic: &Apic) -> Reading {
    let readings = [(); TRIES].map(|()| {
        let before = tsc();
        let (hpet, apic) = (read(COUNTER), apic.ticks_left());
        let after = tsc();
        (after - before, Reading { hpet, tsc: before + (after - before) / 2, apic })
    });
    readings.into_iter().min_by_key(|(width, _)| *width).expect("some tries").1
}

fn read(register: usize) -> u64 {
    // SAFETY: where the chipset has the HPET, if there is one; mapped, and this module's.
    unsafe { ((BASE + register) as *const u64).read_volatile() }
}

fn write(register: usize, value: u64) {
    // SAFETY: as above; its timers are off, so it only counts.
    unsafe { ((BASE + register) as *mut u64).write_volatile(value) };
}
