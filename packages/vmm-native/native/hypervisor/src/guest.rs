//! Guests: what each is made of, and how it is made and forgotten.

use crate::cpu::cpuid;
use crate::devices;
use crate::memory::FreeMemory;
use crate::rtc;
use crate::time::{self, Frequencies};
use core::fmt::{self, Display};
use core::ptr;
use vmm_core::blocks::BLOCK;
use vmm_core::clock::Clock;
use vmm_core::cpuid::Identity;
use vmm_core::event::Next;
use vmm_core::exit::ExitLedger;
use vmm_core::machine::{Machine, Stop};
use vmm_core::mailbox::Mailbox;
use vmm_core::memory::{GuestFrames, GuestMemory};
use vmm_core::msr;
use vmm_core::npt::NestedPageTables;
use vmm_core::permissions::IoPermissionMap;
use vmm_core::processor::{Confinement, Processor};
use vmm_core::ring::Ring;
use vmm_core::state::{Reader, StateError, Writer};
use vmm_core::vmcb::Vmcb;

/// Most processors of a guest.
pub const MAX_PROCESSORS: usize = 8;
/// How many bytes of a guest's first block are for nested tables, and pages that it does not share any more. The rest is for
/// everything else that it consists of.
const FOR_FRAMES: u64 = 256 << 10;
/// Most bytes that a guest writes to a console before it exits: those of an instruction that is repeated.
const MAX_WRITTEN: usize = 1024;

/// A console of a guest, between it and the control channel.
#[derive(Debug)]
pub struct Console {
    /// What has been typed.
    pub input: Ring,
    /// What it has written.
    pub output: Ring,
}

/// The serial port, and the virtio console.
pub type Consoles = [Console; 2];
/// Which of them is the serial port.
pub const SERIAL: usize = 0;

/// What a guest is doing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum State {
    /// It has not begun, or is paused.
    Still,
    /// It runs when it is its turn.
    Runs,
    /// It does not go on, which has been `told` or not.
    Stopped {
        /// Why.
        stop: Stop,
        /// Whether whoever controls the hypervisor knows.
        told: bool,
    },
}

/// What is wanted of a guest.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Bytes of memory.
    pub memory: u64,
    /// How many processors.
    pub processors: usize,
    /// Which disks and cards of the machine.
    pub devices: devices::Wanted,
    /// Numbers of its address spaces, a bit for each, as many as processors.
    pub address_spaces: u64,
}

/// A guest.
pub struct Guest {
    /// What its processors have in common.
    pub machine: Machine<'static>,
    /// Its processors.
    pub processors: &'static mut [Processor<'static>],
    /// Its consoles.
    pub consoles: &'static Consoles,
    /// How much of what has been typed nobody has been told to be taken.
    pub untold: [usize; 2],
    /// What it is doing.
    pub state: State,
    /// What it was made of.
    pub wanted: Wanted,
    current: usize,
    turn_ends_at: u64,
}

/// Why there is no guest.
pub enum CreateError {
    /// There is not so much memory.
    NoMemory { needed: u64, left: u64 },
    /// There are so many processors in no guest.
    BadProcessors(usize),
    /// All numbers of address spaces are in use.
    NoAddressSpaces { needed: usize, left: usize },
    /// Devices are not there, or somebody else's, or cannot be used.
    NoDevices,
}

impl Display for CreateError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CreateError::NoMemory { needed, left } => write!(out, "expected {needed} bytes of memory, got {left}"),
            CreateError::BadProcessors(count) => {
                write!(out, "expected 1 to {MAX_PROCESSORS} processors, got {count}")
            }
            CreateError::NoAddressSpaces { needed, left } => {
                write!(out, "expected {needed} address spaces, one for each virtual processor, got {left}")
            }
            CreateError::NoDevices => out.write_str(
                "expected disks and network cards that the machine has, with virtio 1.0, and that no other guest has",
            ),
        }
    }
}

/// What a guest can have found out about this processor.
fn features() -> impl Iterator<Item = u32> {
    let [[.., c1, d1], [_, b7, ..], [.., extended_c, extended_d]] =
        [1, 7, 0x8000_0001].map(|function| cpuid(function, 0));
    [c1, d1, b7, extended_c, extended_d].into_iter()
}

/// How much memory a guest with that much of its own takes.
pub fn size_with_rest(memory: u64) -> u64 {
    memory.next_multiple_of(BLOCK).saturating_add(BLOCK)
}

