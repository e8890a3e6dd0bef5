//! The instruction decoder and objdump (GNU binutils) agree about generated encodings: whether they are of the
//! instructions that the decoder knows, how long they are, and which operands they have.
//!
//! Encodings come from a seed. Set `LEVERET_SEED` for others, and `LEVERET_ENCODINGS` for more of them.

mod support;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use support::{Random, setting};
use vmm_core::decode::{
    Address, Arithmetic, Base, BitOperation, DecodeError, Index, Instruction, Mode, Operation, Register, Source,
    StringOperation, Unary, decode,
};
use vmm_core::vmcb::SegmentRegister;

const DEFAULT_ENCODINGS: u64 = 60_000;
/// How many encodings objdump gets at a time.
const BATCH: u64 = 250_000;
/// Bytes from one encoding to the next.
const SLOT: usize = 16;
const NOP: u8 = 0x90;

/// Opcodes that the decoder knows, and some that it must tell from them.
const ONE_BYTE: &[u8] = &[
    0x00, 0x01, 0x02, 0x03, 0x08, 0x09, 0x0a, 0x0b, 0x10, 0x11, 0x12, 0x13, 0x18, 0x19, 0x1a, 0x1b, 0x20, 0x21, 0x22,
    0x23, 0x28, 0x29, 0x2a, 0x2b, 0x30, 0x31, 0x32, 0x33, 0x38, 0x39, 0x3a, 0x3b, 0x63, 0x6c, 0x6d, 0x6e, 0x6f, 0x80,
    0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xaa, 0xab,
    0xac, 0xad, 0xc6, 0xc7, 0xf6, 0xf7, 0xfe, 0xff,
];
const TWO_BYTES: &[u8] = &[0xa3, 0xab, 0xb3, 0xbb, 0xba, 0xb0, 0xb1, 0xc0, 0xc1, 0xb6, 0xb7, 0xbe, 0xbf, 0xc3];
const PREFIXES: &[u8] = &[0x66, 0x67, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0xf0, 0xf2, 0xf3];
/// Mnemonics of instructions that the decoder knows when they access memory.
const KNOWN: &[&str] = &[
    "add", "or", "adc", "sbb", "and", "sub", "xor", "cmp", "test", "mov", "movzx", "movsx", "movsxd", "movs", "stos",
    "lods", "ins", "outs", "xchg", "xadd", "cmpxchg", "bt", "bts", "btr", "btc", "inc", "dec", "not", "neg", "movnti",
];

/// Fifteen bytes that are likely to begin with an instruction with an operand in memory.
fn encoding(random: &mut Random, mode: Mode) -> [u8; 15] {
    let mut bytes = Vec::new();
    if random.below(2) == 0 {
        for _ in 0..=random.below(3) {
            bytes.push(random.pick(PREFIXES));
        }
    }
    if mode == Mode::Bits64 && random.below(2) == 0 {
        bytes.push(0x40 | random.next() as u8 & 0xf);
    }
    match random.below(16) {
        0 => bytes.push(random.next() as u8),
        1 => bytes.extend([0x0f, random.next() as u8]),
        2..=5 => bytes.extend([0x0f, random.pick(TWO_BYTES)]),
        _ => bytes.push(random.pick(ONE_BYTE)),
    }
    let modrm = random.next() as u8;
    bytes.push(if random.below(8) == 0 { modrm } else { modrm & 0x3f | (random.below(3) as u8) << 6 });
    while bytes.len() < 15 {
        let byte = random.next() as u8;
        bytes.push(if random.below(2) == 0 { byte } else { random.pick(&[0, 1, 0x7f, 0x80, 0xff]) });
    }
    bytes.try_into().expect("fifteen bytes")
}

