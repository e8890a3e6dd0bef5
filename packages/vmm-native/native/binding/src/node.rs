//! Node-API (nodejs.org, "Node-API"): values of JavaScript to values of Rust and back.
//!
//! Every call is made on the thread that Node calls in, with handles of that call, and what it says is looked at.
#![allow(unsafe_code)]

use crate::functions::FUNCTIONS;
use crate::value::{Failure, Value};
use std::ffi::{CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

/// Most arguments that a function has.
const MAX_ARGUMENTS: usize = 8;
/// How deep objects in objects go.
const MAX_DEPTH: usize = 8;

#[repr(C)]
struct OpaqueEnvironment([u8; 0]);
#[repr(C)]
struct OpaqueValue([u8; 0]);
#[repr(C)]
struct OpaqueCall([u8; 0]);

type Environment = *mut OpaqueEnvironment;
type Handle = *mut OpaqueValue;
type Call = *mut OpaqueCall;
type Callback = extern "C" fn(Environment, Call) -> Handle;
/// `napi_status`: 0 is success.
type Status = i32;

/// `NAPI_AUTO_LENGTH`.
const WHOLE: usize = usize::MAX;

/// `napi_valuetype`.
mod kind {
    pub const UNDEFINED: i32 = 0;
    pub const NULL: i32 = 1;
    pub const BOOLEAN: i32 = 2;
    pub const NUMBER: i32 = 3;
    pub const STRING: i32 = 4;
    pub const OBJECT: i32 = 6;
    pub const BIGINT: i32 = 9;
}

/// `napi_uint8_array`.
const UINT8_ARRAY: i32 = 1;

unsafe extern "C" {
    fn napi_get_cb_info(
        env: Environment,
        call: Call,
        count: *mut usize,
        arguments: *mut Handle,
        this: *mut Handle,
        data: *mut *mut c_void,
    ) -> Status;
    fn napi_create_function(
        env: Environment,
        name: *const c_char,
        length: usize,
        callback: Callback,
        data: *mut c_void,
        result: *mut Handle,
    ) -> Status;
    fn napi_set_named_property(env: Environment, object: Handle, name: *const c_char, value: Handle) -> Status;
    fn napi_get_named_property(env: Environment, object: Handle, name: *const c_char, result: *mut Handle) -> Status;
    fn napi_get_property_names(env: Environment, object: Handle, result: *mut Handle) -> Status;
    fn napi_typeof(env: Environment, value: Handle, result: *mut i32) -> Status;
    fn napi_is_array(env: Environment, value: Handle, result: *mut bool) -> Status;
    fn napi_is_typedarray(env: Environment, value: Handle, result: *mut bool) -> Status;
    fn napi_get_array_length(env: Environment, value: Handle, result: *mut u32) -> Status;
    fn napi_get_element(env: Environment, object: Handle, index: u32, result: *mut Handle) -> Status;
    fn napi_set_element(env: Environment, object: Handle, index: u32, value: Handle) -> Status;
    fn napi_get_typedarray_info(
        env: Environment,
        value: Handle,
        kind: *mut i32,
        length: *mut usize,
        data: *mut *mut c_void,
        buffer: *mut Handle,
        offset: *mut usize,
    ) -> Status;
    fn napi_get_value_bool(env: Environment, value: Handle, result: *mut bool) -> Status;
    fn napi_get_value_double(env: Environment, value: Handle, result: *mut f64) -> Status;
    fn napi_get_value_bigint_uint64(env: Environment, value: Handle, result: *mut u64, lossless: *mut bool) -> Status;
    fn napi_get_value_string_utf8(
        env: Environment,
        value: Handle,
        text: *mut u8,
        size: usize,
        length: *mut usize,
    ) -> Status;
    fn napi_get_undefined(env: Environment, result: *mut Handle) -> Status;
    fn napi_get_boolean(env: Environment, value: bool, result: *mut Handle) -> Status;
    fn napi_create_double(env: Environment, value: f64, result: *mut Handle) -> Status;
    fn napi_create_bigint_uint64(env: Environment, value: u64, result: *mut Handle) -> Status;
    fn napi_create_string_utf8(env: Environment, text: *const u8, length: usize, result: *mut Handle) -> Status;
    fn napi_create_object(env: Environment, result: *mut Handle) -> Status;
    fn napi_create_array(env: Environment, result: *mut Handle) -> Status;
    fn napi_create_arraybuffer(env: Environment, size: usize, data: *mut *mut c_void, result: *mut Handle) -> Status;
    fn napi_create_typedarray(
        env: Environment,
        kind: i32,
        length: usize,
        buffer: Handle,
        offset: usize,
        result: *mut Handle,
    ) -> Status;
    fn napi_throw_error(env: Environment, code: *const c_char, message: *const c_char) -> Status;
}

/// A call of Node's that did not succeed.
#[derive(Debug)]
struct Refused(Status);

impl From<Refused> for Failure {
    fn from(Refused(status): Refused) -> Failure {
        Failure::new("VMM_BAD_ARGUMENT", format_args!("expected a value that Node can read, got status {status}"))
    }
}

/// Asks Node for one thing.
fn ask<T>(default: T, call: impl FnOnce(&mut T) -> Status) -> Result<T, Refused> {
    let mut result = default;
    match call(&mut result) {
        0 => Ok(result),
        status => Err(Refused(status)),
    }
}

fn name_of(name: &str) -> CString {
    CString::new(name.replace('\0', " ")).expect("it has no NUL any more")
}

/// A value of JavaScript as one of Rust.
fn from_node(env: Environment, value: Handle, depth: usize) -> Result<Value, Failure> {
    if depth > MAX_DEPTH {
        return Err(Failure::argument(format_args!("objects that are at most {MAX_DEPTH} deep")));
    }
    // SAFETY: in all of these `env` and `value` are of the call that is being made, and results are valid places.
    let what = ask(0, |result| unsafe { napi_typeof(env, value, result) })?;
    Ok(match what {
        kind::UNDEFINED | kind::NULL => Value::Undefined,
        // SAFETY: as above.
        kind::BOOLEAN => Value::Boolean(ask(false, |result| unsafe { napi_get_value_bool(env, value, result) })?),
        // SAFETY: as above.
        kind::NUMBER => Value::Number(ask(0.0, |result| unsafe { napi_get_value_double(env, value, result) })?),
        kind::BIGINT => {
            let mut lossless = false;
            // SAFETY: as above.
            let number = ask(0, |result| unsafe { napi_get_value_bigint_uint64(env, value, result, &mut lossless) })?;
            if !lossless {
                return Err(Failure::argument("bigints from 0 to 2^64 - 1"));
            }
            Value::BigInt(number)
        }
        kind::STRING => Value::Text(text_from_node(env, value)?),
        kind::OBJECT => object_from_node(env, value, depth)?,
        other => return Err(Failure::argument(format_args!("plain data, got a value of type {other}"))),
    })
}

fn text_from_node(env: Environment, value: Handle) -> Result<String, Failure> {
    // SAFETY: as in `from_node`; without a place Node says only the length.
    let length = ask(0, |length| unsafe { napi_get_value_string_utf8(env, value, ptr::null_mut(), 0, length) })?;
    let mut text = vec![0; length + 1];
    // SAFETY: as in `from_node`; the place has as many bytes as is said, one of them for a NUL.
    ask(0, |written| unsafe { napi_get_value_string_utf8(env, value, text.as_mut_ptr(), text.len(), written) })?;
    text.truncate(length);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn object_from_node(env: Environment, value: Handle, depth: usize) -> Result<Value, Failure> {
    // SAFETY: as in `from_node`.
    if ask(false, |result| unsafe { napi_is_typedarray(env, value, result) })? {
        return Ok(Value::Bytes(bytes_from_node(env, value)?));
    }
    // SAFETY: as in `from_node`.
    let is_array = ask(false, |result| unsafe { napi_is_array(env, value, result) })?;
    let element = |array, index| {
        // SAFETY: as in `from_node`.
        ask(ptr::null_mut(), |result| unsafe { napi_get_element(env, array, index, result) })
    };
    let length = |array| {
        // SAFETY: as in `from_node`.
        ask(0, |result| unsafe { napi_get_array_length(env, array, result) })
    };
    if is_array {
        let values = (0..length(value)?).map(|index| from_node(env, element(value, index)?, depth + 1));
        return Ok(Value::List(values.collect::<Result<_, _>>()?));
    }
    // SAFETY: as in `from_node`.
    let names = ask(ptr::null_mut(), |result| unsafe { napi_get_property_names(env, value, result) })?;
    let mut properties = Vec::new();
    for index in 0..length(names)? {
        let name = text_from_node(env, element(names, index)?)?;
        let key = name_of(&name);
        // SAFETY: as in `from_node`.
        let property =
            ask(ptr::null_mut(), |result| unsafe { napi_get_named_property(env, value, key.as_ptr(), result) })?;
        properties.push((name, from_node(env, property, depth + 1)?));
    }
    Ok(Value::Object(properties))
}

fn bytes_from_node(env: Environment, value: Handle) -> Result<Vec<u8>, Failure> {
    let (mut kind, mut length, mut data, mut offset) = (0, 0, ptr::null_mut(), 0);
    // SAFETY: as in `from_node`.
    ask(ptr::null_mut(), |buffer| unsafe {
        napi_get_typedarray_info(env, value, &mut kind, &mut length, &mut data, buffer, &mut offset)
    })?;
    if kind != UINT8_ARRAY {
        return Err(Failure::argument("bytes as a Uint8Array"));
    }
    if length == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: Node says where the bytes are and how many; nothing of JavaScript runs before they have been copied.
    Ok(unsafe { std::slice::from_raw_parts(data.cast::<u8>(), length) }.to_vec())
}

/// A value of Rust as one of JavaScript.
fn to_node(env: Environment, value: &Value) -> Result<Handle, Refused> {
    // SAFETY: in all of these `env` is of the call that is being made, and pointers are to what they are said to be.
    ask(ptr::null_mut(), |result| match value {
        // SAFETY: see above.
        Value::Undefined => unsafe { napi_get_undefined(env, result) },
        // SAFETY: see above.
        Value::Boolean(value) => unsafe { napi_get_boolean(env, *value, result) },
        // SAFETY: see above.
        Value::Number(value) => unsafe { napi_create_double(env, *value, result) },
        // SAFETY: see above.
        Value::BigInt(value) => unsafe { napi_create_bigint_uint64(env, *value, result) },
        // SAFETY: see above.
        Value::Text(text) => unsafe { napi_create_string_utf8(env, text.as_ptr(), text.len(), result) },
        Value::Bytes(bytes) => bytes_to_node(env, bytes, result),
        Value::List(values) => {
            // SAFETY: see above.
            let mut status = unsafe { napi_create_array(env, result) };
            for (index, value) in (0..).zip(values) {
                status = match to_node(env, value) {
                    // SAFETY: see above.
                    Ok(handle) if status == 0 => unsafe { napi_set_element(env, *result, index, handle) },
                    Ok(_) => status,
                    Err(Refused(status)) => status,
                };
            }
            status
        }
        Value::Object(properties) => {
            // SAFETY: see above.
            let mut status = unsafe { napi_create_object(env, result) };
            for (name, value) in properties {
                let name = name_of(name);
                status = match to_node(env, value) {
                    // SAFETY: see above.
                    Ok(handle) if status == 0 => unsafe {
                        napi_set_named_property(env, *result, name.as_ptr(), handle)
                    },
                    Ok(_) => status,
                    Err(Refused(status)) => status,
                };
            }
            status
        }
    })
}

fn bytes_to_node(env: Environment, bytes: &[u8], result: &mut Handle) -> Status {
    let mut data = ptr::null_mut();
    // SAFETY: as in `to_node`.
    let buffer = ask(ptr::null_mut(), |buffer| unsafe { napi_create_arraybuffer(env, bytes.len(), &mut data, buffer) });
    match buffer {
        Ok(buffer) => {
            if !bytes.is_empty() {
                // SAFETY: the new buffer has as many bytes, and nobody else has it yet.
                unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), data.cast::<u8>(), bytes.len()) };
            }
            // SAFETY: as in `to_node`.
            unsafe { napi_create_typedarray(env, UINT8_ARRAY, bytes.len(), buffer, 0, result) }
        }
        Err(Refused(status)) => status,
    }
}

