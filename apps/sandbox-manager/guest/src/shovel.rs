//! Carries requests of the kernel to the host, and replies to the kernel.
//!
//! Never waits for one of them alone: while the host does not take a request, its replies are still taken.

use crate::frames::{MAX_FRAME, MAX_NOTICE, REPLY_HEADER, Reply, is_answered, own, tell, told};
use crate::notifier::Notifier;
use leveret_linux::{self as sys, Errno, Fd, Poll, Result};

/// How long to wait for a host that has closed its end, in milliseconds.
const HOST_GONE_MS: usize = 100;

struct Buffers {
    to_host: [u8; MAX_FRAME],
    from_host: [u8; MAX_FRAME],
}

/// Half a mebibyte, too much for a stack; taken once, by [`run`].
static mut BUFFERS: Buffers = Buffers { to_host: [0; MAX_FRAME], from_host: [0; MAX_FRAME] };

struct Shovel<'a> {
    device: &'a Fd,
    port: &'a Fd,
    notifier: &'a Notifier,
    to_host: &'a mut [u8; MAX_FRAME],
    /// bytes of the message in `to_host`, and how many of them are sent
    length: usize,
    sent: usize,
    from_host: &'a mut [u8; MAX_FRAME],
    received: usize,
    /// requests without a reply yet
    asked: usize,
    /// notices whose receipt is not sent yet
    noticed: u64,
    /// notices that the notifier has
    noticing: u64,
    pause: Pause,
}

#[derive(PartialEq)]
enum Pause {
    No,
    Asked,
    Said,
}

/// Runs until the file system is unmounted.
pub fn run(device: &Fd, port: &Fd, notifier: &Notifier) -> Result<()> {
    device.set_nonblocking()?;
    port.set_nonblocking()?;
    let buffers = &raw mut BUFFERS;
    // SAFETY: this function runs once in this process, and has the only reference.
    let Buffers { to_host, from_host } = unsafe { &mut *buffers };
    let mut shovel = Shovel {
        device,
        port,
        notifier,
        to_host,
        length: 0,
        sent: 0,
        from_host,
        received: 0,
        asked: 0,
        noticed: 0,
        noticing: 0,
        pause: Pause::No,
    };
    loop {
        match shovel.step() {
            // Unmounted.
            Err(Errno::NO_DEVICE) => return Ok(()),
            other => other?,
        }
    }
}

impl Shovel<'_> {
    fn step(&mut self) -> Result<()> {
        self.fill()?;
        let sending = self.sent < self.length;
        let asks = !sending && self.pause == Pause::No;
        let mut files = [
            Poll { fd: self.port.number(), events: Poll::IN | if sending { Poll::OUT } else { 0 }, found: 0 },
            Poll { fd: if asks { self.device.number() } else { -1 }, events: Poll::IN, found: 0 },
            Poll { fd: self.notifier.receipts.number(), events: Poll::IN, found: 0 },
        ];
        match sys::poll(&mut files) {
            Ok(_) => {}
            Err(Errno::INTERRUPTED) => return Ok(()),
            Err(error) => return Err(error),
        }
        let [on_port, _, receipts] = files;
        if receipts.found != 0 {
            let count = self.notifier.receipts.read(&mut [0; 64])? as u64;
            self.noticed += count;
            self.noticing -= count.min(self.noticing);
        }
        if on_port.found != 0 {
            self.receive()?;
        }
        self.send()
    }

    /// Takes the next message for the host, when the last one is sent.
    fn fill(&mut self) -> Result<()> {
        if self.sent < self.length {
            return Ok(());
        }
        if self.noticed > 0 {
            self.tell(tell::NOTICED, self.noticed);
            self.noticed = 0;
        } else if self.pause == Pause::Asked && self.asked == 0 && self.noticing == 0 {
            self.pause = Pause::Said;
            self.tell(tell::PAUSED, 0);
        } else if self.pause == Pause::No {
            match self.device.read(self.to_host) {
                Ok(length) => {
                    (self.length, self.sent) = (length, 0);
                    let request = self.to_host.get(..length).unwrap_or_default();
                    self.asked += usize::from(is_answered(request));
                }
                // Nothing there, or whoever asked has gone away meanwhile.
                Err(Errno::AGAIN | Errno::NOT_FOUND | Errno::INTERRUPTED) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.send()
    }

    fn tell(&mut self, kind: u32, number: u64) {
        let frame = own(kind, number);
        if let Some(place) = self.to_host.get_mut(..frame.len()) {
            place.copy_from_slice(&frame);
            (self.length, self.sent) = (frame.len(), 0);
        }
    }

    fn send(&mut self) -> Result<()> {
        while self.sent < self.length {
            match self.port.write(self.to_host.get(self.sent..self.length).unwrap_or_default()) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN | Errno::INTERRUPTED) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<()> {
        loop {
            let room = self.from_host.get_mut(self.received..).unwrap_or_default();
            match self.port.read(room) {
                Ok(0) => {
                    sys::pause(HOST_GONE_MS);
                    break;
                }
                Ok(count) => self.received += count,
                Err(Errno::AGAIN | Errno::INTERRUPTED) => break,
                Err(error) => return Err(error),
            }
            self.deliver()?;
        }
        Ok(())
    }

    /// Hands on every message that is there in whole.
    fn deliver(&mut self) -> Result<()> {
        let mut start = 0;
        while let Some(reply) = self.from_host.get(start..self.received).and_then(Reply::of) {
            if reply.length < REPLY_HEADER || reply.length > MAX_FRAME {
                return Err(Errno::PROTOCOL);
            }
            if start + reply.length > self.received {
                break;
            }
            self.take(start, &reply)?;
            start += reply.length;
        }
        self.from_host.copy_within(start..self.received, 0);
        self.received -= start;
        Ok(())
    }

    fn take(&mut self, start: usize, reply: &Reply) -> Result<()> {
        let frame = self.from_host.get(start..start + reply.length).unwrap_or_default();
        match reply.code {
            told::PAUSE if reply.is_notice => self.pause = Pause::Asked,
            told::RESUME if reply.is_notice => self.pause = Pause::No,
            _ if reply.is_notice => {
                if frame.len() > MAX_NOTICE {
                    return Err(Errno::PROTOCOL);
                }
                self.noticing += 1;
                self.notifier.notices.write(frame)?;
            }
            _ => {
                self.asked = self.asked.saturating_sub(1);
                // What the kernel does not take, because nobody waits for it any more, is nobody's loss.
                if let Err(Errno::NO_DEVICE) = self.device.write(frame) {
                    return Err(Errno::NO_DEVICE);
                }
            }
        }
        Ok(())
    }
}
