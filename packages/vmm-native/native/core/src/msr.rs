//! Which model-specific registers guests have, and what they do (manual, appendix A; for 4b56_4d00, Linux's
//! Documentation/virt/kvm/x86/msr.rst). All others raise #GP(0).

use crate::lapic::{Effect, FIRST_MSR, GeneralProtection, LAST_MSR};
use crate::machine::{Host, Machine};
use crate::permissions::MsrPermissionMap;
use crate::processor::Processor;
use crate::start::efer;

const TSC: u32 = 0x10;
const APIC_BASE: u32 = 0x1b;
const PAT: u32 = 0x277;
const TSC_DEADLINE: u32 = 0x6e0;
const EFER: u32 = 0xc000_0080;
const KVM_WALL_CLOCK: u32 = 0x4b56_4d00;
const KVM_SYSTEM_TIME: u32 = 0x4b56_4d01;

/// APIC at its usual address, enabled, in x2APIC mode (16.9.1); whether it is of the first processor is bit 8.
const APIC_BASE_VALUE: u64 = 0xfee0_0000 | 1 << 11 | 1 << 10;
const BOOTSTRAP_PROCESSOR: u64 = 1 << 8;

/// Bits of EFER that guests may set: SCE, LME, LMA, NXE.
const EFER_BITS: u64 = 1 << 0 | efer::LME | efer::LMA | 1 << 11;

/// Registers that read as a constant, and take any value without effect.
const CONSTANTS: [(u32, u64); 19] = [
    (0x0000_008b, 0), // PATCH_LEVEL: no microcode
    (0x0000_00fe, 0), // MTRRcap: there are none
    (0x0000_0179, 0), // MCG_CAP: no banks
    (0x0000_017a, 0), // MCG_STATUS
    (0x0000_01a0, 0), // MISC_ENABLE, which Linux looks at
    (0x0000_02ff, 0), // MTRRdefType
    (0xc000_0103, 0), // TSC_AUX: without RDTSCP it has no use
    (0xc001_0000, 0), // PERF_CTL0 to 3 and PERF_CTR0 to 3: Linux tries whether they keep what it writes
    (0xc001_0001, 0),
    (0xc001_0002, 0),
    (0xc001_0003, 0),
    (0xc001_0004, 0),
    (0xc001_0005, 0),
    (0xc001_0006, 0),
    (0xc001_0007, 0),
    (0xc001_0010, 0),       // SYSCFG
    (0xc001_0015, 1 << 24), // HWCR: the TSC counts with the frequency of P0
    (0xc001_001f, 0),       // NB_CFG
    (0xc001_1029, 1 << 1),  // DE_CFG: LFENCE is serialising
];

/// Registers that VMLOAD and VMSAVE switch, or VMRUN does: SYSENTER, FS, GS, KernelGS, STAR, LSTAR, CSTAR, SFMASK.
pub const PERMISSIONS: MsrPermissionMap = MsrPermissionMap::ALL_EXIT
    .pass_through(0x174)
    .pass_through(0x175)
    .pass_through(0x176)
    .pass_through(0xc000_0081)
    .pass_through(0xc000_0082)
    .pass_through(0xc000_0083)
    .pass_through(0xc000_0084)
    .pass_through(0xc000_0100)
    .pass_through(0xc000_0101)
    .pass_through(0xc000_0102);

