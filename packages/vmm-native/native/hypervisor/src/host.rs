//! What this machine has for guests, and which guests there are.

use crate::apic::Apic;
use crate::cpu::cpuid;
use crate::devices;
use crate::guest::{CreateError, Guest, MAX_PROCESSORS, Wanted, size_with_rest};
use crate::memory::FreeMemory;
use crate::selftest;
use crate::svm::Svm;
use crate::time::{self, Frequencies};
use vmm_core::blocks::{BLOCK, Blocks};
use vmm_core::memory::GuestFrames;
use vmm_core::processor::Processor;
use vmm_core::state::{StateError, Writer};

/// Most guests at a time.
pub const MAX_GUESTS: usize = 8;
/// How long it may take until a disk that writes to a guest's memory is looked at again, in microseconds.
const WAIT: u64 = 10_000;

/// Why a guest cannot be forked.
pub enum ForkError {
    /// The other one cannot be made.
    Create(CreateError),
    /// It is not like this one.
    State(StateError),
}

impl From<CreateError> for ForkError {
    fn from(reason: CreateError) -> ForkError {
        ForkError::Create(reason)
    }
}

/// The machine.
pub struct Host {
    /// AMD-V of its processor.
    pub svm: Svm,
    /// The timer.
    pub apic: Apic,
    /// How fast clocks run.
    pub frequencies: Frequencies,
    /// The guests, by their numbers.
    pub guests: [Option<&'static mut Guest>; MAX_GUESTS],
    /// The memory that is left for them.
    blocks: &'static Blocks,
}

impl Host {
    /// A machine without guests, and with all memory that is left for them. `None` without memory.
    pub fn new(svm: Svm, apic: Apic, frequencies: Frequencies, memory: FreeMemory) -> Option<Host> {
        let mut memory = memory;
        let blocks = memory.take(Blocks::new(0..0))?;
        *blocks = Blocks::new(memory.into_range(BLOCK));
        Some(Host { svm, apic, frequencies, guests: [const { None }; MAX_GUESTS], blocks })
    }

    /// Makes a guest of a number that is free.
    pub fn create(
        &mut self,
        number: usize,
        memory: u64,
        processors: usize,
        devices: devices::Wanted,
    ) -> Result<(), CreateError> {
        let wanted = self.want(memory, processors, devices)?;
        let (needed, left) = (size_with_rest(memory), self.blocks.left());
        if needed > left {
            return Err(CreateError::NoMemory { needed, left });
        }
        self.guests[number] = Some(Guest::create(self.frames(), wanted, self.frequencies, None)?);
        Ok(())
    }

    /// Makes a guest of a number that is free out of another one; the scratch is for a state of one. Returns how many nanoseconds
    /// that took.
    pub fn fork(
        &mut self,
        parent: usize,
        number: usize,
        devices: devices::Wanted,
        scratch: &mut [u8],
    ) -> Result<u64, ForkError> {
        let began = time::tsc();
        // What the machine's disks still write goes to pages that are its own.
        while let Some(guest) = &mut self.guests[parent]
            && !guest.machine.is_idle()
        {
            guest.service();
            self.wait();
        }
        let Some(Wanted { memory, processors, .. }) = self.guests[parent].as_ref().map(|guest| guest.wanted) else {
            return Ok(0);
        };
        let wanted = self.want(memory, processors, devices)?;
        let (frames, frequencies) = (self.frames(), self.frequencies);
        let guest = self.guests[parent].as_mut().expect("there is one");
        let child = Guest::create(frames, wanted, frequencies, Some(guest))?;
        let mut state = Writer::new(scratch);
        let saved = guest.save(&mut state);
        let length = state.length();
        let restored = saved.and_then(|()| child.restore(&scratch[..length]));
        self.guests[number] = Some(child);
        if let Err(reason) = restored {
            self.destroy(number);
            return Err(ForkError::State(reason));
        }
        Ok((u128::from(time::tsc() - began) * 1_000_000_000 / u128::from(frequencies.tsc)) as u64)
    }

    /// What a guest is to be made of, if all of that is there but memory.
    fn want(&self, memory: u64, processors: usize, devices: devices::Wanted) -> Result<Wanted, CreateError> {
        if !(1..=MAX_PROCESSORS).contains(&processors) {
            return Err(CreateError::BadProcessors(processors));
        }
        if self.guests.iter().flatten().any(|guest| guest.wanted.devices.overlaps(devices)) {
            return Err(CreateError::NoDevices);
        }
        Ok(Wanted { memory, processors, devices, address_spaces: self.address_spaces(processors)? })
    }

    fn frames(&self) -> GuestFrames {
        // SAFETY: blocks are mapped to their own addresses, and were nobody's when this was made.
        unsafe { GuestFrames::new(self.blocks) }
    }

    /// Forgets a guest.
    pub fn destroy(&mut self, number: usize) {
        if let Some(guest) = self.guests[number].take() {
            devices::stop(guest.wanted.devices);
            // The guest itself lies in what is given back by that.
            drop(guest.machine.memory.take());
        }
    }

    /// Brings a guest back to where nothing has been loaded. Waits for the devices of the machine that still do something for it.
    pub fn reset(&mut self, number: usize) {
        if let Some(guest) = &mut self.guests[number] {
            guest.processors.iter_mut().for_each(Processor::reset);
        }
        while self.guests[number].as_mut().is_some_and(|guest| !guest.machine.reset()) {
            self.wait();
        }
    }

    /// Waits until something has happened outside, or for a while.
    fn wait(&mut self) {
        self.apic.fire_after(self.frequencies.apic_ticks(self.frequencies.tsc / 1_000_000 * WAIT));
        self.apic.wait();
    }

    /// Tries which rules of VMRUN the processor enforces; `None` without memory for that.
    pub fn self_test(&mut self) -> Option<()> {
        let mut frames = self.frames();
        let (block, memory) = (frames.take_block()?, frames.take_block()?);
        // SAFETY: it has been taken for this, and nothing of the test is left when it is given back.
        let mut arena = unsafe { FreeMemory::of(block..block + BLOCK) };
        selftest::run(&mut arena, memory, &mut self.svm, &mut self.apic, self.frequencies)
    }

    /// Numbers of address spaces that nobody has, but 0, which is the host's (15.25.1).
    fn address_spaces(&self, count: usize) -> Result<u64, CreateError> {
        let there_are = cpuid(0x8000_000a, 0)[1].min(u64::BITS);
        let taken = self.guests.iter().flatten().fold(1, |taken, guest| taken | guest.wanted.address_spaces);
        let free = u64::MAX >> (u64::BITS - there_are.max(1)) & !taken;
        let mut left = free;
        for _ in 0..count {
            if left == 0 {
                return Err(CreateError::NoAddressSpaces { needed: count, left: free.count_ones() as usize });
            }
            left &= left - 1;
        }
        Ok(free & !left)
    }
}
