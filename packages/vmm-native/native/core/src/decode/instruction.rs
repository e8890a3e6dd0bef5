//! What an instruction that accesses memory can be.

use super::operand::{Address, Register};
use core::fmt;

/// How the processor reads instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Operands and addresses of 16 bits.
    Bits16,
    /// Operands and addresses of 32 bits.
    Bits32,
    /// 64-bit mode.
    Bits64,
}

/// The operand that is not in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A general register.
    Register(Register),
    /// A constant, its sign extended to 64 bits.
    Constant(u64),
}

/// What arithmetic does with two operands; it sets the arithmetic flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each has the name that the manual gives it")]
pub enum Arithmetic {
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
    /// SUB whose result goes nowhere.
    Cmp,
    /// AND whose result goes nowhere.
    Test,
}

/// What arithmetic does with one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each has the name that the manual gives it")]
pub enum Unary {
    Inc,
    Dec,
    Not,
    Neg,
}

/// What is done with a bit after it has gone to the carry flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitOperation {
    /// BT: nothing.
    Test,
    /// BTS: it is set.
    Set,
    /// BTR: it is cleared.
    Reset,
    /// BTC: it is inverted.
    Complement,
}

/// String instructions: from where to where an element goes. The destination is always at ES:rDI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StringOperation {
    /// MOVS: from memory to memory; the operand is the source.
    Move,
    /// STOS: from rAX to memory.
    Store,
    /// LODS: from memory to rAX.
    Load,
    /// INS: from a port to memory.
    Input,
    /// OUTS: from memory to a port.
    Output,
}

/// What an instruction does with its operand in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// MOV, MOVZX, MOVSX, MOVSXD: the register gets the operand as `result` bytes, with the sign or zeros in front.
    Load {
        /// Register that is written to.
        to: Register,
        /// Bytes of the register that change; 4 clears the upper half.
        result: u8,
        /// Whether the sign is extended.
        signed: bool,
    },
    /// MOV, MOVNTI: the operand gets a value.
    Store {
        /// The value.
        from: Source,
    },
    /// Arithmetic on the operand.
    Modify {
        /// Which.
        what: Arithmetic,
        /// The second operand.
        with: Source,
    },
    /// Arithmetic on a register, with the operand as second one.
    Combine {
        /// Which.
        what: Arithmetic,
        /// The first operand.
        to: Register,
    },
    /// Arithmetic on nothing but the operand.
    Unary(Unary),
    /// XCHG: the operand and the register change places.
    Exchange(Register),
    /// XADD: the operand gets the sum, the register what the operand was.
    ExchangeAdd(Register),
    /// CMPXCHG: if rAX is the operand, that gets the register, otherwise rAX gets the operand.
    CompareExchange(Register),
    /// BT, BTS, BTR, BTC.
    Bit {
        /// What is done with the bit.
        what: BitOperation,
        /// Its number. In a register it may lie outside of the operand, which is then another one.
        index: Source,
    },
    /// MOVS, STOS, LODS, INS, OUTS.
    String {
        /// Which.
        what: StringOperation,
        /// With a REP prefix: rCX times.
        repeated: bool,
    },
}

/// An instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it does.
    pub operation: Operation,
    /// Bytes that the operand in memory has.
    pub size: u8,
    /// The operand in memory.
    pub address: Address,
    /// How many bytes the instruction has.
    pub length: u8,
}

/// Why bytes are none of these instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end within the instruction, or it is longer than instructions may be.
    Truncated,
    /// Another instruction.
    Unknown {
        /// Its opcode; with the first byte 0F in the upper half.
        opcode: u16,
    },
    /// An operand that is no memory.
    NoMemory,
    /// A LOCK prefix in front of an instruction that has none.
    Lock,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Truncated => out.write_str("expected an instruction of at most 15 bytes, got a part of one"),
            DecodeError::Unknown { opcode } => {
                write!(out, "expected a move, arithmetic or a string instruction, got opcode {opcode:#04x}")
            }
            DecodeError::NoMemory => out.write_str("expected an operand in memory, got a register"),
            DecodeError::Lock => out.write_str("expected no LOCK prefix, got one"),
        }
    }
}

impl core::error::Error for DecodeError {}