impl Processor<'_> {
    /// What RDMSR reads.
    pub(crate) fn read_msr(&self, msr: u32, host: &mut impl Host) -> Result<u64, GeneralProtection> {
        Ok(match msr {
            TSC => self.tsc(host),
            APIC_BASE => APIC_BASE_VALUE | if self.identity.id == 0 { BOOTSTRAP_PROCESSOR } else { 0 },
            PAT => self.vmcb.guest_pat(),
            TSC_DEADLINE => self.lapic.deadline(),
            FIRST_MSR..=LAST_MSR => self.lapic.read(msr, self.tsc(host))?,
            EFER => self.vmcb.efer() & !efer::SVME,
            _ => CONSTANTS.iter().find(|(constant, _)| *constant == msr).ok_or(GeneralProtection)?.1,
        })
    }

    /// What WRMSR does.
    pub(crate) fn write_msr(
        &mut self,
        msr: u32,
        value: u64,
        machine: &mut Machine,
        host: &mut impl Host,
    ) -> Result<(), GeneralProtection> {
        match msr {
            TSC => self.vmcb.set_tsc_offset(value.wrapping_sub(host.tsc())),
            // Leaving x2APIC mode is not provided for.
            APIC_BASE if value & !BOOTSTRAP_PROCESSOR == APIC_BASE_VALUE => {}
            PAT if value.to_le_bytes().iter().all(|kind| matches!(kind, 0 | 1 | 4..=7)) => {
                self.vmcb.set_guest_pat(value);
            }
            TSC_DEADLINE => self.lapic.set_deadline(value),
            FIRST_MSR..=LAST_MSR => match self.write_lapic(msr, value, host)? {
                Effect::None => {}
                Effect::EndOfInterrupt(vector) => machine.end_of_interrupt(vector),
                Effect::Send(command) => machine.send(self.identity.id, command),
            },
            EFER => self.write_efer(value)?,
            KVM_WALL_CLOCK => {
                machine.memory.write(value, &machine.clock.wall_clock()).map_err(|_| GeneralProtection)?;
            }
            KVM_SYSTEM_TIME => {
                const ENABLED: u64 = 1 << 0;
                if value & ENABLED != 0 {
                    let time = machine.clock.system_time(host.tsc(), self.vmcb.tsc_offset());
                    machine.memory.write(value & !ENABLED, &time).map_err(|_| GeneralProtection)?;
                }
            }
            _ if CONSTANTS.iter().any(|(constant, _)| *constant == msr) => {}
            _ => return Err(GeneralProtection),
        }
        Ok(())
    }

    /// The time stamp counter as the guest reads it.
    fn tsc(&self, host: &mut impl Host) -> u64 {
        host.tsc().wrapping_add(self.vmcb.tsc_offset())
    }

    fn write_lapic(&mut self, msr: u32, value: u64, host: &mut impl Host) -> Result<Effect, GeneralProtection> {
        let now = self.tsc(host);
        self.lapic.write(msr, value, now)
    }

    /// 3.1.7: LME cannot change while paging is on, LMA cannot be written; 15.5.1: VMRUN wants SVME.
    fn write_efer(&mut self, value: u64) -> Result<(), GeneralProtection> {
        const PAGING: u64 = 1 << 31;
        let old = self.vmcb.efer();
        if value & !EFER_BITS != 0 || (self.vmcb.cr0() & PAGING != 0 && (value ^ old) & efer::LME != 0) {
            return Err(GeneralProtection);
        }
        self.vmcb.set_efer(value & !efer::LMA | old & efer::LMA | efer::SVME);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processor::testing::{TestGuest, guest};

    fn read(guest: &mut TestGuest, msr: u32) -> Result<u64, GeneralProtection> {
        guest.processor.read_msr(msr, &mut guest.host)
    }

    fn write(guest: &mut TestGuest, msr: u32, value: u64) -> Result<(), GeneralProtection> {
        guest.processor.write_msr(msr, value, &mut guest.machine, &mut guest.host)
    }

    #[test]
    fn the_virtual_machine_extension_of_efer_is_neither_seen_nor_lost() {
        let mut guest = guest(1);
        write(&mut guest, EFER, efer::LME | 1 << 11).unwrap();
        assert_eq!(read(&mut guest, EFER), Ok(efer::LME | 1 << 11));
        assert_eq!(guest.processor.vmcb.efer(), efer::LME | 1 << 11 | efer::SVME);
        assert_eq!(write(&mut guest, EFER, efer::SVME), Err(GeneralProtection));
        guest.processor.vmcb.set_cr0(1 << 31);
        assert_eq!(write(&mut guest, EFER, 0), Err(GeneralProtection), "paging is on");
    }

    #[test]
    fn the_time_stamp_counter_is_what_was_written_and_counts_on() {
        let mut guest = guest(1);
        guest.host.now = 5000;
        write(&mut guest, TSC, 7).unwrap();
        guest.host.now = 5100;
        assert_eq!(read(&mut guest, TSC), Ok(107));
    }

    #[test]
    fn timers_and_clocks_go_by_the_counter_that_was_written() {
        let mut guest = guest(1);
        guest.host.now = 5000;
        write(&mut guest, TSC, u64::MAX - 10).unwrap();
        write(&mut guest, 0x80b + 4, 0x1ff).unwrap();
        write(&mut guest, 0x832, 0x40).unwrap();
        write(&mut guest, 0x83e, 0xb).unwrap();
        write(&mut guest, 0x838, 7).unwrap();
        assert_eq!(guest.processor.wakes_at(), Some(5007));
        write(&mut guest, KVM_SYSTEM_TIME, 0x3000 | 1).unwrap();
        assert_eq!(
            (guest.machine.memory.read_u64(0x3008), guest.machine.memory.read_u64(0x3010)),
            (Ok(u64::MAX - 10), Ok(5000))
        );
    }

    #[test]
    fn clocks_are_written_to_memory_and_nowhere_else() {
        let mut guest = guest(1);
        guest.host.now = 3_000_000_000;
        write(&mut guest, KVM_SYSTEM_TIME, 0x3000 | 1).unwrap();
        assert_eq!(guest.machine.memory.read_u64(0x3010), Ok(3_000_000_000));
        write(&mut guest, KVM_WALL_CLOCK, 0x3100).unwrap();
        assert_eq!(guest.machine.memory.read_u64(0x3100), Ok(2));
        assert_eq!(write(&mut guest, KVM_SYSTEM_TIME, u64::MAX), Err(GeneralProtection));
        assert_eq!(write(&mut guest, KVM_SYSTEM_TIME, 0), Ok(()));
    }

    #[test]
    fn memory_types_that_are_none_are_refused() {
        let mut guest = guest(1);
        assert_eq!(write(&mut guest, PAT, 0x0007_0406_0007_0406), Ok(()));
        assert_eq!(write(&mut guest, PAT, 0x0007_0406_0007_0402), Err(GeneralProtection));
        assert_eq!(read(&mut guest, PAT), Ok(0x0007_0406_0007_0406));
    }

    #[test]
    fn no_register_goes_wrong_whatever_is_written() {
        let mut guest = guest(1);
        guest.host.now = u64::MAX / 3;
        for msr in
            (0..0x1000).chain(0x4b56_4d00..0x4b56_4d10).chain(0xc000_0000..0xc000_0200).chain(0xc001_0000..0xc001_2000)
        {
            for value in [0, 1, 0xfff, u64::MAX] {
                let _ = write(&mut guest, msr, value);
                let _ = read(&mut guest, msr);
            }
        }
    }
}
