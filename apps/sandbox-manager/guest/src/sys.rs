//! Linux system calls of x86-64, and the memory functions that compilers expect of a C library.
//!
//! The only file with unsafe code besides the entry point. Numbers and structures: the kernel's `uapi` headers.

use core::arch::{asm, global_asm};

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
    /// No such device.
    pub const NO_DEVICE: Errno = Errno(19);
    /// Invalid argument.
    pub const INVALID: Errno = Errno(22);
    /// Protocol error.
    pub const PROTOCOL: Errno = Errno(71);
}

/// What a system call answers.
pub type Result<T> = core::result::Result<T, Errno>;

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

    /// Lets reads and writes fail with [`Errno::AGAIN`] rather than wait.
    pub fn set_nonblocking(&self) -> Result<()> {
        const F_SETFL: usize = 4;
        const O_NONBLOCK: usize = 0x800;
        // SAFETY: fcntl(F_SETFL) takes numbers only.
        unsafe { call(72, [self.0 as usize, F_SETFL, O_NONBLOCK, 0, 0, 0]) }.map(drop)
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

/// A string with the NUL that C wants at its end.
#[derive(Clone, Copy, Debug)]
pub struct CString<'a>(&'a [u8]);

impl<'a> CString<'a> {
    /// Takes bytes that end with their only NUL.
    pub fn new(bytes: &'a [u8]) -> Option<CString<'a>> {
        (bytes.iter().position(|byte| *byte == 0)? + 1 == bytes.len()).then_some(CString(bytes))
    }

    /// Its bytes without the NUL.
    pub fn bytes(&self) -> &'a [u8] {
        self.0.get(..self.0.len() - 1).unwrap_or_default()
    }

    /// Its address.
    pub fn pointer(&self) -> *const u8 {
        self.0.as_ptr()
    }
}

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

/// A number in digits.
pub fn decimal(mut number: usize, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[start..];
        }
    }
}

/// Says something on the standard error.
pub fn write_error(bytes: &[u8]) -> Result<usize> {
    // SAFETY: the kernel reads at most `len` bytes of borrowed memory.
    unsafe { call(1, [2, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0]) }
}

/// How a file is opened; see open(2).
pub mod open {
    /// For reading.
    pub const READ: usize = 0;
    /// For both.
    pub const BOTH: usize = 2;
    /// A directory.
    pub const DIRECTORY: usize = 0o200000;
    /// Closed in programs that are started.
    pub const CLOSE: usize = 0o2000000;
}

const AT_FDCWD: usize = -100isize as usize;

/// Opens a file.
pub fn open(path: CString, flags: usize) -> Result<Fd> {
    // SAFETY: the path ends with a NUL.
    let number = unsafe { call(257, [AT_FDCWD, path.pointer() as usize, flags | open::CLOSE, 0, 0, 0])? };
    Ok(Fd(number as i32))
}

/// A pipe in which a read takes exactly what one write put in.
pub const PIPE_OF_PACKETS: usize = 0o40000;

/// A pipe: its end to read from, its end to write to.
pub fn pipe(flags: usize) -> Result<(Fd, Fd)> {
    let mut ends = [0i32; 2];
    // SAFETY: the kernel writes two numbers.
    unsafe { call(293, [ends.as_mut_ptr() as usize, flags | open::CLOSE, 0, 0, 0, 0])? };
    Ok((Fd(ends[0]), Fd(ends[1])))
}

/// Makes `number` another name of a file.
pub fn duplicate(file: &Fd, number: i32) -> Result<()> {
    // SAFETY: dup2 takes numbers only; the numbers given are those of standard input and output.
    unsafe { call(33, [file.0 as usize, number as usize, 0, 0, 0, 0]) }.map(drop)
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
}

/// Waits until one of `files` is ready, or for a number of milliseconds.
pub fn poll(files: &mut [Poll], timeout_ms: Option<usize>) -> Result<usize> {
    let time = timeout_ms.map(|ms| [ms / 1000, ms % 1000 * 1_000_000]);
    let time = time.as_ref().map_or(0, |time| time.as_ptr() as usize);
    // SAFETY: the kernel reads and writes `len` structures, and reads two numbers where there is a limit.
    unsafe { call(271, [files.as_mut_ptr() as usize, files.len(), time, 0, 8, 0]) }
}

/// Which side of a fork this is.
pub enum Side {
    /// the new process
    Child,
    /// the old one
    Parent,
}

/// Makes a copy of this process.
pub fn fork() -> Result<Side> {
    // SAFETY: there is only one thread, and memory is copied.
    Ok(match unsafe { call(57, [0; 6])? } {
        0 => Side::Child,
        _ => Side::Parent,
    })
}

/// Begins a session without a terminal, and a process group.
pub fn new_session() -> Result<()> {
    // SAFETY: no arguments.
    unsafe { call(112, [0; 6]) }.map(drop)
}

/// Programs in the file system do not run with the rights of their owners.
pub const NO_SUID: usize = 2;
/// Device files in the file system are none.
pub const NO_DEVICES: usize = 4;

/// Mounts a file system.
pub fn mount(source: CString, target: CString, kind: CString, flags: usize, options: CString) -> Result<()> {
    let [source, target, kind, options] = [source, target, kind, options].map(|text| text.pointer() as usize);
    // SAFETY: all strings end with a NUL.
    unsafe { call(165, [source, target, kind, flags, options, 0]) }.map(drop)
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

/// Ends this process.
pub fn exit(code: u32) -> ! {
    loop {
        // SAFETY: ends everything.
        let _ = unsafe { call(231, [code as usize, 0, 0, 0, 0, 0]) };
    }
}

/// A system call.
///
/// # Safety
///
/// What the arguments mean to the kernel has to be true: above all, addresses are those of memory of the right size
/// that may be read or written.
unsafe fn call(number: usize, arguments: [usize; 6]) -> Result<usize> {
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

// In assembly, so that no compiler turns a loop that copies into a call of the function that it is.
global_asm!(
    ".globl memcpy, memmove, memset, memcmp, bcmp, strlen",
    "memmove:",
    "    mov rax, rdi",
    "    sub rax, rsi",
    "    cmp rax, rdx",
    "    jb 2f",
    "memcpy:",
    "    mov rax, rdi",
    "    mov rcx, rdx",
    "    shr rcx, 3",
    "    rep movsq",
    "    mov ecx, edx",
    "    and ecx, 7",
    "    rep movsb",
    "    ret",
    "2:  mov rax, rdi",
    "    lea rdi, [rdi + rdx - 1]",
    "    lea rsi, [rsi + rdx - 1]",
    "    mov rcx, rdx",
    "    std",
    "    rep movsb",
    "    cld",
    "    ret",
    "memset:",
    "    mov r8, rdi",
    "    mov eax, esi",
    "    mov rcx, rdx",
    "    rep stosb",
    "    mov rax, r8",
    "    ret",
    "bcmp:",
    "memcmp:",
    "    xor eax, eax",
    "    mov rcx, rdx",
    "    cmp eax, eax",
    "    repe cmpsb",
    "    je 3f",
    "    movzx eax, byte ptr [rdi - 1]",
    "    movzx ecx, byte ptr [rsi - 1]",
    "    sub eax, ecx",
    "3:  ret",
    "strlen:",
    "    mov rax, rdi",
    "4:  cmp byte ptr [rax], 0",
    "    je 5f",
    "    inc rax",
    "    jmp 4b",
    "5:  sub rax, rdi",
    "    ret",
);