/// An object file whose code is slots with a symbol each, at which objdump begins anew.
fn object_file(code: &[u8]) -> Vec<u8> {
    const HEADER: u64 = 64;
    const NAMES: &[u8] = b"\0s\0";
    const SECTION_NAMES: &[u8] = b"\0.text\0.symtab\0.strtab\0.shstrtab\0";
    let mut symbols = vec![0; 24];
    for offset in (0..code.len()).step_by(SLOT) {
        // Name 1, a global function of section 1.
        symbols.extend([1, 0, 0, 0, 0x12, 0, 1, 0]);
        symbols.extend((offset as u64).to_le_bytes());
        symbols.extend((SLOT as u64).to_le_bytes());
    }
    let parts: [&[u8]; 4] = [code, &symbols, NAMES, SECTION_NAMES];
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
    file.resize(16, 0);
    // Relocatable, x86-64; no entry, no program headers; where section headers are comes later.
    file.extend([1, 0, 62, 0, 1, 0, 0, 0]);
    file.extend([0; 16]);
    let sections = HEADER + parts.iter().map(|part| part.len() as u64).sum::<u64>();
    file.extend(sections.to_le_bytes());
    file.extend([0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 64, 0, 5, 0, 4, 0]);
    for part in parts {
        file.extend(part);
    }
    // Name, type, flags, link, info, alignment, size of entries.
    let kinds = [
        (1_u64, 1_u64, 6_u64, 0_u64, 0_u64, 16_u64, 0_u64),
        (7, 2, 0, 3, 1, 1, 24),
        (15, 3, 0, 0, 0, 1, 0),
        (23, 3, 0, 0, 0, 1, 0),
    ];
    file.extend([0; 64]);
    let mut offset = HEADER;
    for ((name, kind, flags, link, info, alignment, entry), part) in kinds.into_iter().zip(parts) {
        let length = part.len() as u64;
        file.extend((name | kind << 32).to_le_bytes());
        for value in [flags, 0, offset, length, link | info << 32, alignment, entry] {
            file.extend(value.to_le_bytes());
        }
        offset += length;
    }
    file
}

/// What objdump says about the first instruction of a slot: its length, and its text.
struct Found {
    length: usize,
    text: String,
}

/// What objdump says about each slot.
fn disassemble(code: &[u8], mode: Mode, mut each: impl FnMut(usize, Found)) {
    let path = std::env::temp_dir().join(format!("leveret-encodings-{}", std::process::id()));
    std::fs::write(&path, object_file(code)).expect("a place for the object file");
    let machine = match mode {
        Mode::Bits16 => "i8086",
        Mode::Bits32 => "i386",
        Mode::Bits64 => "x86-64",
    };
    let arguments = ["-d", "-w", "-M"];
    let mut objdump = Command::new("objdump")
        .args(arguments)
        .arg(format!("intel,{machine}"))
        .arg(&path)
        .env("LC_ALL", "C")
        .stdout(Stdio::piped())
        .spawn()
        .expect("objdump, which was there");
    let mut lines = BufReader::new(objdump.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
    let mut slot = 0;
    while let Some(line) = lines.next() {
        if !line.ends_with("<s>:") {
            continue;
        }
        let line = lines.next().expect("an instruction behind each symbol");
        let mut columns = line.split('\t').skip(1);
        let length = columns.next().map_or(0, |bytes| bytes.split_whitespace().count());
        each(slot, Found { length, text: columns.next().unwrap_or_default().trim().into() });
        slot += 1;
    }
    assert!(objdump.wait().expect("it ends").success());
    std::fs::remove_file(&path).expect("it was there");
    assert_eq!(slot * SLOT, code.len(), "every slot");
}

fn register_name(register: Register, size: u8) -> String {
    const LEGACY: [&str; 8] = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
    const BYTES: [&str; 8] = ["al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil"];
    const HIGH_BYTES: [&str; 4] = ["ah", "ch", "dh", "bh"];
    let Register { number, high_byte } = register;
    match (number, size) {
        _ if high_byte => HIGH_BYTES[number].into(),
        (8.., _) => format!(
            "r{number}{}",
            match size {
                1 => "b",
                2 => "w",
                4 => "d",
                _ => "",
            }
        ),
        (_, 1) => BYTES[number].into(),
        (_, 2) => LEGACY[number].into(),
        (_, 4) => format!("e{}", LEGACY[number]),
        _ => format!("r{}", LEGACY[number]),
    }
}

fn mask(value: u64, size: u8) -> u64 {
    value & u64::MAX >> (64 - u32::from(size) * 8)
}

fn size_name(size: u8) -> &'static str {
    match size {
        1 => "BYTE",
        2 => "WORD",
        4 => "DWORD",
        _ => "QWORD",
    }
}

