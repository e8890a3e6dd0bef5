//! Instructions that access memory, as far as drivers use them on devices (manual, volume 3): moves, arithmetic,
//! exchanges, bit instructions and strings; and moves to control registers.
//!
//! Everything else is refused: instructions that only name registers, the stack's, and those of x87, SSE and later.

mod instruction;
mod operand;
mod prefixes;

pub use instruction::{
    Arithmetic, BitOperation, DecodeError, Instruction, Mode, Operation, Source, StringOperation, Unary,
};
use operand::Operands;
pub use operand::{Address, Base, Index, Register};
use prefixes::Prefixes;

/// Longest instruction, in bytes.
pub const MAX_LENGTH: usize = 15;

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

    /// A little-endian number of up to 8 bytes, its sign extended.
    fn signed(&mut self, size: u8) -> Result<u64, DecodeError> {
        if size == 0 {
            return Ok(0);
        }
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

/// Decodes the instruction that bytes begin with.
pub fn decode(bytes: &[u8], mode: Mode) -> Result<Instruction, DecodeError> {
    let mut reader = Reader { bytes, at: 0 };
    let (prefixes, first) = Prefixes::read(&mut reader, mode)?;
    let mut opcode = u16::from(first);
    if opcode == 0x0f {
        opcode = 0x0f00 | u16::from(reader.byte()?);
    }
    let found = instruction(&mut reader, &prefixes, opcode)?;
    if prefixes.lock && !takes_lock(&found.operation) {
        return Err(DecodeError::Lock);
    }
    Ok(Instruction { length: reader.at as u8, ..found })
}

/// The instruction, but for its length.
fn instruction(reader: &mut Reader, prefixes: &Prefixes, opcode: u16) -> Result<Instruction, DecodeError> {
    let unknown = Err(DecodeError::Unknown { opcode });
    // In most opcodes bit 0 tells bytes from larger operands.
    let size = if opcode & 1 == 0 { 1 } else { prefixes.operand_size() };
    let of = |size, address, operation| Ok(Instruction { operation, size, address, length: 0 });
    match opcode {
        // ADD, OR, ADC, SBB, AND, SUB, XOR, CMP: the second half of each eight has no memory.
        0x00..=0x3f if opcode & 4 == 0 => {
            let Operands { field, address } = Operands::read(reader, prefixes)?;
            let (what, register) = (arithmetic(opcode >> 3), prefixes.register(field, size));
            let operation = if opcode & 2 == 0 {
                Operation::Modify { what, with: Source::Register(register) }
            } else {
                Operation::Combine { what, to: register }
            };
            of(size, address, operation)
        }
        // MOVSXD; what it reads with operands of 16 bits depends on who made the processor.
        0x63 if prefixes.mode == Mode::Bits64 && prefixes.operand_size() != 2 => {
            let Operands { field, address } = Operands::read(reader, prefixes)?;
            let (to, result) = (prefixes.register(field, 4), prefixes.operand_size());
            of(4, address, Operation::Load { to, result, signed: true })
        }
        0x6c..=0x6f | 0xa4 | 0xa5 | 0xaa..=0xad => string(prefixes, opcode),
        0x80..=0x83 => {
            if opcode == 0x82 && prefixes.mode == Mode::Bits64 {
                return unknown;
            }
            let Operands { field, address } = Operands::read(reader, prefixes)?;
            let constant = reader.signed(if opcode == 0x81 { size.min(4) } else { 1 })?;
            of(size, address, Operation::Modify { what: arithmetic(field.into()), with: Source::Constant(constant) })
        }
        0x84..=0x8b => {
            let Operands { field, address } = Operands::read(reader, prefixes)?;
            let register = prefixes.register(field, size);
            let with = Source::Register(register);
            let operation = match opcode {
                0x84 | 0x85 => Operation::Modify { what: Arithmetic::Test, with },
                0x86 | 0x87 => Operation::Exchange(register),
                0x88 | 0x89 => Operation::Store { from: with },
                _ => Operation::Load { to: register, result: size, signed: false },
            };
            of(size, address, operation)
        }
        0xa0..=0xa3 => {
            let address = Address::absolute(reader, prefixes)?;
            let operation = if opcode < 0xa2 {
                Operation::Load { to: Register::RAX, result: size, signed: false }
            } else {
                Operation::Store { from: Source::Register(Register::RAX) }
            };
            of(size, address, operation)
        }
        0xc6 | 0xc7 | 0xf6 | 0xf7 | 0xfe | 0xff => group(reader, prefixes, opcode, size),
        0x0fa3 | 0x0fab | 0x0fb3 | 0x0fbb => {
            let size = prefixes.operand_size();
            let Operands { field, address } = Operands::read(reader, prefixes)?;
            let index = Source::Register(prefixes.register(field, size));
            of(size, address, Operation::Bit { what: bit_operation(opcode >> 3), index })
        }
        0x0fba => {
            let size = prefixes.operand_size();
            let Operands { field, address } = Operands::read(reader, prefixes)?;
            if field < 4 {
                return unknown;
            }
            let index = Source::Constant(u64::from(reader.byte()? & (size * 8 - 1)));
            of(size, address, Operation::Bit { what: bit_operation(field.into()), index })
        }
        0x0fb0 | 0x0fb1 | 0x0fc0 | 0x0fc1 => {
            let Operands { field, address } = Operands::read(reader, prefixes)?;
            let register = prefixes.register(field, size);
            let exchange = if opcode < 0x0fc0 { Operation::CompareExchange } else { Operation::ExchangeAdd };
            of(size, address, exchange(register))
        }
        0x0fb6 | 0x0fb7 | 0x0fbe | 0x0fbf => {
            let result = prefixes.operand_size();
            let Operands { field, address } = Operands::read(reader, prefixes)?;
            let to = prefixes.register(field, result);
            of(if opcode & 1 == 0 { 1 } else { 2 }, address, Operation::Load { to, result, signed: opcode >= 0x0fbe })
        }
        // MOVNTI: other prefixes make others of it.
        0x0fc3 if !prefixes.operand_size_override && !prefixes.repeated => {
            let size = prefixes.operand_size().max(4);
            let Operands { field, address } = Operands::read(reader, prefixes)?;
            of(size, address, Operation::Store { from: Source::Register(prefixes.register(field, size)) })
        }
        _ => unknown,
    }
}

/// Opcodes whose meaning is in the field of ModRM that names a register in others.
fn group(reader: &mut Reader, prefixes: &Prefixes, opcode: u16, size: u8) -> Result<Instruction, DecodeError> {
    let Operands { field, address } = Operands::read(reader, prefixes)?;
    let operation = match (opcode, field) {
        (0xc6 | 0xc7, 0) => Operation::Store { from: Source::Constant(reader.signed(size.min(4))?) },
        // Processors take /1 for /0.
        (0xf6 | 0xf7, 0 | 1) => {
            let with = Source::Constant(reader.signed(size.min(4))?);
            Operation::Modify { what: Arithmetic::Test, with }
        }
        (0xf6 | 0xf7, 2) => Operation::Unary(Unary::Not),
        (0xf6 | 0xf7, 3) => Operation::Unary(Unary::Neg),
        (0xfe | 0xff, 0) => Operation::Unary(Unary::Inc),
        (0xfe | 0xff, 1) => Operation::Unary(Unary::Dec),
        _ => return Err(DecodeError::Unknown { opcode }),
    };
    Ok(Instruction { operation, size, address, length: 0 })
}

fn string(prefixes: &Prefixes, opcode: u16) -> Result<Instruction, DecodeError> {
    let what = match opcode {
        0x6c | 0x6d => StringOperation::Input,
        0x6e | 0x6f => StringOperation::Output,
        0xa4 | 0xa5 => StringOperation::Move,
        0xaa | 0xab => StringOperation::Store,
        _ => StringOperation::Load,
    };
    let address = match what {
        StringOperation::Store | StringOperation::Input => Address::destination(prefixes),
        _ => Address::source(prefixes),
    };
    let size = match (opcode & 1, what) {
        (0, _) => 1,
        // Ports have no 64 bits.
        (_, StringOperation::Input | StringOperation::Output) => prefixes.operand_size().min(4),
        _ => prefixes.operand_size(),
    };
    let operation = Operation::String { what, repeated: prefixes.repeated };
    Ok(Instruction { operation, size, address, length: 0 })
}

/// Whether an instruction with an operand in memory may be locked (volume 3, 1.2.5): those that read and write it.
fn takes_lock(operation: &Operation) -> bool {
    match operation {
        Operation::Modify { what, .. } => !matches!(what, Arithmetic::Cmp | Arithmetic::Test),
        Operation::Bit { what, .. } => *what != BitOperation::Test,
        Operation::Unary(_) | Operation::Exchange(_) | Operation::ExchangeAdd(_) | Operation::CompareExchange(_) => {
            true
        }
        Operation::Load { .. } | Operation::Store { .. } | Operation::Combine { .. } | Operation::String { .. } => {
            false
        }
    }
}

fn arithmetic(number: u16) -> Arithmetic {
    match number & 7 {
        0 => Arithmetic::Add,
        1 => Arithmetic::Or,
        2 => Arithmetic::Adc,
        3 => Arithmetic::Sbb,
        4 => Arithmetic::And,
        5 => Arithmetic::Sub,
        6 => Arithmetic::Xor,
        _ => Arithmetic::Cmp,
    }
}

fn bit_operation(number: u16) -> BitOperation {
    match number & 3 {
        0 => BitOperation::Test,
        1 => BitOperation::Set,
        2 => BitOperation::Reset,
        _ => BitOperation::Complement,
    }
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
    // LOCK makes CR8 of CR0.
    let (prefixes, first) = Prefixes::read(&mut reader, Mode::Bits64)?;
    if first != 0x0f {
        return Err(DecodeError::Unknown { opcode: first.into() });
    }
    match reader.byte()? {
        0x22 => {}
        opcode => return Err(DecodeError::Unknown { opcode: 0x0f00 | u16::from(opcode) }),
    }
    // The operand is a register whatever the mode bits say.
    let from = usize::from(reader.byte()? & 7 | prefixes.rex_bit(0) << 3);
    Ok(CrWrite { from, length: reader.at as u8 })
}

#[cfg(test)]
mod tests;
