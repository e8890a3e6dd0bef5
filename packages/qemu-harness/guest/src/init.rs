//! The first process of a machine: what has to be there before anything else can run.

use crate::root;
use crate::sys::{self, CString, Errno, Fd, Poll, Result, Side, open};

/// Kernel modules to load, a path a line, each after those that it needs.
const MODULES: &[u8] = b"/leveret/modules\0";
/// What the machine would have started without this program.
const NEXT: &[u8] = b"/init\0";
const PORTS: &[u8] = b"/sys/class/virtio-ports\0";
/// Name of the port that leads to the host.
const PORT_NAME: &[u8] = b"leveret.agent\n";
const MAX_PATH: usize = 512;

/// Mounts what the kernel offers, loads modules, and leaves the first process to the machine's own, if it has one.
pub fn begin() {
    for (kind, target) in [
        (c"devtmpfs", c"/dev"),
        (c"proc", c"/proc"),
        (c"sysfs", c"/sys"),
        (c"devpts", c"/dev/pts"),
        (c"tmpfs", c"/run"),
    ] {
        let (kind, target) = (CString::from(kind), CString::from(target));
        // What is there already is as good; what the kernel does not have is missed by whoever needs it.
        let _ = sys::make_directory(target, 0o755);
        let _ = sys::mount(kind, kind, target, 0, CString::from(c""));
    }
    load_modules();
    if let Err(failure) = root::enter() {
        failure.report();
        // Without the first process the kernel gives up, which the host notices.
        sys::exit(1);
    }
    let Some(next) = text(NEXT) else { return };
    if sys::open(next, open::READ, 0).is_err() {
        return;
    }
    if let Ok(Side::Parent(_)) = sys::fork() {
        let arguments = [next.pointer(), core::ptr::null()];
        let environment = [c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".as_ptr().cast(), c"HOME=/".as_ptr().cast(), c"TERM=linux".as_ptr().cast(), core::ptr::null()];
        // SAFETY: both arrays end with null, and every string in them with NUL.
        let error = unsafe { sys::execute(next, arguments.as_ptr(), environment.as_ptr()) };
        sys::exit(error.0);
    }
}

fn text(bytes: &[u8]) -> Option<CString<'_>> {
    CString::new(bytes)
}

fn load_modules() {
    let Some(list) = text(MODULES).and_then(|path| sys::open(path, open::READ, 0).ok()) else { return };
    let mut bytes = [0; 16 * 1024];
    let mut length = 0;
    while let Some(room) = bytes.get_mut(length..).filter(|room| !room.is_empty()) {
        match list.read(room) {
            Ok(0) | Err(_) => break,
            Ok(count) => length += count,
        }
    }
    for line in bytes.get(..length).unwrap_or_default().split(|byte| *byte == b'\n') {
        let mut path = [0; MAX_PATH];
        let Some(place) = path.get_mut(..line.len()) else { continue };
        place.copy_from_slice(line);
        let module = path.get(..=line.len()).and_then(CString::new).and_then(|path| sys::open(path, open::READ, 0).ok());
        if let Some(module) = module {
            let _ = sys::load_module(&module);
        }
    }
}

/// Opens the port that leads to the host, waiting for its driver as long as that takes.
pub fn open_port() -> Result<Fd> {
    // Before looking, so that what comes in between is not missed.
    let events = sys::device_events()?;
    loop {
        if let Some(port) = find_port()? {
            return Ok(port);
        }
        let mut files = [Poll { fd: events.number(), events: Poll::IN, found: 0 }];
        match sys::poll(&mut files) {
            Ok(_) | Err(Errno::INTERRUPTED) => {}
            Err(error) => return Err(error),
        }
        let _ = events.read(&mut [0; 4096]);
    }
}

fn find_port() -> Result<Option<Fd>> {
    let ports = match text(PORTS).ok_or(Errno::INVALID).and_then(|path| sys::open(path, open::READ | open::DIRECTORY, 0)) {
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
            let name = record.get(19..).and_then(|name| name.split(|byte| *byte == 0).next()).unwrap_or_default();
            if has_our_name(name)
                && let Ok(port) = open_path(&[b"/dev/", name], open::BOTH)
            {
                return Ok(Some(port));
            }
        }
    }
}

fn has_our_name(entry: &[u8]) -> bool {
    let mut name = [0; 64];
    let length = open_path(&[b"/sys/class/virtio-ports/", entry, b"/name"], open::READ).and_then(|file| file.read(&mut name));
    length.is_ok_and(|length| name.get(..length) == Some(PORT_NAME))
}

fn open_path(parts: &[&[u8]], flags: usize) -> Result<Fd> {
    let mut path = [0; MAX_PATH];
    let mut length = 0;
    for part in parts {
        path.get_mut(length..length + part.len()).ok_or(Errno::TOO_BIG)?.copy_from_slice(part);
        length += part.len();
    }
    sys::open(path.get(..=length).and_then(CString::new).ok_or(Errno::INVALID)?, flags, 0)
}
