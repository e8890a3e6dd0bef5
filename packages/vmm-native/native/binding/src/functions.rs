//! What JavaScript can call, by its name.

use crate::value::{Failure, Value};
use crate::{instruction, linux, tables, vmcb};

/// A function for JavaScript.
pub struct Function {
    pub name: &'static str,
    pub call: fn(&[Value]) -> Result<Value, Failure>,
}

/// All of them; `test/native.test.ts` has the same list.
pub const FUNCTIONS: &[Function] = &[
    Function { name: "version", call: version },
    Function { name: "decodeVmcb", call: vmcb::decode },
    Function { name: "encodeVmcb", call: vmcb::encode },
    Function { name: "checkVmcb", call: vmcb::check },
    Function { name: "decodeExit", call: vmcb::decode_exit },
    Function { name: "decodeInstruction", call: instruction::decode },
    Function { name: "buildNestedTables", call: tables::build },
    Function { name: "walkNestedTables", call: tables::walk },
    Function { name: "planLinux", call: linux::plan },
];

/// The version that this was built as.
fn version(_: &[Value]) -> Result<Value, Failure> {
    Ok(env!("CARGO_PKG_VERSION").into())
}

/// An argument; undefined when it is missing.
pub fn argument(arguments: &[Value], index: usize) -> &Value {
    arguments.get(index).unwrap_or(&Value::Undefined)
}
