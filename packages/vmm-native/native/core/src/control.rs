//! What the hypervisor and whoever controls it say to each other: frames on a stream of bytes.
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | length of the payload |
//! | 1 | kind |
//! | 1 | guest |
//! | 2 | tag: an answer has that of its request |
//!
//! Numbers are little-endian. Every request has one answer, [`answer::DONE`] or [`answer::FAILED`], in their order; events
//! come in between. The other end is `src/control/frames.ts`.

use crate::linux::HEADER_SIZE as LINUX_HEADER_SIZE;
use core::fmt;

/// How many bytes a frame has before its payload.
pub const HEADER_SIZE: usize = 8;
/// Longest payload, in bytes.
pub const MAX_PAYLOAD: usize = 32 << 10;

/// Kinds of requests.
pub mod request {
    /// See [`super::Request::Create`]; the others alike.
    pub const CREATE: u8 = 1;
    #[allow(missing_docs)]
    pub const LOAD_LINUX: u8 = 2;
    #[allow(missing_docs)]
    pub const LOAD_FLAT: u8 = 3;
    #[allow(missing_docs)]
    pub const READ: u8 = 4;
    #[allow(missing_docs)]
    pub const WRITE: u8 = 5;
    #[allow(missing_docs)]
    pub const RUN: u8 = 6;
    #[allow(missing_docs)]
    pub const PAUSE: u8 = 7;
    #[allow(missing_docs)]
    pub const RESET: u8 = 8;
    #[allow(missing_docs)]
    pub const REGISTERS: u8 = 9;
    #[allow(missing_docs)]
    pub const INJECT: u8 = 10;
    #[allow(missing_docs)]
    pub const EXITS: u8 = 11;
    #[allow(missing_docs)]
    pub const INPUT: u8 = 12;
    #[allow(missing_docs)]
    pub const DESTROY: u8 = 13;
    #[allow(missing_docs)]
    pub const SELF_TEST: u8 = 14;
    #[allow(missing_docs)]
    pub const SAVE: u8 = 15;
    #[allow(missing_docs)]
    pub const RESTORE: u8 = 16;
    #[allow(missing_docs)]
    pub const PAGES: u8 = 17;
    #[allow(missing_docs)]
    pub const FORK: u8 = 18;
}

/// Kinds of answers and events.
pub mod answer {
    /// It has been done; the payload depends on the request.
    pub const DONE: u8 = 0x80;
    /// It cannot be done; the payload says why, in UTF-8.
    pub const FAILED: u8 = 0x81;
    /// A guest has written to a console: which, then bytes.
    pub const OUTPUT: u8 = 0xc0;
    /// A guest has taken what was typed: which console, then how many bytes, of 4.
    pub const TAKEN: u8 = 0xc1;
    /// A guest has stopped: a JSON object.
    pub const STOPPED: u8 = 0xc2;
}

