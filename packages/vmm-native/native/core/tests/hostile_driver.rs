//! Whatever a driver does to a virtio device, the device does not panic, ends each time, and reaches nothing outside of the
//! guest's memory; and it can always be saved, restored, and set up again.
//!
//! Registers, queues, descriptors and buffers are changed from a seed, in ways that are often nearly right. Set
//! `LEVERET_SEED` for another one, and `LEVERET_ACCESSES` for more of them.

use vmm_core::memory::GuestMemory;
use vmm_core::pci::Device;
use vmm_core::state::{Reader, Writer};
use vmm_core::virtio::block::{Action, Backend, Block};
use vmm_core::virtio::console::{Console, Terminal};
use vmm_core::virtio::net::{ADDRESS_SIZE, Link, MAX_FRAME, Net};
use vmm_core::virtio::queue::Segment;
use vmm_core::virtio::rng::{Entropy, Rng};
use vmm_core::virtio::transport::VirtioPci;

const MEMORY: usize = 1 << 16;
const GUARD: usize = 1 << 16;
const PATTERN: u8 = 0xa5;
const SECTORS: u64 = 64;
const DEFAULT_ACCESSES: u64 = 60_000;

/// Where a queue lies when its driver means well, each part of it in a page.
const QUEUES: [[u64; 3]; 2] = [[0x1000, 0x2000, 0x3000], [0x4000, 0x5000, 0x6000]];

struct Random(u64);

impl Random {
    /// Marsaglia's xorshift64.
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// An address that is mostly in memory, and sometimes at its end or far away.
    fn address(&mut self) -> u64 {
        match self.below(8) {
            0 => self.pick(&[0, MEMORY as u64 - 1, MEMORY as u64, u64::MAX, u64::MAX - 15, 1 << 63]),
            1 => self.next(),
            _ => 0x7000 + self.below(0x8000),
        }
    }
}

#[derive(Debug)]
struct TestEntropy;

impl Entropy for TestEntropy {
    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill(0x5a);
    }
}

#[derive(Debug)]
struct TestTerminal(u64);

impl Terminal for TestTerminal {
    fn room(&self) -> usize {
        self.0 as usize % 256
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0 = self.0.wrapping_add(bytes.len() as u64);
    }

    fn receive(&mut self) -> Option<u8> {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 60 != 0).then_some(self.0 as u8)
    }
}

/// A link on which frames of all lengths arrive, and that has room now and then.
#[derive(Debug)]
struct TestLink {
    frame: [u8; MAX_FRAME],
    calls: u64,
}

impl Link for TestLink {
    fn address(&self) -> [u8; ADDRESS_SIZE] {
        [0x52, 0x54, 0, 0, 0, 1]
    }

    fn room(&mut self) -> Option<&mut [u8; MAX_FRAME]> {
        self.calls += 1;
        (!self.calls.is_multiple_of(5)).then_some(&mut self.frame)
    }

    fn send(&mut self, length: usize) {
        assert!((14..=MAX_FRAME).contains(&length), "{length}");
    }

    fn received(&mut self) -> Option<&[u8]> {
        let length = (self.calls * 97) as usize % (MAX_FRAME + 1);
        (!self.calls.is_multiple_of(3)).then_some(&self.frame[..length])
    }

    fn drop_received(&mut self) {
        self.calls += 1;
    }
}

/// A disk that says what it is asked for, and finishes now and then.
#[derive(Debug, Default)]
struct TestDisk {
    begun: Vec<u16>,
    calls: u64,
    started: u64,
}

