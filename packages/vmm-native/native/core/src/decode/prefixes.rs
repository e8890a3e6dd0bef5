//! Prefixes (manual, volume 3, 1.2), and the sizes that they settle.

use super::{DecodeError, Mode, Reader, Register};
use crate::vmcb::SegmentRegister;

/// The prefixes of an instruction.
pub(super) struct Prefixes {
    pub mode: Mode,
    pub operand_size_override: bool,
    pub address_size_override: bool,
    /// The segment that they name. In 64-bit mode only FS and GS are one.
    pub segment: Option<SegmentRegister>,
    pub lock: bool,
    /// Processors take REPNE for REP where there is nothing to compare.
    pub repeated: bool,
    rex: Option<u8>,
}

impl Prefixes {
    /// Reads all prefixes, and the first byte behind them.
    pub fn read(reader: &mut Reader, mode: Mode) -> Result<(Prefixes, u8), DecodeError> {
        let mut prefixes = Prefixes {
            mode,
            operand_size_override: false,
            address_size_override: false,
            segment: None,
            lock: false,
            repeated: false,
            rex: None,
        };
        loop {
            let byte = reader.byte()?;
            match byte {
                0x66 => prefixes.operand_size_override = true,
                0x67 => prefixes.address_size_override = true,
                0x26 => prefixes.override_segment(SegmentRegister::Es),
                0x2e => prefixes.override_segment(SegmentRegister::Cs),
                0x36 => prefixes.override_segment(SegmentRegister::Ss),
                0x3e => prefixes.override_segment(SegmentRegister::Ds),
                0x64 => prefixes.segment = Some(SegmentRegister::Fs),
                0x65 => prefixes.segment = Some(SegmentRegister::Gs),
                0xf0 => prefixes.lock = true,
                0xf2 | 0xf3 => prefixes.repeated = true,
                0x40..=0x4f if mode == Mode::Bits64 => {
                    prefixes.rex = Some(byte);
                    continue;
                }
                _ => return Ok((prefixes, byte)),
            }
            // A REX prefix counts only directly in front of the opcode.
            prefixes.rex = None;
        }
    }

    /// In 64-bit mode these are no more than bytes (1.2.4).
    fn override_segment(&mut self, segment: SegmentRegister) {
        if self.mode != Mode::Bits64 {
            self.segment = Some(segment);
        }
    }

    /// A bit of REX: B, X, R, W from 0 on.
    pub fn rex_bit(&self, bit: u8) -> u8 {
        self.rex.unwrap_or(0) >> bit & 1
    }

    /// Bytes of operands that are not single bytes.
    pub fn operand_size(&self) -> u8 {
        match (self.rex_bit(3), (self.mode == Mode::Bits16) != self.operand_size_override) {
            (1, _) => 8,
            (_, true) => 2,
            (_, false) => 4,
        }
    }

    /// Bytes of addresses.
    pub fn address_size(&self) -> u8 {
        match (self.mode, self.address_size_override) {
            (Mode::Bits64, false) => 8,
            (Mode::Bits64, true) | (Mode::Bits32, false) | (Mode::Bits16, true) => 4,
            (Mode::Bits32, true) | (Mode::Bits16, false) => 2,
        }
    }

    /// The register that the field of ModRM names, as an operand of `size` bytes.
    pub fn register(&self, field: u8, size: u8) -> Register {
        let high_byte = size == 1 && self.rex.is_none() && field >= 4;
        let number = if high_byte { field - 4 } else { field | self.rex_bit(2) << 3 };
        Register { number: number.into(), high_byte }
    }
}
