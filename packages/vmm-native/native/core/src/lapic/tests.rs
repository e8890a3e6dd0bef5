use super::*;
use crate::state::testing::round_trip;
use register::*;

fn enabled() -> LocalApic {
    let mut apic = LocalApic::new(3, 1000);
    assert_eq!(write(&mut apic, SPURIOUS, 0x1ff), Ok(Effect::None));
    apic
}

fn write(apic: &mut LocalApic, register: u32, value: u64) -> Result<Effect, GeneralProtection> {
    apic.write(FIRST_MSR + register, value, 10_000)
}

fn read(apic: &LocalApic, register: u32) -> Result<u64, GeneralProtection> {
    apic.read(FIRST_MSR + register, 10_000)
}

#[test]
fn interrupts_are_delivered_by_priority_and_end_in_that_order() {
    let mut apic = enabled();
    apic.request(0x31, false);
    apic.request(0x52, true);
    assert_eq!(apic.deliverable(), Some(0x52));
    apic.acknowledge(0x52);
    assert_eq!(read(&apic, PROCESSOR_PRIORITY), Ok(0x50));
    assert_eq!(apic.deliverable(), None, "0x31 waits for the end of 0x52");
    apic.request(0x61, false);
    assert_eq!(apic.deliverable(), Some(0x61), "a higher class does not wait");
    apic.acknowledge(0x61);
    assert_eq!(write(&mut apic, END_OF_INTERRUPT, 0), Ok(Effect::None));
    assert_eq!(write(&mut apic, END_OF_INTERRUPT, 0), Ok(Effect::EndOfInterrupt(0x52)), "it was a level");
    assert_eq!(apic.deliverable(), Some(0x31));
}

#[test]
fn the_task_priority_holds_back_its_class_and_those_below() {
    let mut apic = enabled();
    apic.request(0x45, false);
    write(&mut apic, TASK_PRIORITY, 0x40).unwrap();
    assert_eq!((apic.deliverable(), apic.priority_class()), (None, 4));
    apic.set_priority_class(3);
    assert_eq!(apic.deliverable(), Some(0x45));
}

#[test]
fn an_apic_that_is_off_takes_nothing() {
    let mut apic = LocalApic::new(0, 1);
    apic.request(0x45, false);
    assert_eq!(apic.deliverable(), None);
}

#[test]
fn requests_are_read_in_their_banks() {
    let mut apic = enabled();
    apic.request(0x45, true);
    apic.acknowledge(0x45);
    apic.request(0xff, false);
    assert_eq!((read(&apic, IN_SERVICE + 2), read(&apic, TRIGGER_MODE + 2)), (Ok(0x20), Ok(0x20)));
    assert_eq!(read(&apic, REQUESTED_LAST), Ok(0x8000_0000));
}

#[test]
fn the_timer_fires_once_at_its_deadline() {
    let mut apic = enabled();
    write(&mut apic, LOCAL_VECTORS, 2 << 17 | 0xec).unwrap();
    apic.set_deadline(20_000);
    assert_eq!((apic.deadline(), apic.fires_at()), (20_000, Some(20_000)));
    apic.advance(19_999);
    assert_eq!(apic.deliverable(), None);
    apic.advance(20_000);
    assert_eq!((apic.deliverable(), apic.deadline(), apic.fires_at()), (Some(0xec), 0, None));
}

#[test]
fn the_timer_counts_down_once_or_again_and_again() {
    let mut apic = enabled();
    write(&mut apic, LOCAL_VECTORS, 0x40).unwrap();
    write(&mut apic, DIVIDE, 0x3).unwrap(); // by 16
    write(&mut apic, INITIAL_COUNT, 100).unwrap();
    assert_eq!((apic.fires_at(), read(&apic, CURRENT_COUNT)), (Some(11_600), Ok(100)));
    assert_eq!(apic.read(FIRST_MSR + CURRENT_COUNT, 11_584), Ok(1));
    apic.advance(11_600);
    assert_eq!((apic.deliverable(), apic.fires_at()), (Some(0x40), None));
    write(&mut apic, LOCAL_VECTORS, 1 << 17 | 0x41).unwrap();
    write(&mut apic, INITIAL_COUNT, 100).unwrap();
    apic.advance(11_600 + 3 * 1600 + 5);
    assert_eq!((apic.deliverable(), apic.fires_at()), (Some(0x41), Some(18_000)));
}

