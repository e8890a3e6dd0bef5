//! The machine's two 8259 interrupt controllers: nobody is to hear from them.

use crate::cpu::outb;

const COMMAND: [u16; 2] = [0x20, 0xa0];
const DATA: [u16; 2] = [0x21, 0xa1];

/// Masks everything, and moves what comes in spite of that off the vectors of exceptions: firmware leaves a timer
/// running, on the vector of double faults.
pub fn silence() {
    const INITIALISE: u8 = 0x11;
    const FIRST_VECTOR: [u8; 2] = [0x20, 0x28];
    const CASCADE: [u8; 2] = [1 << 2, 2];
    const MODE_8086: u8 = 0x01;
    for index in 0..2 {
        // SAFETY: interrupts are disabled, and nothing relies on the controllers.
        unsafe {
            outb(COMMAND[index], INITIALISE);
            outb(DATA[index], FIRST_VECTOR[index]);
            outb(DATA[index], CASCADE[index]);
            outb(DATA[index], MODE_8086);
            outb(DATA[index], 0xff);
        }
    }
}
