//! The first process of a machine: what has to be there before anything else can run.

use crate::root;
use leveret_linux::{self as sys, CString, Side, open};

/// Kernel modules to load, a path a line, each after those that it needs.
const MODULES: &[u8] = b"/leveret/modules\0";
/// What the machine would have started without this program.
const NEXT: &[u8] = b"/init\0";
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
    if sys::open(next, open::READ).is_err() {
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
    let Some(list) = text(MODULES).and_then(|path| sys::open(path, open::READ).ok()) else { return };
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
        let module = path.get(..=line.len()).and_then(CString::new).and_then(|path| sys::open(path, open::READ).ok());
        if let Some(module) = module {
            let _ = sys::load_module(&module);
        }
    }
}
