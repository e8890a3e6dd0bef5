//! AMD-V on this processor: finding it, switching it on, and the switch into a guest and back.

use crate::cpu::{cpuid, rdmsr, wrmsr};
use crate::memory::FreeMemory;
use core::arch::naked_asm;
use core::fmt;
use core::mem::offset_of;
use core::ptr;
use vmm_core::processor::{Registers, register};
use vmm_core::start::efer::SVME;
use vmm_core::vmcb::Vmcb;

const EFER: u32 = 0xc000_0080;
const VM_CR: u32 = 0xc001_0114;
const VM_HSAVE_PA: u32 = 0xc001_0117;
/// Bit of VM_CR: EFER.SVME cannot be set (15.30.1).
const SVMDIS: u64 = 1 << 4;

/// Why guests cannot be run on this processor.
#[derive(Clone, Copy, Debug)]
pub enum Unusable {
    /// CPUID 8000_0001 ECX bit 2 is clear.
    NoSvm,
    /// The firmware has switched AMD-V off: VM_CR.SVMDIS is set.
    Disabled,
    /// CPUID 8000_000A EDX bit 0 is clear.
    NoNestedPaging,
    /// No memory for the host's state.
    NoMemory,
}

impl fmt::Display for Unusable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Unusable::NoSvm => "expected a processor with AMD-V (CPUID 8000_0001 ECX bit 2, SVM), got one without",
            Unusable::Disabled => {
                "expected AMD-V to be allowed, got VM_CR.SVMDIS set: the firmware has switched it off"
            }
            Unusable::NoNestedPaging => "expected nested paging (CPUID 8000_000A EDX bit 0, NP), got AMD-V without it",
            Unusable::NoMemory => "expected memory for the processor's state, got none",
        })
    }
}

#[repr(C, align(4096))]
struct Page([u8; 4096]);

/// A processor that can run guests.
pub struct Svm {
    /// What VMLOAD and VMSAVE load and save, of the host.
    host: &'static mut Vmcb,
}

impl Svm {
    /// Switches AMD-V on (15.4). The descriptors of this processor are loaded and do not change any more.
    pub fn enable(memory: &mut FreeMemory) -> Result<Svm, Unusable> {
        const SVM: u32 = 1 << 2;
        const NESTED_PAGING: u32 = 1 << 0;
        if cpuid(0x8000_0001, 0)[2] & SVM == 0 {
            return Err(Unusable::NoSvm);
        }
        // SAFETY: processors with SVM have the register.
        if unsafe { rdmsr(VM_CR) } & SVMDIS != 0 {
            return Err(Unusable::Disabled);
        }
        if cpuid(0x8000_000a, 0)[3] & NESTED_PAGING == 0 {
            return Err(Unusable::NoNestedPaging);
        }
        let save_area = memory.take(Page([0; 4096])).ok_or(Unusable::NoMemory)?;
        let host = memory.take(Vmcb::new()).ok_or(Unusable::NoMemory)?;
        // SAFETY: processors with SVM have these; the pages are the processor's from here on.
        unsafe {
            wrmsr(EFER, rdmsr(EFER) | SVME);
            wrmsr(VM_HSAVE_PA, ptr::from_ref(save_area).addr() as u64);
            core::arch::asm!("vmsave rax", in("rax") ptr::from_mut(host), options(nostack, preserves_flags));
        }
        Ok(Svm { host })
    }

    /// Runs a guest until it exits. Interrupts for the host make it exit, and have been taken when this returns.
    ///
    /// # Safety
    ///
    /// The block confines the guest: it intercepts what it has to, and its nested tables map nothing but the guest's.
    pub unsafe fn run(&mut self, vmcb: &mut Vmcb, registers: &mut Registers) {
        vmcb.set_rax(registers.general[register::RAX]);
        vmcb.set_rsp(registers.general[register::RSP]);
        // SAFETY: VMRUN may be used, and the caller has taken care of the guest.
        unsafe { switch(ptr::from_mut(vmcb), ptr::from_mut(self.host), ptr::from_mut(registers)) };
        registers.general[register::RAX] = vmcb.rax();
        registers.general[register::RSP] = vmcb.rsp();
    }
}

/// The world switch (15.5): rdi the guest's block, rsi the host's, rdx the guest's registers. A block is its own address.
#[unsafe(naked)]
unsafe extern "sysv64" fn switch(guest: *mut Vmcb, host: *mut Vmcb, registers: *mut Registers) {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rsi",
        "push rdx",
        "mov rax, rdi",
        "fxrstor64 [rdx + {extended}]",
        "mov rcx, [rdx + {general} + 1 * 8]",
        "mov rbx, [rdx + {general} + 3 * 8]",
        "mov rbp, [rdx + {general} + 5 * 8]",
        "mov rsi, [rdx + {general} + 6 * 8]",
        "mov rdi, [rdx + {general} + 7 * 8]",
        "mov r8, [rdx + {general} + 8 * 8]",
        "mov r9, [rdx + {general} + 9 * 8]",
        "mov r10, [rdx + {general} + 10 * 8]",
        "mov r11, [rdx + {general} + 11 * 8]",
        "mov r12, [rdx + {general} + 12 * 8]",
        "mov r13, [rdx + {general} + 13 * 8]",
        "mov r14, [rdx + {general} + 14 * 8]",
        "mov r15, [rdx + {general} + 15 * 8]",
        "mov rdx, [rdx + {general} + 2 * 8]",
        // With V_INTR_MASKING the host's IF decides whether interrupts make the guest exit; GIF keeps them from the
        // host until its own segments are back.
        "clgi",
        "sti",
        "vmload rax",
        "vmrun rax",
        "vmsave rax",
        "push rdx",
        "mov rdx, [rsp + 8]",
        "mov [rdx + {general} + 1 * 8], rcx",
        "pop qword ptr [rdx + {general} + 2 * 8]",
        "mov [rdx + {general} + 3 * 8], rbx",
        "mov [rdx + {general} + 5 * 8], rbp",
        "mov [rdx + {general} + 6 * 8], rsi",
        "mov [rdx + {general} + 7 * 8], rdi",
        "mov [rdx + {general} + 8 * 8], r8",
        "mov [rdx + {general} + 9 * 8], r9",
        "mov [rdx + {general} + 10 * 8], r10",
        "mov [rdx + {general} + 11 * 8], r11",
        "mov [rdx + {general} + 12 * 8], r12",
        "mov [rdx + {general} + 13 * 8], r13",
        "mov [rdx + {general} + 14 * 8], r14",
        "mov [rdx + {general} + 15 * 8], r15",
        "fxsave64 [rdx + {extended}]",
        "ldmxcsr [rip + {mxcsr}]",
        "add rsp, 8",
        "pop rax",
        "vmload rax",
        // The one place where the host takes interrupts, but for when it waits.
        "stgi",
        "nop",
        "cli",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        extended = const offset_of!(Registers, extended),
        general = const offset_of!(Registers, general),
        mxcsr = sym HOST_MXCSR,
    )
}

static HOST_MXCSR: u32 = 0x1f80;
