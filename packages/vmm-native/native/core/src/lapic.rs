//! A local APIC in x2APIC mode: registers are model-specific registers (manual, chapter 16, and 16.11 for x2APIC).
//!
//! Its timer counts time stamp counter ticks, and has the mode in which it fires at a value of that counter, which is
//! Intel's (Software Developer's Manual, volume 3, 11.5.4.1): guests do not have to calibrate either.

use crate::state::{Reader, StateError, Writer};

/// First model-specific register of the local APIC; a register's number is added to it.
pub const FIRST_MSR: u32 = 0x800;
/// Last one.
pub const LAST_MSR: u32 = 0x83f;

mod register {
    pub const ID: u32 = 0x02;
    pub const VERSION: u32 = 0x03;
    pub const TASK_PRIORITY: u32 = 0x08;
    pub const PROCESSOR_PRIORITY: u32 = 0x0a;
    pub const END_OF_INTERRUPT: u32 = 0x0b;
    pub const LOGICAL_DESTINATION: u32 = 0x0d;
    pub const SPURIOUS: u32 = 0x0f;
    pub const IN_SERVICE: u32 = 0x10;
    pub const TRIGGER_MODE: u32 = 0x18;
    pub const REQUESTED: u32 = 0x20;
    pub const REQUESTED_LAST: u32 = 0x27;
    pub const ERROR_STATUS: u32 = 0x28;
    pub const COMMAND: u32 = 0x30;
    pub const LOCAL_VECTORS: u32 = 0x32;
    pub const LOCAL_VECTORS_LAST: u32 = 0x37;
    pub const INITIAL_COUNT: u32 = 0x38;
    pub const CURRENT_COUNT: u32 = 0x39;
    pub const DIVIDE: u32 = 0x3e;
    pub const SELF_INTERRUPT: u32 = 0x3f;
}

/// Five local vectors after the first; the version of the APICs of real processors.
const VERSION: u64 = 0x0005_0014;
const ENABLED: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
const TIMER: usize = 0;
/// Bits of each local vector table entry that can be written: timer, thermal, performance, LINT0, LINT1, error.
const SPURIOUS_BITS: u32 = 0x3ff;
const DIVIDE_BITS: u32 = 0xb;
const LOCAL_VECTOR_BITS: [u32; 6] = [0x0007_00ff, 0x0001_07ff, 0x0001_07ff, 0x0001_a7ff, 0x0001_a7ff, 0x0001_00ff];

/// An access that raises #GP(0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneralProtection;

/// What writing a register does beyond the APIC itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// An interrupt of this vector is over; I/O APICs may have it again.
    EndOfInterrupt(u8),
    /// Something is sent to processors.
    Send(Command),
}

/// Processors that are named by their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// By the id itself.
    Physical(u32),
    /// By cluster and places in it (16.11.3).
    Logical(u32),
    /// All.
    Everybody,
}

impl Destination {
    /// Whether the processor with an id is meant.
    pub fn names(self, id: u32) -> bool {
        match self {
            Destination::Physical(physical) => physical == id,
            Destination::Logical(logical) => {
                logical >> 16 == logical_id(id) >> 16 && logical & logical_id(id) & 0xffff != 0
            }
            Destination::Everybody => true,
        }
    }
}

/// Processors that are named without an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shorthand {
    /// They are named by the destination.
    None,
    /// The sender.
    Itself,
    /// All.
    All,
    /// All but the sender.
    Others,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An interrupt.
    Fixed,
    /// A non-maskable interrupt.
    Nmi,
    /// INIT.
    Init,
    /// Start in real mode, at the page of the vector.
    Startup,
}

/// What writing the interrupt command register sends (16.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// What.
    pub kind: Kind,
    /// Its vector.
    pub vector: u8,
    /// To whom, without a shorthand.
    pub destination: Destination,
    /// To whom, with one.
    pub shorthand: Shorthand,
}

/// One bit for each vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Vectors([u32; 8]);