/// What a guest is asked to do, or what is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Make a guest, which does not run.
    Create {
        /// Its memory.
        memory_mib: u32,
        /// How many processors it has.
        processors: u8,
        /// Which disks of the machine it gets, a bit for each.
        disks: u8,
        /// Which network cards.
        cards: u8,
    },
    /// Prepare it for a Linux kernel; the answer has address, offset in the file and length of the kernel's and of the
    /// initrd's place, of 8 bytes each, for those to be written there.
    LoadLinux {
        /// Size of the kernel's file.
        kernel_size: u64,
        /// Size of the initrd, or 0.
        initrd_size: u64,
        /// How the kernel's file begins.
        header: &'a [u8; LINUX_HEADER_SIZE],
        /// Its command line.
        command_line: &'a [u8],
    },
    /// Prepare it for a flat binary; the answer has its address, of 8 bytes.
    LoadFlat,
    /// Read its memory; the answer has the bytes.
    Read {
        /// Guest physical address.
        address: u64,
        /// How many bytes.
        length: u32,
    },
    /// Write to its memory.
    Write {
        /// Guest physical address.
        address: u64,
        /// What is to be there.
        bytes: &'a [u8],
    },
    /// Let it run, also when it was paused.
    Run,
    /// Let it stand still.
    Pause,
    /// Bring it back to where nothing is loaded, with its memory as it is.
    Reset,
    /// The state of a processor: general registers by their numbers, RIP, RFLAGS, CR0, CR2, CR3, CR4, EFER, of 8 bytes each.
    Registers {
        /// Which.
        processor: u8,
    },
    /// Send a processor an interrupt, or a non-maskable one.
    Inject {
        /// Which.
        processor: u8,
        /// 16 to 255, or 2 for the non-maskable one.
        vector: u8,
    },
    /// What it has exited for so far: a JSON object.
    Exits,
    /// Type on one of its consoles.
    Input {
        /// Which: 0 the serial port, 1 the virtio console.
        console: u8,
        /// What is typed.
        bytes: &'a [u8],
    },
    /// Forget it.
    Destroy,
    /// Try which rules of VMRUN the processor enforces; the log says what came of it.
    SelfTest,
    /// Save it, which stands still, without its memory; the answer has its state.
    Save,
    /// Let it, which has been made like the one that was saved, go on from there.
    Restore {
        /// What the answer to [`Request::Save`] had.
        state: &'a [u8],
    },
    /// Make another one of it, which does not run, with copies of its pages as soon as one of both writes to them; the answer
    /// has how many nanoseconds that took, of 8 bytes.
    Fork {
        /// Number of the other one.
        number: u8,
        /// Which disks of the machine that gets, as many as this one has.
        disks: u8,
        /// Which network cards.
        cards: u8,
    },
    /// What its memory holds from an address on, in pages of 4 KiB: the answer has the address of the next page that is not zero,
    /// of 8 bytes, and that page with those behind it, as long as they are not zero and there is room. An answer without pages
    /// says where to go on, or that memory ends.
    Pages {
        /// Guest physical address, a multiple of 4096.
        address: u64,
    },
}

/// Why bytes are no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlError {
    /// The payload is longer than any is: what follows cannot be told from it.
    TooLong {
        /// What its length is said to be.
        length: u32,
    },
    /// There is no such request.
    UnknownKind(u8),
    /// The payload ends before the request does.
    TooShort(u8),
    /// The payload goes on behind the request.
    Trailing(u8),
}

impl fmt::Display for ControlError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlError::TooLong { length } => {
                write!(out, "expected a payload of at most {MAX_PAYLOAD} bytes, got {length}")
            }
            ControlError::UnknownKind(kind) => write!(out, "expected a kind of request, got {kind}"),
            ControlError::TooShort(kind) => write!(out, "expected all of a request of kind {kind}, got a part"),
            ControlError::Trailing(kind) => write!(out, "expected the end of a request of kind {kind}, got more"),
        }
    }
}

impl core::error::Error for ControlError {}

/// What comes before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Length of the payload, at most [`MAX_PAYLOAD`].
    pub length: usize,
    /// Kind of request, answer or event.
    pub kind: u8,
    /// Which guest it is about.
    pub guest: u8,
    /// What an answer has in common with its request.
    pub tag: u16,
}

impl Header {
    /// As bytes.
    pub fn encode(self) -> [u8; HEADER_SIZE] {
        let [a, b, c, d] = (self.length as u32).to_le_bytes();
        let [e, f] = self.tag.to_le_bytes();
        [a, b, c, d, self.kind, self.guest, e, f]
    }

    /// From bytes.
    pub fn decode([a, b, c, d, kind, guest, e, f]: [u8; HEADER_SIZE]) -> Result<Header, ControlError> {
        let length = u32::from_le_bytes([a, b, c, d]);
        if length as usize > MAX_PAYLOAD {
            return Err(ControlError::TooLong { length });
        }
        Ok(Header { length: length as usize, kind, guest, tag: u16::from_le_bytes([e, f]) })
    }
}

/// Puts frames together from bytes that come in pieces.
#[derive(Debug)]
pub struct Assembler<'a> {
    frame: &'a mut [u8; HEADER_SIZE + MAX_PAYLOAD],
    filled: usize,
}

