//! What the CPU can do.

#[cfg(target_arch = "x86_64")]
pub(super) use x86::*;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::{__cpuid_count, _xgetbv};

    /// Bits `bits` of the given register of CPUID `leaf`, sub-leaf 0.
    fn cpuid(leaf: u32, register: fn(core::arch::x86_64::CpuidResult) -> u32, bits: u32) -> bool {
        __cpuid_count(0, 0).eax >= leaf && register(__cpuid_count(leaf, 0)) & bits == bits
    }

    /// Whether the operating system saves the register states in `mask` (XCR0).
    fn saved(mask: u64) -> bool {
        const OSXSAVE: u32 = 1 << 27;
        #[target_feature(enable = "xsave")]
        fn xcr0() -> u64 {
            // SAFETY: register 0 exists wherever XGETBV does.
            unsafe { _xgetbv(0) }
        }
        // SAFETY: OSXSAVE says that XGETBV may be used.
        cpuid(1, |r| r.ecx, OSXSAVE) && unsafe { xcr0() } & mask == mask
    }

    pub(crate) fn has_avx2() -> bool {
        const FMA_F16C: u32 = 1 << 12 | 1 << 29;
        const AVX2: u32 = 1 << 5;
        const XMM_YMM: u64 = 0b110;
        cpuid(1, |r| r.ecx, FMA_F16C) && cpuid(7, |r| r.ebx, AVX2) && saved(XMM_YMM)
    }

    pub(crate) fn has_avx512vnni() -> bool {
        const F_DQ_BW_VL: u32 = 1 << 16 | 1 << 17 | 1 << 30 | 1 << 31;
        const VNNI: u32 = 1 << 11;
        const XMM_YMM_ZMM: u64 = 0b1110_0110;
        has_avx2() && cpuid(7, |r| r.ebx, F_DQ_BW_VL) && cpuid(7, |r| r.ecx, VNNI) && saved(XMM_YMM_ZMM)
    }

    pub(crate) fn has_crc32() -> bool {
        const SSE4_2: u32 = 1 << 20;
        cpuid(1, |r| r.ecx, SSE4_2)
    }
}

#[cfg(target_arch = "aarch64")]
pub(super) use arm::*;

#[cfg(target_arch = "aarch64")]
mod arm {
    /// Without an operating system the ID register is ours to read; with one we ask it.
    #[cfg(not(feature = "std"))]
    fn isar0() -> u64 {
        if !cfg!(target_os = "none") {
            return 0;
        }
        let value: u64;
        // SAFETY: reads an identification register; on bare metal we run at EL1 or above.
        unsafe {
            core::arch::asm!("mrs {}, ID_AA64ISAR0_EL1", out(reg) value,
                options(pure, nomem, nostack, preserves_flags));
        }
        value
    }

    /// ID_AA64ISAR1_EL1, likewise.
    #[cfg(not(feature = "std"))]
    fn isar1() -> u64 {
        if !cfg!(target_os = "none") {
            return 0;
        }
        let value: u64;
        // SAFETY: as above.
        unsafe {
            core::arch::asm!("mrs {}, ID_AA64ISAR1_EL1", out(reg) value,
                options(pure, nomem, nostack, preserves_flags));
        }
        value
    }

    #[cfg(feature = "std")]
    pub(crate) fn has_i8mm() -> bool {
        std::arch::is_aarch64_feature_detected!("i8mm")
    }
    #[cfg(feature = "std")]
    pub(crate) fn has_dotprod() -> bool {
        std::arch::is_aarch64_feature_detected!("dotprod")
    }
    #[cfg(feature = "std")]
    pub(crate) fn has_crc32() -> bool {
        std::arch::is_aarch64_feature_detected!("crc")
    }
    #[cfg(not(feature = "std"))]
    pub(crate) fn has_i8mm() -> bool {
        isar1() >> 52 & 0xf != 0
    }
    #[cfg(not(feature = "std"))]
    pub(crate) fn has_dotprod() -> bool {
        isar0() >> 44 & 0xf != 0
    }
    #[cfg(not(feature = "std"))]
    pub(crate) fn has_crc32() -> bool {
        isar0() >> 16 & 0xf != 0
    }
}
