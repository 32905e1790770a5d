//! What the CPU can do.

#[cfg(target_arch = "x86_64")]
pub(super) use x86::*;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::{__cpuid_count, _xgetbv, CpuidResult};
    use core::sync::atomic::{AtomicU8, Ordering};

    #[cfg(all(target_os = "linux", feature = "std"))]
    use crate::kernels::error::KernelError;

    /// Bits `bits` of the given register of CPUID `leaf`, sub-leaf 0.
    fn cpuid(leaf: u32, register: fn(CpuidResult) -> u32, bits: u32) -> bool {
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
        !cfg!(miri) && cpuid(1, |r| r.ecx, FMA_F16C) && cpuid(7, |r| r.ebx, AVX2) && saved(XMM_YMM)
    }

    pub(crate) fn has_avxvnni() -> bool {
        const VNNI: u32 = 1 << 4;
        // Sub-leaf 1, where sub-leaf 0 says that there is one.
        let leaf_7 = |sub_leaf| __cpuid_count(7, sub_leaf).eax;
        has_avx2() && leaf_7(0) >= 1 && leaf_7(1) & VNNI == VNNI
    }

    pub(crate) fn has_avx512vnni() -> bool {
        const F_DQ_BW_VL: u32 = 1 << 16 | 1 << 17 | 1 << 30 | 1 << 31;
        const VNNI: u32 = 1 << 11;
        const XMM_YMM_ZMM: u64 = 0b1110_0110;
        has_avx2() && cpuid(7, |r| r.ebx, F_DQ_BW_VL) && cpuid(7, |r| r.ecx, VNNI) && saved(XMM_YMM_ZMM)
    }

    /// Whether there are AMX tiles of int8, and an operating system that saves them.
    #[cfg(all(target_os = "linux", feature = "std"))]
    pub(crate) fn has_amx() -> bool {
        const TILE_INT8: u32 = 1 << 24 | 1 << 25;
        const TILES: u64 = 0b11 << 17;
        has_avx512vnni() && cpuid(7, |r| r.edx, TILE_INT8) && saved(TILES)
    }

    /// Whether this process may use the tiles' registers, which the CPU has: Linux is asked for them, once.
    #[cfg(all(target_os = "linux", feature = "std"))]
    pub(crate) fn tiles_granted() -> Result<(), KernelError> {
        static ANSWER: std::sync::OnceLock<Result<(), KernelError>> = std::sync::OnceLock::new();
        *ANSWER.get_or_init(|| {
            const ARCH_PRCTL: i64 = 158;
            const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
            const XFEATURE_XTILEDATA: i64 = 18;
            let mut result = ARCH_PRCTL;
            // SAFETY: the call gives a permission and changes no memory; the registers that it changes are named.
            unsafe {
                core::arch::asm!(
                    "syscall", inout("rax") result, in("rdi") ARCH_REQ_XCOMP_PERM, in("rsi") XFEATURE_XTILEDATA,
                    out("rcx") _, out("r11") _, options(nostack),
                );
            }
            if result == 0 { Ok(()) } else { Err(KernelError::Refused) }
        })
    }

    /// Asked for with every few bytes, so the answer is kept: a virtual machine's CPUID leaves the machine.
    #[inline]
    pub(crate) fn has_crc32() -> bool {
        const SSE4_2: u32 = 1 << 20;
        const UNKNOWN: u8 = 2;
        static KNOWN: AtomicU8 = AtomicU8::new(UNKNOWN);
        match KNOWN.load(Ordering::Relaxed) {
            UNKNOWN => {
                let found = !cfg!(miri) && cpuid(1, |r| r.ecx, SSE4_2);
                KNOWN.store(found.into(), Ordering::Relaxed);
                found
            }
            known => known != 0,
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub(super) use arm::*;

#[cfg(target_arch = "aarch64")]
mod arm {
    /// Whether the CPU has `$feature`: the operating system is asked. Without one nobody can be: the identification registers
    /// are EL1's, and nothing says where we run. Then what the build was told (`-C target-cpu`, `-C target-feature`) counts.
    macro_rules! has {
        ($name:ident, $feature:tt) => {
            pub(crate) fn $name() -> bool {
                #[cfg(feature = "std")]
                return std::arch::is_aarch64_feature_detected!($feature);
                #[cfg(not(feature = "std"))]
                return cfg!(target_feature = $feature);
            }
        };
    }

    #[cfg(feature = "i8mm")]
    has!(has_i8mm, "i8mm");
    #[cfg(feature = "dotprod")]
    has!(has_dotprod, "dotprod");
    has!(has_crc32, "crc");
}
