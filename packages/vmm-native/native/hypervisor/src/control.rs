//! Does what the control channel asks for, and says there what happens to guests.

use crate::channel::Channel;
use crate::devices;
use crate::guest::{CreateError, Guest, State};
use crate::host::{ForkError, Host, MAX_GUESTS};
use crate::load::{self, LoadError};
use crate::log::Quoted;
use crate::memory::FreeMemory;
use core::fmt::{self, Display, Write};
use vmm_core::control::{ControlError, Header, MAX_PAYLOAD, Request, answer};
use vmm_core::linux::Placement;
use vmm_core::memory::OutOfMemory;
use vmm_core::processor::Processor;
use vmm_core::ring::RING_SIZE;
use vmm_core::state::{StateError, Writer};

/// How many bytes of a console make a frame before its time comes.
const MANY: usize = RING_SIZE / 2;

/// How far a request looks for memory that is not zero, in bytes, before others have their turn.
const LOOK_AHEAD: u64 = 16 << 20;
const PAGE: u64 = 4096;

/// The channel, and a place for what is sent.
pub struct Control {
    channel: Channel,
    payload: &'static mut [u8],
}

/// Why something cannot be done.
enum Refusal {
    Control(ControlError),
    NoGuest(u8),
    Exists(u8),
    TooMany(u8),
    Create(CreateError),
    Fork(ForkError),
    Load(LoadError),
    Memory(OutOfMemory),
    State(StateError),
    Running,
    Stopped,
    NoProcessor(u8),
    NoConsole(u8),
    BadVector(u8),
    NoMemoryForTest,
    TooLong,
}

impl Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Control(reason) => reason.fmt(out),
            Refusal::NoGuest(number) => write!(out, "expected the number of a guest, got {number}"),
            Refusal::Exists(number) => write!(out, "expected a number that no guest has, got {number}"),
            Refusal::TooMany(number) => write!(out, "expected a number below {MAX_GUESTS}, got {number}"),
            Refusal::Create(reason) | Refusal::Fork(ForkError::Create(reason)) => reason.fmt(out),
            Refusal::Load(reason) => reason.fmt(out),
            Refusal::Memory(reason) => reason.fmt(out),
            Refusal::State(reason) | Refusal::Fork(ForkError::State(reason)) => reason.fmt(out),
            Refusal::Running => out.write_str("expected a guest that stands still, got one that runs"),
            Refusal::Stopped => out.write_str("expected a guest that can run, got one that has stopped"),
            Refusal::NoProcessor(index) => write!(out, "expected the number of a processor, got {index}"),
            Refusal::NoConsole(index) => write!(out, "expected the number of a console, got {index}"),
            Refusal::BadVector(vector) => write!(out, "expected 2, or a vector from 16 on, got {vector}"),
            Refusal::NoMemoryForTest => out.write_str("expected 4 MiB of memory for the test, got less"),
            Refusal::TooLong => write!(out, "expected an answer of at most {MAX_PAYLOAD} bytes, got a longer one"),
        }
    }
}

impl From<StateError> for Refusal {
    fn from(_: StateError) -> Refusal {
        Refusal::TooLong
    }
}

impl From<fmt::Error> for Refusal {
    fn from(_: fmt::Error) -> Refusal {
        Refusal::TooLong
    }
}

impl From<OutOfMemory> for Refusal {
    fn from(reason: OutOfMemory) -> Refusal {
        Refusal::Memory(reason)
    }
}

impl Control {
    /// Opens the channel; `None` when there is none.
    pub fn start(memory: &mut FreeMemory) -> Option<Control> {
        Some(Control { channel: Channel::start(memory)?, payload: memory.take_all(MAX_PAYLOAD, |_, _| Some(0))? })
    }

