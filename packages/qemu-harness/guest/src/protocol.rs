//! Frames between the host and this program.
//!
//! A frame is a header of 12 bytes and a payload; numbers are little-endian. The header has the payload's length (u32),
//! the number of the stream that it belongs to (u32, chosen by the host), its kind (u8) and three bytes of zero.

use leveret_linux::{Errno, Fd, Result};

/// Version of this protocol.
pub const VERSION: u32 = 1;
/// Length of a header in bytes.
pub const HEADER: usize = 12;
/// Longest payload in bytes, in both directions.
pub const MAX_PAYLOAD: usize = 64 * 1024;
/// Bytes that either side may send on a stream before the other has taken some.
pub const WINDOW: usize = 64 * 1024;

/// What the host sends.
pub mod request {
    /// Clock in nanoseconds since 1970 (u64, 0: leave it), entropy (the rest): answered with [`super::reply::HELLO`].
    pub const HELLO: u8 = 1;
    /// Start a program: see `process.rs`.
    pub const START: u8 = 2;
    /// Bytes for standard input, or for a file.
    pub const DATA: u8 = 3;
    /// Nothing more comes; a file is complete.
    pub const END: u8 = 4;
    /// Signal for the program's process group (u32).
    pub const SIGNAL: u8 = 5;
    /// Bytes of the stream's output that the host has taken, and of which: 0 standard output, 1 errors (u32 each).
    pub const TAKEN: u8 = 6;
    /// Size of the terminal: rows, columns (u16 each).
    pub const RESIZE: u8 = 7;
    /// Read a file: path, NUL.
    pub const READ: u8 = 8;
    /// Write a file: mode (u32), path, NUL.
    pub const WRITE: u8 = 9;
    /// Forget the stream: a program is killed, a file is closed.
    pub const CLOSE: u8 = 10;
    /// Connect to a TCP port in the guest: port (u16), address (4 or 16 bytes).
    pub const CONNECT: u8 = 11;
}

/// What this program sends.
pub mod reply {
    /// Version, number of streams, window (u32 each).
    pub const HELLO: u8 = 128;
    /// The program runs, or the file is open: process id (u32, 0 for a file).
    pub const STARTED: u8 = 129;
    /// What was written to standard output or the terminal, or read from a file.
    pub const OUTPUT: u8 = 130;
    /// What was written to standard error.
    pub const ERROR: u8 = 131;
    /// The program has ended and its output is complete, or the file is: exit code, signal (u32 each).
    pub const ENDED: u8 = 132;
    /// Bytes of the stream that were taken (u32).
    pub const TAKEN: u8 = 133;
    /// The stream does not exist or exists no more: errno, and at which step (u32 each).
    pub const FAILED: u8 = 134;
}

/// A frame that came.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// number of its stream
    pub stream: u32,
    /// one of [`request`]
    pub kind: u8,
    /// what it carries
    pub payload: &'a [u8],
}

/// Takes values from a payload, one after the other; every one of them may be missing.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_le_bytes)
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    /// Text up to and with its NUL.
    pub fn text(&mut self) -> Option<leveret_linux::CString<'a>> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        leveret_linux::CString::new(self.take(end + 1)?)
    }
}

/// The connection to the host.
pub struct Port(pub Fd);

impl Port {
    /// Sends a frame, waiting as long as the host takes.
    ///
    /// `frame` has [`HEADER`] bytes of room for the header, then the payload: one write is one message to the host.
    pub fn send(&self, stream: u32, kind: u8, frame: &mut [u8]) -> Result<()> {
        let Some((header, payload)) = frame.split_at_mut_checked(HEADER) else { return Err(Errno::INVALID) };
        let numbers = [payload.len() as u32, stream, u32::from(kind)];
        for (place, number) in header.chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        self.0.write_all(frame)
    }

    /// Sends a frame of numbers, four at most.
    pub fn send_numbers(&self, stream: u32, kind: u8, numbers: &[u32]) -> Result<()> {
        let mut frame = [0; HEADER + 16];
        for (place, number) in frame.chunks_exact_mut(4).skip(HEADER / 4).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let length = HEADER + numbers.len() * 4;
        self.send(stream, kind, frame.get_mut(..length).ok_or(Errno::TOO_BIG)?)
    }
}

/// What has come from the host.
pub struct Inbox {
    buffer: [u8; HEADER + MAX_PAYLOAD],
    filled: usize,
    /// length of the frame that was handed out last, to be dropped before the next
    consumed: usize,
}

impl Inbox {
    /// An empty one.
    pub const fn new() -> Inbox {
        Inbox { buffer: [0; HEADER + MAX_PAYLOAD], filled: 0, consumed: 0 }
    }

    /// Reads once what has come.
    pub fn fill(&mut self, port: &Port) -> Result<usize> {
        self.drop_consumed();
        let count = port.0.read(self.buffer.get_mut(self.filled..).unwrap_or_default())?;
        self.filled += count;
        Ok(count)
    }

    /// The next frame that is complete; an error for one that is too long.
    pub fn next(&mut self) -> Result<Option<Frame<'_>>> {
        self.drop_consumed();
        let mut fields = Fields(self.buffer.get(..self.filled).unwrap_or_default());
        let (Some(length), Some(stream), Some(kind)) = (fields.u32(), fields.u32(), fields.u32()) else {
            return Ok(None);
        };
        let length = length as usize;
        if length > MAX_PAYLOAD {
            return Err(Errno::TOO_BIG);
        }
        let Some(payload) = fields.0.get(..length) else { return Ok(None) };
        self.consumed = HEADER + length;
        Ok(Some(Frame { stream, kind: kind as u8, payload }))
    }

    fn drop_consumed(&mut self) {
        self.buffer.copy_within(self.consumed..self.filled, 0);
        self.filled -= self.consumed;
        self.consumed = 0;
    }
}
