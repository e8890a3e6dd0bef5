//! What guests are told about their processor (manual, volume 3, appendix E; for 0x4000_0000, Linux's
//! Documentation/virt/kvm/x86/cpuid.rst).
//!
//! Features are those of the host that are listed here and no others: a feature that nobody has looked at is none.

/// What of a guest's processor the answers depend on.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// APIC id.
    pub id: u32,
    /// How many processors the guest has.
    pub processors: u32,
}

const MAX_STANDARD: u32 = 0xb;
const MAX_HYPERVISOR: u32 = 0x4000_0001;
const MAX_EXTENDED: u32 = 0x8000_0008;

/// "AuthenticAMD" in the order EBX, EDX, ECX.
const VENDOR: [u32; 3] = [0x6874_7541, 0x6974_6e65, 0x444d_4163];
/// "KVMKVMKVM": Linux takes x2APIC without interrupt remapping, and the clock's frequency, from KVM only.
const HYPERVISOR: [u32; 3] = [0x4b4d_564b, 0x564b_4d56, 0x4d];
/// Family 17h, model 1, stepping 2: older families have errata that Linux works around.
const SIGNATURE: u32 = 0x0080_0f12;
const NAME: &[u8; 48] = b"leveret virtual processor\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// Features of function 1.
mod standard {
    pub const X2APIC: u32 = 1 << 21;
    pub const TSC_DEADLINE: u32 = 1 << 24;
    pub const HYPERVISOR: u32 = 1 << 31;
    /// SSE3, PCLMULQDQ, SSSE3, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, RDRAND.
    ///
    /// Not CMPXCHG16B: QEMU 7.2 gets it wrong as Linux 6.12 uses it. Not XSAVE and what builds on it: XCR0 would have to
    /// be switched, and QEMU 7.2 does not intercept XSETBV.
    pub const ECX: u32 = 1 << 0 | 1 << 1 | 1 << 9 | 1 << 19 | 1 << 20 | 1 << 22 | 1 << 23 | 1 << 25 | 1 << 30;
    /// FPU, DE, PSE, TSC, MSR, PAE, CMPXCHG8B, APIC, SYSENTER, PGE, CMOV, PAT, PSE36, CLFLUSH, MMX, FXSR, SSE, SSE2. Not
    /// VME, which is for 16-bit tasks, machine checks and MTRRs.
    pub const EDX: u32 = 0x078b_ab7d;
}

/// Features of function 7: FSGSBASE, SMEP, SMAP, RDSEED, ADX, CLFLUSHOPT.
const STRUCTURED_EBX: u32 = 1 << 0 | 1 << 7 | 1 << 18 | 1 << 19 | 1 << 20 | 1 << 23;

/// Features of function 8000_0001.
mod extended {
    /// LAHF in 64-bit mode, LZCNT, SSE4A, PREFETCHW. Not SVM.
    pub const ECX: u32 = 1 << 0 | 1 << 5 | 1 << 6 | 1 << 8;
    /// What function 1 has in the same bits, and SYSCALL, NX, MMX extensions, 1 GiB pages, long mode. Not
    /// RDTSCP: its register would have to be switched.
    pub const EDX: u32 = super::standard::EDX & 0x0183_f3ff | 1 << 11 | 1 << 20 | 1 << 22 | 1 << 26 | 1 << 29;
}

/// Features of function 4000_0001: no delay after port accesses, clock by registers 4b56_4d00 and 1, which is stable.
const HYPERVISOR_FEATURES: u32 = 1 << 1 | 1 << 3 | 1 << 24;
const INVARIANT_TSC: u32 = 1 << 8;