/// What Node calls for each function; the data is the function's place in the table.
extern "C" fn enter(env: Environment, call: Call) -> Handle {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut arguments = [ptr::null_mut(); MAX_ARGUMENTS];
        let (mut count, mut data) = (MAX_ARGUMENTS, ptr::null_mut());
        // SAFETY: `env` and `call` are what Node has passed; there is room for as many arguments as is said.
        ask(ptr::null_mut(), |this| unsafe {
            napi_get_cb_info(env, call, &mut count, arguments.as_mut_ptr(), this, &mut data)
        })?;
        let function = FUNCTIONS.get(data.addr()).ok_or_else(|| Failure::argument("a function of this module"))?;
        let arguments = arguments.iter().take(count).map(|argument| from_node(env, *argument, 0));
        let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
        let result = (function.call)(&arguments)?;
        Ok(to_node(env, &result)?)
    }));
    let failure = match outcome {
        Ok(Ok(handle)) => return handle,
        Ok(Err(failure)) => failure,
        Err(_) => Failure::new("VMM_BUG", "bug: the hypervisor's core has panicked"),
    };
    let (code, message) = (name_of(failure.code), name_of(&failure.message));
    // SAFETY: `env` is Node's. If an exception is on its way already, that one stays.
    unsafe { napi_throw_error(env, code.as_ptr(), message.as_ptr()) };
    ptr::null_mut()
}

/// What Node calls when it loads the module.
#[unsafe(no_mangle)]
extern "C" fn napi_register_module_v1(env: Environment, exports: Handle) -> Handle {
    for (index, function) in FUNCTIONS.iter().enumerate() {
        let name = name_of(function.name);
        let data = ptr::without_provenance_mut(index);
        // SAFETY: `env` and `exports` are what Node has passed; the data is a number.
        let created = ask(ptr::null_mut(), |result| unsafe {
            napi_create_function(env, name.as_ptr(), WHOLE, enter, data, result)
        });
        if let Ok(created) = created {
            // SAFETY: as above.
            unsafe { napi_set_named_property(env, exports, name.as_ptr(), created) };
        }
    }
    exports
}