impl<'a> Assembler<'a> {
    /// One that keeps a frame in this place.
    pub fn new(frame: &'a mut [u8; HEADER_SIZE + MAX_PAYLOAD]) -> Assembler<'a> {
        Assembler { frame, filled: 0 }
    }

    /// Takes bytes up to the end of a frame; returns how many, fewer than there are when a frame is whole.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<usize, ControlError> {
        let mut taken = 0;
        while taken < bytes.len() {
            let end = match self.header()? {
                Some(header) => HEADER_SIZE + header.length,
                None => HEADER_SIZE,
            };
            if self.filled == end {
                break;
            }
            let count = (end - self.filled).min(bytes.len() - taken);
            self.frame[self.filled..][..count].copy_from_slice(&bytes[taken..][..count]);
            self.filled += count;
            taken += count;
        }
        Ok(taken)
    }

    fn header(&self) -> Result<Option<Header>, ControlError> {
        if self.filled < HEADER_SIZE {
            return Ok(None);
        }
        let [header @ .., _] = self.frame.first_chunk::<{ HEADER_SIZE + 1 }>().expect("a frame is longer than that");
        Header::decode(*header).map(Some)
    }

    /// The frame, if it is whole. It stays until it is dropped.
    pub fn frame(&self) -> Result<Option<(Header, &[u8])>, ControlError> {
        let whole = self.header()?.filter(|header| self.filled == HEADER_SIZE + header.length);
        Ok(whole.map(|header| (header, &self.frame[HEADER_SIZE..self.filled])))
    }

    /// Makes room for the next one.
    pub fn drop_frame(&mut self) {
        self.filled = 0;
    }
}

impl<'a> Request<'a> {
    /// Reads a request of a kind.
    pub fn decode(kind: u8, payload: &'a [u8]) -> Result<Request<'a>, ControlError> {
        let mut rest = Rest { kind, bytes: payload };
        let request = match kind {
            request::CREATE => Request::Create {
                memory_mib: u32::from_le_bytes(*rest.take()?),
                processors: rest.byte()?,
                disks: rest.byte()?,
                cards: rest.byte()?,
            },
            request::LOAD_LINUX => Request::LoadLinux {
                kernel_size: u64::from_le_bytes(*rest.take()?),
                initrd_size: u64::from_le_bytes(*rest.take()?),
                header: rest.take()?,
                command_line: rest.all(),
            },
            request::LOAD_FLAT => Request::LoadFlat,
            request::READ => {
                Request::Read { address: u64::from_le_bytes(*rest.take()?), length: u32::from_le_bytes(*rest.take()?) }
            }
            request::WRITE => Request::Write { address: u64::from_le_bytes(*rest.take()?), bytes: rest.all() },
            request::RUN => Request::Run,
            request::PAUSE => Request::Pause,
            request::RESET => Request::Reset,
            request::REGISTERS => Request::Registers { processor: rest.byte()? },
            request::INJECT => Request::Inject { processor: rest.byte()?, vector: rest.byte()? },
            request::EXITS => Request::Exits,
            request::INPUT => Request::Input { console: rest.byte()?, bytes: rest.all() },
            request::DESTROY => Request::Destroy,
            request::SELF_TEST => Request::SelfTest,
            request::SAVE => Request::Save,
            request::RESTORE => Request::Restore { state: rest.all() },
            request::FORK => Request::Fork { number: rest.byte()?, disks: rest.byte()?, cards: rest.byte()? },
            request::PAGES => Request::Pages { address: u64::from_le_bytes(*rest.take()?) },
            _ => return Err(ControlError::UnknownKind(kind)),
        };
        if rest.bytes.is_empty() { Ok(request) } else { Err(ControlError::Trailing(kind)) }
    }
}

/// What of a payload has not been read.
struct Rest<'a> {
    kind: u8,
    bytes: &'a [u8],
}

impl<'a> Rest<'a> {
    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], ControlError> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(ControlError::TooShort(self.kind))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, ControlError> {
        let [byte] = *self.take()?;
        Ok(byte)
    }

    fn all(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests;
