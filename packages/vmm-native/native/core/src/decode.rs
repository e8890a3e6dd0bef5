//! Instructions that access devices in memory (manual, volume 3), which are moves between a register or a constant and
//! memory, and moves to control registers.
//!
//! The address is known from the nested page fault, so all that has to be found out of an operand in memory is its
//! length.

use core::fmt;

/// Longest instruction, in bytes.
pub const MAX_LENGTH: usize = 15;

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

/// A general register, or a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// Its number.
    pub number: usize,
    /// AH, CH, DH or BH: bits 15:8 of the register with the number.
    pub high_byte: bool,
}

/// What an instruction does with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reads `size` bytes; the register gets them as `result` bytes, with the sign or with zeros in front.
    Load {
        /// Register that is written to.
        to: Register,
        /// Bytes that are read.
        size: u8,
        /// Bytes of the register that change; 4 clears the upper half.
        result: u8,
        /// Whether the sign is extended.
        signed: bool,
    },
    /// Writes `size` bytes of a register.
    Store {
        /// Register that is read.
        from: Register,
        /// Bytes that are written.
        size: u8,
    },
    /// Writes `size` bytes of a constant.
    StoreConstant {
        /// The constant.
        value: u64,
        /// Bytes that are written.
        size: u8,
    },
}

/// An instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it does.
    pub operation: Operation,
    /// How many bytes it has.
    pub length: u8,
}

/// Why bytes are none of these instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end within the instruction.
    Truncated,
    /// Another instruction.
    Unknown {
        /// Its opcode; with the first byte 0F in the upper half.
        opcode: u16,
    },
    /// An operand that is no memory.
    NoMemory,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Truncated => out.write_str("expected an instruction, got a part of one"),
            DecodeError::Unknown { opcode } => write!(out, "expected a move, got opcode {opcode:#04x}"),
            DecodeError::NoMemory => out.write_str("expected an operand in memory, got a register"),
        }
    }
}

impl core::error::Error for DecodeError {}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.bytes.get(self.at).filter(|_| self.at < MAX_LENGTH).ok_or(DecodeError::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    fn skip(&mut self, count: usize) -> Result<(), DecodeError> {
        (0..count).try_for_each(|_| self.byte().map(drop))
    }

    /// A little-endian number of 1, 2 or 4 bytes, its sign extended.
    fn signed(&mut self, size: u8) -> Result<u64, DecodeError> {
        let mut value = 0;
        for index in 0..size {
            value |= u64::from(self.byte()?) << (index * 8);
        }
        Ok(extend(value, size))
    }
}

/// Extends the sign of a number of `size` bytes.
pub fn extend(value: u64, size: u8) -> u64 {
    let unused = 64 - u32::from(size) * 8;
    ((value << unused) as i64 >> unused) as u64
}

/// Prefixes that matter (1.2).
#[derive(Default)]
struct Prefixes {
    operand_size: bool,
    address_size: bool,
    rex: Option<u8>,
}

impl Prefixes {
    fn rex_bit(&self, bit: u8) -> u8 {
        self.rex.unwrap_or(0) >> bit & 1
    }
}

