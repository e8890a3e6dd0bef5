//! The system call itself, and why the kernel refuses.

use core::arch::asm;

/// Why the kernel refused: a number of errno(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub u32);

impl Errno {
    /// No such file or directory.
    pub const NOT_FOUND: Errno = Errno(2);
    /// Interrupted.
    pub const INTERRUPTED: Errno = Errno(4);
    /// Argument list too long.
    pub const TOO_BIG: Errno = Errno(7);
    /// Would have to wait.
    pub const AGAIN: Errno = Errno(11);
    /// Permission denied.
    pub const DENIED: Errno = Errno(13);
    /// No such device.
    pub const NO_DEVICE: Errno = Errno(19);
    /// Not a directory.
    pub const NOT_DIRECTORY: Errno = Errno(20);
    /// Invalid argument.
    pub const INVALID: Errno = Errno(22);
    /// Too many open files.
    pub const TOO_MANY: Errno = Errno(24);
    /// Protocol error.
    pub const PROTOCOL: Errno = Errno(71);
}

/// What a system call answers.
pub type Result<T> = core::result::Result<T, Errno>;

/// A system call.
///
/// # Safety
///
/// What the arguments mean to the kernel has to be true: above all, addresses are those of memory of the right size
/// that may be read or written.
pub(crate) unsafe fn call(number: usize, arguments: [usize; 6]) -> Result<usize> {
    let [a, b, c, d, e, f] = arguments;
    let answer: isize;
    // SAFETY: the kernel keeps all registers but rax, rcx and r11; the rest is this function's contract.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    if answer < 0 { Err(Errno(answer.unsigned_abs() as u32)) } else { Ok(answer as usize) }
}
