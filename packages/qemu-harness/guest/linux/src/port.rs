//! Ports of a virtio console, which lead to the host.

use crate::call::{Errno, Result};
use crate::file::{Fd, Poll, open, poll};
use crate::machine::device_events;
use crate::text::join;
use core::ffi::CStr;

const PORTS: &CStr = c"/sys/class/virtio-ports";
const MAX_PATH: usize = 512;

/// Opens a port by the name that it has on the host, waiting for its driver as long as that takes.
pub fn open_port(name: &[u8]) -> Result<Fd> {
    // Before looking, so that what comes in between is not missed.
    let events = device_events()?;
    loop {
        if let Some(port) = find_port(name)? {
            return Ok(port);
        }
        let mut files = [Poll { fd: events.number(), events: Poll::IN, found: 0 }];
        match poll(&mut files) {
            Ok(_) | Err(Errno::INTERRUPTED) => {}
            Err(error) => return Err(error),
        }
        let _ = events.read(&mut [0; 4096]);
    }
}

fn find_port(name: &[u8]) -> Result<Option<Fd>> {
    let ports = match open(PORTS.into(), open::READ | open::DIRECTORY) {
        Ok(ports) => ports,
        Err(Errno::NOT_FOUND) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut entries = [0; 2048];
    loop {
        let length = ports.entries(&mut entries)?;
        if length == 0 {
            return Ok(None);
        }
        let mut rest = entries.get(..length).unwrap_or_default();
        // struct linux_dirent64: inode (8 bytes), offset (8), length of the record (2), type (1), name, NUL.
        while let Some(size) = rest.get(16..18).and_then(|bytes| bytes.try_into().ok()).map(u16::from_le_bytes) {
            let Some((record, others)) = rest.split_at_checked(usize::from(size)) else { break };
            rest = others;
            let entry = record.get(19..).and_then(|entry| entry.split(|byte| *byte == 0).next()).unwrap_or_default();
            if has_name(entry, name)
                && let Ok(port) = open_path(&[b"/dev/", entry], open::BOTH)
            {
                return Ok(Some(port));
            }
        }
    }
}

fn has_name(entry: &[u8], wanted: &[u8]) -> bool {
    let mut name = [0; 128];
    let file = open_path(&[b"/sys/class/virtio-ports/", entry, b"/name"], open::READ);
    let length = file.and_then(|file| file.read(&mut name)).unwrap_or(0);
    name.get(..length).and_then(|name| name.strip_suffix(b"\n")) == Some(wanted)
}

fn open_path(parts: &[&[u8]], flags: usize) -> Result<Fd> {
    let mut path = [0; MAX_PATH];
    open(join(parts, &mut path).ok_or(Errno::INVALID)?, flags)
}