#[test]
fn a_period_is_never_too_short() {
    let mut apic = enabled();
    write(&mut apic, DIVIDE, 0xb).unwrap();
    write(&mut apic, LOCAL_VECTORS, 1 << 17 | 0x41).unwrap();
    write(&mut apic, INITIAL_COUNT, 1).unwrap();
    assert_eq!(apic.fires_at(), Some(11_000));
}

#[test]
fn a_masked_timer_fires_unheard() {
    let mut apic = enabled();
    write(&mut apic, LOCAL_VECTORS, u64::from(MASKED) | 0x40).unwrap();
    write(&mut apic, INITIAL_COUNT, 1).unwrap();
    apic.advance(u64::MAX);
    assert_eq!((apic.deliverable(), apic.fires_at()), (None, None));
}

#[test]
fn commands_say_what_goes_to_whom() {
    let sent = |value| match write(&mut enabled(), COMMAND, value) {
        Ok(Effect::Send(command)) => Some(command),
        _ => None,
    };
    let destination = Destination::Physical(5);
    let fixed = Command { kind: Kind::Fixed, vector: 0x77, destination, shorthand: Shorthand::None };
    assert_eq!(sent(5 << 32 | 0x77), Some(fixed));
    assert_eq!(sent(5 << 32 | 0x4577), Some(Command { kind: Kind::Init, ..fixed }));
    assert_eq!(sent(5 << 32 | 0x8577), None, "the end of a level INIT");
    assert_eq!(sent(5 << 32 | 0x4677), Some(Command { kind: Kind::Startup, ..fixed }));
    assert_eq!(sent(5 << 32 | 0xc_0477), Some(Command { kind: Kind::Nmi, shorthand: Shorthand::Others, ..fixed }));
    let logical = Destination::Logical(0x1_0005);
    assert_eq!(sent(0x1_0005 << 32 | 0x877), Some(Command { destination: logical, ..fixed }));
}

#[test]
fn destinations_name_processors() {
    let named = |destination: Destination| (0..40).filter(|id| destination.names(*id)).count();
    assert_eq!((named(Destination::Physical(7)), named(Destination::Everybody)), (1, 40));
    assert_eq!(named(Destination::Logical(0x1_8001)), 2);
    assert!(Destination::Logical(0x1_8001).names(16) && Destination::Logical(0x1_8001).names(31));
}

#[test]
fn no_access_goes_wrong_but_for_general_protection() {
    for msr in FIRST_MSR..=LAST_MSR {
        for value in [0, 1, 0xff, 0x400ff, 0xffff_ffff, u64::MAX] {
            let mut apic = enabled();
            let _ = apic.write(msr, value, u64::MAX / 2);
            let _ = apic.read(msr, u64::MAX / 2);
            apic.advance(u64::MAX);
            let _ = apic.deliverable();
        }
    }
    let mut apic = enabled();
    assert_eq!(write(&mut apic, ID, 0), Err(GeneralProtection));
    assert_eq!(write(&mut apic, TASK_PRIORITY, 1 << 32), Err(GeneralProtection));
    assert_eq!(read(&apic, SELF_INTERRUPT), Err(GeneralProtection));
}

#[test]
fn what_was_saved_is_restored() {
    let mut apic = enabled();
    for (register, value) in [(DIVIDE, 0xb), (INITIAL_COUNT, 1000), (TASK_PRIORITY, 0x20), (COMMAND, 1 << 32 | 0x40)] {
        write(&mut apic, register, value).unwrap();
    }
    for (vector, level) in [(0x31, false), (0x41, true), (0xf0, false)] {
        apic.request(vector, level);
    }
    apic.acknowledge(0xf0);
    let make = || LocalApic::new(apic.id(), apic.shortest_period);
    round_trip(&mut apic.clone(), make, |apic, state| apic.save(state), LocalApic::restore);
}
