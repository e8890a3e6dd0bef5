use super::testing::{TestGuest, guest};
use super::*;

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
