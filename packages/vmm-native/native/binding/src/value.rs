//! Values as JavaScript has them.

use std::fmt::Display;

/// A value that JavaScript passes or gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Undefined,
    Boolean(bool),
    Number(f64),
    BigInt(u64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Object(Vec<(String, Value)>),
}

/// What JavaScript gets as an error: a code and a message.
#[derive(Debug)]
pub struct Failure {
    pub code: &'static str,
    pub message: String,
}

impl Failure {
    /// What cannot be done with what has been passed.
    pub fn new(code: &'static str, message: impl Display) -> Failure {
        Failure { code, message: message.to_string() }
    }

    /// The TypeScript side passes what it has declared; what is not that is its mistake, or that of a caller without types.
    pub fn argument(expected: impl Display) -> Failure {
        Failure::new("VMM_BAD_ARGUMENT", format_args!("expected {expected}"))
    }
}

impl Value {
    /// An object with these properties.
    pub fn object<const N: usize>(properties: [(&str, Value); N]) -> Value {
        Value::Object(properties.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }

    /// A property; undefined when there is none.
    pub fn get(&self, name: &str) -> &Value {
        let Value::Object(properties) = self else { return &Value::Undefined };
        properties.iter().find(|(key, _)| key == name).map_or(&Value::Undefined, |(_, value)| value)
    }

    /// A whole number, be it a number or a bigint, of at most so many bytes; `name` is what it is.
    pub fn integer(&self, size: u8, name: &str) -> Result<u64, Failure> {
        let max = u64::MAX >> (64 - u32::from(size) * 8);
        let value = match self {
            Value::BigInt(value) => Some(*value),
            Value::Number(value) if *value >= 0.0 && value.fract() == 0.0 && *value <= 9_007_199_254_740_991.0 => {
                Some(*value as u64)
            }
            _ => None,
        };
        value.filter(|value| *value <= max).ok_or_else(|| Failure::argument(format_args!("{name} from 0 to {max:#x}")))
    }

    pub fn bytes(&self, name: &str) -> Result<&[u8], Failure> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(Failure::argument(format_args!("{name} as a Uint8Array"))),
        }
    }

    pub fn text(&self, name: &str) -> Result<&str, Failure> {
        match self {
            Value::Text(text) => Ok(text),
            _ => Err(Failure::argument(format_args!("{name} as a string"))),
        }
    }

    pub fn boolean(&self, name: &str) -> Result<bool, Failure> {
        match self {
            Value::Boolean(value) => Ok(*value),
            _ => Err(Failure::argument(format_args!("{name} as a boolean"))),
        }
    }

    pub fn list(&self, name: &str) -> Result<&[Value], Failure> {
        match self {
            Value::List(values) => Ok(values),
            _ => Err(Failure::argument(format_args!("{name} as an array"))),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Boolean(value)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Value {
        Value::BigInt(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Value {
        Value::Number(value.into())
    }
}

impl From<u8> for Value {
    fn from(value: u8) -> Value {
        Value::Number(value.into())
    }
}
