//! The machine's CMOS clock (Motorola MC146818A data sheet): what time it is.

use crate::cpu::{inb, outb};
use vmm_core::clock::seconds_since_1970;

const ADDRESS: u16 = 0x70;
const DATA: u16 = 0x71;

const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const UPDATE_IN_PROGRESS: u8 = 1 << 7;
const HOURS_OF_24: u8 = 1 << 1;
const BINARY: u8 = 1 << 2;
const AFTERNOON: u8 = 1 << 7;
/// Seconds, minutes, hours, day, month, year without its century.
const TIME: [u8; 6] = [0x00, 0x02, 0x04, 0x07, 0x08, 0x09];

/// Seconds since 1970, of a clock that is set to UTC; 0 when it shows no time.
pub fn now() -> u32 {
    // Twice the same: no update came between.
    let mut last = read_time();
    loop {
        let again = read_time();
        if again == last {
            break;
        }
        last = again;
    }
    let format = read(STATUS_B);
    let number = |value: u8| if format & BINARY != 0 { value } else { (value >> 4) * 10 + (value & 0xf) };
    let [second, minute, hour, day, month, year] = last;
    let hour = match (format & HOURS_OF_24 != 0, hour & AFTERNOON != 0) {
        (true, _) => number(hour),
        (false, afternoon) => number(hour & !AFTERNOON) % 12 + if afternoon { 12 } else { 0 },
    };
    let date = [2000 + u32::from(number(year)), number(month).into(), number(day).into()];
    seconds_since_1970(date, [hour.into(), number(minute).into(), number(second).into()]).unwrap_or(0)
}

fn read_time() -> [u8; 6] {
    while read(STATUS_A) & UPDATE_IN_PROGRESS != 0 {}
    TIME.map(read)
}

fn read(register: u8) -> u8 {
    // SAFETY: reading the clock changes nothing that anybody relies on.
    unsafe {
        outb(ADDRESS, register);
        inb(DATA)
    }
}
