//! Whether this processor refuses the control blocks that the manual says it does (15.5.1), rule by rule.

use crate::apic::Apic;
use crate::cpu::cpuid;
use crate::log::{Quoted, event};
use crate::memory::FreeMemory;
use crate::svm::Svm;
use crate::time::Frequencies;
use core::ptr;
use vmm_core::blocks::BLOCK;
use vmm_core::clock::Clock;
use vmm_core::consistency::{Capabilities, Rule, broken};
use vmm_core::cpuid::Identity;
use vmm_core::exit::Exit;
use vmm_core::mailbox::Mailbox;
use vmm_core::memory::GuestMemory;
use vmm_core::msr;
use vmm_core::npt::{Access, NestedPageTables, Table, TableArray};
use vmm_core::permissions::IoPermissionMap;
use vmm_core::processor::{Confinement, Processor};
use vmm_core::start::enter_long_mode;
use vmm_core::vmcb::Vmcb;

const MEMORY: u64 = BLOCK;
const NESTED_TABLES: usize = 4;
const START: u64 = 1 << 20;
/// HLT, which ends a guest that was not refused.
const PROGRAM: &[u8] = &[0xf4];
/// How long a guest that was not refused may run, in microseconds.
const LIMIT: u64 = 20_000;

/// Runs guests in the block of memory at `base`: tries a block that keeps every rule, and for each rule one that breaks it alone; says what came of it. `None` when there
/// is not enough memory.
pub fn run(memory: &mut FreeMemory, base: u64, svm: &mut Svm, apic: &mut Apic, frequencies: Frequencies) -> Option<()> {
    // SAFETY: a block that was taken for this, and that nothing of the host refers to.
    let mut guest_memory = unsafe { GuestMemory::new(base as *mut u8, MEMORY) };
    let tables = memory.take_all(NESTED_TABLES, |_, _| Some(Table::EMPTY))?;
    let tables_base = tables.as_ptr().addr() as u64;
    let mut nested = NestedPageTables::new(TableArray::new(tables, tables_base))?;
    nested.map(0, base, MEMORY, Access::Full).ok()?;
    let confinement = Confinement {
        nested_cr3: nested.root(),
        iopm: ptr::from_ref(memory.take(IoPermissionMap::ALL_EXIT)?).addr() as u64,
        msrpm: ptr::from_ref(memory.take(msr::PERMISSIONS)?).addr() as u64,
        asid: 1,
    };
    let vmcb = memory.take(Vmcb::new())?;
    let mailbox = Mailbox::new();
    let clock = Clock::new(0, frequencies.tsc, 0);
    let identity = Identity { id: 0, processors: 1 };
    let capabilities = Capabilities::from_cpuid(cpuid);
    for rule in [None].into_iter().chain(Rule::ALL.iter().copied().map(Some)) {
        // A refused VMRUN leaves nothing that could be used again.
        let mut processor = Processor::new(vmcb, confinement, identity, &mailbox, &clock);
        guest_memory.write(START, PROGRAM).ok()?;
        enter_long_mode(processor.vmcb, &mut processor.registers, &mut guest_memory, START).ok()?;
        let _ = processor.prepare(0);
        let broken = match rule {
            Some(rule) if !rule.violate(processor.vmcb, &capabilities) => continue,
            _ => broken(processor.vmcb, &capabilities).count(),
        };
        apic.fire_after(frequencies.apic_ticks(frequencies.tsc / 1_000_000 * LIMIT));
        // SAFETY: the block confines the guest, whichever rule it breaks: what is changed neither lets it reach memory
        // that is not mapped nor keeps it from exiting.
        unsafe { svm.run(processor.vmcb, &mut processor.registers) };
        let exit = Exit::decode(processor.vmcb);
        let name = rule.map_or("none", Rule::name);
        let refused = exit == Exit::Invalid;
        event!("checked", r#""rule":"{}","broken":{},"refused":{},"exit":{}"#, name, broken, refused, Quoted(exit));
    }
    event!("tested");
    Some(())
}