impl Vectors {
    fn set(&mut self, vector: u8, on: bool) {
        let word = &mut self.0[usize::from(vector) / 32];
        *word = *word & !(1 << (vector % 32)) | u32::from(on) << (vector % 32);
    }

    fn highest(&self) -> Option<u8> {
        let (index, word) = self.0.iter().enumerate().rev().find(|(_, word)| **word != 0)?;
        Some((index * 32) as u8 + word.ilog2() as u8)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TimerMode {
    OneShot,
    Periodic,
    Deadline,
}

/// A local APIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalApic {
    id: u32,
    task_priority: u8,
    spurious: u32,
    in_service: Vectors,
    trigger_mode: Vectors,
    requested: Vectors,
    command: u64,
    local_vectors: [u32; 6],
    initial_count: u32,
    divide: u32,
    /// When the timer fires, as a value of the time stamp counter.
    fires_at: Option<u64>,
    /// Shortest period of the timer, in ticks: a guest cannot keep the host busy with it.
    shortest_period: u64,
}

impl LocalApic {
    /// An APIC as it is after a reset.
    pub const fn new(id: u32, shortest_period: u64) -> LocalApic {
        LocalApic {
            id,
            task_priority: 0,
            spurious: 0xff,
            in_service: Vectors([0; 8]),
            trigger_mode: Vectors([0; 8]),
            requested: Vectors([0; 8]),
            command: 0,
            local_vectors: [MASKED; 6],
            initial_count: 0,
            divide: 0,
            fires_at: None,
            shortest_period,
        }
    }

