//! A program that was started, a file or a connection that is open, on behalf of the host.

use crate::process::{self, Failure, Started, Step};
use crate::protocol::{Fields, HEADER, Port, WINDOW, reply};
use leveret_linux::{self as sys, Errno, Fd, Pages, Poll, Result, open};

/// How many files of a stream may be waited for: input, output, error.
pub const FILES: usize = 3;

/// How a program ended: exit code, signal.
type End = (u32, u32);

/// What a stream is.
enum What {
    Program { pid: i32, end: Option<End> },
    FileToRead,
    FileToWrite,
    Connection,
}

/// One stream.
pub struct Stream {
    id: u32,
    what: What,
    input: Option<Fd>,
    /// standard output or the file, and standard error
    outputs: [Output; 2],
    /// whether nothing more comes for the input
    complete: bool,
    queued: usize,
    /// what the input has not taken yet
    queue: Pages,
}

/// Something that is read for the host.
struct Output {
    file: Option<Fd>,
    /// bytes that the host still takes
    credit: usize,
}

/// Whether a stream goes on.
pub enum Life {
    /// it does
    Goes,
    /// it is to be forgotten
    Over,
}

impl Stream {
    /// Starts a program.
    pub fn program(id: u32, request: &[u8]) -> core::result::Result<Stream, Failure> {
        let Started { pid, input, output, error } = process::start(request)?;
        Stream::new(id, What::Program { pid, end: None }, Some(input), Some(output), error)
    }

    /// Opens a file to be read.
    pub fn file_to_read(id: u32, request: &[u8]) -> core::result::Result<Stream, Failure> {
        let path = Fields(request).text().ok_or((Errno::INVALID, Step::Request))?;
        // Without waiting for somebody at the other end of a pipe.
        let file = sys::open(path, open::READ | open::NONBLOCK | open::NO_TERMINAL);
        Stream::new(id, What::FileToRead, None, Some(file.map_err(|error| (error, Step::Program))?), None)
    }

    /// Opens a file to be written.
    pub fn file_to_write(id: u32, request: &[u8]) -> core::result::Result<Stream, Failure> {
        let mut fields = Fields(request);
        let (Some(mode), Some(path)) = (fields.u32(), fields.text()) else {
            return Err((Errno::INVALID, Step::Request));
        };
        let flags = open::WRITE | open::CREATE | open::TRUNCATE | open::NONBLOCK | open::NO_TERMINAL;
        let file = sys::open_new(path, flags, mode as usize).map_err(|error| (error, Step::Program))?;
        Stream::new(id, What::FileToWrite, Some(file), None, None)
    }

    /// Connects to a port, without waiting until that is done: the first bytes do, or tell why there are none.
    pub fn connection(id: u32, request: &[u8]) -> core::result::Result<Stream, Failure> {
        let mut fields = Fields(request);
        let port = fields.u16().ok_or((Errno::INVALID, Step::Request))?;
        let socket = sys::connect(fields.0, port).map_err(|error| (error, Step::Program))?;
        let input = socket.duplicate().map_err(|error| (error, Step::Prepare))?;
        Stream::new(id, What::Connection, Some(input), Some(socket), None)
    }

