//! Whatever a guest does, the hypervisor does not panic, and the guest stays confined.
//!
//! Exits with particulars and states that no processor would come up with are handled one after the other, from a seed.
//! Set `LEVERET_SEED` for another one, and `LEVERET_EXITS` for more of them.

mod support;

use support::{Random, setting};
use vmm_core::clock::Clock;
use vmm_core::cpuid::Identity;
use vmm_core::machine::{Host, Machine};
use vmm_core::mailbox::Mailbox;
use vmm_core::memory::GuestMemory;
use vmm_core::pci::Device;
use vmm_core::processor::{Confinement, Processor};
use vmm_core::start::efer;
use vmm_core::virtio::rng::{Entropy, Rng};
use vmm_core::virtio::transport::VirtioPci;
use vmm_core::vmcb::{Intercept, Segment, SegmentRegister, Vmcb};

const MEMORY: usize = 1 << 16;
const PROCESSORS: u32 = 3;
const DEFAULT_EXITS: u64 = 100_000;

/// Constants that something may depend on, beside numbers that nothing does.
const INTERESTING: [u64; 30] = [
    0,
    1,
    0xff,
    0x1000,
    0x3f8,
    0x600,
    0xcf8,
    0xcf9,
    0xcfc,
    0x1ff,
    0x3_00ec,
    0x4_00ec,
    0x10,
    0x6e0,
    0x80f,
    0x830,
    0x832,
    0x838,
    0x277,
    0xc000_0080,
    0x4b56_4d00,
    0x4b56_4d01,
    0xfec0_0000,
    0xfec0_0010,
    0xfee0_0000,
    0xe000_0000,
    0xe000_8000,
    0x80_0000_0000,
    0x80_0000_1000,
    u64::MAX,
];

/// Codes that exits have.
const EXITS: [u64; 15] = [0x18, 0x60, 0x64, 0x72, 0x78, 0x7b, 0x7b, 0x7b, 0x7c, 0x7c, 0x81, 0x82, 0x400, 0x400, 0x400];

/// A number that something may depend on, or not.
fn value(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => random.next(),
        1 => random.next() & 0xffff,
        2 => random.pick(&INTERESTING).wrapping_add(random.below(16)),
        _ => random.pick(&INTERESTING),
    }
}

/// INS, OUTS, MOVS, STOS, LODS.
const STRINGS: [u8; 10] = [0x6c, 0x6d, 0x6e, 0x6f, 0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad];
/// Others that access memory.
const ONE_BYTE: [u8; 16] =
    [0x8b, 0x89, 0x88, 0x8a, 0xc7, 0xa3, 0x01, 0x23, 0x80, 0x81, 0x83, 0x84, 0x87, 0xf7, 0xff, 0x63];
const TWO_BYTES: [u8; 10] = [0xa3, 0xab, 0xb3, 0xbb, 0xba, 0xb1, 0xc1, 0xb6, 0xbf, 0xc3];

#[derive(Debug)]
struct TestEntropy;

impl Entropy for TestEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill(0x5a);
    }
}

struct TestHost(u64);

impl Host for TestHost {
    fn send(&mut self, _: u8) {}

    fn tsc(&mut self) -> u64 {
        self.0
    }

    fn cpuid(&self, _: u32, _: u32) -> [u32; 4] {
        [u32::MAX; 4]
    }
}

/// Changes what a guest can change, and what an exit tells.
fn scramble(random: &mut Random, processor: &mut Processor, memory: &mut GuestMemory) {
    let vmcb = &mut *processor.vmcb;
    vmcb.set_exit_code(random.pick(&EXITS));
    vmcb.set_exit_info_1(if random.below(2) == 0 { value(random) << 16 | random.below(64) } else { value(random) });
    vmcb.set_exit_info_2(value(random));
    vmcb.set_exit_int_info(if random.below(8) == 0 { random.next() } else { 0 });
    vmcb.set_virtual_interrupt(vmcb.virtual_interrupt() & !0xf | random.below(16));
    vmcb.set_rflags(value(random));
    vmcb.set_rip(random.below(MEMORY as u64 + 64));
    vmcb.set_interrupt_shadow(random.below(2));
    if random.below(4) == 0 {
        vmcb.set_rip(value(random));
        vmcb.set_cr0(value(random) | random.below(2) << 31);
        vmcb.set_cr3(value(random));
        vmcb.set_cr4(value(random));
        vmcb.set_efer(value(random) & 0xd01 | efer::SVME);
        let attributes = random.next() as u16 & 0xfff;
        vmcb.set_segment(SegmentRegister::Cs, Segment { attributes, base: value(random), ..Segment::default() });
    }
    // Operands are at the address of the fault half of the time, and without paging also in its page.
    let fault = vmcb.exit_info_2();
    let near = random.below(2) == 0;
    for register in &mut processor.registers.general {
        let value = value(random);
        *register = if near { value & !0xfff | fault & 0xfff } else { value };
    }
    for _ in 0..4 {
        // Moves, and entries of page tables that lead anywhere.
        let opcodes = [0x8b, 0x89, 0x88, 0x8a, 0xc7, 0xa3, 0x0f, 0x66, 0x48];
        let value = if random.below(2) == 0 { value(random) | 1 } else { random.pick(&opcodes) | random.next() << 8 };
        memory.write(random.below(MEMORY as u64 - 8), &value.to_le_bytes()).expect("an address in memory");
    }
    let rip = vmcb.rip();
    let instruction = match random.below(4) {
        0 => [random.pick(&[0xf2, 0xf3]), random.pick(&STRINGS), 0x90],
        1 => [random.pick(&STRINGS), 0x90, 0x90],
        2 => [0x0f, random.pick(&TWO_BYTES), random.next() as u8 & 0x3f],
        _ => [random.pick(&ONE_BYTE), random.next() as u8 & 0x3f, random.next() as u8],
    };
    let _ = memory.write(rip, &instruction);
}

