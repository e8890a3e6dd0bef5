//! Instructions that access memory.

use crate::functions::argument;
use crate::value::{Failure, Value};
use vmm_core::decode::{Address, Base, Index, Instruction, Mode, Operation, Register, Source, decode as decode_bytes};

/// (bytes, mode) -> { operation, size, length, address, ... }
pub fn decode(arguments: &[Value]) -> Result<Value, Failure> {
    let bytes = argument(arguments, 0).bytes("an instruction")?;
    let mode = match argument(arguments, 1).integer(1, "mode")? {
        16 => Mode::Bits16,
        32 => Mode::Bits32,
        64 => Mode::Bits64,
        _ => return Err(Failure::argument("mode 16, 32 or 64")),
    };
    let Instruction { operation, size, address, length } =
        decode_bytes(bytes, mode).map_err(|error| Failure::new("VMM_BAD_INSTRUCTION", error))?;
    let mut properties =
        vec![("length".into(), length.into()), ("size".into(), size.into()), ("address".into(), place(address))];
    let Value::Object(more) = details(operation) else { unreachable!("details are an object") };
    properties.extend(more);
    Ok(Value::Object(properties))
}

fn place(Address { segment, base, index, displacement, size }: Address) -> Value {
    let base = match base {
        Base::None => Value::Undefined,
        Base::Register(number) => (number as u32).into(),
        Base::NextInstruction => "next-instruction".into(),
    };
    let index = index.map_or(Value::Undefined, |Index { register, scale }| {
        Value::object([("register", (register as u32).into()), ("scale", scale.into())])
    });
    Value::object([
        ("segment", format!("{segment:?}").to_lowercase().into()),
        ("base", base),
        ("index", index),
        ("displacement", displacement.into()),
        ("size", size.into()),
    ])
}

fn register(Register { number, high_byte }: Register) -> Value {
    Value::object([("register", (number as u32).into()), ("highByte", high_byte.into())])
}

fn source(source: Source) -> Value {
    match source {
        Source::Register(found) => register(found),
        Source::Constant(value) => Value::object([("constant", value.into())]),
    }
}

fn details(operation: Operation) -> Value {
    let lower = |what: &dyn std::fmt::Debug| Value::from(format!("{what:?}").to_lowercase());
    match operation {
        Operation::Load { to, result, signed } => Value::object([
            ("operation", "load".into()),
            ("to", register(to)),
            ("resultSize", result.into()),
            ("signed", signed.into()),
        ]),
        Operation::Store { from } => Value::object([("operation", "store".into()), ("from", source(from))]),
        Operation::Modify { what, with } => {
            Value::object([("operation", "modify".into()), ("what", lower(&what)), ("from", source(with))])
        }
        Operation::Combine { what, to } => {
            Value::object([("operation", "combine".into()), ("what", lower(&what)), ("to", register(to))])
        }
        Operation::Unary(what) => Value::object([("operation", "unary".into()), ("what", lower(&what))]),
        Operation::Exchange(with) => Value::object([("operation", "exchange".into()), ("to", register(with))]),
        Operation::ExchangeAdd(with) => Value::object([("operation", "exchange-add".into()), ("to", register(with))]),
        Operation::CompareExchange(with) => {
            Value::object([("operation", "compare-exchange".into()), ("from", register(with))])
        }
        Operation::Bit { what, index } => {
            Value::object([("operation", "bit".into()), ("what", lower(&what)), ("from", source(index))])
        }
        Operation::String { what, repeated } => {
            Value::object([("operation", "string".into()), ("what", lower(&what)), ("repeated", repeated.into())])
        }
    }
}
