//! Runs commands in a machine for the host that started it, over a virtio serial port.
//!
//! One thread, no allocation but a queue of fixed size for each stream: nothing that the host or a program does makes it
//! grow. Started as the first process of a machine it also makes that machine usable; see `init.rs`.

#![no_std]
#![no_main]

mod init;
mod process;
mod protocol;
mod root;
mod stream;

use core::arch::global_asm;
use core::panic::PanicInfo;
use leveret_linux::{self as sys, CString, Errno, Fd, Poll, Result, open};
use process::{Failure, Step};
use protocol::{Fields, Frame, Inbox, Port, VERSION, WINDOW, reply, request};
use stream::{FILES, Life, Stream};

/// How many programs, files and connections there may be at once.
const MAX_STREAMS: usize = 128;
/// Output that is read at once: with its header as long as what a virtio port sends in one piece.
const BUFFER: usize = 32 * 1024;
const FIRST_PROCESS: i32 = 1;
/// Name of the port that leads to the host.
const PORT_NAME: &[u8] = b"leveret.agent";

// The kernel starts a program with its stack aligned, and no return address on it.
global_asm!(".globl _start", "_start:", "    xor ebp, ebp", "    call {main}", "    ud2", main = sym main);

extern "C" fn main() -> ! {
    let first = sys::own_id() == FIRST_PROCESS;
    if first {
        init::begin();
    }
    let error = serve().err().unwrap_or(Errno(0));
    // A machine without its first process would stop; the processes it has go on, and are waited for.
    if first && sys::own_id() == FIRST_PROCESS {
        reap_for_ever();
    }
    sys::exit(error.0)
}

#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    sys::exit(101)
}

fn serve() -> Result<()> {
    let signals = sys::signal_bit(sys::SIGCHLD);
    sys::block_signals(signals | sys::signal_bit(sys::SIGPIPE))?;
    let children = sys::signal_file(signals)?;
    let port = Port(sys::open_port(PORT_NAME)?);
    let mut inbox = Inbox::new();
    let mut streams = Streams([const { None }; MAX_STREAMS]);
    let mut buffer = [0; BUFFER];
    loop {
        let mut files = [Poll::NONE; 2 + MAX_STREAMS * FILES];
        let own = [&port.0, &children].map(|file| Poll { fd: file.number(), events: Poll::IN, found: 0 });
        let waits = streams.0.iter().flatten().flat_map(Stream::waits);
        for (place, wait) in files.iter_mut().zip(own.into_iter().chain(waits)) {
            *place = wait;
        }
        match sys::poll(&mut files) {
            Ok(_) | Err(Errno::INTERRUPTED) => {}
            Err(error) => return Err(error),
        }
        let [from_host, from_children, ..] = files;
        if from_host.found != 0 {
            match inbox.fill(&port) {
                // The host is gone, and does not come back.
                Ok(0) => return Ok(()),
                Ok(_) | Err(Errno::INTERRUPTED) => {}
                Err(error) => return Err(error),
            }
            while let Some(frame) = inbox.next()? {
                streams.handle(frame, &port)?;
            }
        }
        if from_children.found != 0 {
            let _ = children.read(&mut [0; 1024]);
            streams.reap();
        }
        streams.pump(&port, &mut buffer)?;
    }
}

/// The streams there are.
struct Streams([Option<Stream>; MAX_STREAMS]);

