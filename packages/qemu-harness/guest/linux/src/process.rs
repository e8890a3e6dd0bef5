//! Processes, signals, and who one is.

use crate::call::{Errno, Result, call};
use crate::file::{Fd, open};
use crate::text::CString;

/// The first arguments of this program, without its name.
///
/// # Safety
///
/// `stack` is where the stack of a program begins: the number of arguments, then addresses of strings.
pub unsafe fn arguments<const N: usize>(stack: *const usize) -> [Option<CString<'static>>; N] {
    // SAFETY: this function's contract.
    let count = unsafe { *stack };
    core::array::from_fn(|index| {
        // The number itself and the program's name come first.
        if index + 1 >= count {
            return None;
        }
        // SAFETY: there is an address for every argument, of a string that lives as long as the program.
        let string = unsafe { core::ffi::CStr::from_ptr(*stack.add(index + 2) as *const core::ffi::c_char) };
        CString::new(string.to_bytes_with_nul())
    })
}

/// The end of a child.
pub const SIGCHLD: u32 = 17;
/// Writing to what nobody reads.
pub const SIGPIPE: u32 = 13;
/// The end at once.
pub const SIGKILL: u32 = 9;

const SIGNAL_SET_SIZE: usize = 8;

/// The bit of a signal in a set of signals.
pub const fn signal_bit(signal: u32) -> u64 {
    1 << (signal - 1)
}

/// A file that says when one of a set of signals came that is blocked.
pub fn signal_file(set: u64) -> Result<Fd> {
    // SAFETY: the kernel reads eight bytes.
    let number = unsafe {
        call(289, [usize::MAX, &raw const set as usize, SIGNAL_SET_SIZE, open::CLOSE | open::NONBLOCK, 0, 0])?
    };
    Ok(Fd::from_answer(number))
}

/// Blocks exactly the signals of a set.
pub fn block_signals(set: u64) -> Result<()> {
    const SIG_SETMASK: usize = 2;
    // SAFETY: the kernel reads eight bytes.
    unsafe { call(14, [SIG_SETMASK, &raw const set as usize, 0, SIGNAL_SET_SIZE, 0, 0]) }.map(drop)
}

/// Which side of a fork this is.
pub enum Side {
    /// the new process
    Child,
    /// the old one, and the new one's id
    Parent(i32),
}

/// Makes a copy of this process.
pub fn fork() -> Result<Side> {
    // SAFETY: there is only one thread, and memory is copied.
    Ok(match unsafe { call(57, [0; 6])? } {
        0 => Side::Child,
        pid => Side::Parent(pid as i32),
    })
}

/// Becomes another program; returns only when that is not possible.
///
/// # Safety
///
/// `arguments` and `environment` are arrays of addresses of strings that end with NUL, and end with a null address.
pub unsafe fn execute(path: CString, arguments: *const *const u8, environment: *const *const u8) -> Errno {
    // SAFETY: as this function's own contract.
    match unsafe { call(59, [path.pointer() as usize, arguments as usize, environment as usize, 0, 0, 0]) } {
        Err(error) => error,
        Ok(_) => Errno::INVALID,
    }
}

/// A child that has ended, and its status as wait(2) has it; `None` when none has.
pub fn reap() -> Result<Option<(i32, u32)>> {
    const WNOHANG: usize = 1;
    let mut status = 0u32;
    // SAFETY: the kernel writes four bytes.
    let pid = unsafe { call(61, [usize::MAX, &raw mut status as usize, WNOHANG, 0, 0, 0])? };
    Ok((pid != 0).then_some((pid as i32, status)))
}

/// Sends a signal to a process, or with a negative number to a group of them.
pub fn kill(pid: i32, signal: u32) -> Result<()> {
    // SAFETY: numbers only.
    unsafe { call(62, [pid as isize as usize, signal as usize, 0, 0, 0, 0]) }.map(drop)
}

/// This process's id.
pub fn own_id() -> i32 {
    // SAFETY: no arguments.
    unsafe { call(39, [0; 6]) }.map_or(0, |pid| pid as i32)
}

/// Begins a session without a terminal, and a process group.
pub fn new_session() -> Result<()> {
    // SAFETY: no arguments.
    unsafe { call(112, [0; 6]) }.map(drop)
}

/// Becomes a user and a group, without any others.
pub fn become_user(uid: u32, gid: u32) -> Result<()> {
    // SAFETY: setgroups with a length of 0 reads nothing; the others take numbers.
    unsafe {
        call(116, [0; 6])?;
        call(106, [gid as usize, 0, 0, 0, 0, 0])?;
        call(105, [uid as usize, 0, 0, 0, 0, 0])?;
    }
    Ok(())
}

/// Ends this process.
pub fn exit(code: u32) -> ! {
    loop {
        // SAFETY: ends everything.
        let _ = unsafe { call(231, [code as usize, 0, 0, 0, 0, 0]) };
    }
}
