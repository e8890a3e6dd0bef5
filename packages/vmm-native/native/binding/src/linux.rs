//! Where a Linux kernel goes, and what it is told.

use crate::functions::argument;
use crate::value::{Failure, Value};
use vmm_core::linux::{HEADER_SIZE, LinuxPlan, Placement};

fn placement(Placement { offset, length, address }: Placement) -> Value {
    Value::object([("offset", offset.into()), ("lengthBytes", length.into()), ("address", address.into())])
}

/// (header, { kernelBytes, initrdBytes, memoryBytes }) -> { kernel, initrd, entry, bootParams, maxCommandLineBytes }
pub fn plan(arguments: &[Value]) -> Result<Value, Failure> {
    let bytes = argument(arguments, 0).bytes("the beginning of a kernel")?;
    let header: &[u8; HEADER_SIZE] = bytes.first_chunk().ok_or_else(|| {
        let got = bytes.len();
        Failure::new("VMM_TRUNCATED", format_args!("expected the first {HEADER_SIZE} bytes of a kernel, got {got}"))
    })?;
    if !LinuxPlan::recognises(header) {
        return Err(Failure::new("VMM_BAD_KERNEL", "expected a Linux bzImage (HdrS at byte 514), got something else"));
    }
    let sizes = argument(arguments, 1);
    let size = |name: &str| sizes.get(name).integer(8, name);
    let plan = LinuxPlan::new(header, size("kernelBytes")?, size("initrdBytes")?, size("memoryBytes")?)
        .map_err(|error| Failure::new("VMM_BAD_KERNEL", error))?;
    Ok(Value::object([
        ("kernel", placement(plan.kernel)),
        ("initrd", if plan.initrd.length == 0 { Value::Undefined } else { placement(plan.initrd) }),
        ("entry", plan.entry().into()),
        ("bootParams", plan.boot_params().into()),
        ("maxCommandLineBytes", (plan.max_command_line() as u32).into()),
    ]))
}
