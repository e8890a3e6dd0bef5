use super::*;
use crate::processor::register::{RAX, RBP, RBX, RDI, RSI};
use crate::vmcb::SegmentRegister;
use Operation::{Combine, Load, Modify, Store};
use Source::Constant;

const fn reg(number: usize) -> Register {
    Register { number, high_byte: false }
}

const fn load(number: usize, size: u8) -> Operation {
    Load { to: reg(number), result: size, signed: false }
}

const fn store(number: usize) -> Operation {
    Store { from: Source::Register(reg(number)) }
}

// Encoded by GNU as 2.40.
const CASES: [(&str, Mode, &[u8], u8, Operation); 25] = [
    ("mov eax, [rdi]", Mode::Bits64, &[0x8b, 0x07], 4, load(0, 4)),
    ("mov eax, [rdi-0xa03000]", Mode::Bits64, &[0x8b, 0x87, 0x00, 0xd0, 0x5f, 0xff], 4, load(0, 4)),
    ("mov r9, [r12]", Mode::Bits64, &[0x4d, 0x8b, 0x0c, 0x24], 8, load(9, 8)),
    ("mov [r13+0], r15d", Mode::Bits64, &[0x45, 0x89, 0x7d, 0x00], 4, store(15)),
    (
        "mov [rdi], ch",
        Mode::Bits64,
        &[0x88, 0x2f],
        1,
        Store { from: Source::Register(Register { number: 1, high_byte: true }) },
    ),
    ("mov [rdi], bpl", Mode::Bits64, &[0x40, 0x88, 0x2f], 1, store(5)),
    (
        "mov dword ptr [rdi], -2",
        Mode::Bits64,
        &[0xc7, 0x07, 0xfe, 0xff, 0xff, 0xff],
        4,
        Store { from: Constant(-2_i64 as u64) },
    ),
    ("mov qword ptr [r8+8], 5", Mode::Bits64, &[0x49, 0xc7, 0x40, 0x08, 5, 0, 0, 0], 8, Store { from: Constant(5) }),
    ("mov word ptr [rdi], 0x1234", Mode::Bits64, &[0x66, 0xc7, 0x07, 0x34, 0x12], 2, Store { from: Constant(0x1234) }),
    ("movzx esp, byte ptr [rdi]", Mode::Bits64, &[0x0f, 0xb6, 0x27], 1, Load { to: reg(4), result: 4, signed: false }),
    (
        "movsx r10, word ptr [rdi]",
        Mode::Bits64,
        &[0x4c, 0x0f, 0xbf, 0x17],
        2,
        Load { to: reg(10), result: 8, signed: true },
    ),
    ("movsxd rcx, dword ptr [rdi]", Mode::Bits64, &[0x48, 0x63, 0x0f], 4, Load { to: reg(1), result: 8, signed: true }),
    ("movabs al, [0xfec00000]", Mode::Bits64, &[0xa0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0], 1, load(0, 1)),
    ("addr32 mov [0xfec00000], eax", Mode::Bits64, &[0x67, 0xa3, 0, 0, 0xc0, 0xfe], 4, store(0)),
    ("movnti [rdi], eax", Mode::Bits64, &[0x0f, 0xc3, 0x07], 4, store(0)),
    (
        "or dword ptr [rdi], 0x10000",
        Mode::Bits64,
        &[0x81, 0x0f, 0, 0, 1, 0],
        4,
        Modify { what: Arithmetic::Or, with: Constant(0x1_0000) },
    ),
    ("test byte ptr [rdi], 2", Mode::Bits64, &[0xf6, 0x07, 2], 1, Modify { what: Arithmetic::Test, with: Constant(2) }),
    ("cmp ebx, [rdi]", Mode::Bits64, &[0x3b, 0x1f], 4, Combine { what: Arithmetic::Cmp, to: reg(3) }),
    ("lock not dword ptr [rdi]", Mode::Bits64, &[0xf0, 0xf7, 0x17], 4, Operation::Unary(Unary::Not)),
    ("xchg [rdi], eax", Mode::Bits64, &[0x87, 0x07], 4, Operation::Exchange(reg(0))),
    ("lock xadd [rdi], ecx", Mode::Bits64, &[0xf0, 0x0f, 0xc1, 0x0f], 4, Operation::ExchangeAdd(reg(1))),
    ("lock cmpxchg [rdi], cl", Mode::Bits64, &[0xf0, 0x0f, 0xb0, 0x0f], 1, Operation::CompareExchange(reg(1))),
    (
        "bts dword ptr [rdi], 33",
        Mode::Bits64,
        &[0x0f, 0xba, 0x2f, 33],
        4,
        Operation::Bit { what: BitOperation::Set, index: Constant(1) },
    ),
    (
        "rep insw",
        Mode::Bits64,
        &[0xf3, 0x66, 0x6d],
        2,
        Operation::String { what: StringOperation::Input, repeated: true },
    ),
    ("stosq", Mode::Bits64, &[0x48, 0xab], 8, Operation::String { what: StringOperation::Store, repeated: false }),
];