/// Decodes the instruction that bytes begin with.
pub fn decode(bytes: &[u8], mode: Mode) -> Result<Instruction, DecodeError> {
    let mut reader = Reader { bytes, at: 0 };
    let mut prefixes = Prefixes::default();
    let mut opcode = u16::from(reader.byte()?);
    loop {
        match opcode as u8 {
            0x66 => prefixes = Prefixes { operand_size: true, rex: None, ..prefixes },
            0x67 => prefixes = Prefixes { address_size: true, rex: None, ..prefixes },
            // Segments, LOCK and REP.
            0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65 | 0xf0 | 0xf2 | 0xf3 => prefixes.rex = None,
            // A REX prefix counts only directly in front of the opcode.
            rex @ 0x40..=0x4f if mode == Mode::Bits64 => prefixes.rex = Some(rex),
            _ => break,
        }
        opcode = reader.byte()?.into();
    }
    if opcode == 0x0f {
        opcode = 0x0f00 | u16::from(reader.byte()?);
    }
    let operand_size = match (prefixes.rex_bit(3), (mode == Mode::Bits16) != prefixes.operand_size) {
        (1, _) => 8,
        (_, true) => 2,
        (_, false) => 4,
    };
    let byte_operand = matches!(opcode, 0x88 | 0x8a | 0xa0 | 0xa2 | 0xc6 | 0x0fb6 | 0x0fbe);
    let size = match opcode {
        0x0fb7 | 0x0fbf => 2,
        _ if byte_operand => 1,
        _ => operand_size,
    };
    let operation = match opcode {
        0x88 | 0x89 => Operation::Store { from: operands(&mut reader, &prefixes, mode, size)?, size },
        0x8a | 0x8b => {
            Operation::Load { to: operands(&mut reader, &prefixes, mode, size)?, size, result: size, signed: false }
        }
        0x0fb6 | 0x0fb7 | 0x0fbe | 0x0fbf => {
            let to = operands(&mut reader, &prefixes, mode, operand_size)?;
            Operation::Load { to, size, result: operand_size, signed: opcode >= 0x0fbe }
        }
        0xa0..=0xa3 => {
            reader.skip(address_size(&prefixes, mode))?;
            let rax = Register { number: 0, high_byte: false };
            if opcode < 0xa2 {
                Operation::Load { to: rax, size, result: size, signed: false }
            } else {
                Operation::Store { from: rax, size }
            }
        }
        0xc6 | 0xc7 => {
            if operands(&mut reader, &Prefixes { rex: None, ..prefixes }, mode, 4)?.number != 0 {
                return Err(DecodeError::Unknown { opcode });
            }
            Operation::StoreConstant { value: reader.signed(size.min(4))?, size }
        }
        _ => return Err(DecodeError::Unknown { opcode }),
    };
    Ok(Instruction { operation, length: reader.at as u8 })
}

/// A move from a general register to a control register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrWrite {
    /// Number of the general register.
    pub from: usize,
    /// How many bytes the instruction has.
    pub length: u8,
}

/// Decodes a move to a control register in 64-bit mode, 0F 22 (volume 3, MOV CRn); to which one is known from the exit.
pub fn decode_cr_write(bytes: &[u8]) -> Result<CrWrite, DecodeError> {
    let mut reader = Reader { bytes, at: 0 };
    let mut rex = 0;
    loop {
        match reader.byte()? {
            // LOCK makes CR8 of CR0.
            0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3 => rex = 0,
            prefix @ 0x40..=0x4f => rex = prefix,
            0x0f => break,
            opcode => return Err(DecodeError::Unknown { opcode: opcode.into() }),
        }
    }
    match reader.byte()? {
        0x22 => {}
        opcode => return Err(DecodeError::Unknown { opcode: 0x0f00 | u16::from(opcode) }),
    }
    // The operand is a register whatever the mode bits say.
    let from = usize::from(reader.byte()? & 7 | (rex & 1) << 3);
    Ok(CrWrite { from, length: reader.at as u8 })
}

fn address_size(prefixes: &Prefixes, mode: Mode) -> usize {
    match (mode, prefixes.address_size) {
        (Mode::Bits64, false) => 8,
        (Mode::Bits64, true) | (Mode::Bits32, false) | (Mode::Bits16, true) => 4,
        (Mode::Bits32, true) | (Mode::Bits16, false) => 2,
    }
}

