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
    /// Would have to wait.
    pub const AGAIN: Errno = Errno(11);
    /// Permission denied.
    pub const DENIED: Errno = Errno(13);
    /// Not a directory.
    pub const NOT_DIRECTORY: Errno = Errno(20);
    /// Invalid argument.
    pub const INVALID: Errno = Errno(22);
    /// Too many open files.
    pub const TOO_MANY: Errno = Errno(24);
    /// Argument list too long.
    pub const TOO_BIG: Errno = Errno(7);
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

impl<'a> From<&'a core::ffi::CStr> for CString<'a> {
    fn from(text: &'a core::ffi::CStr) -> CString<'a> {
        CString(text.to_bytes_with_nul())
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

/// Opens a file.
pub fn open(path: CString, flags: usize, mode: usize) -> Result<Fd> {
    const AT_FDCWD: usize = -100isize as usize;
    // SAFETY: the path ends with a NUL.
    let number = unsafe { call(257, [AT_FDCWD, path.pointer() as usize, flags | open::CLOSE, mode, 0, 0])? };
    Ok(Fd::from_answer(number))
}

/// A pipe: its end to read from, its end to write to.
pub fn pipe() -> Result<(Fd, Fd)> {
    let mut ends = [0i32; 2];
    // SAFETY: the kernel writes two numbers.
    unsafe { call(293, [ends.as_mut_ptr() as usize, open::CLOSE, 0, 0, 0, 0])? };
    Ok((Fd(ends[0]), Fd(ends[1])))
}

/// Makes `number` another name of a file, kept open in programs that are started.
pub fn duplicate(file: &Fd, number: i32) -> Result<()> {
    // SAFETY: dup2 takes numbers only; called in a child that is about to start a program.
    unsafe { call(33, [file.0 as usize, number as usize, 0, 0, 0, 0]) }.map(drop)
}

/// Memory of its own, zeros at first, given back when it goes.
pub struct Pages {
    address: *mut u8,
    length: usize,
}

impl Pages {
    /// Takes `length` bytes.
    pub fn new(length: usize) -> Result<Pages> {
        const READ_WRITE: usize = 3;
        const PRIVATE_ANONYMOUS: usize = 0x22;
        const NO_FILE: usize = usize::MAX;
        // SAFETY: new memory, where nothing else is.
        let address = unsafe { call(9, [0, length, READ_WRITE, PRIVATE_ANONYMOUS, NO_FILE, 0])? };
        Ok(Pages { address: address as *mut u8, length })
    }
}

impl core::ops::Deref for Pages {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `length` bytes that are there until this goes, and are lent out only through it.
        unsafe { core::slice::from_raw_parts(self.address, self.length) }
    }
}

impl core::ops::DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and nobody else has them.
        unsafe { core::slice::from_raw_parts_mut(self.address, self.length) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: nobody has a slice of it any more.
        let _ = unsafe { call(11, [self.address as usize, self.length, 0, 0, 0, 0]) };
    }
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

/// How something is mounted; see mount(2).
pub mod mounting {
    /// Nothing can be written.
    pub const READ_ONLY: usize = 1;
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

/// Loads a kernel module.
pub fn load_module(file: &Fd) -> Result<()> {
    // SAFETY: the parameters are an empty string.
    unsafe { call(313, [file.0 as usize, c"".as_ptr() as usize, 0, 0, 0, 0]) }.map(drop)
}

/// Sets the clock, in nanoseconds since 1970.
pub fn set_clock(nanoseconds: u64) -> Result<()> {
    const CLOCK_REALTIME: usize = 0;
    let time = [nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000];
    // SAFETY: the kernel reads two numbers of eight bytes.
    unsafe { call(227, [CLOCK_REALTIME, time.as_ptr() as usize, 0, 0, 0, 0]) }.map(drop)
}

/// Begins to connect to a TCP port of an IPv4 or IPv6 address, of 4 or 16 bytes.
pub fn connect(address: &[u8], port: u16) -> Result<Fd> {
    const AF_INET: u16 = 2;
    const AF_INET6: u16 = 10;
    const SOCK_STREAM: usize = 1;
    const IN_PROGRESS: Errno = Errno(115);
    // struct sockaddr_in6: family, port, flow, address, scope; struct sockaddr_in has its address where that has the flow.
    let mut name = [0; 28];
    let (family, start) = if address.len() == 4 { (AF_INET, 4) } else { (AF_INET6, 8) };
    name[..2].copy_from_slice(&family.to_ne_bytes());
    name[2..4].copy_from_slice(&port.to_be_bytes());
    let place = name[start..].get_mut(..if start == 4 { 4 } else { 16 }).filter(|place| place.len() == address.len());
    place.ok_or(Errno::INVALID)?.copy_from_slice(address);
    // SAFETY: numbers only.
    let number = unsafe { call(41, [usize::from(family), SOCK_STREAM | open::NONBLOCK | open::CLOSE, 0, 0, 0, 0])? };
    let socket = Fd::from_answer(number);
    // SAFETY: the kernel reads no more than there is.
    match unsafe { call(42, [number, name.as_ptr() as usize, name.len(), 0, 0, 0]) } {
        Ok(_) | Err(IN_PROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// A file that something can be read from whenever a device comes, goes or changes.
pub fn device_events() -> Result<Fd> {
    const AF_NETLINK: usize = 16;
    const SOCK_RAW: usize = 3;
    const NETLINK_KOBJECT_UEVENT: usize = 15;
    const GROUP_KERNEL: u32 = 1;
    // SAFETY: numbers only.
    let number = unsafe { call(41, [AF_NETLINK, SOCK_RAW | open::CLOSE, NETLINK_KOBJECT_UEVENT, 0, 0, 0])? };
    let socket = Fd::from_answer(number);
    // struct sockaddr_nl: family, port chosen by the kernel, groups.
    let address = [AF_NETLINK as u32, 0, GROUP_KERNEL];
    // SAFETY: the kernel reads twelve bytes.
    unsafe { call(49, [number, address.as_ptr() as usize, size_of_val(&address), 0, 0, 0])? };
    Ok(socket)
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
    ".globl memcpy, memmove, memset, memcmp, bcmp",
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
);
