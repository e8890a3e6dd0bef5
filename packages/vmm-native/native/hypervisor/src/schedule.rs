//! Whose turn it is: guests take turns on this processor of the host, and in its turn each lets its processors take turns.

use crate::control::Control;
use crate::cpu;
use crate::guest::{SERIAL, State};
use crate::host::{Host, MAX_GUESTS};
use crate::time;
use vmm_core::control::ControlError;
use vmm_core::machine;
use vmm_core::processor::Processor;
use vmm_core::ring::Ring;

/// Longest time until what guests have written is sent, in microseconds.
const LOOK: u64 = 10_000;
/// How long a guest, and a processor of it, runs while others want to, in microseconds.
const TURN: u64 = 2_000;

/// Runs guests as it is told, until what it is told makes no sense.
pub fn run(host: &mut Host, control: &mut Control) -> ControlError {
    let [look, turn] = [LOOK, TURN].map(|microseconds| host.frequencies.tsc / 1_000_000 * microseconds);
    let mut looks_at = 0;
    let (mut current, mut turn_ends_at) = (0, 0);
    loop {
        let now = time::tsc();
        let looks = now >= looks_at;
        if looks {
            looks_at = now + look;
        }
        if let Err(reason) = control.service(host, looks) {
            return reason;
        }
        let now = time::tsc();
        let mut next = None;
        for offset in 0..MAX_GUESTS {
            let index = (current + offset) % MAX_GUESTS;
            let Some(guest) = &mut host.guests[index] else { continue };
            if guest.state == State::Runs {
                guest.service();
            }
            // Whoever is prepared is entered: that is how it gets its events.
            if next.is_none() && guest.can_run() {
                next = guest.choose(now, turn).map(|processor| (index, processor));
            }
        }
        let mut ends_at = looks_at;
        if let Some((index, _)) = next {
            if index != current || now >= turn_ends_at {
                (current, turn_ends_at) = (index, now + turn);
            }
            let others = host.guests.iter().flatten().filter(|guest| guest.can_run());
            let busy = others.filter(|guest| guest.processors.iter().any(|processor| processor.is_busy(now))).count();
            ends_at = ends_at.min(if busy > 1 { turn_ends_at } else { u64::MAX });
            let of_processor = host.guests[index].as_ref().and_then(|guest| guest.turn_ends_at(now));
            ends_at = ends_at.min(of_processor.unwrap_or(u64::MAX));
        }
        // Whose time has come waits for its turn, no more.
        let running = host.guests.iter().flatten().filter(|guest| guest.can_run());
        let times = running.flat_map(|guest| guest.processors.iter().filter_map(Processor::wakes_at));
        let wakes_at = times.filter(|wakes_at| *wakes_at > now).min().unwrap_or(u64::MAX);
        host.apic.fire_after(host.frequencies.apic_ticks(ends_at.min(wakes_at).saturating_sub(now)));
        let Some((guest, index)) = next.and_then(|(guest, index)| Some((host.guests[guest].as_mut()?, index))) else {
            host.apic.wait();
            continue;
        };
        let processor = &mut guest.processors[index];
        processor.follow(guest.machine.memory.changes());
        // SAFETY: whoever made the processor has confined it.
        unsafe { host.svm.run(processor.vmcb, &mut processor.registers) };
        let mut hardware = Hardware(&guest.consoles[SERIAL].output);
        if let Err(stop) = processor.handle_exit(&mut guest.machine, &mut hardware) {
            guest.state = State::Stopped { stop, told: false };
        }
        let now = time::tsc();
        guest.end_turn(now, turn, now >= ends_at);
        if now >= turn_ends_at {
            current = (current + 1) % MAX_GUESTS;
        }
    }
}

/// What a guest's devices have of this machine: where its serial port leads to.
struct Hardware<'a>(&'a Ring);

impl machine::Host for Hardware<'_> {
    fn send(&mut self, byte: u8) {
        self.0.put(&[byte]);
    }

    fn tsc(&mut self) -> u64 {
        time::tsc()
    }

    fn cpuid(&self, function: u32, index: u32) -> [u32; 4] {
        cpu::cpuid(function, index)
    }
}
