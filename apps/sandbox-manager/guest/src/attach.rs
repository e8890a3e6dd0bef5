//! Opens the port that leads to the host, and mounts the file system.

use crate::Failure;
use crate::sys::{self, CString, Errno, Fd, Result, open};

const PORTS: &[u8] = b"/sys/class/virtio-ports\0";
const MAX_PATH: usize = 512;
/// A driver that is only being loaded is waited for that often, that long in milliseconds.
const TRIES: usize = 100;
const TRY_MS: usize = 20;

/// Opens a port by the name that it has on the host.
pub fn open_port(name: CString) -> Result<Fd> {
    for _ in 0..TRIES {
        match find_port(name.bytes()) {
            Err(Errno::NOT_FOUND) => sys::poll(&mut [], Some(TRY_MS))?,
            other => return other,
        };
    }
    Err(Errno::NOT_FOUND)
}

fn find_port(name: &[u8]) -> Result<Fd> {
    let ports = sys::open(CString::new(PORTS).ok_or(Errno::INVALID)?, open::READ | open::DIRECTORY)?;
    let mut entries = [0; 2048];
    loop {
        let length = ports.entries(&mut entries)?;
        if length == 0 {
            return Err(Errno::NOT_FOUND);
        }
        let mut rest = entries.get(..length).unwrap_or_default();
        // struct linux_dirent64: inode (8 bytes), offset (8), length of the record (2), type (1), name, NUL.
        while let Some(size) = rest.get(16..18).and_then(|bytes| bytes.try_into().ok()).map(u16::from_le_bytes) {
            let Some((record, others)) = rest.split_at_checked(usize::from(size)) else { break };
            rest = others;
            let entry = record.get(19..).and_then(|entry| entry.split(|byte| *byte == 0).next()).unwrap_or_default();
            if has_name(entry, name) {
                return open_path(&[b"/dev/", entry], open::BOTH);
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
    let mut length = 0;
    for part in parts {
        path.get_mut(length..length + part.len()).ok_or(Errno::TOO_BIG)?.copy_from_slice(part);
        length += part.len();
    }
    sys::open(path.get(..=length).and_then(CString::new).ok_or(Errno::INVALID)?, flags)
}

/// Mounts the file system; the file is what the kernel asks through.
pub fn mount(mountpoint: CString) -> core::result::Result<Fd, Failure> {
    let text = |bytes: &'static [u8]| CString::new(bytes).ok_or(Failure("bug", Errno::INVALID));
    let device = sys::open(text(b"/dev/fuse\0")?, open::BOTH).map_err(|error| Failure("cannot open /dev/fuse", error))?;
    let mut digits = [0; 20];
    let mut options = [0; 128];
    let mut length = 0;
    // The kernel checks owners and modes; the host answers whatever the kernel lets through.
    let parts: [&[u8]; 3] = [
        b"fd=",
        sys::decimal(device.number() as usize, &mut digits),
        b",rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other\0",
    ];
    for part in parts {
        options[length..length + part.len()].copy_from_slice(part);
        length += part.len();
    }
    let options = options.get(..length).and_then(CString::new).ok_or(Failure("bug", Errno::INVALID))?;
    sys::mount(text(b"workspace\0")?, mountpoint, text(b"fuse.leveret\0")?, sys::NO_SUID | sys::NO_DEVICES, options)
        .map_err(|error| Failure("cannot mount", error))?;
    Ok(device)
}

/// Gives back what belongs to whoever started this program: its session, and its input and output.
pub fn leave_caller() -> Result<()> {
    sys::new_session()?;
    let nothing = sys::open(CString::new(b"/dev/null\0").ok_or(Errno::INVALID)?, open::BOTH)?;
    for number in 0..3 {
        sys::duplicate(&nothing, number)?;
    }
    Ok(())
}
