//! The way to whoever controls the hypervisor: the machine's virtio console (Virtual I/O Device specification 1.2, 5.3).

use crate::memory::FreeMemory;
use crate::pipes::{BUFFERS, Pipes};
use crate::virtio::{self, Device};
use vmm_core::control::{Assembler, ControlError, HEADER_SIZE, Header, MAX_PAYLOAD};

const BUFFER_SIZE: usize = 4096;
/// How many buffers the longest frame takes.
const LONGEST: usize = (HEADER_SIZE + MAX_PAYLOAD).div_ceil(BUFFER_SIZE);

/// The console, and what has come of a frame so far.
pub struct Channel {
    pipes: Pipes<BUFFER_SIZE>,
    assembler: Assembler<'static>,
    /// How much of what has arrived has been looked at.
    offset: usize,
}

impl Channel {
    /// Makes the first console of the machine ready; `None` when there is none, or no memory.
    pub fn start(memory: &mut FreeMemory) -> Option<Channel> {
        let device = Device::reset(virtio::find(virtio::CONSOLE).next()?, 0)?;
        let pipes = Pipes::start(device, memory)?;
        let frame = memory.take_all(HEADER_SIZE + MAX_PAYLOAD, |_, _| Some(0))?;
        Some(Channel { pipes, assembler: Assembler::new(frame.try_into().ok()?), offset: 0 })
    }

    /// Whether a frame of any length can be sent now.
    pub fn has_room(&mut self) -> bool {
        self.pipes.free() >= LONGEST
    }

    /// The next frame that has come, until it is dropped. Looks at no more than what fits into all buffers.
    pub fn frame(&mut self) -> Result<Option<(Header, &[u8])>, ControlError> {
        for _ in 0..BUFFERS {
            if self.assembler.frame()?.is_some() {
                break;
            }
            let Some(bytes) = self.pipes.arrived() else { break };
            self.offset += self.assembler.feed(&bytes[self.offset..])?;
            if self.offset == bytes.len() {
                self.offset = 0;
                self.pipes.drop_arrived();
            }
        }
        self.assembler.frame()
    }

    /// Makes room for the next one.
    pub fn drop_frame(&mut self) {
        self.assembler.drop_frame();
    }

    /// Sends a frame, for which there is room. The length is that of the parts.
    pub fn send(&mut self, header: Header, parts: &[&[u8]]) {
        let length = parts.iter().map(|part| part.len()).sum();
        let header = Header { length, ..header }.encode();
        let mut filled = 0;
        for mut part in core::iter::once(&header[..]).chain(parts.iter().copied()) {
            while !part.is_empty() {
                let Some(buffer) = self.pipes.room() else { return };
                let count = part.len().min(BUFFER_SIZE - filled);
                buffer[filled..filled + count].copy_from_slice(&part[..count]);
                (part, filled) = (&part[count..], filled + count);
                if filled == BUFFER_SIZE {
                    self.pipes.send(filled);
                    filled = 0;
                }
            }
        }
        if filled > 0 {
            self.pipes.send(filled);
        }
    }
}
