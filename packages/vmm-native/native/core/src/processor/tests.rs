use super::testing::{TestGuest, guest};
use super::*;
use crate::memory::leaked;
use crate::start::enter_long_mode;
use crate::state::testing::round_trip;
use crate::vmcb::EventKind;

const IOIO: u64 = 0x7b;

fn write_port(guest: &mut TestGuest, port: u64, value: u64) -> Result<(), Stop> {
    guest.processor.registers.general[register::RAX] = value;
    guest.exit(IOIO, port << 16 | 1 << 4, 0x1002)
}

#[test]
fn what_a_guest_writes_to_its_serial_port_is_sent() {
    let mut guest = guest(1);
    guest.processor.vmcb.set_interrupt_shadow(1);
    write_port(&mut guest, 0x3f8, 0x4142).unwrap();
    assert_eq!(guest.host.sent, b"B");
    assert_eq!((guest.processor.vmcb.rip(), guest.processor.vmcb.interrupt_shadow()), (0x1002, 0));
}

#[test]
fn what_a_guest_reads_changes_as_much_of_rax_as_the_size_says() {
    for (size, expected) in [(1, 0x1111_1111_1111_1160), (2, 0x1111_1111_1111_b060), (4, 0xff00_b060)] {
        let mut guest = guest(1);
        guest.processor.registers.general[register::RAX] = 0x1111_1111_1111_1111;
        guest.exit(IOIO, 0x3fd << 16 | size << 4 | 1, 0x1002).unwrap();
        assert_eq!(guest.processor.registers.general[register::RAX], expected, "{size}");
    }
}

#[test]
fn nothing_is_behind_other_ports() {
    let mut guest = guest(1);
    for port in (0..=0xffff).filter(|port| *port != 0xcf8) {
        guest.exit(IOIO, port << 16 | 1 << 6 | 1, 0).unwrap();
        write_port(&mut guest, port, 0).unwrap();
    }
    assert_eq!(guest.host.sent, [0]);
}

#[test]
fn a_guest_switches_itself_off_and_resets_itself() {
    assert_eq!(write_port(&mut guest(1), 0x600, 0x34), Err(Stop::PoweredOff));
    assert_eq!(write_port(&mut guest(1), 0xcf9, 6), Err(Stop::Reset));
}

#[test]
fn a_reset_leaves_what_confines_a_guest_and_counts_its_exits() {
    let mut guest = guest(2);
    let TestGuest { processor, machine, mailboxes, .. } = &mut guest;
    let made = processor.vmcb.clone();
    processor.vmcb.set_rip(0x1234);
    processor.vmcb.set_cr3(0x5000);
    processor.registers.general = [1; 16];
    processor.nmi = true;
    processor.lapic.request(0x41, false);
    machine.receive(b'x');
    mailboxes.iter().for_each(|mailbox| mailbox.post_interrupt(0x42, false));
    assert!(machine.reset());
    processor.reset();
    assert_eq!(*processor.vmcb, made);
    assert_eq!((processor.registers.general, processor.lapic.deliverable()), ([0; 16], None));
    assert_eq!((processor.prepare(0), machine.console_room()), (crate::event::Next::WaitForOthers, 1));
    mailboxes[1].take_interrupts(|_, _| panic!("nothing is left"));
}

#[test]
fn what_is_typed_interrupts_the_processor_that_the_io_apic_names() {
    let mut guest = guest(3);
    write_port(&mut guest, 0x3f9, 1).unwrap();
    for (select, value) in [(0x19, 2 << 24), (0x18, 0x55)] {
        guest.machine.write_device(0xfec0_0000, 4, select);
        guest.machine.write_device(0xfec0_0010, 4, value);
    }
    guest.machine.receive(b'x');
    let mut taken = std::vec::Vec::new();
    guest.mailboxes[2].take_interrupts(|vector, level| taken.push((vector, level)));
    assert_eq!(
        (taken, guest.machine.take_posted(), guest.machine.take_posted()),
        (std::vec![(0x55, false)], true, false)
    );
}