impl Guest {
    /// Makes a guest with memory of zeros or, out of another one, with what that holds.
    pub fn create(
        frames: GuestFrames,
        wanted: Wanted,
        frequencies: Frequencies,
        parent: Option<&mut Guest>,
    ) -> Result<&'static mut Guest, CreateError> {
        let (mut frames, count) = (frames, wanted.processors);
        let needed = if parent.is_some() { BLOCK } else { size_with_rest(wanted.memory) };
        let no_memory = || CreateError::NoMemory { needed, left: 0 };
        let block = frames.take_block().ok_or_else(no_memory)?;
        frames.begin_with(block..block + FOR_FRAMES);
        let tables = NestedPageTables::new(frames).ok_or_else(no_memory)?;
        let memory = match parent {
            Some(parent) => parent.machine.memory.fork(tables),
            None => GuestMemory::of_blocks(tables, wanted.memory),
        };
        let memory = memory.ok_or_else(no_memory)?;
        // SAFETY: the block is the guest's, and only its first part is taken by others.
        let mut arena = unsafe { FreeMemory::of(block + FOR_FRAMES..block + BLOCK) };
        let place = arena.take(None).ok_or_else(no_memory)?;
        let iopm = arena.take(IoPermissionMap::ALL_EXIT).ok_or_else(no_memory)?;
        let msrpm = arena.take(msr::PERMISSIONS).ok_or_else(no_memory)?;
        let confinement = Confinement {
            nested_cr3: memory.root().ok_or_else(no_memory)?,
            iopm: ptr::from_ref(iopm).addr() as u64,
            msrpm: ptr::from_ref(msrpm).addr() as u64,
            asid: 0,
        };
        let clock = Clock::new(time::tsc(), frequencies.tsc, rtc::now());
        let mailboxes: &'static [Mailbox] = arena.take_all(count, |_, _| Some(Mailbox::new())).ok_or_else(no_memory)?;
        let mut address_spaces = wanted.address_spaces;
        let processors = arena.take_all(count, |arena, index| {
            let vmcb = arena.take(Vmcb::new())?;
            let identity = Identity { id: index as u32, processors: count as u32 };
            // They take turns on one processor of the host, and must not see each other's translations.
            let confinement = Confinement { asid: address_spaces.trailing_zeros(), ..confinement };
            address_spaces &= address_spaces - 1;
            Some(Processor::new(vmcb, confinement, identity, &mailboxes[index], &clock))
        });
        let processors = processors.ok_or_else(no_memory)?;
        let make = |_: &mut FreeMemory, _| Some(Console { input: Ring::new(), output: Ring::new() });
        let consoles: &'static [Console] = arena.take_all(2, make).ok_or_else(no_memory)?;
        let consoles: &'static Consoles = consoles.try_into().expect("there are two");
        let Some(devices) = devices::make(&mut arena, wanted.devices, &consoles[1]) else {
            // Those that have been made do not write to memory any more when it is somebody else's.
            devices::stop(wanted.devices);
            return Err(CreateError::NoDevices);
        };
        let machine = Machine::new(memory, clock, mailboxes, devices);
        let state = State::Still;
        Ok(place.insert(Guest {
            machine,
            processors,
            consoles,
            untold: [0; 2],
            state,
            wanted,
            current: 0,
            turn_ends_at: 0,
        }))
    }

    /// Saves all of it but its memory, and what has been typed and not been read.
    pub fn save(&mut self, state: &mut Writer) -> Result<(), StateError> {
        let now = time::tsc();
        features().try_for_each(|word| state.number::<4>(word.into()))?;
        self.machine.save(now, state)?;
        self.processors.iter_mut().try_for_each(|processor| processor.save(now, state))
    }

    /// Goes on where another one was saved. On an error it is in no state to be run.
    pub fn restore(&mut self, state: &[u8]) -> Result<(), StateError> {
        let (now, mut state) = (time::tsc(), Reader::new(state));
        for word in features() {
            if state.number::<4>()? != word.into() {
                return Err(StateError::Features);
            }
        }
        self.machine.restore(now, &mut state)?;
        for processor in &mut *self.processors {
            processor.restore(now, cpuid, &mut state)?;
        }
        state.end()
    }

    /// Whether it is to run, and what it writes has a place.
    pub fn can_run(&self) -> bool {
        self.state == State::Runs && self.consoles.iter().all(|console| console.output.room() >= MAX_WRITTEN)
    }

    /// Lets its devices do what there is to do.
    pub fn service(&mut self) {
        while self.machine.console_room() > 0
            && let Some(byte) = self.consoles[SERIAL].input.take()
        {
            self.machine.receive(byte);
        }
        self.machine.service();
        if self.machine.memory.is_short() {
            self.state = State::Stopped { stop: Stop::NoMemory, told: false };
        }
    }

    /// Which processor is next, and is ready to be entered; none when all wait. The guest stops when none can ever run.
    pub fn choose(&mut self, now: u64, turn: u64) -> Option<usize> {
        let mut waits = false;
        for offset in 0..self.processors.len() {
            let index = (self.current + offset) % self.processors.len();
            match self.processors[index].prepare(now) {
                Next::Run => {
                    // However often it exits, its turn is as long.
                    if offset != 0 {
                        (self.current, self.turn_ends_at) = (index, now + turn);
                    }
                    return Some(index);
                }
                Next::Wait => waits = true,
                Next::WaitForOthers => {}
            }
        }
        if !waits {
            self.state = State::Stopped { stop: Stop::Halted, told: false };
        }
        None
    }

    /// When the turn of the processor that runs ends, if others want to run.
    pub fn turn_ends_at(&self, now: u64) -> Option<u64> {
        let busy = self.processors.iter().filter(|processor| processor.is_busy(now)).count();
        (busy > 1).then_some(self.turn_ends_at.max(now))
    }

    /// Lets the next processor have its turn if this one's is over, or it has told others something: it often waits for what
    /// they do about it.
    pub fn end_turn(&mut self, now: u64, turn: u64, is_over: bool) {
        if self.machine.take_posted() || is_over {
            (self.current, self.turn_ends_at) = ((self.current + 1) % self.processors.len(), now + turn);
        }
    }

    /// What all of its processors have exited for.
    pub fn ledger(&self) -> ExitLedger {
        let mut ledger = ExitLedger::new();
        self.processors.iter().for_each(|processor| ledger.add(&processor.ledger));
        ledger
    }
}