/// An operand in memory in a form that both sides are brought to.
fn memory_text(size: &str, segment: &str, base: &str, index: &str, displacement: u64) -> String {
    format!("{size} {segment}:[{base}+{index}+{displacement:#x}]")
}

fn our_memory(address: &Address, size: u8, mode: Mode) -> String {
    let segment = match address.segment {
        SegmentRegister::Fs => "fs",
        SegmentRegister::Gs => "gs",
        _ if mode == Mode::Bits64 => "-",
        SegmentRegister::Es => "es",
        SegmentRegister::Cs => "cs",
        SegmentRegister::Ss => "ss",
        _ => "ds",
    };
    let name = |number| register_name(Register { number, high_byte: false }, address.size);
    let base = match address.base {
        Base::None => String::new(),
        Base::Register(number) => name(number),
        Base::NextInstruction => if address.size == 4 { "eip" } else { "rip" }.into(),
    };
    let index = address.index.map_or(String::new(), |Index { register, scale }| format!("{}*{scale}", name(register)));
    memory_text(size_name(size), segment, &base, &index, mask(address.displacement, address.size))
}

/// The instruction as text, operands in the form of [`memory_text`].
fn our_text(instruction: &Instruction, mode: Mode) -> String {
    let Instruction { operation, size, address, .. } = instruction;
    let size = *size;
    let memory = our_memory(address, size, mode);
    let source = |source: Source| match source {
        Source::Register(register) => register_name(register, size),
        Source::Constant(value) => format!("{:#x}", mask(value, size)),
    };
    let binary = |what: Arithmetic| format!("{what:?}").to_lowercase();
    let name = |register| register_name(register, size);
    match *operation {
        Operation::Load { to, result, signed } => {
            let mnemonic = match (size == result, signed, size) {
                (true, false, _) => "mov",
                (_, true, 4) => "movsxd",
                (_, true, _) => "movsx",
                (false, false, _) => "movzx",
            };
            format!("{mnemonic} {},{memory}", register_name(to, result))
        }
        Operation::Store { from } => format!("mov {memory},{}", source(from)),
        Operation::Modify { what, with } => format!("{} {memory},{}", binary(what), source(with)),
        Operation::Combine { what, to } => format!("{} {},{memory}", binary(what), name(to)),
        Operation::Unary(what) => {
            let mnemonic = match what {
                Unary::Inc => "inc",
                Unary::Dec => "dec",
                Unary::Not => "not",
                Unary::Neg => "neg",
            };
            format!("{mnemonic} {memory}")
        }
        Operation::Exchange(register) => format!("xchg {memory},{}", name(register)),
        Operation::ExchangeAdd(register) => format!("xadd {memory},{}", name(register)),
        Operation::CompareExchange(register) => format!("cmpxchg {memory},{}", name(register)),
        Operation::Bit { what, index } => {
            let mnemonic = match what {
                BitOperation::Test => "bt",
                BitOperation::Set => "bts",
                BitOperation::Reset => "btr",
                BitOperation::Complement => "btc",
            };
            format!("{mnemonic} {memory},{}", source(index))
        }
        Operation::String { what, .. } => {
            let accumulator = name(Register::RAX);
            let destination = Address { segment: SegmentRegister::Es, base: Base::Register(7), ..*address };
            let destination = our_memory(&destination, size, mode);
            match what {
                StringOperation::Move => format!("movs {destination},{memory}"),
                StringOperation::Store => format!("stos {memory},{accumulator}"),
                StringOperation::Load => format!("lods {accumulator},{memory}"),
                StringOperation::Input => format!("ins {memory},dx"),
                StringOperation::Output => format!("outs dx,{memory}"),
            }
        }
    }
}

