use super::*;
use crate::memory::leaked;
use std::boxed::Box;
use std::vec::Vec;

/// A host that keeps what is sent, whose clock stands still, and that has every feature.
#[derive(Debug, Default)]
pub struct TestHost {
    pub sent: Vec<u8>,
    pub now: u64,
}

impl Host for TestHost {
    fn send(&mut self, byte: u8) {
        self.sent.push(byte);
    }

    fn tsc(&mut self) -> u64 {
        self.now
    }

    fn cpuid(&self, _: u32, _: u32) -> [u32; 4] {
        [u32::MAX; 4]
    }
}

/// A guest with 64 KiB of memory and a clock of 1 GHz: its machine, and the first of some processors, which runs.
#[derive(Debug)]
pub struct TestGuest {
    pub machine: Machine<'static>,
    pub processor: Processor<'static>,
    pub mailboxes: &'static [Mailbox],
    pub host: TestHost,
}

pub fn guest(processors: u32) -> TestGuest {
    let mailboxes: &[Mailbox] = (0..processors).map(|_| Mailbox::new()).collect::<Vec<_>>().leak();
    let clock = Clock::new(0, 1_000_000_000, 0);
    let confinement = Confinement { nested_cr3: 0x1000, iopm: 0x2000, msrpm: 0x5000, asid: 1 };
    let vmcb = Box::leak(Box::new(Vmcb::new()));
    let identity = Identity { id: 0, processors };
    let mut processor = Processor::new(vmcb, confinement, identity, &mailboxes[0], &clock);
    processor.begin();
    let machine = Machine::new(leaked(1 << 16), clock, mailboxes, &mut []);
    TestGuest { machine, processor, mailboxes, host: TestHost::default() }
}

impl TestGuest {
    /// What the processor does about an exit.
    pub fn exit(&mut self, code: u64, info_1: u64, info_2: u64) -> Result<(), Stop> {
        let TestGuest { processor, machine, host, .. } = self;
        processor.vmcb.set_exit_code(code);
        processor.vmcb.set_exit_info_1(info_1);
        processor.vmcb.set_exit_info_2(info_2);
        processor.handle_exit(machine, host)
    }
}
