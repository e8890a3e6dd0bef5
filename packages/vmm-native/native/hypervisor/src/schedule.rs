//! Whose turn it is: the processors of a guest take turns on this processor of the host.

use crate::apic::Apic;
use crate::cpu;
use crate::serial::{COM2, Port};
use crate::svm::Svm;
use crate::time::{self, Frequencies};
use vmm_core::event::Next;
use vmm_core::machine::{Host, Machine, Stop};
use vmm_core::processor::Processor;

/// Longest time without a look at the guest's console, in microseconds.
const LOOK: u64 = 10_000;
/// How long a processor runs while others want to, in microseconds.
const TURN: u64 = 2_000;

/// Runs a guest until it stops for good.
pub fn run(
    machine: &mut Machine,
    processors: &mut [Processor],
    svm: &mut Svm,
    apic: &mut Apic,
    frequencies: Frequencies,
) -> Stop {
    let mut console = Port(COM2);
    let [look, turn] = [LOOK, TURN].map(|microseconds| frequencies.tsc / 1_000_000 * microseconds);
    let mut looks_at = 0;
    let (mut current, mut turn_ends_at) = (0, 0);
    loop {
        let now = time::tsc();
        if now >= looks_at {
            looks_at = now + look;
            while machine.console_room() > 0
                && let Some(byte) = console.receive()
            {
                machine.receive(byte);
            }
        }
        machine.service();
        let runs = match choose(processors, current, now) {
            Choice::Run(index) => {
                // However often it exits, its turn is as long.
                if index != current {
                    (current, turn_ends_at) = (index, now + turn);
                }
                Some(index)
            }
            Choice::Wait => None,
            Choice::Nobody => return Stop::Halted,
        };
        let busy = processors.iter().filter(|processor| processor.is_busy(now)).count();
        let ends_at = if busy > 1 { turn_ends_at.max(now) } else { looks_at };
        // Whose time has come waits for its turn, no more.
        let times = processors.iter().filter_map(Processor::wakes_at).filter(|wakes_at| *wakes_at > now);
        let wakes_at = times.min().unwrap_or(u64::MAX);
        apic.fire_after(frequencies.apic_ticks(ends_at.min(looks_at).min(wakes_at).saturating_sub(now)));
        let Some(index) = runs else {
            apic.wait();
            continue;
        };
        let processor = &mut processors[index];
        // SAFETY: whoever made the processor has confined it.
        unsafe { svm.run(processor.vmcb, &mut processor.registers) };
        if let Err(stop) = processor.handle_exit(machine, &mut Hardware) {
            return stop;
        }
        // Who tells others something often waits for what they do about it.
        let now = time::tsc();
        if machine.take_posted() || now >= ends_at {
            (current, turn_ends_at) = ((index + 1) % processors.len(), now + turn);
        }
    }
}

/// Brings a guest back to where nothing has been loaded. Waits for the devices of the machine that still do something for it.
pub fn reset(machine: &mut Machine, processors: &mut [Processor], apic: &mut Apic, frequencies: Frequencies) {
    processors.iter_mut().for_each(Processor::reset);
    while !machine.reset() {
        apic.fire_after(frequencies.apic_ticks(frequencies.tsc / 1_000_000 * LOOK));
        apic.wait();
    }
}

enum Choice {
    Run(usize),
    /// All wait for something that will happen.
    Wait,
    /// None will ever run again.
    Nobody,
}

/// The first that can run, beginning with the one whose turn it is.
fn choose(processors: &mut [Processor], current: usize, now: u64) -> Choice {
    let mut choice = Choice::Nobody;
    for offset in 0..processors.len() {
        let index = (current + offset) % processors.len();
        match processors[index].prepare(now) {
            Next::Run => return Choice::Run(index),
            Next::Wait => choice = Choice::Wait,
            Next::WaitForOthers => {}
        }
    }
    choice
}

/// What a guest's devices have of this machine.
struct Hardware;

impl Host for Hardware {
    fn send(&mut self, byte: u8) {
        Port(COM2).send(byte);
    }

    fn tsc(&mut self) -> u64 {
        time::tsc()
    }

    fn cpuid(&self, function: u32, index: u32) -> [u32; 4] {
        cpu::cpuid(function, index)
    }
}
