//! Open files.

use crate::call::{Errno, Result, call};
use crate::text::CString;

/// An open file, closed when it goes.
#[derive(Debug)]
pub struct Fd(i32);

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: closing takes no memory, and nobody else has this number.
        let _ = unsafe { call(3, [self.0 as usize, 0, 0, 0, 0, 0]) };
    }
}

impl Fd {
    /// Takes over a file that a system call has just opened and answered with.
    pub fn from_answer(number: usize) -> Fd {
        Fd(number as i32)
    }

    /// The same open file under a second number.
    pub fn duplicate(&self) -> Result<Fd> {
        const F_DUPFD_CLOEXEC: usize = 1030;
        // SAFETY: numbers only.
        unsafe { call(72, [self.0 as usize, F_DUPFD_CLOEXEC, 3, 0, 0, 0]) }.map(Fd::from_answer)
    }

    /// Its number, for structures that carry numbers.
    pub fn number(&self) -> i32 {
        self.0
    }

    /// Reads into `buffer`; 0 is the end.
    pub fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        // SAFETY: the kernel writes at most `len` bytes into memory that is borrowed for it.
        unsafe { call(0, [self.0 as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0]) }
    }

    /// Writes as much of `bytes` as there is room for.
    pub fn write(&self, bytes: &[u8]) -> Result<usize> {
        // SAFETY: the kernel reads at most `len` bytes of borrowed memory.
        unsafe { call(1, [self.0 as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0]) }
    }

    /// Writes all of `bytes`, waiting as long as that takes.
    pub fn write_all(&self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match self.write(bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(Errno::INTERRUPTED) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Lets reads and writes fail with [`Errno::AGAIN`] rather than wait.
    pub fn set_nonblocking(&self) -> Result<()> {
        const F_SETFL: usize = 4;
        const O_NONBLOCK: usize = 0x800;
        // SAFETY: fcntl(F_SETFL) takes numbers only.
        unsafe { call(72, [self.0 as usize, F_SETFL, O_NONBLOCK, 0, 0, 0]) }.map(drop)
    }

    /// Tells the other end of a connection that nothing more comes.
    pub fn end_writing(&self) -> Result<()> {
        const SHUT_WR: usize = 1;
        // SAFETY: numbers only.
        unsafe { call(48, [self.0 as usize, SHUT_WR, 0, 0, 0, 0]) }.map(drop)
    }

    /// ioctl(2) with a number.
    pub fn control(&self, request: usize, argument: usize) -> Result<usize> {
        // SAFETY: used with requests that take a number, no address.
        unsafe { call(16, [self.0 as usize, request, argument, 0, 0, 0]) }
    }

    /// ioctl(2) with a structure that the kernel reads and writes.
    pub fn control_with<T>(&self, request: usize, argument: &mut T) -> Result<usize> {
        // SAFETY: every use pairs a request with the structure that it takes, which is borrowed for the call.
        unsafe { call(16, [self.0 as usize, request, argument as *mut T as usize, 0, 0, 0]) }
    }

    /// Sets how many bytes a pipe holds.
    pub fn set_pipe_size(&self, bytes: usize) -> Result<()> {
        const F_SETPIPE_SZ: usize = 1031;
        // SAFETY: fcntl(F_SETPIPE_SZ) takes numbers only.
        unsafe { call(72, [self.0 as usize, F_SETPIPE_SZ, bytes, 0, 0, 0]) }.map(drop)
    }

    /// Names of a directory's entries, one call's worth into `buffer`; 0 bytes is the end.
    pub fn entries(&self, buffer: &mut [u8]) -> Result<usize> {
        // SAFETY: the kernel writes at most `len` bytes into memory that is borrowed for it.
        unsafe { call(217, [self.0 as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0]) }
    }
}

/// How a file is opened; see open(2).
pub mod open {
    /// For reading.
    pub const READ: usize = 0;
    /// For writing.
    pub const WRITE: usize = 1;
    /// For both.
    pub const BOTH: usize = 2;
    /// Made when it is not there.
    pub const CREATE: usize = 0o100;
    /// Not taken as the controlling terminal.
    pub const NO_TERMINAL: usize = 0o400;
    /// Emptied first.
    pub const TRUNCATE: usize = 0o1000;
    /// A directory.
    pub const DIRECTORY: usize = 0o200000;
    /// Without waiting for another end.
    pub const NONBLOCK: usize = 0o4000;
    /// Closed in programs that are started.
    pub const CLOSE: usize = 0o2000000;
}

pub(crate) const AT_FDCWD: usize = -100isize as usize;

/// Opens a file.
pub fn open(path: CString, flags: usize) -> Result<Fd> {
    open_new(path, flags, 0)
}

/// Opens a file that gets a mode when it is made.
pub fn open_new(path: CString, flags: usize, mode: usize) -> Result<Fd> {
    // SAFETY: the path ends with a NUL.
    let number = unsafe { call(257, [AT_FDCWD, path.pointer() as usize, flags | open::CLOSE, mode, 0, 0])? };
    Ok(Fd::from_answer(number))
}

/// A pipe: its end to read from, its end to write to.
pub fn pipe() -> Result<(Fd, Fd)> {
    new_pipe(0)
}

/// A pipe in which a read takes exactly what one write put in.
pub fn pipe_of_packets() -> Result<(Fd, Fd)> {
    const O_DIRECT: usize = 0o40000;
    new_pipe(O_DIRECT)
}

fn new_pipe(flags: usize) -> Result<(Fd, Fd)> {
    let mut ends = [0i32; 2];
    // SAFETY: the kernel writes two numbers.
    unsafe { call(293, [ends.as_mut_ptr() as usize, flags | open::CLOSE, 0, 0, 0, 0])? };
    Ok((Fd(ends[0]), Fd(ends[1])))
}

/// Makes `number` another name of a file, kept open in programs that are started.
pub fn duplicate(file: &Fd, number: i32) -> Result<()> {
    // SAFETY: dup2 takes numbers only; called in a child that is about to start a program.
    unsafe { call(33, [file.0 as usize, number as usize, 0, 0, 0, 0]) }.map(drop)
}

/// Says something on the standard error.
pub fn write_error(bytes: &[u8]) -> Result<usize> {
    // SAFETY: the kernel reads at most `len` bytes of borrowed memory.
    unsafe { call(1, [2, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0]) }
}

/// What ppoll(2) is asked about one file.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Poll {
    /// the file; one that is negative is left out
    pub fd: i32,
    /// what is waited for
    pub events: i16,
    /// what there is
    pub found: i16,
}

impl Poll {
    /// Something can be read, or the other end is gone.
    pub const IN: i16 = 1;
    /// Something can be written.
    pub const OUT: i16 = 4;
    /// Nothing is asked.
    pub const NONE: Poll = Poll { fd: -1, events: 0, found: 0 };
}

/// Waits until one of `files` is ready, as long as that takes.
pub fn poll(files: &mut [Poll]) -> Result<usize> {
    // SAFETY: the kernel reads and writes `len` structures; no time limit, no signal mask.
    unsafe { call(271, [files.as_mut_ptr() as usize, files.len(), 0, 0, 8, 0]) }
}

/// Does nothing for a number of milliseconds.
pub fn pause(milliseconds: usize) {
    let time = [milliseconds / 1000, milliseconds % 1000 * 1_000_000];
    // SAFETY: the kernel reads two numbers of eight bytes.
    let _ = unsafe { call(271, [0, 0, time.as_ptr() as usize, 0, 8, 0]) };
}