#[test]
fn instructions_are_what_the_assembler_made_them_from() {
    for (text, mode, bytes, size, operation) in CASES {
        let followed = [bytes, &[0x90; 15]].concat();
        let found = decode(&followed, mode).unwrap();
        assert_eq!((found.operation, found.size, usize::from(found.length)), (operation, size, bytes.len()), "{text}");
    }
}

#[test]
fn addresses_are_what_the_assembler_made_them_from() {
    const DS: SegmentRegister = SegmentRegister::Ds;
    let address = |segment, base, index: Option<(usize, u8)>, displacement: i64, size| Address {
        segment,
        base,
        index: index.map(|(register, scale)| Index { register, scale }),
        displacement: displacement as u64,
        size,
    };
    let register = Base::Register;
    for (text, mode, bytes, expected) in [
        (
            "[rax+rbx*8+0x12345678]",
            Mode::Bits64,
            &[0x8b, 0x8c, 0xd8, 0x78, 0x56, 0x34, 0x12][..],
            address(DS, register(RAX), Some((RBX, 8)), 0x1234_5678, 8),
        ),
        (
            "[rip-2]",
            Mode::Bits64,
            &[0x8b, 0x15, 0xfe, 0xff, 0xff, 0xff],
            address(DS, Base::NextInstruction, None, -2, 8),
        ),
        (
            "[rbx*4+0x10]",
            Mode::Bits64,
            &[0x8b, 0x14, 0x9d, 0x10, 0, 0, 0],
            address(DS, Base::None, Some((RBX, 4)), 0x10, 8),
        ),
        ("gs:[edi]", Mode::Bits64, &[0x65, 0x67, 0x8b, 0x07], address(SegmentRegister::Gs, register(RDI), None, 0, 4)),
        ("es:[rdi] is [rdi]", Mode::Bits64, &[0x26, 0x8b, 0x07], address(DS, register(RDI), None, 0, 8)),
        ("[ebp+8]", Mode::Bits32, &[0x8b, 0x45, 0x08], address(SegmentRegister::Ss, register(RBP), None, 8, 4)),
        (
            "[0x12345678]",
            Mode::Bits32,
            &[0x8b, 0x05, 0x78, 0x56, 0x34, 0x12],
            address(DS, Base::None, None, 0x1234_5678, 4),
        ),
        (
            "[bp+si-1]",
            Mode::Bits16,
            &[0x8b, 0x42, 0xff],
            address(SegmentRegister::Ss, register(RBP), Some((RSI, 1)), -1, 2),
        ),
        (
            "cs:[0x1234]",
            Mode::Bits16,
            &[0x2e, 0x8b, 0x06, 0x34, 0x12],
            address(SegmentRegister::Cs, Base::None, None, 0x1234, 2),
        ),
    ] {
        assert_eq!(decode(bytes, mode).unwrap().address, expected, "{text}");
    }
}

#[test]
fn offsets_wrap_around_at_the_size_of_addresses() {
    let mut general = [0; 16];
    (general[RAX], general[RBX]) = (0xffff_fff0, 0x1_0000_0010);
    let offset = |bytes: &[u8], mode| decode(bytes, mode).unwrap().address.offset(&general, 0x7000);
    assert_eq!(offset(&[0x8b, 0x4c, 0x98, 0x08], Mode::Bits64), 0x5_0000_0038); // [rax+rbx*4+8]
    assert_eq!(offset(&[0x67, 0x8b, 0x4c, 0x98, 0x08], Mode::Bits64), 0x38);
    assert_eq!(offset(&[0x8b, 0x15, 0xfe, 0xff, 0xff, 0xff], Mode::Bits64), 0x6ffe);
    assert_eq!(offset(&[0x8b, 0x07], Mode::Bits16), 0x10); // [bx]
}

#[test]
fn a_part_of_an_instruction_is_none() {
    for (text, mode, bytes, ..) in CASES {
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length], mode), Err(DecodeError::Truncated), "{text}, {length}");
        }
    }
}

#[test]
fn other_instructions_are_named() {
    for (bytes, error) in [
        (&[0xff, 0x37][..], DecodeError::Unknown { opcode: 0xff }), // push [rdi]
        (&[0x0f, 0xc7, 0x0f], DecodeError::Unknown { opcode: 0x0fc7 }), // cmpxchg8b [rdi]
        (&[0xc7, 0x0f, 0, 0, 0, 0], DecodeError::Unknown { opcode: 0xc7 }),
        (&[0x0f, 0xba, 0x07, 1], DecodeError::Unknown { opcode: 0x0fba }),
        (&[0x66, 0x63, 0x07], DecodeError::Unknown { opcode: 0x63 }),
        (&[0x66, 0x0f, 0xc3, 0x07], DecodeError::Unknown { opcode: 0x0fc3 }),
        (&[0x8b, 0xc0], DecodeError::NoMemory),
        (&[0xf0, 0x8b, 0x07], DecodeError::Lock),
        (&[0xf0, 0x39, 0x07], DecodeError::Lock),
    ] {
        assert_eq!(decode(bytes, Mode::Bits64), Err(error), "{bytes:02x?}");
    }
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
                let _ = found.address.offset(&[u64::MAX; 16], u64::MAX);
            }
        }
    }
    assert_eq!(decode(&[0x66; 16], Mode::Bits64), Err(DecodeError::Truncated));
}