    /// What INIT leaves of it: its id.
    pub fn reset(&mut self) {
        *self = LocalApic::new(self.id, self.shortest_period);
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Reads a register; `now` is the guest's time stamp counter.
    pub fn read(&self, msr: u32, now: u64) -> Result<u64, GeneralProtection> {
        let register = msr - FIRST_MSR;
        let bank = |vectors: &Vectors| u64::from(vectors.0[(register % 8) as usize]);
        Ok(match register {
            register::ID => self.id.into(),
            register::VERSION => VERSION,
            register::TASK_PRIORITY => self.task_priority.into(),
            register::PROCESSOR_PRIORITY => self.processor_priority().into(),
            register::LOGICAL_DESTINATION => logical_id(self.id).into(),
            register::SPURIOUS => self.spurious.into(),
            register::IN_SERVICE..register::TRIGGER_MODE => bank(&self.in_service),
            register::TRIGGER_MODE..register::REQUESTED => bank(&self.trigger_mode),
            register::REQUESTED..=register::REQUESTED_LAST => bank(&self.requested),
            register::ERROR_STATUS => 0,
            register::COMMAND => self.command,
            register::LOCAL_VECTORS..=register::LOCAL_VECTORS_LAST => {
                self.local_vectors[(register - register::LOCAL_VECTORS) as usize].into()
            }
            register::INITIAL_COUNT => self.initial_count.into(),
            register::CURRENT_COUNT => self.current_count(now),
            register::DIVIDE => self.divide.into(),
            _ => return Err(GeneralProtection),
        })
    }

    /// Writes a register; `now` is the guest's time stamp counter.
    pub fn write(&mut self, msr: u32, value: u64, now: u64) -> Result<Effect, GeneralProtection> {
        let register = msr - FIRST_MSR;
        // All but the command register have 32 bits.
        if register != register::COMMAND && value >> 32 != 0 {
            return Err(GeneralProtection);
        }
        let low = value as u32;
        match register {
            register::TASK_PRIORITY => self.task_priority = low as u8,
            register::END_OF_INTERRUPT if value == 0 => return Ok(self.end_interrupt()),
            register::SPURIOUS => self.spurious = low & SPURIOUS_BITS,
            register::ERROR_STATUS if value == 0 => {}
            register::COMMAND => {
                self.command = value;
                return Ok(command(value).map_or(Effect::None, Effect::Send));
            }
            register::LOCAL_VECTORS..=register::LOCAL_VECTORS_LAST => {
                let index = (register - register::LOCAL_VECTORS) as usize;
                let mode = self.timer_mode();
                self.local_vectors[index] = low & LOCAL_VECTOR_BITS[index];
                // Going to or from the deadline mode stops the timer.
                if (mode == TimerMode::Deadline) != (self.timer_mode() == TimerMode::Deadline) {
                    self.fires_at = None;
                }
            }
            register::INITIAL_COUNT => {
                if self.timer_mode() != TimerMode::Deadline {
                    self.initial_count = low;
                    self.fires_at = (low > 0).then(|| now.saturating_add(self.period()));
                }
            }
            register::DIVIDE => self.divide = low & DIVIDE_BITS,
            register::SELF_INTERRUPT => self.request(low as u8, false),
            _ => return Err(GeneralProtection),
        }
        Ok(Effect::None)
    }

    /// Time stamp counter value at which the timer fires, 0 when it does not.
    pub fn deadline(&self) -> u64 {
        if self.timer_mode() == TimerMode::Deadline { self.fires_at.unwrap_or(0) } else { 0 }
    }

    /// Sets [`LocalApic::deadline`], which has an effect in the mode for it only.
    pub fn set_deadline(&mut self, value: u64) {
        if self.timer_mode() == TimerMode::Deadline {
            self.fires_at = (value > 0).then_some(value);
        }
    }

    /// When [`LocalApic::advance`] has something to do next.
    pub fn fires_at(&self) -> Option<u64> {
        self.fires_at
    }

    /// Lets the timer fire if it is time; `now` is the guest's time stamp counter.
    pub fn advance(&mut self, now: u64) {
        let Some(fires_at) = self.fires_at.filter(|fires_at| *fires_at <= now) else { return };
        // Periods that have been missed are left out.
        let next = || now.saturating_add(self.period() - (now - fires_at) % self.period());
        self.fires_at = (self.timer_mode() == TimerMode::Periodic).then(next);
        let entry = self.local_vectors[TIMER];
        if entry & MASKED == 0 {
            self.request(entry as u8, false);
        }
    }

    /// Asks for an interrupt. An APIC that is switched off takes none.
    pub fn request(&mut self, vector: u8, level: bool) {
        if self.spurious & ENABLED != 0 && vector >= 16 {
            self.requested.set(vector, true);
            self.trigger_mode.set(vector, level);
        }
    }

    /// The interrupt that is next, if its priority is high enough.
    pub fn deliverable(&self) -> Option<u8> {
        self.requested.highest().filter(|vector| vector >> 4 > self.processor_priority() >> 4)
    }

    /// The processor takes the interrupt that is next.
    pub fn acknowledge(&mut self, vector: u8) {
        self.requested.set(vector, false);
        self.in_service.set(vector, true);
    }

    /// Upper half of the task priority, which is CR8 too.
    pub fn priority_class(&self) -> u8 {
        self.task_priority >> 4
    }

    /// Sets the task priority as writing CR8 does.
    pub fn set_priority_class(&mut self, class: u8) {
        self.task_priority = class << 4;
    }

    /// Saves all but its id.
    pub fn save(&self, state: &mut Writer) -> Result<(), StateError> {
        state.number::<1>(self.task_priority.into())?;
        let vectors = [self.in_service, self.trigger_mode, self.requested];
        let numbers = vectors.iter().flat_map(|vectors| &vectors.0).chain(&self.local_vectors);
        let numbers = numbers.chain([&self.spurious, &self.initial_count, &self.divide]);
        numbers.copied().try_for_each(|number| state.number::<4>(number.into()))?;
        // It never fires at 0.
        [self.command, self.fires_at.unwrap_or(0)].into_iter().try_for_each(|number| state.number::<8>(number))
    }

    /// Goes on where another one was saved.
    pub fn restore(&mut self, state: &mut Reader) -> Result<(), StateError> {
        self.task_priority = state.number::<1>()? as u8;
        for word in [&mut self.in_service, &mut self.trigger_mode, &mut self.requested]
            .map(|it| &mut it.0)
            .into_iter()
            .flatten()
        {
            *word = state.number::<4>()? as u32;
        }
        let mut register = |bits: u32| state.checked::<4>(|value| value as u32 & !bits == 0).map(|value| value as u32);
        for (vector, bits) in self.local_vectors.iter_mut().zip(LOCAL_VECTOR_BITS) {
            *vector = register(bits)?;
        }
        (self.spurious, self.initial_count, self.divide) =
            (register(SPURIOUS_BITS)?, register(u32::MAX)?, register(DIVIDE_BITS)?);
        self.command = state.number::<8>()?;
        self.fires_at = Some(state.number::<8>()?).filter(|fires_at| *fires_at > 0);
        Ok(())
    }

    fn processor_priority(&self) -> u8 {
        let in_service = self.in_service.highest().unwrap_or(0) & 0xf0;
        if self.task_priority & 0xf0 >= in_service { self.task_priority } else { in_service }
    }

    fn end_interrupt(&mut self) -> Effect {
        let Some(vector) = self.in_service.highest() else { return Effect::None };
        self.in_service.set(vector, false);
        let level = self.trigger_mode.0[usize::from(vector) / 32] >> (vector % 32) & 1 != 0;
        if level { Effect::EndOfInterrupt(vector) } else { Effect::None }
    }

    fn timer_mode(&self) -> TimerMode {
        match self.local_vectors[TIMER] >> 17 & 3 {
            1 => TimerMode::Periodic,
            2 => TimerMode::Deadline,
            _ => TimerMode::OneShot,
        }
    }

    /// Divide configuration: bits 3, 1 and 0 are the exponent less 1, and 7 is for no division.
    fn divisor_log2(&self) -> u32 {
        ((self.divide & 3 | self.divide >> 1 & 4) + 1) % 8
    }

    fn period(&self) -> u64 {
        let period = u64::from(self.initial_count) << self.divisor_log2();
        if self.timer_mode() == TimerMode::Periodic { period.max(self.shortest_period) } else { period.max(1) }
    }

    fn current_count(&self, now: u64) -> u64 {
        if self.timer_mode() == TimerMode::Deadline {
            return 0;
        }
        let left = self.fires_at.map_or(0, |fires_at| fires_at.saturating_sub(now));
        (left >> self.divisor_log2()).min(self.initial_count.into())
    }
}

/// Cluster and place in it follow from the id (16.11.3).
fn logical_id(id: u32) -> u32 {
    id >> 4 << 16 | 1 << (id & 0xf)
}

/// What a value of the interrupt command register sends (16.5, and 16.11.2 for its 64 bits).
fn command(value: u64) -> Option<Command> {
    const LOGICAL: u64 = 1 << 11;
    const ASSERT: u64 = 1 << 14;
    const LEVEL: u64 = 1 << 15;
    let kind = match value >> 8 & 7 {
        // The lowest priority of those that are named is anybody's.
        0 | 1 => Kind::Fixed,
        4 => Kind::Nmi,
        // The end of a level INIT does nothing.
        5 if value & (LEVEL | ASSERT) != LEVEL => Kind::Init,
        6 => Kind::Startup,
        _ => return None,
    };
    let destination = match (value >> 32) as u32 {
        u32::MAX => Destination::Everybody,
        id if value & LOGICAL != 0 => Destination::Logical(id),
        id => Destination::Physical(id),
    };
    let shorthand = match value >> 18 & 3 {
        0 => Shorthand::None,
        1 => Shorthand::Itself,
        2 => Shorthand::All,
        _ => Shorthand::Others,
    };
    Some(Command { kind, vector: value as u8, destination, shorthand })
}

#[cfg(test)]
mod tests;
