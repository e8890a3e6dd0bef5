//! Directories, mounts, and the modes of files.

use crate::call::{Errno, Result, call};
use crate::file::AT_FDCWD;
use crate::text::CString;

/// Goes to a directory.
pub fn change_directory(path: CString) -> Result<()> {
    // SAFETY: the path ends with a NUL.
    unsafe { call(80, [path.pointer() as usize, 0, 0, 0, 0, 0]) }.map(drop)
}

/// Makes a directory.
pub fn make_directory(path: CString, mode: usize) -> Result<()> {
    // SAFETY: the path ends with a NUL.
    unsafe { call(83, [path.pointer() as usize, mode, 0, 0, 0, 0]) }.map(drop)
}

/// Permissions of a file, not of what a link leads to; [`Errno::INVALID`] for a link.
pub fn mode_of(path: CString) -> Result<usize> {
    const AT_SYMLINK_NOFOLLOW: usize = 0x100;
    const MODE: usize = 24;
    const KIND: u32 = 0o170000;
    const LINK: u32 = 0o120000;
    // struct stat of x86-64.
    let mut stat = [0u8; 144];
    // SAFETY: the path ends with a NUL, and the kernel writes one structure of 144 bytes.
    unsafe { call(262, [AT_FDCWD, path.pointer() as usize, stat.as_mut_ptr() as usize, AT_SYMLINK_NOFOLLOW, 0, 0])? };
    let mode = stat.get(MODE..MODE + 4).and_then(|bytes| bytes.try_into().ok()).map_or(LINK, u32::from_le_bytes);
    if mode & KIND == LINK { Err(Errno::INVALID) } else { Ok((mode & !KIND) as usize) }
}

/// Sets the permissions of a file.
pub fn change_mode(path: CString, mode: usize) -> Result<()> {
    // SAFETY: the path ends with a NUL.
    unsafe { call(90, [path.pointer() as usize, mode, 0, 0, 0, 0]) }.map(drop)
}

/// How something is mounted; see mount(2).
pub mod mounting {
    /// Nothing can be written.
    pub const READ_ONLY: usize = 1;
    /// Programs in it do not run with the rights of their owners.
    pub const NO_SUID: usize = 2;
    /// Devices in it are not opened.
    pub const NO_DEVICES: usize = 4;
    /// A mount goes elsewhere.
    pub const MOVE: usize = 0x2000;
}

/// Mounts a file system, or moves a mount.
pub fn mount(kind: CString, source: CString, target: CString, flags: usize, data: CString) -> Result<()> {
    let [kind, source, target, data] = [kind, source, target, data].map(|text| text.pointer() as usize);
    // SAFETY: all strings end with a NUL.
    unsafe { call(165, [source, target, kind, flags, data, 0]) }.map(drop)
}

/// Makes a directory the root of all paths of this process and those that it starts.
pub fn change_root(path: CString) -> Result<()> {
    // SAFETY: the path ends with a NUL.
    unsafe { call(161, [path.pointer() as usize, 0, 0, 0, 0, 0]) }.map(drop)
}