impl Streams {
    fn handle(&mut self, Frame { stream: id, kind, payload }: Frame, port: &Port) -> Result<()> {
        match kind {
            request::HELLO => {
                greet(payload);
                return port.send_numbers(id, reply::HELLO, &[VERSION, MAX_STREAMS as u32, WINDOW as u32]);
            }
            request::START => return self.open(id, port, || Stream::program(id, payload)),
            request::READ => return self.open(id, port, || Stream::file_to_read(id, payload)),
            request::WRITE => return self.open(id, port, || Stream::file_to_write(id, payload)),
            request::CONNECT => return self.open(id, port, || Stream::connection(id, payload)),
            _ => {}
        }
        // What the host says to a stream may cross its end.
        let Some(place) = self.0.iter_mut().find(|place| place.as_ref().is_some_and(|stream| stream.id() == id)) else {
            return Ok(());
        };
        let Some(stream) = place else { return Ok(()) };
        let mut fields = Fields(payload);
        let life = match kind {
            request::DATA => stream.push(payload, port)?,
            request::END => stream.finish_input(port)?,
            request::CLOSE => {
                stream.signal(sys::SIGKILL);
                Life::Over
            }
            request::SIGNAL => {
                stream.signal(fields.u32().unwrap_or(0));
                Life::Goes
            }
            request::TAKEN => {
                stream.grant(fields.u32().unwrap_or(0) as usize, fields.u32().unwrap_or(0) as usize);
                Life::Goes
            }
            request::RESIZE => {
                if let (Some(rows), Some(columns)) = (fields.u16(), fields.u16()) {
                    stream.resize(rows, columns);
                }
                Life::Goes
            }
            _ => Life::Goes,
        };
        if matches!(life, Life::Over) {
            *place = None;
        }
        Ok(())
    }

    fn open(
        &mut self,
        id: u32,
        port: &Port,
        make: impl FnOnce() -> core::result::Result<Stream, Failure>,
    ) -> Result<()> {
        let made = match self.0.iter_mut().find(|place| place.is_none()) {
            Some(place) => make().map(|stream| place.insert(stream).pid()),
            None => Err((Errno::TOO_MANY, Step::Prepare)),
        };
        match made {
            Ok(pid) => port.send_numbers(id, reply::STARTED, &[pid as u32]),
            Err((error, step)) => port.send_numbers(id, reply::FAILED, &[error.0, step as u32]),
        }
    }

    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = sys::reap() {
            // The first process is also given the orphans of others.
            if let Some(stream) = self.0.iter_mut().flatten().find(|stream| stream.pid() == pid) {
                stream.note_end(status);
            }
        }
    }

    fn pump(&mut self, port: &Port, buffer: &mut [u8]) -> Result<()> {
        for place in &mut self.0 {
            let Some(stream) = place else { continue };
            let lives = [stream.write_input(port)?, stream.send_output(port, buffer)?];
            if lives.iter().any(|life| matches!(life, Life::Over)) {
                *place = None;
            }
        }
        Ok(())
    }
}

/// Takes the host's time and some of its randomness: a machine that was continued from a copy has neither of its own.
fn greet(payload: &[u8]) {
    const RNDADDENTROPY: usize = 0x4008_5203;
    const RNDRESEEDCRNG: usize = 0x5207;
    const ENTROPY: usize = 32;
    let mut fields = Fields(payload);
    if let Some(time) = fields.u64().filter(|time| *time != 0) {
        let _ = sys::set_clock(time);
    }
    let Some(entropy) = fields.0.first_chunk::<ENTROPY>() else { return };
    let Some(random) = CString::new(b"/dev/urandom\0").and_then(|path| sys::open(path, open::WRITE).ok()) else {
        return;
    };
    #[repr(C)]
    struct PoolInfo {
        bits: u32,
        size: u32,
        bytes: [u8; ENTROPY],
    }
    let mut info = PoolInfo { bits: ENTROPY as u32 * 8, size: ENTROPY as u32, bytes: *entropy };
    let _ = random.control_with(RNDADDENTROPY, &mut info);
    let _ = random.control(RNDRESEEDCRNG, 0);
}

/// What is left to do for a first process that nobody talks to any more.
fn reap_for_ever() -> ! {
    let children = sys::signal_file(sys::signal_bit(sys::SIGCHLD));
    loop {
        let number = children.as_ref().map_or(-1, Fd::number);
        let _ = sys::poll(&mut [Poll { fd: number, events: Poll::IN, found: 0 }]);
        if let Ok(children) = &children {
            let _ = children.read(&mut [0; 1024]);
        }
        while let Ok(Some(_)) = sys::reap() {}
    }
}
