//! Does to its machine what no driver would, from a seed, for ever; and says every now and then that it is still there.

#![no_std]
#![no_main]

use core::arch::x86_64::__cpuid_count;
use guests::{attempt, say, traps};

/// Where whoever starts this puts the seed: behind the table of interrupts.
const SEED: *const u64 = 0x3_1000 as *const u64;
/// Memory of the guest ends below this, and devices come.
const DEVICES: u64 = 0x1000_0000;
/// Serial port, sleep control and reset: what it says is to be read, and it is not to end.
const SPARED: [core::ops::RangeInclusive<u16>; 3] = [0x3f8..=0x3ff, 0x600..=0x600, 0xcf9..=0xcf9];
const CONFIG_ADDRESS: u16 = 0xcf8;
const COMMAND: u32 = 0x830;
const BEAT: u64 = 2_000;

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    traps::install();
    // SAFETY: memory of the guest.
    let mut random = Random(unsafe { SEED.read_volatile() });
    say!("hostile from seed {}", random.0);
    for operations in 1_u64.. {
        operate(&mut random);
        if operations.is_multiple_of(BEAT) {
            say!("{operations} operations, {} exceptions", traps::count());
        }
    }
    unreachable!("there are more operations than that")
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33 ^ self.0 << 31
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.next() as usize % choices.len()]
    }
}

fn operate(random: &mut Random) {
    let value = random.next();
    match random.next() % 8 {
        0 | 1 => access_port(random, value),
        2 => access_device(random, value),
        3 => read_msr(msr(random)),
        4 => write_msr(msr(random), value),
        5 => {
            let _ = __cpuid_count(random.next() as u32, value as u32);
        }
        6 => call_hypervisor(random, value),
        _ => {
            let _ = attempt!("mov cr8, {value}", value = in(reg) value & 0x1f);
        }
    }
}

fn access_port(random: &mut Random, value: u64) {
    let anywhere = random.next() as u16;
    let port = random.one_of(&[CONFIG_ADDRESS, CONFIG_ADDRESS + 4, 0xc000 | anywhere & 0x0fff, anywhere]);
    let reaches = |port: u16| SPARED.iter().any(|range| range.contains(&port));
    // Writes to the bus's address of four bytes go nowhere else.
    if port != CONFIG_ADDRESS && (0..4).any(|byte| reaches(port.wrapping_add(byte))) {
        return;
    }
    // The bus's addresses have bit 31 set.
    let value = if port == CONFIG_ADDRESS { value as u32 | 1 << 31 } else { value as u32 };
    let kind = if port == CONFIG_ADDRESS { 2 } else { random.next() % 6 };
    let _ = match kind {
        0 => attempt!("out dx, al", in("dx") port, in("eax") value),
        1 => attempt!("out dx, ax", in("dx") port, in("eax") value),
        2 => attempt!("out dx, eax", in("dx") port, in("eax") value),
        3 => attempt!("in al, dx", in("dx") port, inout("eax") value => _),
        4 => attempt!("in ax, dx", in("dx") port, inout("eax") value => _),
        _ => attempt!("in eax, dx", in("dx") port, inout("eax") value => _),
    };
}

fn access_device(random: &mut Random, value: u64) {
    let anywhere = DEVICES + random.next() % (0xffff_fff0 - DEVICES);
    let low = random.next() & 0xfff;
    // An access beyond a page's end stops the guest.
    let address =
        !7 & random.one_of(&[anywhere, 0xfec0_0000 | low, 0xe000_0000 | anywhere & 0xf_ffff, 0xfee0_0000 | low]);
    let _ = match random.next() % 6 {
        0 => attempt!("mov [{at}], {value:l}", at = in(reg) address, value = in(reg_abcd) value),
        1 => attempt!("mov [{at}], {value:e}", at = in(reg) address, value = in(reg) value),
        2 => attempt!("mov [{at}], {value}", at = in(reg) address, value = in(reg) value),
        3 => attempt!("xchg [{at}], {value:e}", at = in(reg) address, value = inout(reg) value => _),
        4 => attempt!("lock or [{at}], {value:e}", at = in(reg) address, value = in(reg) value),
        _ => attempt!("mov {value:e}, [{at}]", at = in(reg) address, value = out(reg) _),
    };
}

/// A model-specific register that is not one of those that name memory to write the time to.
fn msr(random: &mut Random) -> u32 {
    let anything = random.next() as u32;
    let chosen = random.one_of(&[0x800 | anything & 0x3f, 0xc000_0080 | anything & 7, anything & 0x7ff, anything]);
    if matches!(chosen, 0x11 | 0x12 | 0x4b56_4d00..=0x4b56_4dff) { 0x10 } else { chosen }
}

fn read_msr(msr: u32) {
    let _ = attempt!("rdmsr", in("ecx") msr, out("eax") _, out("edx") _);
}

fn write_msr(msr: u32, value: u64) {
    // INIT and startup would end it.
    let value = if msr == COMMAND { value & !(3 << 8) } else { value };
    let _ = attempt!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32);
}

fn call_hypervisor(random: &mut Random, value: u64) {
    let _ = match random.next() % 6 {
        0 => attempt!("vmmcall", inout("rax") value => _),
        1 => attempt!("vmrun rax", in("rax") value),
        2 => attempt!("vmsave rax", in("rax") value),
        3 => attempt!("clgi"),
        4 => attempt!("xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") 0),
        _ => attempt!("rdpmc", in("ecx") value as u32, out("eax") _, out("edx") _),
    };
}
