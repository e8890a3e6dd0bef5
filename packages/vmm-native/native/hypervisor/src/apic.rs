//! This processor's local APIC, by memory (manual, 16.3): a timer that ends waiting, and a guest's turn.

use crate::descriptors::Descriptors;
use core::arch::{asm, global_asm};

const BASE: usize = 0xfee0_0000;
const END_OF_INTERRUPT: usize = 0x0b0;
const SPURIOUS: usize = 0x0f0;
const TIMER: usize = 0x320;
const LINT0: usize = 0x350;
const LINT1: usize = 0x360;
const INITIAL_COUNT: usize = 0x380;
const CURRENT_COUNT: usize = 0x390;
const DIVIDE: usize = 0x3e0;

const ENABLED: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
const DIVIDE_BY_16: u32 = 0x3;

const TIMER_VECTOR: u8 = 0x40;
const SPURIOUS_VECTOR: u8 = 0xff;
/// Vector of the messages of devices.
pub const DEVICE_VECTOR: u8 = 0x41;

global_asm!(
    // All that an interrupt is for is that it came.
    "interrupt_entry:",
    "    push rax",
    "    mov eax, {base} + {eoi}",
    "    mov dword ptr [rax], 0",
    "    pop rax",
    "spurious_entry:",
    "    iretq",
    base = const BASE,
    eoi = const END_OF_INTERRUPT,
);

/// A local APIC whose timer is ready.
pub struct Apic(());

impl Apic {
    /// Switches the APIC of this processor on, with everything masked but the timer.
    pub fn enable(descriptors: &mut Descriptors) -> Apic {
        unsafe extern "C" {
            static interrupt_entry: u8;
            static spurious_entry: u8;
        }
        for vector in [TIMER_VECTOR, DEVICE_VECTOR] {
            descriptors.set_gate(vector, (&raw const interrupt_entry).addr() as u64);
        }
        descriptors.set_gate(SPURIOUS_VECTOR, (&raw const spurious_entry).addr() as u64);
        write(SPURIOUS, ENABLED | u32::from(SPURIOUS_VECTOR));
        write(LINT0, MASKED);
        write(LINT1, MASKED);
        write(DIVIDE, DIVIDE_BY_16);
        write(TIMER, TIMER_VECTOR.into());
        Apic(())
    }

    /// Makes the timer fire once, after this many of its ticks.
    pub fn fire_after(&mut self, ticks: u32) {
        write(INITIAL_COUNT, ticks.max(1));
    }

    /// How many ticks are left.
    pub fn ticks_left(&self) -> u32 {
        read(CURRENT_COUNT)
    }

    /// Waits for an interrupt.
    pub fn wait(&mut self) {
        // SAFETY: what interrupts are for is their arrival; nothing is lost when one comes before HLT, for STI lets
        // them in behind the instruction after it.
        unsafe { asm!("sti", "hlt", "cli") };
    }
}

fn read(register: usize) -> u32 {
    // SAFETY: registers of the APIC are 32 bits each, mapped, and this module's.
    unsafe { ((BASE + register) as *const u32).read_volatile() }
}

fn write(register: usize, value: u32) {
    // SAFETY: as above; interrupts go to entries that expect them.
    unsafe { ((BASE + register) as *mut u32).write_volatile(value) };
}
