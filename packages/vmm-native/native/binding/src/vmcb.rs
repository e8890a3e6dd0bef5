//! Control blocks: fields by name, rules, and why a guest stopped.

use crate::functions::argument;
use crate::value::{Failure, Value};
use vmm_core::consistency::{Capabilities, broken};
use vmm_core::exit::Exit;
use vmm_core::vmcb::{FIELDS, Field, INTERCEPT_WORDS, Segment, SegmentRegister, Vmcb};

const SEGMENTS: [(&str, SegmentRegister); 10] = [
    ("es", SegmentRegister::Es),
    ("cs", SegmentRegister::Cs),
    ("ss", SegmentRegister::Ss),
    ("ds", SegmentRegister::Ds),
    ("fs", SegmentRegister::Fs),
    ("gs", SegmentRegister::Gs),
    ("gdtr", SegmentRegister::Gdtr),
    ("ldtr", SegmentRegister::Ldtr),
    ("idtr", SegmentRegister::Idtr),
    ("tr", SegmentRegister::Tr),
];

fn block(value: &Value) -> Result<Vmcb, Failure> {
    let bytes = value.bytes("a control block")?;
    let bytes: &[u8; 4096] = bytes.try_into().map_err(|_| {
        Failure::new("VMM_TRUNCATED", format_args!("expected a control block of 4096 bytes, got {}", bytes.len()))
    })?;
    Ok(Vmcb::from_bytes(*bytes))
}

/// The name of a field as JavaScript has it.
fn camel_case(name: &str) -> String {
    let mut parts = name.split('_');
    let mut out = String::from(parts.next().unwrap_or_default());
    for part in parts {
        out.push_str(&part[..1].to_uppercase());
        out.push_str(&part[1..]);
    }
    out
}

/// (block) -> { fields, segments, intercepts }
pub fn decode(arguments: &[Value]) -> Result<Value, Failure> {
    let vmcb = block(argument(arguments, 0))?;
    let fields = FIELDS.iter().map(|field| (camel_case(field.name), number(vmcb.number(*field), field.size)));
    let segments = SEGMENTS.map(|(name, register)| {
        let Segment { selector, attributes, limit, base } = vmcb.segment(register);
        let value = Value::object([
            ("selector", u32::from(selector).into()),
            ("attributes", u32::from(attributes).into()),
            ("limit", limit.into()),
            ("base", base.into()),
        ]);
        (name, value)
    });
    let intercepts = (0..INTERCEPT_WORDS).map(|word| vmcb.intercept_word(word).into());
    Ok(Value::object([
        ("fields", Value::Object(fields.collect())),
        ("segments", Value::object(segments)),
        ("intercepts", Value::List(intercepts.collect())),
    ]))
}

/// 64 bits are a bigint, fewer a number.
fn number(value: u64, size: u8) -> Value {
    if size == 8 { value.into() } else { Value::Number(value as f64) }
}

/// ({ fields, segments, intercepts }) -> block
pub fn encode(arguments: &[Value]) -> Result<Value, Failure> {
    let value = argument(arguments, 0);
    let mut vmcb = Vmcb::new();
    let fields = value.get("fields");
    for field @ Field { name, size, .. } in FIELDS {
        let name = camel_case(name);
        vmcb.set_number(field, fields.get(&name).integer(size, &name)?);
    }
    for (name, register) in SEGMENTS {
        let segment = value.get("segments").get(name);
        let part = |part: &str, size| segment.get(part).integer(size, &format!("{name}.{part}"));
        let segment = Segment {
            selector: part("selector", 2)? as u16,
            attributes: part("attributes", 2)? as u16,
            limit: part("limit", 4)? as u32,
            base: part("base", 8)?,
        };
        vmcb.set_segment(register, segment);
    }
    let words = value.get("intercepts").list("intercepts")?;
    if words.len() != INTERCEPT_WORDS {
        return Err(Failure::argument(format_args!("{INTERCEPT_WORDS} words of intercepts")));
    }
    for (index, word) in words.iter().enumerate() {
        vmcb.set_intercept_word(index, word.integer(4, "a word of intercepts")? as u32);
    }
    Ok(Value::Bytes(vmcb.as_bytes().to_vec()))
}

/// (block, capabilities) -> [{ rule, section, text }]
pub fn check(arguments: &[Value]) -> Result<Value, Failure> {
    let vmcb = block(argument(arguments, 0))?;
    let wanted = argument(arguments, 1);
    let bits = wanted.get("physicalAddressBits").integer(1, "physicalAddressBits")? as u8;
    if !(32..=52).contains(&bits) {
        return Err(Failure::argument("physicalAddressBits from 32 to 52"));
    }
    let capabilities = Capabilities {
        physical_address_bits: bits,
        long_mode: wanted.get("longMode").boolean("longMode")?,
        cr4: wanted.get("cr4").integer(8, "cr4")?,
        efer: wanted.get("efer").integer(8, "efer")?,
        shadow_stacks: wanted.get("shadowStacks").boolean("shadowStacks")?,
        virtual_nmi: wanted.get("virtualNmi").boolean("virtualNmi")?,
        host_paging: wanted.get("hostPaging").boolean("hostPaging")?,
    };
    let violations = broken(&vmcb, &capabilities).map(|rule| {
        Value::object([
            ("rule", rule.name().into()),
            ("section", rule.section().into()),
            ("expected", rule.to_string().into()),
        ])
    });
    Ok(Value::List(violations.collect()))
}

/// (block) -> { reason, text }
pub fn decode_exit(arguments: &[Value]) -> Result<Value, Failure> {
    let exit = Exit::decode(&block(argument(arguments, 0))?);
    Ok(Value::object([("reason", exit.name().into()), ("text", exit.to_string().into())]))
}
