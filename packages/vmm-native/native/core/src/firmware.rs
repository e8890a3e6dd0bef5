//! All the firmware that a guest has: what it finds where processors begin after a reset (manual, 14.1.3), which resets.
//!
//! Linux jumps there to restart when ACPI is hardware-reduced and there is no EFI, whatever ACPI's reset register is
//! (arch/x86/kernel/reboot.c, `efi_reboot_required`).

use crate::memory::{GuestMemory, OutOfMemory};
use crate::platform::{RESET, RESET_VALUE};

/// Guest physical address of F000:FFF0, in memory that the memory map calls reserved.
const ENTRY: u64 = 0xf_fff0;

/// In real mode: `mov al, RESET_VALUE; mov dx, RESET; out dx, al; hlt; jmp -3`.
const PROGRAM: [u8; 9] = {
    let [low, high] = RESET.to_le_bytes();
    [0xb0, RESET_VALUE, 0xba, low, high, 0xee, 0xf4, 0xeb, 0xfd]
};

/// Writes it to a guest's memory.
pub fn write(memory: &mut GuestMemory) -> Result<(), OutOfMemory> {
    memory.write(ENTRY, &PROGRAM)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::leaked;

    #[test]
    fn it_fits_below_the_first_megabyte_and_nowhere_else() {
        let mut memory = leaked(1 << 20);
        write(&mut memory).unwrap();
        let mut found = [0; 10];
        memory.read(ENTRY, &mut found).unwrap();
        assert_eq!(found, [0xb0, 0x06, 0xba, 0xf9, 0x0c, 0xee, 0xf4, 0xeb, 0xfd, 0]);
        assert!(write(&mut leaked(1 << 16)).is_err());
    }
}