    /// Answers requests, and tells of guests: of what they have written when it is time to, or much.
    pub fn service(&mut self, host: &mut Host, is_time: bool) -> Result<(), ControlError> {
        let Control { channel, payload } = self;
        while channel.has_room()
            && let Some((header, request)) = channel.frame()?
        {
            let mut writer = Writer::new(payload);
            let done = match Request::decode(header.kind, request) {
                Ok(request) => answer(host, header.guest, request, &mut writer),
                Err(reason) => Err(Refusal::Control(reason)),
            };
            let mut length = writer.length();
            let mut kind = answer::DONE;
            if let Err(refusal) = done {
                let mut writer = Writer::new(payload);
                // What does not fit is not said.
                let _ = write!(writer, "{refusal}");
                (kind, length) = (answer::FAILED, writer.length());
            }
            channel.drop_frame();
            channel.send(Header { kind, ..header }, &[&payload[..length]]);
        }
        for (number, guest) in (0..).zip(&mut host.guests) {
            if let Some(guest) = guest {
                self.tell(number, guest, is_time);
            }
        }
        Ok(())
    }

    /// Tells of a guest, as far as there is room.
    fn tell(&mut self, guest_number: u8, guest: &mut Guest, is_time: bool) {
        let Control { channel, payload } = self;
        let event = |kind| Header { length: 0, kind, guest: guest_number, tag: 0 };
        let has_stopped = matches!(guest.state, State::Stopped { .. });
        for (index, console) in guest.consoles.iter().enumerate() {
            let length = console.output.length();
            if length > 0 && (is_time || has_stopped || length >= MANY) && channel.has_room() {
                let bytes = &mut payload[..length];
                bytes.iter_mut().for_each(|byte| *byte = console.output.take().unwrap_or_default());
                channel.send(event(answer::OUTPUT), &[&[index as u8], bytes]);
            }
            let taken = guest.untold[index] - console.input.length();
            if taken > 0 && (is_time || taken >= MANY) && channel.has_room() {
                guest.untold[index] -= taken;
                channel.send(event(answer::TAKEN), &[&[index as u8], &(taken as u32).to_le_bytes()]);
            }
        }
        let is_quiet = guest.consoles.iter().all(|console| console.output.length() == 0);
        if let State::Stopped { stop, told: false } = guest.state
            && is_quiet
            && channel.has_room()
        {
            guest.state = State::Stopped { stop, told: true };
            let (mut writer, ledger) = (Writer::new(payload), guest.ledger());
            let (name, message, rips) = (stop.name(), Quoted(stop), Rips(guest.processors));
            // There is room for all of it.
            let _ = write!(writer, r#"{{"reason":"{name}","message":{message},"rips":{rips},"exits":{ledger}}}"#);
            let length = writer.length();
            channel.send(event(answer::STOPPED), &[&payload[..length]]);
        }
    }
}

/// Does what is asked for, and writes what the answer has.
fn answer(host: &mut Host, number: u8, request: Request, out: &mut Writer) -> Result<(), Refusal> {
    let index = usize::from(number);
    match request {
        Request::Create { memory_mib, processors, disks, cards } => {
            let index = free(host, number)?;
            let wanted = devices::Wanted { disks, cards };
            return host.create(index, u64::from(memory_mib) << 20, processors.into(), wanted).map_err(Refusal::Create);
        }
        Request::SelfTest => return host.self_test().ok_or(Refusal::NoMemoryForTest),
        _ => {}
    }
    let guest = host.guests.get_mut(index).and_then(Option::as_mut).ok_or(Refusal::NoGuest(number))?;
    let is_still = guest.state != State::Runs;
    match request {
        Request::LoadLinux { .. } | Request::LoadFlat | Request::Reset | Request::Save | Request::Restore { .. }
            if !is_still =>
        {
            return Err(Refusal::Running);
        }
        Request::Fork { .. } if matches!(guest.state, State::Stopped { .. }) => return Err(Refusal::Stopped),
        Request::Fork { number, disks, cards } => {
            let child = free(host, number)?;
            let wanted = devices::Wanted { disks, cards };
            // The answer is written when it is known.
            let nanoseconds = host.fork(index, child, wanted, out.rest()).map_err(Refusal::Fork)?;
            out.number::<8>(nanoseconds)?;
        }
        Request::Save if guest.state != State::Still => return Err(Refusal::Stopped),
        Request::Save => guest.save(out)?,
        Request::Restore { state } => guest.restore(state).map_err(Refusal::State)?,
        Request::Pages { address } => {
            let memory = &guest.machine.memory;
            let end = address.saturating_add(LOOK_AHEAD).min(memory.size());
            let mut next = address;
            while next < end && memory.is_zero(next, PAGE)? {
                next += PAGE;
            }
            out.number::<8>(next)?;
            while next < end && out.left() >= PAGE as usize && !memory.is_zero(next, PAGE)? {
                memory.read(next, out.room(PAGE as usize)?)?;
                next += PAGE;
            }
        }
        Request::LoadLinux { kernel_size, initrd_size, header, command_line } => {
            let plan =
                load::load_linux(guest, header, [kernel_size, initrd_size], command_line).map_err(Refusal::Load)?;
            for Placement { address, offset, length } in [plan.kernel, plan.initrd] {
                [address, offset, length].into_iter().try_for_each(|number| out.number::<8>(number))?;
            }
        }
        Request::LoadFlat => out.number::<8>(load::load_flat(guest).map_err(Refusal::Load)?)?,
        Request::Read { address, length } => {
            guest.machine.memory.read(address, out.room(length as usize)?)?;
        }
        Request::Write { address, bytes } => guest.machine.memory.write(address, bytes)?,
        Request::Run if matches!(guest.state, State::Stopped { .. }) => return Err(Refusal::Stopped),
        Request::Run => guest.state = State::Runs,
        Request::Pause if is_still => {}
        Request::Pause => guest.state = State::Still,
        Request::Reset => {
            guest.state = State::Still;
            host.reset(index);
        }
        Request::Registers { processor } => {
            let found = guest.processors.get(usize::from(processor)).ok_or(Refusal::NoProcessor(processor))?;
            let vmcb = &found.vmcb;
            let control = [vmcb.cr0(), vmcb.cr2(), vmcb.cr3(), vmcb.cr4(), vmcb.efer()];
            let others = [vmcb.rip(), vmcb.rflags()].into_iter().chain(control);
            found.registers.general.into_iter().chain(others).try_for_each(|value| out.number::<8>(value))?;
        }
        Request::Inject { processor, vector } => {
            if usize::from(processor) >= guest.processors.len() {
                return Err(Refusal::NoProcessor(processor));
            }
            if !guest.machine.interrupt(processor, vector) {
                return Err(Refusal::BadVector(vector));
            }
        }
        Request::Exits => write!(out, "{}", guest.ledger())?,
        Request::Input { console, bytes } => {
            let index = usize::from(console);
            let ring = &guest.consoles.get(index).ok_or(Refusal::NoConsole(console))?.input;
            guest.untold[index] += bytes.len().min(ring.room());
            ring.put(bytes);
        }
        Request::Destroy => host.destroy(index),
        Request::Create { .. } | Request::SelfTest => {}
    }
    Ok(())
}

/// A number that no guest has.
fn free(host: &Host, number: u8) -> Result<usize, Refusal> {
    match host.guests.get(usize::from(number)) {
        Some(None) => Ok(number.into()),
        Some(Some(_)) => Err(Refusal::Exists(number)),
        None => Err(Refusal::TooMany(number)),
    }
}

/// Where processors stand, as JSON.
struct Rips<'a>(&'a [Processor<'a>]);

impl Display for Rips<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, processor) in self.0.iter().enumerate() {
            write!(out, "{}\"{:#x}\"", if index == 0 { '[' } else { ',' }, processor.vmcb.rip())?;
        }
        out.write_str("]")
    }
}
