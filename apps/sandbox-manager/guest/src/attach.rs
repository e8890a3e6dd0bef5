//! Mounts the file system, and leaves whoever started this program.

use crate::Failure;
use leveret_linux::{self as sys, CString, Errno, Fd, Result, mounting, open};

/// Mounts the file system; the file is what the kernel asks through.
pub fn mount(mountpoint: CString) -> core::result::Result<Fd, Failure> {
    let device = sys::open(c"/dev/fuse".into(), open::BOTH).map_err(|error| Failure("cannot open /dev/fuse", error))?;
    let mut digits = [0; 20];
    let mut options = [0; 128];
    // The kernel checks owners and modes; the host answers whatever the kernel lets through.
    let parts: [&[u8]; 3] = [
        b"fd=",
        sys::decimal(device.number() as usize, &mut digits),
        b",rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
    ];
    let options = sys::join(&parts, &mut options).ok_or(Failure("bug", Errno::INVALID))?;
    let (kind, source) = (c"fuse.leveret".into(), c"workspace".into());
    sys::mount(kind, source, mountpoint, mounting::NO_SUID | mounting::NO_DEVICES, options)
        .map_err(|error| Failure("cannot mount", error))?;
    Ok(device)
}

/// Gives back what belongs to whoever started this program: its session, and its input and output.
pub fn leave_caller() -> Result<()> {
    sys::new_session()?;
    let nothing = sys::open(c"/dev/null".into(), open::BOTH)?;
    for number in 0..3 {
        sys::duplicate(&nothing, number)?;
    }
    Ok(())
}