impl Backend for TestDisk {
    fn sectors(&self) -> u64 {
        SECTORS
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn id(&self) -> [u8; 20] {
        [0x41; 20]
    }

    fn start(&mut self, number: u16, action: Action, segments: &[Segment], memory: &mut GuestMemory) -> bool {
        let length: u64 = segments.iter().map(|segment| u64::from(segment.length)).sum();
        let (Action::Read { sector } | Action::Write { sector }) = action else {
            assert!(segments.is_empty());
            self.begun.push(number);
            return true;
        };
        assert!(length > 0 && length.is_multiple_of(512) && sector + length / 512 <= SECTORS, "{sector} {length}");
        assert!(!self.begun.contains(&number), "a number that another one has");
        for segment in segments {
            assert_ne!(segment.length, 0);
            memory.check(segment.address, segment.length.into()).expect("memory of the guest");
        }
        self.calls += 1;
        if self.calls.is_multiple_of(7) {
            return false;
        }
        self.started += 1;
        self.begun.push(number);
        true
    }

    fn finish(&mut self) -> Option<(u16, bool)> {
        self.calls += 1;
        if self.calls.is_multiple_of(3) {
            self.begun.pop().map(|number| (number, !self.calls.is_multiple_of(5)))
        } else {
            None
        }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Resets a device and sets it up as a driver does that means well.
fn set_up(device: &mut dyn Device, memory: &mut GuestMemory, random: &mut Random) {
    device.write_config(4, 2, 7);
    device.write_bar(0, 0x14, 1, 0);
    for _ in 0..100 {
        device.service(memory);
    }
    let offered = |device: &mut dyn Device, half| {
        device.write_bar(0, 0, 4, half);
        device.read_bar(0, 4, 4)
    };
    let features = [offered(device, 0), offered(device, 1)];
    for (half, features) in (0..).zip(features) {
        device.write_bar(0, 8, 4, half);
        device.write_bar(0, 0xc, 4, if half == 0 { features & random.next() } else { features });
    }
    device.write_bar(0, 0x14, 1, 0xb);
    for (index, parts) in (0..).zip(QUEUES) {
        device.write_bar(0, 0x16, 2, index);
        device.write_bar(0, 0x18, 2, 16);
        device.write_bar(0, 0x1a, 2, 1);
        for (register, address) in [0x20, 0x28, 0x30].into_iter().zip(parts) {
            device.write_bar(0, register, 8, address);
        }
        device.write_bar(0, 0x1c, 2, 1);
        memory.write(parts[1], &[0; 64]).expect("memory");
    }
    device.write_bar(0, 0x14, 1, 0xf);
    assert_eq!(device.read_bar(0, 0x14, 1), 0xf, "a device can always be set up again");
    let mut capability = device.read_config(0x34, 1);
    while device.read_config(capability as u16, 1) != 0x11 {
        capability = device.read_config(capability as u16 + 1, 1);
        assert_ne!(capability, 0, "there are messages");
    }
    device.write_config(capability as u16 + 2, 2, 0x8000);
    for vector in 0..2 {
        for (register, value) in [(0, 0xfee0_0000), (4, 0), (8, 0x41), (12, 0)] {
            device.write_bar(0, 0x1000 + vector * 16 + register, 4, value);
        }
    }
}

/// Makes a chain available that is nearly right, or not at all.
fn offer(memory: &mut GuestMemory, random: &mut Random) {
    let [table, available, _] = random.pick(&QUEUES);
    let head = random.below(18) as u16;
    let length = 1 + random.below(4) as u16;
    for place in 0..length {
        let index = u64::from(head + place) % 16;
        let address = random.address();
        let size = random.pick(&[0, 1, 12, 16, 20, 32, 512, 513, 1024, 1526, 4096, u32::MAX]);
        let flags = random.pick(&[0, 1, 1, 2, 3, 3, 4, 5]);
        let flags = if place + 1 < length { flags | 1 } else { flags & if random.below(8) == 0 { 7 } else { 6 } };
        let next = if random.below(16) == 0 { random.next() } else { (index + 1) % 16 };
        let mut bytes = Vec::from(address.to_le_bytes());
        bytes.extend(u32::to_le_bytes(size));
        bytes.extend(u16::to_le_bytes(flags));
        bytes.extend((next as u16).to_le_bytes());
        memory.write(table + index * 16, &bytes).expect("memory");
        // A header of a disk's request where the first buffer is.
        let mut header = Vec::from(random.pick(&[0_u64, 0, 1, 1, 4, 8, 99]).to_le_bytes());
        header.extend((random.below(SECTORS + 2)).to_le_bytes());
        let _ = memory.write(address, &header);
    }
    let index = memory.read_u16(available + 2).expect("memory");
    memory.write_u16(available + 4 + u64::from(index % 16) * 2, head).expect("memory");
    let step = if random.below(64) == 0 { random.next() as u16 } else { 1 };
    memory.write_u16(available + 2, index.wrapping_add(step)).expect("memory");
}

fn attack(device: &mut dyn Device, random: &mut Random, memory: &mut GuestMemory, accesses: u64) -> (u64, u64) {
    let (mut needs_reset, mut messages) = (0, 0);
    set_up(device, memory, random);
    for _ in 0..accesses {
        match random.below(16) {
            0 => device.write_bar(0, random.below(0x40), random.pick(&[1, 2, 4, 8]), random.next()),
            1 => device.write_bar(0, random.below(0x2000), random.pick(&[1, 2, 4, 8]), random.next()),
            2 => device.write_config(random.below(0x120) as u16, random.pick(&[1, 2, 4]), random.next()),
            3 => device.write_config(4, 2, 7),
            4 => {
                let (offset, size) = (random.below(0x2000), random.pick(&[1, 2, 4, 8]));
                device.read_bar(0, offset, size);
                device.read_config(offset as u16, size);
            }
            5 => drop(memory.write(random.below(0x7000), &random.next().to_le_bytes())),
            6 => {
                let mut bytes = [0; 4096];
                let mut writer = Writer::new(&mut bytes);
                device.save(&mut writer).expect("a place for it");
                let length = writer.length();
                // A bit of it may have changed on the way.
                if random.below(4) == 0 {
                    bytes[random.below(length as u64) as usize] ^= 1 << random.below(8);
                }
                let _ = device.restore(&mut Reader::new(&bytes[..length]));
            }
            _ => {
                offer(memory, random);
                device.write_bar(2, 0, 2, random.below(3));
            }
        }
        device.service(memory);
        while device.take_message().is_some() {
            messages += 1;
        }
        if device.read_bar(0, 0x14, 1) & 0x40 != 0 || random.below(64) == 0 {
            needs_reset += 1;
            set_up(device, memory, random);
        }
    }
    (needs_reset, messages)
}

#[test]
fn a_hostile_driver_reaches_nothing_but_its_own_memory() {
    let seed = setting("LEVERET_SEED", 0x1ead_beef_cafe_f00d);
    println!("seed {seed}");
    let mut random = Random(seed.max(1));
    let base = vec![PATTERN; GUARD + MEMORY + GUARD].leak().as_mut_ptr();
    // SAFETY: leaked, the reference is gone, and the range lies within it.
    let mut memory = unsafe { GuestMemory::new(base.add(GUARD), MEMORY as u64) };
    let mut disk = VirtioPci::new(Block::new(TestDisk::default()));
    let mut console = VirtioPci::new(Console::new(TestTerminal(1)));
    let mut rng = VirtioPci::new(Rng(TestEntropy));
    let mut net = VirtioPci::new(Net(TestLink { frame: [0x66; MAX_FRAME], calls: 0 }));
    let accesses = setting("LEVERET_ACCESSES", DEFAULT_ACCESSES);
    for device in [&mut disk as &mut dyn Device, &mut console, &mut rng, &mut net] {
        let (resets, messages) = attack(device, &mut random, &mut memory, accesses / 4);
        println!("{} accesses: {resets} resets, {messages} messages", accesses / 4);
        assert!(resets > accesses / 1000 && messages > 0);
    }
    // SAFETY: as above, and the memory is not used any more.
    let guards = unsafe {
        [std::slice::from_raw_parts(base, GUARD), std::slice::from_raw_parts(base.add(GUARD + MEMORY), GUARD)]
    };
    assert!(guards.iter().all(|guard| guard.iter().all(|byte| *byte == PATTERN)));
}
