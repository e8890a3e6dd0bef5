//! What this machine has for guests, and which guests there are.

use crate::apic::Apic;
use crate::cpu::cpuid;
use crate::devices;
use crate::guest::{CreateError, GUEST_ALIGNMENT, Guest, MAX_PROCESSORS, Wanted, size_with_rest};
use crate::memory::FreeMemory;
use crate::selftest;
use crate::svm::Svm;
use crate::time::Frequencies;
use vmm_core::processor::Processor;
use vmm_core::ranges::Ranges;

/// Most guests at a time.
pub const MAX_GUESTS: usize = 4;
/// How long it may take until a disk that writes to a guest's memory is looked at again, in microseconds.
const WAIT: u64 = 10_000;

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
    /// Memory that is nobody's, and zero.
    free: Ranges,
}

impl Host {
    /// A machine without guests, and with all memory that is left for them.
    pub fn new(svm: Svm, apic: Apic, frequencies: Frequencies, memory: FreeMemory) -> Host {
        let free = Ranges::new(memory.into_range(GUEST_ALIGNMENT));
        Host { svm, apic, frequencies, guests: [const { None }; MAX_GUESTS], free }
    }

    /// Makes a guest of a number that is free.
    pub fn create(
        &mut self,
        number: usize,
        memory: u64,
        processors: usize,
        wanted: devices::Wanted,
    ) -> Result<(), CreateError> {
        if !(1..=MAX_PROCESSORS).contains(&processors) {
            return Err(CreateError::BadProcessors(processors));
        }
        if self.guests.iter().flatten().any(|guest| guest.wanted.devices.overlaps(wanted)) {
            return Err(CreateError::NoDevices);
        }
        let address_spaces = self.address_spaces(processors)?;
        let needed = size_with_rest(memory);
        let no_memory = CreateError::NoMemory { needed, left: self.free.largest() };
        let range = self.free.take(needed).ok_or(no_memory)?;
        let wanted = Wanted { memory, processors, devices: wanted, address_spaces };
        // SAFETY: it has been taken for this guest, and is given back when it is forgotten.
        match unsafe { Guest::create(range.clone(), wanted, self.frequencies) } {
            Ok(guest) => self.guests[number] = Some(guest),
            Err(reason) => {
                devices::stop(wanted.devices);
                // SAFETY: nothing of the guest is left, and no device writes to it any more.
                unsafe { crate::memory::clear(range.clone()) };
                self.free.give_back(range);
                return Err(reason);
            }
        }
        Ok(())
    }

    /// Forgets a guest.
    pub fn destroy(&mut self, number: usize) {
        if let Some(guest) = self.guests[number].take() {
            self.free.give_back(guest.destroy());
        }
    }

    /// Brings a guest back to where nothing has been loaded. Waits for the devices of the machine that still do something for it.
    pub fn reset(&mut self, number: usize) {
        let Some(guest) = &mut self.guests[number] else { return };
        guest.processors.iter_mut().for_each(Processor::reset);
        while !guest.machine.reset() {
            self.apic.fire_after(self.frequencies.apic_ticks(self.frequencies.tsc / 1_000_000 * WAIT));
            self.apic.wait();
        }
    }

    /// Tries which rules of VMRUN the processor enforces; `None` without memory for that.
    pub fn self_test(&mut self) -> Option<()> {
        let range = self.free.take(2 * GUEST_ALIGNMENT)?;
        // SAFETY: it has been taken for this, and nothing of the test is left when it is given back.
        let tested = unsafe {
            let mut memory = FreeMemory::of(range.clone());
            let tested = selftest::run(&mut memory, &mut self.svm, &mut self.apic, self.frequencies);
            crate::memory::clear(range.clone());
            tested
        };
        self.free.give_back(range);
        tested
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