/// EAX, EBX, ECX and EDX of a function; `host` answers for the host.
pub fn answer(function: u32, index: u32, guest: Identity, host: impl Fn(u32, u32) -> [u32; 4]) -> [u32; 4] {
    let [vendor_b, vendor_d, vendor_c] = VENDOR;
    match (function, index) {
        (0, _) => [MAX_STANDARD, vendor_b, vendor_c, vendor_d],
        (1, _) => {
            const CACHE_LINE: u32 = 8; // in 8 bytes
            let [_, _, c, d] = host(1, 0);
            let c = c & standard::ECX | standard::X2APIC | standard::TSC_DEADLINE | standard::HYPERVISOR;
            [SIGNATURE, guest.id << 24 | guest.processors << 16 | CACHE_LINE << 8, c, d & standard::EDX]
        }
        (7, 0) => [0, host(7, 0)[1] & STRUCTURED_EBX, 0, 0],
        (0xb, 0) => [0, 1, 1 << 8, guest.id],
        (0xb, 1) => [guest.processors.next_power_of_two().ilog2(), guest.processors, 2 << 8 | 1, guest.id],
        (0xb, _) => [0, 0, index & 0xff, guest.id],
        (0x4000_0000, _) => [MAX_HYPERVISOR, HYPERVISOR[0], HYPERVISOR[1], HYPERVISOR[2]],
        (0x4000_0001, _) => [HYPERVISOR_FEATURES, 0, 0, 0],
        (0x8000_0000, _) => [MAX_EXTENDED, vendor_b, vendor_c, vendor_d],
        (0x8000_0001, _) => {
            let [_, _, c, d] = host(0x8000_0001, 0);
            [SIGNATURE, 0, c & extended::ECX, d & extended::EDX]
        }
        (0x8000_0002..=0x8000_0004, _) => {
            let at = (function - 0x8000_0002) as usize * 16;
            [0, 4, 8, 12].map(|word| u32::from_le_bytes(*NAME[at + word..].first_chunk().expect("48 bytes")))
        }
        (0x8000_0005 | 0x8000_0006, _) => host(function, 0),
        (0x8000_0007, _) => [0, 0, 0, INVARIANT_TSC],
        (0x8000_0008, _) => [host(0x8000_0008, 0)[0] & 0xffff, 0, guest.processors - 1, 0],
        _ => [0; 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: Identity = Identity { id: 2, processors: 3 };

    fn everything(_: u32, _: u32) -> [u32; 4] {
        [u32::MAX; 4]
    }

    #[test]
    fn the_vendor_and_the_hypervisor_are_text() {
        let text = |[_, b, c, d]: [u32; 4], order: [usize; 3]| {
            let words = [b, c, d];
            order.map(|index| words[index].to_le_bytes()).concat()
        };
        assert_eq!(text(answer(0, 0, GUEST, everything), [0, 2, 1]), b"AuthenticAMD");
        assert_eq!(text(answer(0x4000_0000, 0, GUEST, everything), [0, 1, 2]), b"KVMKVMKVM\0\0\0");
    }

    #[test]
    fn no_feature_is_there_that_the_host_has_not() {
        let host = |_: u32, _: u32| [0; 4];
        assert_eq!(answer(1, 0, GUEST, host)[3], 0);
        assert_eq!(answer(7, 0, GUEST, host), [0; 4]);
        assert_eq!(answer(0x8000_0001, 0, GUEST, host)[2..], [0, 0]);
    }

    #[test]
    fn features_that_guests_must_not_have_are_hidden() {
        let [_, _, c, d] = answer(1, 0, GUEST, everything);
        // MONITOR, CMPXCHG16B, XSAVE, OSXSAVE, AVX; MCE, MTRR, MCA.
        assert_eq!(c & (1 << 3 | 1 << 13 | 1 << 26 | 1 << 27 | 1 << 28), 0);
        assert_eq!(d & (1 << 7 | 1 << 12 | 1 << 14), 0);
        assert_ne!(d & 1 << 9, 0, "there is an APIC");
        let [_, _, c, d] = answer(0x8000_0001, 0, GUEST, everything);
        assert_eq!((c & 1 << 2, d & 1 << 27), (0, 0), "SVM, RDTSCP");
        assert_eq!(d & 0x2010_0800, 0x2010_0800, "long mode, NX, SYSCALL");
        assert_eq!(answer(0x8000_000a, 0, GUEST, everything), [0; 4]);
        assert_eq!(answer(0xd, 0, GUEST, everything), [0; 4]);
    }

    #[test]
    fn ids_and_counts_agree_wherever_they_are() {
        assert_eq!(answer(1, 0, GUEST, everything)[1], 0x0203_0800);
        assert_eq!(answer(0xb, 1, GUEST, everything), [2, 3, 0x201, 2]);
        assert_eq!(answer(0x8000_0008, 0, GUEST, everything)[2], 2);
    }
}
