//! Single instructions that Rust has no words for.

use core::arch::asm;
use core::arch::x86_64::__cpuid_count;

/// Reads a byte from a port.
///
/// # Safety
///
/// What reading does to the device behind the port must not break what others rely on.
pub unsafe fn inb(port: u16) -> u8 {
    let value;
    // SAFETY: the caller knows the device.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Reads 32 bits from a port.
///
/// # Safety
///
/// As [`inb`].
pub unsafe fn inl(port: u16) -> u32 {
    let value;
    // SAFETY: the caller knows the device.
    unsafe { asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes a byte to a port.
///
/// # Safety
///
/// As [`inb`].
pub unsafe fn outb(port: u16, value: u8) {
    // SAFETY: the caller knows the device.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
}

/// Writes 32 bits to a port. What the device does with memory by that has happened afterwards, as far as Rust knows.
///
/// # Safety
///
/// As [`inb`].
pub unsafe fn outl(port: u16, value: u32) {
    // SAFETY: the caller knows the device. Memory may change: no `nomem`.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack, preserves_flags)) };
}

/// Reads a model-specific register.
///
/// # Safety
///
/// The register exists: there would be a #GP otherwise.
pub unsafe fn rdmsr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller knows the register.
    unsafe { asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a model-specific register.
///
/// # Safety
///
/// The register exists and takes the value, and nothing relies on its old one.
pub unsafe fn wrmsr(msr: u32, value: u64) {
    let (low, high) = (value as u32, (value >> 32) as u32);
    // SAFETY: the caller knows the register.
    unsafe { asm!("wrmsr", in("ecx") msr, in("eax") low, in("edx") high, options(nostack, preserves_flags)) };
}

/// EAX, EBX, ECX and EDX of a CPUID function; zeros above the highest.
pub fn cpuid(function: u32, index: u32) -> [u32; 4] {
    if function > __cpuid_count(function & 0xffff_0000, 0).eax {
        return [0; 4];
    }
    let found = __cpuid_count(function, index);
    [found.eax, found.ebx, found.ecx, found.edx]
}

/// Stops this processor for ever.
pub fn stop() -> ! {
    loop {
        // SAFETY: halting takes nothing from anybody.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}

/// Resets the machine, which ends it when it is emulated.
pub fn reset() -> ! {
    const RESET_CONTROL: u16 = 0xcf9;
    // SAFETY: nothing is left to rely on anything.
    unsafe { outb(RESET_CONTROL, 6) };
    stop()
}
