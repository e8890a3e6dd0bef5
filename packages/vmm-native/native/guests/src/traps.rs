//! Exceptions and interrupts of a guest: what came last is remembered, and execution goes on.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering};

const CODE_SELECTOR: u64 = 0x10;
const STUB: u64 = 16;

static VECTOR: AtomicU64 = AtomicU64::new(0);
static ERROR_CODE: AtomicU64 = AtomicU64::new(0);
static RIP: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);
/// Where execution goes on after the next one, 0 for where it was; [`attempt`] sets it.
pub static RESUME: AtomicU64 = AtomicU64::new(0);

// All in assembly, so that vector registers are not touched. The frame is made alike for vectors with and without an
// error code; interrupts of the local APIC are ended.
global_asm!(
    ".balign 16",
    "trap_stubs:",
    ".set vector, 0",
    ".rept 256",
    "    .balign 16",
    "    .if vector != 8 && (vector < 10 || vector > 14) && vector != 17 && vector != 21 && vector != 29 && vector != 30",
    "    push 0",
    "    .endif",
    "    push vector",
    "    jmp trap_entry",
    "    .set vector, vector + 1",
    ".endr",
    "trap_entry:",
    "    push rax",
    "    push rcx",
    "    push rdx",
    "    mov rax, [rsp + 24]",
    "    mov [rip + {vector}], rax",
    "    mov rax, [rsp + 32]",
    "    mov [rip + {error_code}], rax",
    "    mov rax, [rsp + 40]",
    "    mov [rip + {at}], rax",
    "    inc qword ptr [rip + {count}]",
    "    xor eax, eax",
    "    xchg rax, [rip + {resume}]",
    "    test rax, rax",
    "    jz 2f",
    "    mov [rsp + 40], rax",
    "    jmp 3f",
    "2:  cmp qword ptr [rsp + 24], 2",
    "    je 3f",
    "    cmp qword ptr [rsp + 24], 32",
    "    jae 4f",
    "    hlt", // an exception that nobody expects, with interrupts disabled: the guest ends
    "4:  mov ecx, 0x80b",
    "    xor eax, eax",
    "    xor edx, edx",
    "    wrmsr",
    "3:  pop rdx",
    "    pop rcx",
    "    pop rax",
    "    add rsp, 16",
    "    iretq",
    vector = sym VECTOR,
    error_code = sym ERROR_CODE,
    at = sym RIP,
    count = sym COUNT,
    resume = sym RESUME,
);

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// Its vector.
    pub vector: u64,
    /// Its error code, 0 for those that have none.
    pub error_code: u64,
    /// Where it came.
    pub rip: u64,
}

/// How many exceptions and interrupts have come.
pub fn count() -> u64 {
    COUNT.load(Ordering::SeqCst)
}

/// The last one.
pub fn last() -> Trap {
    Trap {
        vector: VECTOR.load(Ordering::SeqCst),
        error_code: ERROR_CODE.load(Ordering::SeqCst),
        rip: RIP.load(Ordering::SeqCst),
    }
}

/// Lets all exceptions and interrupts enter here.
pub fn install() {
    unsafe extern "C" {
        static trap_stubs: u8;
    }
    #[repr(C, packed)]
    struct TableRegister {
        limit: u16,
        base: u64,
    }
    /// Between the page tables that the guest was started with and itself.
    const TABLE: usize = 0x3_0000;
    const PRESENT_INTERRUPT_GATE: u64 = 0x8e << 40;
    for vector in 0..256 {
        let entry = (&raw const trap_stubs).addr() as u64 + vector as u64 * STUB;
        let low = entry & 0xffff | CODE_SELECTOR << 16 | PRESENT_INTERRUPT_GATE | (entry >> 16 & 0xffff) << 48;
        // SAFETY: memory that nothing else is in.
        unsafe { ((TABLE + vector * 16) as *mut [u64; 2]).write_volatile([low, entry >> 32]) };
    }
    let register = TableRegister { limit: 4095, base: TABLE as u64 };
    // SAFETY: every entry leads to a stub.
    unsafe { asm!("lidt [{}]", in(reg) &register, options(nostack, preserves_flags)) };
}

/// Runs an instruction that may raise an exception: `Some` with vector, error code and how far behind the instruction's
/// beginning it came, `None` when none came. Operands are those of `asm!`.
#[macro_export]
macro_rules! attempt {
    ($instruction:literal $(, $($operands:tt)*)?) => {{
        let start: u64;
        // SAFETY: behind the instruction execution goes on in any case, and what it does is the caller's wish.
        unsafe {
            core::arch::asm!(
                "lea {start}, [rip + 21f]",
                "mov [rip + {resume}], {start}",
                "lea {start}, [rip + 20f]",
                "20:",
                $instruction,
                "21:",
                start = out(reg) start,
                resume = sym $crate::traps::RESUME,
                $($($operands)*)?
            );
        }
        $crate::traps::outcome(start)
    }};
}

/// What an [`attempt`] came to that began at an address.
pub fn outcome(start: u64) -> Option<(u64, u64, u64)> {
    let came = RESUME.swap(0, Ordering::SeqCst) == 0;
    let Trap { vector, error_code, rip } = last();
    came.then_some((vector, error_code, rip.wrapping_sub(start)))
}