/// Reads ModRM and what belongs to it (1.4); returns the register that it names, for an operand of `size` bytes.
fn operands(reader: &mut Reader, prefixes: &Prefixes, mode: Mode, size: u8) -> Result<Register, DecodeError> {
    let modrm = reader.byte()?;
    let (kind, field, base) = (modrm >> 6, modrm >> 3 & 7, modrm & 7);
    if kind == 3 {
        return Err(DecodeError::NoMemory);
    }
    let displacement = if address_size(prefixes, mode) == 2 {
        match (kind, base) {
            (0, 6) | (2, _) => 2,
            (1, _) => 1,
            _ => 0,
        }
    } else {
        let base = if base == 4 { reader.byte()? & 7 } else { base };
        match (kind, base) {
            (0, 5) | (2, _) => 4,
            (1, _) => 1,
            _ => 0,
        }
    };
    reader.skip(displacement)?;
    let high_byte = size == 1 && prefixes.rex.is_none() && field >= 4;
    let number = if high_byte { field - 4 } else { field | prefixes.rex_bit(2) << 3 };
    Ok(Register { number: number.into(), high_byte })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Operation::{Load, Store, StoreConstant};

    const fn reg(number: usize) -> Register {
        Register { number, high_byte: false }
    }

    const fn load(number: usize, size: u8) -> Operation {
        Load { to: reg(number), size, result: size, signed: false }
    }

    // Encoded by GNU as 2.40.
    const CASES: [(&str, Mode, &[u8], Operation); 26] = [
        ("mov eax, [rdi]", Mode::Bits64, &[0x8b, 0x07], load(0, 4)),
        ("mov eax, [rdi-0xa03000]", Mode::Bits64, &[0x8b, 0x87, 0x00, 0xd0, 0x5f, 0xff], load(0, 4)),
        ("mov [rdi], esi", Mode::Bits64, &[0x89, 0x37], Store { from: reg(6), size: 4 }),
        ("mov r9, [r12]", Mode::Bits64, &[0x4d, 0x8b, 0x0c, 0x24], load(9, 8)),
        ("mov [r13+0], r15d", Mode::Bits64, &[0x45, 0x89, 0x7d, 0x00], Store { from: reg(15), size: 4 }),
        (
            "mov [rax+rbx*8+0x12345678], cx",
            Mode::Bits64,
            &[0x66, 0x89, 0x8c, 0xd8, 0x78, 0x56, 0x34, 0x12],
            Store { from: reg(1), size: 2 },
        ),
        ("mov edx, [rip+0x10]", Mode::Bits64, &[0x8b, 0x15, 0x10, 0, 0, 0], load(2, 4)),
        ("mov edx, [rbx*4+0x10]", Mode::Bits64, &[0x8b, 0x14, 0x9d, 0x10, 0, 0, 0], load(2, 4)),
        (
            "mov [rdi], ch",
            Mode::Bits64,
            &[0x88, 0x2f],
            Store { from: Register { number: 1, high_byte: true }, size: 1 },
        ),
        ("mov [rdi], bpl", Mode::Bits64, &[0x40, 0x88, 0x2f], Store { from: reg(5), size: 1 }),
        ("mov al, [rdi]", Mode::Bits64, &[0x8a, 0x07], load(0, 1)),
        ("mov [rdi], r8b", Mode::Bits64, &[0x44, 0x88, 0x07], Store { from: reg(8), size: 1 }),
        (
            "mov dword ptr [rdi], -2",
            Mode::Bits64,
            &[0xc7, 0x07, 0xfe, 0xff, 0xff, 0xff],
            StoreConstant { value: -2_i64 as u64, size: 4 },
        ),
        (
            "mov qword ptr [r8+8], 5",
            Mode::Bits64,
            &[0x49, 0xc7, 0x40, 0x08, 5, 0, 0, 0],
            StoreConstant { value: 5, size: 8 },
        ),
        (
            "mov word ptr [rdi], 0x1234",
            Mode::Bits64,
            &[0x66, 0xc7, 0x07, 0x34, 0x12],
            StoreConstant { value: 0x1234, size: 2 },
        ),
        ("mov byte ptr [rdi], 7", Mode::Bits64, &[0xc6, 0x07, 7], StoreConstant { value: 7, size: 1 }),
        (
            "movzx eax, byte ptr [rdi]",
            Mode::Bits64,
            &[0x0f, 0xb6, 0x07],
            Load { to: reg(0), size: 1, result: 4, signed: false },
        ),
        (
            "movzx esp, byte ptr [rdi]",
            Mode::Bits64,
            &[0x0f, 0xb6, 0x27],
            Load { to: reg(4), size: 1, result: 4, signed: false },
        ),
        (
            "movsx r10, word ptr [rdi]",
            Mode::Bits64,
            &[0x4c, 0x0f, 0xbf, 0x17],
            Load { to: reg(10), size: 2, result: 8, signed: true },
        ),
        ("movabs al, [0xfec00000]", Mode::Bits64, &[0xa0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0], load(0, 1)),
        (
            "addr32 mov [0xfec00000], eax",
            Mode::Bits64,
            &[0x67, 0xa3, 0, 0, 0xc0, 0xfe],
            Store { from: reg(0), size: 4 },
        ),
        ("mov eax, gs:[edi]", Mode::Bits64, &[0x65, 0x67, 0x8b, 0x07], load(0, 4)),
        ("mov eax, [ebp+8]", Mode::Bits32, &[0x8b, 0x45, 0x08], load(0, 4)),
        ("mov [0xfec00000], ax", Mode::Bits32, &[0x66, 0xa3, 0, 0, 0xc0, 0xfe], Store { from: reg(0), size: 2 }),
        ("mov ax, [bp+2]", Mode::Bits16, &[0x8b, 0x46, 0x02], load(0, 2)),
        ("mov eax, [0x1234]", Mode::Bits16, &[0x66, 0x8b, 0x06, 0x34, 0x12], load(0, 4)),
    ];

    #[test]
    fn moves_are_what_the_assembler_made_them_from() {
        for (text, mode, bytes, operation) in CASES {
            let length = bytes.len() as u8;
            let followed = [bytes, &[0x90; 15]].concat();
            assert_eq!(decode(&followed, mode), Ok(Instruction { operation, length }), "{text}");
        }
    }

    #[test]
    fn a_part_of_an_instruction_is_none() {
        for (text, mode, bytes, _) in CASES {
            for length in 0..bytes.len() {
                assert_eq!(decode(&bytes[..length], mode), Err(DecodeError::Truncated), "{text}, {length}");
            }
        }
    }

    #[test]
    fn other_instructions_are_named() {
        assert_eq!(decode(&[0x01, 0x07], Mode::Bits64), Err(DecodeError::Unknown { opcode: 0x01 }));
        assert_eq!(decode(&[0x0f, 0xc1, 0x07], Mode::Bits64), Err(DecodeError::Unknown { opcode: 0x0fc1 }));
        assert_eq!(decode(&[0xc7, 0x0f, 0, 0, 0, 0], Mode::Bits64), Err(DecodeError::Unknown { opcode: 0xc7 }));
        assert_eq!(decode(&[0x8b, 0xc0], Mode::Bits64), Err(DecodeError::NoMemory));
        assert_eq!(decode(&[0x40, 0x8b, 0x07], Mode::Bits32), Err(DecodeError::Unknown { opcode: 0x40 }));
    }

    #[test]
    fn moves_to_control_registers_name_their_source() {
        assert_eq!(decode_cr_write(&[0x44, 0x0f, 0x22, 0xc0]), Ok(CrWrite { from: 0, length: 4 })); // mov cr8, rax
        assert_eq!(decode_cr_write(&[0x45, 0x0f, 0x22, 0xc7]), Ok(CrWrite { from: 15, length: 4 })); // mov cr8, r15
        assert_eq!(decode_cr_write(&[0xf0, 0x0f, 0x22, 0xc3]), Ok(CrWrite { from: 3, length: 4 })); // lock mov cr0, rbx
        assert_eq!(decode_cr_write(&[0x0f, 0x20, 0xc0]), Err(DecodeError::Unknown { opcode: 0x0f20 }));
        assert_eq!(decode_cr_write(&[0x45, 0x0f, 0x22]), Err(DecodeError::Truncated));
        assert_eq!(decode_cr_write(&[0xf0; 16]), Err(DecodeError::Truncated));
    }

    #[test]
    fn no_bytes_make_it_go_wrong_or_too_long() {
        let mut state = 1_u64;
        for _ in 0..200_000 {
            let bytes = [0; 16].map(|_: u8| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            });
            for mode in [Mode::Bits16, Mode::Bits32, Mode::Bits64] {
                if let Ok(found) = decode(&bytes, mode) {
                    assert!(usize::from(found.length) <= MAX_LENGTH);
                }
            }
        }
        assert_eq!(decode(&[0x66; 16], Mode::Bits64), Err(DecodeError::Truncated));
    }
}