/// Brings an operand of objdump's into the form of [`memory_text`]; others stay as they are.
fn their_operand(operand: &str, mode: Mode, address_size: u8) -> String {
    let Some((size, rest)) = operand.split_once(" PTR ") else { return operand.into() };
    let (segment, rest) = match rest.as_bytes() {
        [_, b's', b':', ..] => (Some(&rest[..2]), &rest[3..]),
        _ => (None, rest),
    };
    let inner = rest.trim_start_matches('[').trim_end_matches(']').replace('-', "+-");
    let (mut base, mut index, mut displacement) = (String::new(), String::new(), 0_u64);
    for term in inner.split('+').filter(|term| !term.is_empty()) {
        let (negative, number) = term.strip_prefix('-').map_or((false, term), |number| (true, number));
        if let Some(digits) = number.strip_prefix("0x") {
            let value = u64::from_str_radix(digits, 16).expect("a number");
            displacement = displacement.wrapping_add(if negative { value.wrapping_neg() } else { value });
        } else if term.contains("iz") {
            // Objdump's name for an index that is none.
        } else if term.contains('*') {
            index = term.into();
        } else if base.is_empty() {
            base = term.into();
        } else {
            index = format!("{term}*1");
        }
    }
    let usual = if matches!(base.as_str(), "rsp" | "rbp" | "esp" | "ebp" | "bp") { "ss" } else { "ds" };
    let segment = match segment.unwrap_or(usual) {
        segment if mode == Mode::Bits64 && !matches!(segment, "fs" | "gs") => "-",
        segment => segment,
    };
    memory_text(size, segment, &base, &index, mask(displacement, address_size))
}

/// The number of a bit as its instruction takes it: objdump prints the constant as it is encoded.
fn bit_number(operands: &str, mnemonic: &str, size: u8) -> String {
    match operands.rsplit_once(",0x") {
        Some((memory, digits)) if matches!(mnemonic, "bt" | "bts" | "btr" | "btc") => {
            let index = u64::from_str_radix(digits, 16).expect("a number");
            format!("{memory},{:#x}", index % (u64::from(size) * 8))
        }
        _ => operands.into(),
    }
}

/// Objdump's text without prefixes: the mnemonic, and the rest.
fn without_prefixes(text: &str) -> (&str, &str) {
    let mut rest = text.split('#').next().unwrap_or_default().trim();
    loop {
        let (word, behind) = rest.split_once(' ').unwrap_or((rest, ""));
        let prefix = word.starts_with("rex")
            || matches!(
                word,
                "data16"
                    | "data32"
                    | "addr16"
                    | "addr32"
                    | "lock"
                    | "rep"
                    | "repz"
                    | "repnz"
                    | "es"
                    | "cs"
                    | "ss"
                    | "ds"
                    | "fs"
                    | "gs"
                    | "xacquire"
                    | "xrelease"
                    | "bnd"
                    | "notrack"
            );
        if !prefix || behind.is_empty() {
            return (word, behind.trim());
        }
        rest = behind.trim();
    }
}

fn their_text(text: &str, mode: Mode, instruction: &Instruction) -> String {
    let address_size = instruction.address.size;
    let (mnemonic, operands) = without_prefixes(text);
    let operands = bit_number(operands, mnemonic, instruction.size);
    let mnemonic = match mnemonic {
        "movabs" | "movnti" => "mov",
        // Of 16 bits to 16 bits.
        "movzx" if matches!(instruction.operation, Operation::Load { result: 2, .. }) && instruction.size == 2 => "mov",
        other => other,
    };
    let mut out = String::from(mnemonic);
    // The offset of a MOV without ModRM is said without a size.
    let accumulator = operands.split(',').find_map(|operand| {
        let size = match operand {
            "al" => "BYTE",
            "ax" => "WORD",
            "eax" => "DWORD",
            "rax" => "QWORD",
            _ => return None,
        };
        Some(size)
    });
    for (index, operand) in operands.split(',').enumerate() {
        let sized = accumulator.filter(|_| operand.contains("s:0x") && !operand.contains("PTR"));
        let operand = &sized.map_or(operand.into(), |size| format!("{size} PTR {operand}"));
        let separator = if index == 0 { ' ' } else { ',' };
        write!(out, "{separator}{}", their_operand(operand, mode, address_size)).expect("strings take everything");
    }
    out
}

