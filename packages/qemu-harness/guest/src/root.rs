//! A root file system out of an image that nobody changes: what is written to it stays in memory.

use leveret_linux::{self as sys, CString, Errno, Poll, Result, mounting, open};
use core::ffi::CStr;

/// What the root is: a type of file system, a blank, the device that has it.
const DESCRIPTION: &CStr = c"/leveret/root";
const MAX_DESCRIPTION: usize = 128;
const LAYERS: &CStr = c"/layers";
const IMAGE: &CStr = c"/layers/image";
const CHANGES: &CStr = c"/layers/changes";
const WORK: &CStr = c"/layers/work";
const ROOT: &CStr = c"/layers/root";
const OVERLAY: &CStr = c"lowerdir=/layers/image,upperdir=/layers/changes,workdir=/layers/work";
const MODE: usize = 0o755;

/// What did not work.
pub struct Failure {
    step: &'static CStr,
    error: Errno,
}

impl Failure {
    /// Says so on the console.
    pub fn report(&self) {
        let Ok(console) = sys::open(c"/dev/console".into(), open::WRITE | open::NO_TERMINAL) else { return };
        let mut digits = [0; 20];
        let digits = sys::decimal(self.error.0 as usize, &mut digits);
        for part in [b"leveret-agent: cannot ", self.step.to_bytes(), b": error ", digits, b"\n"] {
            let _ = console.write_all(part);
        }
    }
}

/// Makes the image that the initrd names the root, if it names one.
pub fn enter() -> core::result::Result<(), Failure> {
    let mut text = [0; MAX_DESCRIPTION];
    let Ok(file) = sys::open(DESCRIPTION.into(), open::READ) else { return Ok(()) };
    let length = step(c"read /leveret/root", file.read(&mut text))?;
    let Some((kind, device)) = words(&mut text, length) else {
        return Err(Failure { step: c"find a type and a device in /leveret/root", error: Errno::INVALID });
    };
    step(c"wait for the root device", wait_for(device))?;

    let none = CString::from(c"");
    let (tmpfs, overlay) = (CString::from(c"tmpfs"), CString::from(c"overlay"));
    step(c"make /layers", sys::make_directory(LAYERS.into(), MODE))?;
    step(c"mount a tmpfs", sys::mount(tmpfs, tmpfs, LAYERS.into(), mounting::NO_DEVICES, c"mode=0755".into()))?;
    for directory in [IMAGE, CHANGES, WORK, ROOT] {
        step(c"make a directory", sys::make_directory(directory.into(), MODE))?;
    }
    step(c"mount the image", sys::mount(kind, device, IMAGE.into(), mounting::READ_ONLY, none))?;
    step(c"mount an overlay", sys::mount(overlay, overlay, ROOT.into(), 0, OVERLAY.into()))?;

    step(c"go to the new root", sys::change_directory(ROOT.into()))?;
    for (from, to) in [(c"/dev", c"dev"), (c"/proc", c"proc"), (c"/sys", c"sys"), (c"/run", c"run")] {
        // The image may lack the place to put them.
        let _ = sys::make_directory(to.into(), MODE);
        step(c"move a mount", sys::mount(none, from.into(), to.into(), mounting::MOVE, none))?;
    }
    step(c"move the new root", sys::mount(none, c".".into(), c"/".into(), mounting::MOVE, none))?;
    step(c"enter the new root", sys::change_root(c".".into()))?;
    step(c"go to the new root", sys::change_directory(c"/".into()))
}

fn step<T>(step: &'static CStr, result: Result<T>) -> core::result::Result<T, Failure> {
    result.map_err(|error| Failure { step, error })
}

/// Two words with a blank between them and a new line behind them, each with a NUL in place of that.
fn words(text: &mut [u8; MAX_DESCRIPTION], length: usize) -> Option<(CString<'_>, CString<'_>)> {
    for byte in text.get_mut(..length)? {
        if *byte == b' ' || *byte == b'\n' {
            *byte = 0;
        }
    }
    let mut parts = text.get(..length)?.split_inclusive(|byte| *byte == 0);
    Some((CString::new(parts.next()?)?, CString::new(parts.next()?)?))
}

/// Waits until a device is there, as long as that takes.
fn wait_for(device: CString) -> Result<()> {
    // Before looking, so that what comes in between is not missed.
    let events = sys::device_events()?;
    loop {
        match sys::open(device, open::READ) {
            Err(Errno::NOT_FOUND) => {}
            other => return other.map(drop),
        }
        let _ = sys::poll(&mut [Poll { fd: events.number(), events: Poll::IN, found: 0 }]);
        let _ = events.read(&mut [0; 4096]);
    }
}
