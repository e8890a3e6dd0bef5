//! What arithmetic instructions do with values and with the flags in RFLAGS (manual, volume 1, 3.1.4 and volume 3).

use crate::decode::{Arithmetic, BitOperation, Unary};

/// The arithmetic flags of RFLAGS.
pub mod flag {
    /// Carry.
    pub const CF: u64 = 1 << 0;
    /// Parity of the lowest byte: even.
    pub const PF: u64 = 1 << 2;
    /// Carry out of bit 3.
    pub const AF: u64 = 1 << 4;
    /// Zero.
    pub const ZF: u64 = 1 << 6;
    /// Sign.
    pub const SF: u64 = 1 << 7;
    /// Overflow.
    pub const OF: u64 = 1 << 11;
    /// All of them.
    pub const ALL: u64 = CF | PF | AF | ZF | SF | OF;
}

use flag::{AF, CF, OF, PF, SF, ZF};

/// A result, and RFLAGS behind the instruction. Bits of the result above its size are not defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What goes to the first operand, if that is written at all.
    pub value: u64,
    /// RFLAGS.
    pub flags: u64,
}

/// Whether the first operand gets the result.
pub fn writes(what: Arithmetic) -> bool {
    !matches!(what, Arithmetic::Cmp | Arithmetic::Test)
}

/// Two operands of `size` bytes.
pub fn binary(what: Arithmetic, first: u64, second: u64, size: u8, flags: u64) -> Outcome {
    let carry = flags & CF;
    match what {
        Arithmetic::Add => add(first, second, 0, size, flags),
        Arithmetic::Adc => add(first, second, carry, size, flags),
        Arithmetic::Sub | Arithmetic::Cmp => subtract(first, second, 0, size, flags),
        Arithmetic::Sbb => subtract(first, second, carry, size, flags),
        Arithmetic::Or => logic(first | second, size, flags),
        Arithmetic::And | Arithmetic::Test => logic(first & second, size, flags),
        Arithmetic::Xor => logic(first ^ second, size, flags),
    }
}

/// One operand of `size` bytes.
pub fn unary(what: Unary, operand: u64, size: u8, flags: u64) -> Outcome {
    // INC and DEC leave the carry as it is.
    let keep_carry = |outcome: Outcome| Outcome { flags: outcome.flags & !CF | flags & CF, ..outcome };
    match what {
        Unary::Inc => keep_carry(add(operand, 1, 0, size, flags)),
        Unary::Dec => keep_carry(subtract(operand, 1, 0, size, flags)),
        Unary::Neg => subtract(0, operand, 0, size, flags),
        Unary::Not => Outcome { value: !operand, flags },
    }
}

/// A bit of an operand goes to the carry; then something is done with it. Other flags stay as they are.
pub fn bit(what: BitOperation, operand: u64, index: u32, flags: u64) -> Outcome {
    let mask = 1 << (index % 64);
    let value = match what {
        BitOperation::Test => operand,
        BitOperation::Set => operand | mask,
        BitOperation::Reset => operand & !mask,
        BitOperation::Complement => operand ^ mask,
    };
    Outcome { value, flags: flags & !CF | if operand & mask != 0 { CF } else { 0 } }
}

fn sign(value: u64, size: u8) -> bool {
    value >> (u32::from(size) * 8 - 1) & 1 != 0
}

fn truncate(value: u64, size: u8) -> u64 {
    value & u64::MAX >> (64 - u32::from(size) * 8)
}

/// PF, ZF and SF are those of the result, the others are given.
fn with_flags(value: u64, size: u8, flags: u64, set: [(u64, bool); 3]) -> Outcome {
    let value = truncate(value, size);
    let even = (value as u8).count_ones().is_multiple_of(2);
    let of_result = [(PF, even), (ZF, value == 0), (SF, sign(value, size))];
    let flags = of_result.into_iter().chain(set).fold(
        flags & !flag::ALL,
        |flags, (bit, on)| {
            if on { flags | bit } else { flags }
        },
    );
    Outcome { value, flags }
}

fn add(first: u64, second: u64, carry: u64, size: u8, flags: u64) -> Outcome {
    let (first, second) = (truncate(first, size), truncate(second, size));
    let sum = u128::from(first) + u128::from(second) + u128::from(carry);
    let value = truncate(sum as u64, size);
    let overflow = sign(!(first ^ second) & (first ^ value), size);
    let carries = [(CF, sum >> (u32::from(size) * 8) != 0), (AF, (first ^ second ^ value) & 0x10 != 0), (OF, overflow)];
    with_flags(value, size, flags, carries)
}

fn subtract(first: u64, second: u64, borrow: u64, size: u8, flags: u64) -> Outcome {
    let (first, second) = (truncate(first, size), truncate(second, size));
    let value = truncate(first.wrapping_sub(second).wrapping_sub(borrow), size);
    let borrows = u128::from(first) < u128::from(second) + u128::from(borrow);
    let overflow = sign((first ^ second) & (first ^ value), size);
    with_flags(value, size, flags, [(CF, borrows), (AF, (first ^ second ^ value) & 0x10 != 0), (OF, overflow)])
}

/// The manual leaves AF undefined; it is cleared here.
fn logic(value: u64, size: u8, flags: u64) -> Outcome {
    with_flags(value, size, flags, [(CF, false), (AF, false), (OF, false)])
}