/// Why it is no mistake that the decoder refuses what objdump calls by a known name, if it is none.
fn rightly_refused(error: DecodeError, bytes: &[u8], mnemonic: &str, operands: &str) -> bool {
    let memory = operands.contains('[') || operands.contains("s:0x");
    let segment_register =
        operands.split(',').any(|operand| matches!(operand, "es" | "cs" | "ss" | "ds" | "fs" | "gs" | "?"));
    !KNOWN.contains(&mnemonic)
        || !memory
        || (mnemonic == "mov" && segment_register)
        || (error == DecodeError::Lock && bytes.contains(&0xf0))
        // MOVSXD of 16 bits, whose operand the makers of processors disagree about.
        || (mnemonic == "movsxd" && error == DecodeError::Unknown { opcode: 0x63 })
        // Encodings of later processors, which have none of these in a machine that we make.
        || matches!(error, DecodeError::Unknown { opcode: 0x62 | 0xc4 | 0xc5 | 0xd5 })
}

#[test]
fn the_decoder_agrees_with_objdump() {
    let objdump = Command::new("objdump").arg("--version").output();
    let Ok(version) = objdump else {
        assert!(std::env::var("REQUIRE_ORACLES").is_err(), "no objdump in PATH (apt install binutils)");
        println!("skipped: no objdump in PATH (apt install binutils)");
        return;
    };
    let version = String::from_utf8_lossy(&version.stdout).lines().next().unwrap_or_default().to_owned();
    let seed = setting("LEVERET_SEED", 0x1ead_beef_cafe_f00d);
    let encodings = setting("LEVERET_ENCODINGS", DEFAULT_ENCODINGS);
    println!("seed {seed}, {encodings} encodings, {version}");
    let mut random = Random::new(seed);
    let mut mismatches = Vec::new();
    let mut mismatched = 0;
    let (mut known, mut refused, mut split) = (BTreeMap::<String, u64>::new(), 0_u64, 0_u64);
    let mut left = encodings;
    for mode in [Mode::Bits16, Mode::Bits32, Mode::Bits64, Mode::Bits64].into_iter().cycle() {
        if left == 0 {
            break;
        }
        let batch = left.min(BATCH).min(encodings.div_ceil(4));
        left -= batch;
        let mut code = Vec::with_capacity(batch as usize * SLOT);
        for _ in 0..batch {
            let mut bytes = encoding(&mut random, mode);
            // What follows is one long NOP, so that objdump has little to say.
            if let Ok(instruction) = decode(&bytes, mode) {
                let rest = &mut bytes[instruction.length.into()..];
                rest.fill(0x66);
            }
            code.extend(bytes);
            code.push(NOP);
        }
        disassemble(&code, mode, |slot, found| {
            let bytes = &code[slot * SLOT..][..15];
            // Of a REX prefix in front of another prefix, which does nothing, objdump makes an instruction.
            if without_prefixes(&found.text).0.starts_with("rex") {
                split += 1;
                return;
            }
            let complain = match decode(bytes, mode) {
                Ok(instruction) => {
                    let ours = our_text(&instruction, mode);
                    *known.entry(ours.split(' ').next().unwrap_or_default().into()).or_default() += 1;
                    let theirs = their_text(&found.text, mode, &instruction);
                    let agree = ours == theirs && usize::from(instruction.length) == found.length;
                    (!agree).then(|| format!("{ours} ({}), objdump {theirs} ({})", instruction.length, found.length))
                }
                Err(error) => {
                    refused += 1;
                    let (mnemonic, operands) = without_prefixes(&found.text);
                    let right = rightly_refused(error, bytes, mnemonic, operands);
                    (!right).then(|| format!("{error:?}, objdump {}", found.text))
                }
            };
            if let Some(complaint) = complain {
                mismatched += 1;
                if mismatches.len() < 20 {
                    mismatches.push(format!("{mode:?} {bytes:02x?}: {complaint}"));
                }
            }
        });
    }
    println!("{refused} refused, {split} not compared; {known:?}");
    assert!(mismatches.is_empty(), "{mismatched} of {encodings} differ, among them\n{}", mismatches.join("\n"));
    assert!(refused < encodings / 2 && split < encodings / 100, "most are instructions that the decoder knows");
}