#[test]
fn cpuid_fills_four_registers_and_is_skipped() {
    let mut guest = guest(1);
    guest.processor.registers.general = [u64::MAX; 16];
    guest.processor.registers.general[register::RAX] = 0x4000_0001;
    guest.processor.vmcb.set_rip(0x100);
    guest.exit(0x72, 0, 0).unwrap();
    assert_eq!(guest.processor.registers.general[..4], [0x0100_000a, 0, 0, 0]);
    assert_eq!(guest.processor.vmcb.rip(), 0x102);
}

#[test]
fn a_guest_that_cannot_go_on_stops_with_the_reason() {
    let stop = |code| guest(1).exit(code, 0, 0).unwrap_err().name();
    assert_eq!(stop(0x7f), "triple-fault");
    assert_eq!(stop(u64::MAX), "invalid-state");
    assert_eq!(stop(0x1234), "unhandled-exit");
}

/// What a processor of a QEMU without anything special says.
fn plain(function: u32, _: u32) -> [u32; 4] {
    match function {
        0x8000_0001 => [0, 0, 0, u32::MAX],
        0x8000_0008 => [48, 0, 0, 0],
        _ => [0; 4],
    }
}

/// A processor with something of everything, and another one that has just been made.
fn busy() -> TestGuest {
    let mut guest = guest(2);
    let processor = &mut guest.processor;
    enter_long_mode(processor.vmcb, &mut processor.registers, &mut leaked(1 << 20), 0x10_0000).unwrap();
    processor.registers.general[register::RBX] = 0xbb;
    processor.registers.extended[511] = 0xee;
    processor.vmcb.set_interrupt_shadow(1);
    processor.vmcb.set_tsc_offset(50);
    processor.pending = Some(Event { kind: EventKind::Exception, vector: 14, error_code: Some(2) });
    processor.lapic.write(0x80f, 0x1ff, 0).unwrap();
    guest.mailboxes[0].post_interrupt(0x55, false);
    guest.mailboxes[0].post_nmi();
    guest
}

#[test]
fn a_processor_goes_on_where_it_was_saved() {
    let saved = &mut busy().processor;
    let mut bytes = [0; 2048];
    let mut writer = Writer::new(&mut bytes);
    saved.save(1000, &mut writer).unwrap();
    let length = writer.length();
    let TestGuest { processor: mut restored, .. } = guest(2);
    restored.restore(7, plain, &mut Reader::new(&bytes[..length])).unwrap();
    // What confines it is its own, and its time goes on from there.
    assert_eq!(
        (restored.vmcb.guest_asid(), restored.vmcb.nested_cr3(), restored.vmcb.iopm_base()),
        (1, 0x1000, 0x2000)
    );
    assert_eq!((restored.vmcb.tsc_offset(), restored.vmcb.interrupt_shadow()), (1043, 1));
    assert_eq!((restored.pending, restored.nmi, &restored.lapic), (saved.pending, true, &saved.lapic));
    assert_eq!(restored.registers.general, saved.registers.general);
    assert_eq!(restored.registers.extended, saved.registers.extended);
    assert_eq!(restored.vmcb.state_mut(), saved.vmcb.state_mut());
    assert_eq!(restored.prepare(7), crate::event::Next::Run);
}

#[test]
fn a_state_of_a_processor_that_no_processor_is_in_is_refused() {
    #[derive(Debug)]
    struct Saved(TestGuest);
    impl PartialEq for Saved {
        fn eq(&self, other: &Saved) -> bool {
            self.0.processor.vmcb == other.0.processor.vmcb
        }
    }
    let save = |saved: &mut Saved, state: &mut Writer| saved.0.processor.save(0, state);
    let mut saved = Saved(busy());
    saved.0.processor.vmcb.set_event_injection(saved.0.processor.pending.map_or(0, Event::encode));
    let make = || Saved(guest(2));
    round_trip(&mut saved, make, save, |made, state| made.0.processor.restore(0, plain, state));
    saved.0.processor.vmcb.set_efer(0);
    let mut bytes = [0; 2048];
    save(&mut saved, &mut Writer::new(&mut bytes)).unwrap();
    let refused = guest(2).processor.restore(0, plain, &mut Reader::new(&bytes));
    assert_eq!(refused, Err(StateError::Refused(consistency::Rule::EferSvme)));
}
