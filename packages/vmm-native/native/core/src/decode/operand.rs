//! Operands in memory (manual, volume 3, 1.4 to 1.7).

use super::prefixes::Prefixes;
use super::{DecodeError, Reader};
use crate::processor::register::{RBP, RBX, RDI, RSI, RSP};
use crate::vmcb::SegmentRegister;

/// A general register, or a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register {
    /// Its number.
    pub number: usize,
    /// AH, CH, DH or BH: bits 15:8 of the register with the number.
    pub high_byte: bool,
}

impl Register {
    /// RAX, or its lowest bytes.
    pub const RAX: Register = Register { number: 0, high_byte: false };
}

/// What an address begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    None,
    /// The general register of this number.
    Register(usize),
    /// Where the next instruction begins.
    NextInstruction,
}

/// A register that an address adds some times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index {
    /// Its number.
    pub register: usize,
    /// How often: 1, 2, 4 or 8 times.
    pub scale: u8,
}

/// How the address of an operand comes about: base, index and displacement, added up to `size` bytes, in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The segment. In 64-bit mode all but FS and GS begin at 0.
    pub segment: SegmentRegister,
    /// What it begins with.
    pub base: Base,
    /// What is added some times.
    pub index: Option<Index>,
    /// What is added besides, its sign extended to 64 bits.
    pub displacement: u64,
    /// Bytes of the sum that count: 2, 4 or 8.
    pub size: u8,
}

impl Address {
    /// The offset of a MOV between rAX and memory, which has no ModRM.
    pub(super) fn absolute(reader: &mut Reader, prefixes: &Prefixes) -> Result<Address, DecodeError> {
        let size = prefixes.address_size();
        let displacement = reader.signed(size)? & u64::MAX >> (64 - u32::from(size) * 8);
        let segment = prefixes.segment.unwrap_or(SegmentRegister::Ds);
        Ok(Address { segment, base: Base::None, index: None, displacement, size })
    }

    /// Where string instructions take elements from.
    pub(super) fn source(prefixes: &Prefixes) -> Address {
        Address {
            segment: prefixes.segment.unwrap_or(SegmentRegister::Ds),
            base: Base::Register(RSI),
            index: None,
            displacement: 0,
            size: prefixes.address_size(),
        }
    }

    /// Where string instructions put elements, which no prefix changes.
    pub(super) fn destination(prefixes: &Prefixes) -> Address {
        let size = prefixes.address_size();
        Address { segment: SegmentRegister::Es, base: Base::Register(RDI), index: None, displacement: 0, size }
    }

    /// The sum, which is an offset in the segment, for general registers and the address of the next instruction.
    pub fn offset(&self, general: &[u64; 16], next_instruction: u64) -> u64 {
        let base = match self.base {
            Base::None => 0,
            Base::Register(number) => general[number],
            Base::NextInstruction => next_instruction,
        };
        let index = self.index.map_or(0, |Index { register, scale }| general[register].wrapping_mul(scale.into()));
        base.wrapping_add(index).wrapping_add(self.displacement) & u64::MAX >> (64 - u32::from(self.size) * 8)
    }
}

/// What ModRM says, with what belongs to it.
pub(super) struct Operands {
    /// Bits 5:3: a register, or a part of the opcode.
    pub field: u8,
    /// The operand in memory.
    pub address: Address,
}

impl Operands {
    /// Reads ModRM, SIB and displacement.
    pub fn read(reader: &mut Reader, prefixes: &Prefixes) -> Result<Operands, DecodeError> {
        let modrm = reader.byte()?;
        let (mode, field, memory) = (modrm >> 6, modrm >> 3 & 7, modrm & 7);
        if mode == 3 {
            return Err(DecodeError::NoMemory);
        }
        let size = prefixes.address_size();
        let (base, index, displacement_size) = if size == 2 {
            let (base, index) = pair(mode, memory);
            let displacement_size = match (mode, memory) {
                (0, 6) | (2, _) => 2,
                (1, _) => 1,
                _ => 0,
            };
            (base, index, displacement_size)
        } else {
            let (base, index) = if memory == 4 { sib(reader.byte()?, prefixes) } else { (memory, None) };
            let displacement_size = match (mode, base) {
                (0, 5) | (2, _) => 4,
                (1, _) => 1,
                _ => 0,
            };
            let base = match (mode, base) {
                // Without SIB, 64-bit mode has the next instruction in the place of nothing (1.7).
                (0, 5) if memory == 5 && prefixes.mode == super::Mode::Bits64 => Base::NextInstruction,
                (0, 5) => Base::None,
                _ => Base::Register((base | prefixes.rex_bit(0) << 3).into()),
            };
            (base, index, displacement_size)
        };
        let displacement = reader.signed(displacement_size)?;
        let usual = match base {
            Base::Register(RSP | RBP) => SegmentRegister::Ss,
            _ => SegmentRegister::Ds,
        };
        let segment = prefixes.segment.unwrap_or(usual);
        Ok(Operands { field, address: Address { segment, base, index, displacement, size } })
    }
}

/// Base and index of addresses of 16 bits.
fn pair(mode: u8, memory: u8) -> (Base, Option<Index>) {
    let base = match memory {
        0 | 1 | 7 => Base::Register(RBX),
        6 if mode == 0 => Base::None,
        2 | 3 | 6 => Base::Register(RBP),
        4 => Base::Register(RSI),
        _ => Base::Register(RDI),
    };
    let index = match memory {
        0 | 2 => Some(RSI),
        1 | 3 => Some(RDI),
        _ => None,
    };
    (base, index.map(|register| Index { register, scale: 1 }))
}

/// The base's number without REX, and the index, of a SIB byte.
fn sib(sib: u8, prefixes: &Prefixes) -> (u8, Option<Index>) {
    let register = usize::from(sib >> 3 & 7 | prefixes.rex_bit(1) << 3);
    let index = Some(Index { register, scale: 1 << (sib >> 6) }).filter(|index| index.register != RSP);
    (sib & 7, index)
}