    fn new(
        id: u32,
        what: What,
        input: Option<Fd>,
        output: Option<Fd>,
        error: Option<Fd>,
    ) -> core::result::Result<Stream, Failure> {
        let outputs = [output, error].map(|file| Output { file, credit: WINDOW });
        let queue = Pages::new(WINDOW).map_err(|error| (error, Step::Prepare))?;
        Ok(Stream { id, what, input, outputs, complete: false, queued: 0, queue })
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Process id, 0 for what is no program.
    pub fn pid(&self) -> i32 {
        match self.what {
            What::Program { pid, .. } => pid,
            _ => 0,
        }
    }

    /// What it waits for.
    pub fn waits(&self) -> [Poll; FILES] {
        let on = |file: &Option<Fd>, events, wanted: bool| match file {
            Some(file) if wanted => Poll { fd: file.number(), events, found: 0 },
            _ => Poll::NONE,
        };
        let [output, error] = &self.outputs;
        [
            on(&self.input, Poll::OUT, self.queued > 0),
            on(&output.file, Poll::IN, output.credit > 0),
            on(&error.file, Poll::IN, error.credit > 0),
        ]
    }

    /// Takes bytes for the input.
    pub fn push(&mut self, bytes: &[u8], port: &Port) -> Result<Life> {
        let Some(place) = self.queue.get_mut(self.queued..self.queued + bytes.len()) else {
            return self.fail(Errno::TOO_BIG, port);
        };
        place.copy_from_slice(bytes);
        self.queued += bytes.len();
        self.write_input(port)
    }

    /// Nothing more comes for the input.
    pub fn finish_input(&mut self, port: &Port) -> Result<Life> {
        self.complete = true;
        self.write_input(port)
    }

    /// The host has taken bytes of an output: 0 for the standard one, 1 for errors.
    pub fn grant(&mut self, bytes: usize, which: usize) {
        if let Some(output) = self.outputs.get_mut(which) {
            output.credit = output.credit.saturating_add(bytes).min(WINDOW);
        }
    }

    /// Sends a signal to the program and all it has started.
    pub fn signal(&self, signal: u32) {
        if let What::Program { pid, end: None } = self.what {
            let _ = sys::kill(-pid, signal);
        }
    }

    /// Sets the size of the terminal.
    pub fn resize(&self, rows: u16, columns: u16) {
        if let (What::Program { .. }, Some(terminal)) = (&self.what, &self.input) {
            let _ = process::resize(terminal, rows, columns);
        }
    }

    /// Notes how the program ended, from a status as wait(2) has it.
    pub fn note_end(&mut self, status: u32) {
        if let What::Program { end, .. } = &mut self.what {
            *end = Some(((status >> 8) & 0xff, status & 0x7f));
        }
    }

    /// Writes to the input what waits for it.
    pub fn write_input(&mut self, port: &Port) -> Result<Life> {
        let mut taken = 0;
        while let (Some(input), Some(bytes)) = (&self.input, self.queue.get(taken..self.queued)) {
            if bytes.is_empty() {
                break;
            }
            match input.write(bytes) {
                Ok(count) => taken += count,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTERRUPTED) => {}
                Err(error) if matches!(self.what, What::FileToWrite) => return self.fail(error, port),
                // Nobody reads it any more, which is the program's own business.
                Err(_) => self.input = None,
            }
        }
        if self.input.is_none() {
            taken = self.queued;
        }
        self.queue.copy_within(taken..self.queued, 0);
        self.queued -= taken;
        if taken > 0 {
            port.send_numbers(self.id, reply::TAKEN, &[taken as u32])?;
        }
        if self.complete && self.queued == 0 {
            if let (What::Connection, Some(socket)) = (&self.what, &self.input) {
                let _ = socket.end_writing();
            }
            self.input = None;
            if matches!(self.what, What::FileToWrite) {
                return self.end((0, 0), port);
            }
        }
        Ok(Life::Goes)
    }

    /// Sends what there is of the output, as far as the host takes it, and how it all ended when that is known.
    pub fn send_output(&mut self, port: &Port, buffer: &mut [u8]) -> Result<Life> {
        let mut waits = false;
        for (kind, Output { file, credit }) in [reply::OUTPUT, reply::ERROR].into_iter().zip(&mut self.outputs) {
            while let Some(open) = file.as_ref() {
                let room = buffer.len().saturating_sub(HEADER).min(*credit);
                let Some(place) = buffer.get_mut(HEADER..HEADER + room).filter(|place| !place.is_empty()) else {
                    waits = true;
                    break;
                };
                match open.read(place) {
                    Ok(0) => *file = None,
                    Ok(count) => {
                        *credit -= count;
                        port.send(self.id, kind, buffer.get_mut(..HEADER + count).unwrap_or_default())?;
                    }
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTERRUPTED) => {}
                    Err(error) if matches!(self.what, What::FileToRead | What::Connection) => {
                        port.send_numbers(self.id, reply::FAILED, &[error.0, Step::Program as u32])?;
                        return Ok(Life::Over);
                    }
                    // A terminal's way of saying that it has no more.
                    Err(_) => *file = None,
                }
            }
        }
        match self.what {
            // What others still hold open of an ended program's output is not waited for.
            What::Program { end: Some(end), .. } if !waits => self.end(end, port),
            What::FileToRead | What::Connection if self.outputs.iter().all(|output| output.file.is_none()) => self.end((0, 0), port),
            _ => Ok(Life::Goes),
        }
    }

    fn end(&mut self, (code, signal): End, port: &Port) -> Result<Life> {
        port.send_numbers(self.id, reply::ENDED, &[code, signal])?;
        Ok(Life::Over)
    }

    fn fail(&mut self, error: Errno, port: &Port) -> Result<Life> {
        self.signal(sys::SIGKILL);
        port.send_numbers(self.id, reply::FAILED, &[error.0, Step::Program as u32])?;
        Ok(Life::Over)
    }
}
