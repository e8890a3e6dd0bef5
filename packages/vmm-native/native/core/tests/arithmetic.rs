//! Arithmetic has the results and the flags that this computer's processor has, for operands from a seed.
#![cfg(target_arch = "x86_64")]

mod support;

use std::arch::asm;
use support::{Random, setting};
use vmm_core::arithmetic::{Outcome, binary, bit, flag, unary};
use vmm_core::decode::{Arithmetic, BitOperation, Unary};

const ROUNDS: u64 = 4000;
const CARRY: u64 = flag::CF;

/// Executes an instruction on `$first`, with a carry flag as in `$flags`; returns the result and the arithmetic flags.
macro_rules! execute {
    ($instruction:expr, $type:ty, $class:ident, $first:expr, $second:expr, $flags:expr) => {{
        let mut value = $first as $type;
        let flags: u64;
        // SAFETY: arithmetic on registers; the stack is balanced.
        unsafe {
            asm!(
                "push {flags}",
                "popfq",
                $instruction,
                "pushfq",
                "pop {flags}",
                second = in($class) $second as $type,
                first = inout($class) value,
                flags = inout(reg) $flags | 2 => flags,
            );
        }
        (u64::from(value), flags & flag::ALL)
    }};
}

/// One mnemonic for operands of each size.
macro_rules! by_size {
    ($mnemonic:literal, $operands:tt, $size:expr, $($argument:expr),+) => {
        match $size {
            1 => execute!(concat!($mnemonic, by_size!(@ $operands, "")), u8, reg_byte, $($argument),+),
            2 => execute!(concat!($mnemonic, by_size!(@ $operands, ":x")), u16, reg, $($argument),+),
            4 => execute!(concat!($mnemonic, by_size!(@ $operands, ":e")), u32, reg, $($argument),+),
            _ => execute!(concat!($mnemonic, by_size!(@ $operands, ":r")), u64, reg, $($argument),+),
        }
    };
    (@ 2, $modifier:literal) => { concat!(" {first", $modifier, "}, {second", $modifier, "}") };
    (@ 1, $modifier:literal) => { concat!(" {first", $modifier, "} // {second", $modifier, "}") };
}

fn operand(random: &mut Random, size: u8) -> u64 {
    let edge = random.pick(&[0, 1 << (u32::from(size) * 8 - 1)]);
    let value = if random.below(3) == 0 { random.next() } else { (edge + random.below(4)).wrapping_sub(2) };
    value & u64::MAX >> (64 - u32::from(size) * 8)
}

fn binary_here(what: Arithmetic, size: u8, first: u64, second: u64, flags: u64) -> (u64, u64) {
    match what {
        Arithmetic::Add => by_size!("add", 2, size, first, second, flags),
        Arithmetic::Or => by_size!("or", 2, size, first, second, flags),
        Arithmetic::Adc => by_size!("adc", 2, size, first, second, flags),
        Arithmetic::Sbb => by_size!("sbb", 2, size, first, second, flags),
        Arithmetic::And => by_size!("and", 2, size, first, second, flags),
        Arithmetic::Sub => by_size!("sub", 2, size, first, second, flags),
        Arithmetic::Xor => by_size!("xor", 2, size, first, second, flags),
        Arithmetic::Cmp => by_size!("cmp", 2, size, first, second, flags),
        Arithmetic::Test => by_size!("test", 2, size, first, second, flags),
    }
}

fn unary_here(what: Unary, size: u8, operand: u64, flags: u64) -> (u64, u64) {
    match what {
        Unary::Inc => by_size!("inc", 1, size, operand, 0_u8, flags),
        Unary::Dec => by_size!("dec", 1, size, operand, 0_u8, flags),
        Unary::Not => by_size!("not", 1, size, operand, 0_u8, flags),
        Unary::Neg => by_size!("neg", 1, size, operand, 0_u8, flags),
    }
}

#[test]
fn results_and_flags_are_the_processors() {
    const BINARY: [Arithmetic; 9] = [
        Arithmetic::Add,
        Arithmetic::Or,
        Arithmetic::Adc,
        Arithmetic::Sbb,
        Arithmetic::And,
        Arithmetic::Sub,
        Arithmetic::Xor,
        Arithmetic::Cmp,
        Arithmetic::Test,
    ];
    let seed = setting("LEVERET_SEED", 0x1ead_beef_cafe_f00d);
    println!("seed {seed}");
    let mut random = Random::new(seed);
    for _ in 0..ROUNDS {
        for size in [1, 2, 4, 8] {
            let (first, second) = (operand(&mut random, size), operand(&mut random, size));
            let flags = random.next() & flag::ALL;
            for what in BINARY {
                let (value, found) = binary_here(what, size, first, second, flags);
                let ours = binary(what, first, second, size, flags);
                // After logic AF is what the manufacturer likes.
                let logic = matches!(what, Arithmetic::Or | Arithmetic::And | Arithmetic::Xor | Arithmetic::Test);
                let defined = if logic { !flag::AF } else { !0 };
                let text = format!("{what:?} {first:#x}, {second:#x} of {size} bytes, flags {flags:#x}");
                assert_eq!(ours.flags & defined, found & defined, "{text}");
                if vmm_core::arithmetic::writes(what) {
                    assert_eq!(ours.value, value, "{text}");
                }
            }
            for what in [Unary::Inc, Unary::Dec, Unary::Not, Unary::Neg] {
                let (value, found) = unary_here(what, size, first, flags);
                let ours = unary(what, first, size, flags);
                let mask = u64::MAX >> (64 - u32::from(size) * 8);
                assert_eq!((ours.value & mask, ours.flags), (value, found), "{what:?} {first:#x} of {size} bytes");
            }
        }
    }
}

#[test]
fn bits_are_the_processors() {
    let mut random = Random::new(1);
    for _ in 0..ROUNDS {
        let (operand, index) = (random.next(), random.below(64));
        let flags = random.next() & flag::ALL;
        for (what, (value, found)) in [
            (BitOperation::Test, by_size!("bt", 2, 8, operand, index, flags)),
            (BitOperation::Set, by_size!("bts", 2, 8, operand, index, flags)),
            (BitOperation::Reset, by_size!("btr", 2, 8, operand, index, flags)),
            (BitOperation::Complement, by_size!("btc", 2, 8, operand, index, flags)),
        ] {
            let Outcome { value: ours, flags: our_flags } = bit(what, operand, index as u32, flags);
            // The others are undefined.
            assert_eq!((ours, our_flags & CARRY), (value, found & CARRY), "{what:?} {operand:#x}, {index}");
        }
    }
}
