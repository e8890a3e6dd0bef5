//! Nested page tables.

use crate::functions::argument;
use crate::value::{Failure, Value};
use vmm_core::npt::{self, Access, NestedPageTables, Table, TableArray, Translation};

/// Most tables that are made, 256 MiB of them.
const MAX_TABLES: u64 = 1 << 16;

fn access_name(access: Access) -> &'static str {
    match access {
        Access::Full => "full",
        Access::ReadOnly => "read-only",
        Access::NoExecute => "no-execute",
    }
}

/// ({ base, maxTables, ranges: [{ guest, host, sizeBytes, access }] }) -> { root, bytes }
pub fn build(arguments: &[Value]) -> Result<Value, Failure> {
    let wanted = argument(arguments, 0);
    let base = wanted.get("base").integer(8, "base")?;
    let count = wanted.get("maxTables").integer(8, "maxTables")?;
    if !base.is_multiple_of(4096) || base >= 1 << 52 {
        return Err(Failure::argument(format_args!("base as a multiple of 4096 below 2^52, got {base:#x}")));
    }
    if !(1..=MAX_TABLES).contains(&count) {
        return Err(Failure::argument(format_args!("maxTables from 1 to {MAX_TABLES}, got {count}")));
    }
    let mut tables = vec![Table::EMPTY; count as usize];
    let mut nested = NestedPageTables::new(TableArray::new(&mut tables, base)).expect("there is one");
    for range in wanted.get("ranges").list("ranges")? {
        let part = |name: &str| range.get(name).integer(8, name);
        let access = match range.get("access").text("access")? {
            "full" => Access::Full,
            "read-only" => Access::ReadOnly,
            "no-execute" => Access::NoExecute,
            other => return Err(Failure::argument(format_args!("an access that exists, got {other:?}"))),
        };
        nested
            .map(part("guest")?, part("host")?, part("sizeBytes")?, access)
            .map_err(|error| Failure::new("VMM_BAD_MAPPING", error))?;
    }
    let (root, used) = (nested.root(), nested.frames.used);
    let entries = tables[..used].iter().flat_map(Table::entries);
    let bytes = entries.flat_map(|entry| entry.to_le_bytes()).collect();
    Ok(Value::object([("root", root.into()), ("bytes", Value::Bytes(bytes))]))
}

/// (bytes, base, root, guest) -> { host, pageSizeBytes, access, accessed, dirty } | undefined
pub fn walk(arguments: &[Value]) -> Result<Value, Failure> {
    let bytes = argument(arguments, 0).bytes("tables")?;
    let [base, root, guest] =
        [(1, "base"), (2, "root"), (3, "guest")].map(|(index, name)| argument(arguments, index).integer(8, name));
    let (base, root, guest) = (base?, root?, guest?);
    let read = |address: u64| {
        let at = usize::try_from(address.checked_sub(base)?).ok()?;
        let entry = bytes.get(at..)?.first_chunk()?;
        Some(u64::from_le_bytes(*entry))
    };
    let found = npt::walk(root, guest, read).map_err(|error| Failure::new("VMM_BAD_TABLES", error))?;
    Ok(found.map_or(Value::Undefined, |Translation { address, page_size, access, accessed, dirty }| {
        Value::object([
            ("host", address.into()),
            ("pageSizeBytes", (page_size as u32).into()),
            ("access", access_name(access).into()),
            ("accessed", accessed.into()),
            ("dirty", dirty.into()),
        ])
    }))
}
