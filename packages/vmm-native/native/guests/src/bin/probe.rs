//! Tries what a processor does for a guest, and says `ok` or `FAILED` for each.

#![no_std]
#![no_main]

use core::arch::asm;
use core::arch::x86_64::{__cpuid, _rdtsc};
use guests::{attempt, halt, say, traps};

const GENERAL_PROTECTION: u64 = 13;
const UNDEFINED_OPCODE: u64 = 6;
const TIMER: u64 = 0x51;
const ITSELF: u64 = 0x52;

const TSC_DEADLINE: u32 = 0x6e0;
const SPURIOUS: u32 = 0x80f;
const COMMAND: u32 = 0x830;
const TIMER_ENTRY: u32 = 0x832;
const INITIAL_COUNT: u32 = 0x838;
const DIVIDE: u32 = 0x83e;
const SELF_INTERRUPT: u32 = 0x83f;

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    traps::install();
    write_msr(SPURIOUS, 0x1ff);
    check("cpuid names the vendor and the hypervisor", cpuid_names());
    check("a register that does not exist is #GP(0)", faults_with_gp());
    check("EFER.SVME can be neither seen nor set", efer_hides_svme());
    check("what belongs to hypervisors is #UD", undefined());
    check("ports without devices float", ports_float());
    check("the I/O APIC is read by moves of all kinds", io_apic_is_read());
    check("the I/O APIC takes arithmetic, exchanges and bits", io_apic_is_changed());
    check("REP OUTS sends a line, and REP INS takes what a port has", strings_go_in_and_out());
    check("an interrupt to itself waits for STI, and one instruction longer", interrupts_wait());
    check(
        "a deadline wakes from HLT",
        wakes(|| {
            write_msr(TIMER_ENTRY, 2 << 17 | TIMER);
            write_msr(TSC_DEADLINE, now() + 2_000_000);
        }),
    );
    check(
        "a count wakes from HLT",
        wakes(|| {
            write_msr(TIMER_ENTRY, TIMER);
            write_msr(DIVIDE, 3);
            write_msr(INITIAL_COUNT, 100_000);
        }),
    );
    check("a period interrupts again and again", period_goes_on());
    check("the task priority holds interrupts back", priority_holds_back());
    check("a non-maskable interrupt is not", nmi_arrives());
    check("vector and general registers survive exits", registers_survive());
    say!("done");
    halt()
}

fn check(name: &str, holds: bool) {
    say!("{} {name}", if holds { "ok" } else { "FAILED" });
}

fn now() -> u64 {
    // SAFETY: there is one.
    unsafe { _rdtsc() }
}

fn write_msr(msr: u32, value: u64) {
    // SAFETY: registers of the local APIC, whose interrupts are expected.
    unsafe { asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32) };
}

/// `sti; nop`: lets in what waits.
fn let_in() {
    // SAFETY: interrupts are expected.
    unsafe { asm!("sti", "nop", "nop", "cli") };
}

fn cpuid_names() -> bool {
    let (vendor, hypervisor) = (__cpuid(0), __cpuid(0x4000_0000));
    vendor.ebx == u32::from_le_bytes(*b"Auth") && hypervisor.ebx == u32::from_le_bytes(*b"KVMK")
}

fn faults_with_gp() -> bool {
    let read = attempt!("rdmsr", in("ecx") 0x1234, out("eax") _, out("edx") _);
    let written = attempt!("wrmsr", in("ecx") 0xc000_1234_u32, in("eax") 0, in("edx") 0);
    let exists = attempt!("rdmsr", in("ecx") 0x1b, out("eax") _, out("edx") _);
    let fault = Some((GENERAL_PROTECTION, 0, 0));
    read == fault && written == fault && exists.is_none()
}

fn efer_hides_svme() -> bool {
    let low: u32;
    let read = attempt!("rdmsr", in("ecx") 0xc000_0080_u32, out("eax") low, out("edx") _);
    let set = attempt!("wrmsr", in("ecx") 0xc000_0080_u32, in("eax") low | 1 << 12, in("edx") 0);
    read.is_none() && low & 1 << 12 == 0 && set == Some((GENERAL_PROTECTION, 0, 0))
}

fn undefined() -> bool {
    let tried = [
        attempt!("vmrun rax", in("rax") 0x10_0000_u64),
        attempt!("vmload rax", in("rax") 0x10_0000_u64),
        attempt!("vmsave rax", in("rax") 0x10_0000_u64),
        attempt!("stgi"),
        attempt!("clgi"),
        attempt!("monitor", in("rax") 0x10_0000_u64, in("ecx") 0, in("edx") 0),
        attempt!("xsetbv", in("ecx") 0, in("eax") 1, in("edx") 0),
    ];
    tried.iter().all(|outcome| *outcome == Some((UNDEFINED_OPCODE, 0, 0)))
}

fn ports_float() -> bool {
    let (byte, word, double): (u8, u16, u32);
    // SAFETY: nothing is there.
    unsafe {
        asm!("in al, dx", in("dx") 0x80, out("al") byte);
        asm!("in ax, dx", in("dx") 0x80, out("ax") word);
        asm!("in eax, dx", in("dx") 0xcfc, out("eax") double);
        asm!("out dx, eax", in("dx") 0xcf8, in("eax") 0x8000_0000_u32);
    }
    (byte, word, double) == (0xff, 0xffff, 0xffff_ffff)
}