/// The exit that a string instruction has, if one has been written.
fn string_exit(random: &mut Random, vmcb: &mut Vmcb, memory: &GuestMemory) {
    let mut bytes = [0; 2];
    if memory.read(vmcb.rip(), &mut bytes).is_err() {
        return;
    }
    let (repeated, opcode) = match bytes {
        [0xf2 | 0xf3, opcode] => (1, opcode),
        [opcode, _] => (0, opcode),
    };
    if let 0x6c..=0x6f = opcode {
        let input = u64::from(opcode < 0x6e);
        let size = if opcode & 1 == 0 { 1 } else { random.pick(&[2, 4]) };
        vmcb.set_exit_code(0x7b);
        vmcb.set_exit_info_1((random.next() & 0xffff) << 16 | size << 4 | repeated << 3 | 1 << 2 | input);
    }
}

#[test]
fn a_hostile_guest_neither_breaks_the_hypervisor_nor_its_own_confinement() {
    let seed = setting("LEVERET_SEED", 0x1ead_beef_cafe_f00d);
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let bytes = vec![0_u8; MEMORY].leak();
    // SAFETY: leaked, and the reference is gone.
    let memory = unsafe { GuestMemory::new(bytes.as_mut_ptr(), MEMORY as u64) };
    let mailboxes: &[Mailbox] = (0..PROCESSORS).map(|_| Mailbox::new()).collect::<Vec<_>>().leak();
    let rng: &mut dyn Device = Box::leak(Box::new(VirtioPci::new(Rng(TestEntropy))));
    let devices = vec![rng].leak();
    let clock = Clock::new(0, 2_000_000_000, 0);
    let mut machine = Machine::new(memory, clock, mailboxes, devices);
    let mut vmcbs = vec![Vmcb::new(); PROCESSORS as usize];
    let mut processors: Vec<Processor> = vmcbs
        .iter_mut()
        .zip(0..)
        .map(|(vmcb, id)| {
            let confinement = Confinement { nested_cr3: 0x1000, iopm: 0x2000, msrpm: 0x5000, asid: 1 + id };
            let identity = Identity { id, processors: PROCESSORS };
            let processor = Processor::new(vmcb, confinement, identity, &mailboxes[id as usize], &clock);
            processor.vmcb.set_efer(efer::SVME);
            processor
        })
        .collect();

    let mut host = TestHost(0);
    let (mut stops, mut skipped) = (0, 0_u64);
    let exits = setting("LEVERET_EXITS", DEFAULT_EXITS);
    for _ in 0..exits {
        host.0 += random.pick(&[1, 1000, 100_000, 10_000_000]);
        let processor = &mut processors[random.below(PROCESSORS.into()) as usize];
        // Now and then it starts over, or it would wait for a startup most of the time.
        if random.below(8) == 0 {
            processor.begin();
        }
        scramble(&mut random, processor, &mut machine.memory);
        if random.below(4) == 0 {
            string_exit(&mut random, processor.vmcb, &machine.memory);
        }
        let rip = processor.vmcb.rip();
        match processor.handle_exit(&mut machine, &mut host) {
            Ok(()) => skipped += u64::from(processor.vmcb.rip() != rip),
            Err(_) => stops += 1,
        }
        if random.below(64) == 0 {
            machine.receive(random.next() as u8);
        }
        let _ = processor.prepare(host.0);

        let vmcb = &*processor.vmcb;
        assert_eq!((vmcb.nested_paging(), vmcb.nested_cr3()), (1, 0x1000));
        assert_eq!((vmcb.iopm_base(), vmcb.msrpm_base()), (0x2000, 0x5000));
        assert_ne!(vmcb.guest_asid(), 0);
        assert_ne!(vmcb.efer() & efer::SVME, 0);
        for intercept in [Intercept::Intr, Intercept::IoioProt, Intercept::MsrProt, Intercept::Vmrun, Intercept::Vmload]
        {
            assert!(vmcb.intercepts(intercept), "{intercept:?}");
        }
        // What is injected is an event that VMRUN takes: an exception has the vector of one (15.20).
        let event = vmcb.event_injection();
        let (valid, kind, vector) = (event >> 31 & 1 != 0, event >> 8 & 7, event & 0xff);
        assert!(!valid || matches!(kind, 0 | 2 | 4) || (kind == 3 && vector < 32 && vector != 2), "{event:#x}");
    }
    println!("{exits} exits: {skipped} instructions done, {stops} stops");
    assert!(skipped > exits / 4 && stops > exits / 100, "both happen");
}