fn io_apic_is_read() -> bool {
    let (double, high, quad, byte): (u32, u32, u64, u32);
    // SAFETY: the device's registers: select the version, and read it.
    unsafe {
        asm!("mov dword ptr [{}], 1", in(reg) 0xfec0_0000_u64);
        asm!("mov eax, [r8 + r9 * 8]", in("r9") 2_u64, in("r8") 0xfec0_0000_u64, out("eax") double);
        asm!("mov r12d, dword ptr [{0} - 0x100]", in(reg) 0xfec0_0110_u64, out("r12d") high);
        asm!("mov {0}, qword ptr [{1}]", out(reg) quad, in(reg) 0xfec0_0010_u64);
        asm!("movzx {0:e}, byte ptr [{1}]", out(reg) byte, in(reg) 0xfec0_0010_u64);
    }
    (double, high, quad, byte) == (0x0017_0011, 0x0017_0011, 0x0017_0011, 0x11)
}

fn io_apic_is_changed() -> bool {
    let (old, sum, found): (u32, u32, u32);
    let carry: u8;
    // SAFETY: the device's registers: select the first half of the first entry, and change it, which stays masked.
    unsafe {
        asm!("mov dword ptr [{}], 0x10", in(reg) 0xfec0_0000_u64);
        asm!("mov dword ptr [{}], 0x10031", in(reg) 0xfec0_0010_u64);
        asm!("xchg [{}], {:e}", in(reg) 0xfec0_0010_u64, inout(reg) 0x1_0040 => old);
        asm!("or dword ptr [{}], 2", in(reg) 0xfec0_0010_u64);
        asm!("lock xadd [{}], {:e}", in(reg) 0xfec0_0010_u64, inout(reg) 1 => sum);
        asm!("lock bts dword ptr [{}], 16", "setc {}", in(reg) 0xfec0_0010_u64, out(reg_byte) carry);
        asm!("mov {:e}, [{}]", out(reg) found, in(reg) 0xfec0_0010_u64);
    }
    (old, sum, carry, found) == (0x1_0031, 0x1_0042, 1, 0x1_0043)
}

fn strings_go_in_and_out() -> bool {
    let line = b"ok this line, by REP OUTS\n";
    let mut taken = [0_u16; 8];
    let (left, end): (usize, usize);
    // SAFETY: bytes of the line go to the serial port; nothing is at port 0x80, and what is read has room.
    unsafe {
        asm!("rep outsb", in("dx") 0x3f8, inout("rcx") line.len() => left, inout("rsi") line.as_ptr() => _);
        asm!("rep insw", in("dx") 0x80, inout("rcx") 7 => _, inout("rdi") taken.as_mut_ptr() => end);
    }
    let last = taken.as_ptr().addr() + 14;
    left == 0 && end == last && taken[6] == 0xffff && taken[7] == 0
}

fn interrupts_wait() -> bool {
    let before = traps::count();
    write_msr(SELF_INTERRUPT, ITSELF);
    let held = traps::count() == before;
    let behind: u64;
    // SAFETY: the interrupt comes behind the instruction after STI.
    unsafe { asm!("sti", "nop", "20:", "nop", "cli", "lea {}, [rip + 20b]", out(reg) behind) };
    let trap = traps::last();
    held && traps::count() == before + 1 && trap.vector == ITSELF && trap.rip == behind
}

fn wakes(arm: impl FnOnce()) -> bool {
    let (before, start) = (traps::count(), now());
    arm();
    // SAFETY: the timer wakes it.
    unsafe { asm!("sti", "hlt", "cli") };
    let late = now() - start;
    traps::count() == before + 1 && traps::last().vector == TIMER && late >= 1_000_000
}

fn period_goes_on() -> bool {
    let before = traps::count();
    write_msr(DIVIDE, 0xb);
    write_msr(TIMER_ENTRY, 1 << 17 | TIMER);
    write_msr(INITIAL_COUNT, 3_000_000);
    while traps::count() < before + 5 {
        let_in();
    }
    write_msr(INITIAL_COUNT, 0);
    let_in();
    traps::last().vector == TIMER
}

fn priority_holds_back() -> bool {
    let before = traps::count();
    // SAFETY: CR8 is the priority, nothing more.
    unsafe { asm!("mov cr8, {}", in(reg) 6_u64) };
    write_msr(SELF_INTERRUPT, ITSELF);
    let_in();
    let held = traps::count() == before;
    // SAFETY: as above.
    unsafe { asm!("mov cr8, {}", in(reg) 0_u64) };
    let_in();
    held && traps::count() == before + 1
}

fn nmi_arrives() -> bool {
    const TO_ITSELF: u64 = 1 << 18;
    const NMI: u64 = 4 << 8;
    let before = traps::count();
    write_msr(COMMAND, TO_ITSELF | NMI);
    traps::count() == before + 1 && traps::last().vector == 2
}

fn registers_survive() -> bool {
    let patterns: [u64; 4] =
        [0x0123_4567_89ab_cdef, 0x1111_2222_3333_4444, 0x5555_6666_7777_8888, 0xfedc_ba98_7654_3210];
    let mut found = [0_u64; 4];
    let (r12, r15): (u64, u64);
    // SAFETY: registers that are said to change; the instruction exits.
    unsafe {
        asm!(
            "movups xmm0, [{patterns}]",
            "movups xmm15, [{patterns} + 16]",
            "mov r12, [{patterns}]",
            "mov r15, [{patterns} + 24]",
            "mov {round:e}, 100",
            "20:",
            "mov eax, 0x80000000",
            "push rbx",
            "cpuid",
            "pop rbx",
            "dec {round:e}",
            "jnz 20b",
            "movups [{found}], xmm0",
            "movups [{found} + 16], xmm15",
            patterns = in(reg) patterns.as_ptr(),
            found = in(reg) found.as_mut_ptr(),
            round = out(reg) _,
            out("r12") r12,
            out("r15") r15,
            out("rax") _,
            out("rcx") _,
            out("rdx") _,
            out("xmm0") _,
            out("xmm15") _,
        );
    }
    found == patterns && r12 == patterns[0] && r15 == patterns[3]
}
