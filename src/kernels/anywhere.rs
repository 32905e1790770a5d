//! Vectors of aarch64 from any place in memory, and to any.
//!
//! Rust's targets without a system keep every access to its type's alignment: there the intrinsics become sixteen accesses of
//! a byte. The kernels' memory is normal memory, which takes vectors anywhere, so on those targets the instructions stand here;
//! elsewhere the compiler chooses them.

use core::arch::aarch64::*;
#[cfg(target_os = "none")]
use core::arch::asm;

/// Sixteen bytes.
///
/// # Safety
/// They may be read.
#[inline(always)]
pub(super) unsafe fn load<T>(from: *const T) -> uint8x16_t {
    // SAFETY: the caller's promise; NEON is part of aarch64.
    unsafe {
        #[cfg(target_os = "none")]
        {
            let v;
            asm!("ldr {0:q}, [{1}]", out(vreg) v, in(reg) from,
                 options(pure, readonly, nostack, preserves_flags));
            v
        }
        #[cfg(not(target_os = "none"))]
        vld1q_u8(from.cast())
    }
}

/// Four times sixteen bytes.
///
/// # Safety
/// They may be read.
#[inline(always)]
pub(super) unsafe fn load_four<T>(from: *const T) -> [uint8x16_t; 4] {
    // SAFETY: the caller's promise; NEON is part of aarch64.
    unsafe {
        #[cfg(target_os = "none")]
        {
            let (a, b, c, d);
            asm!("ldp {0:q}, {1:q}, [{4}]", "ldp {2:q}, {3:q}, [{4}, #32]",
                 out(vreg) a, out(vreg) b, out(vreg) c, out(vreg) d, in(reg) from,
                 options(pure, readonly, nostack, preserves_flags));
            [a, b, c, d]
        }
        #[cfg(not(target_os = "none"))]
        {
            let from = from.cast::<u8>();
            [vld1q_u8(from), vld1q_u8(from.add(16)), vld1q_u8(from.add(32)), vld1q_u8(from.add(48))]
        }
    }
}

/// Stores sixteen bytes.
///
/// # Safety
/// They may be written.
#[inline(always)]
pub(super) unsafe fn store<T>(v: uint8x16_t, to: *mut T) {
    // SAFETY: the caller's promise; NEON is part of aarch64.
    unsafe {
        #[cfg(target_os = "none")]
        asm!("str {0:q}, [{1}]", in(vreg) v, in(reg) to, options(nostack, preserves_flags));
        #[cfg(not(target_os = "none"))]
        vst1q_u8(to.cast(), v);
    }
}

/// Stores four times sixteen bytes.
///
/// # Safety
/// They may be written.
#[inline(always)]
pub(super) unsafe fn store_four<T>(v: [uint8x16_t; 4], to: *mut T) {
    // SAFETY: the caller's promise; NEON is part of aarch64.
    unsafe {
        #[cfg(target_os = "none")]
        asm!("stp {0:q}, {1:q}, [{4}]", "stp {2:q}, {3:q}, [{4}, #32]",
             in(vreg) v[0], in(vreg) v[1], in(vreg) v[2], in(vreg) v[3], in(reg) to,
             options(nostack, preserves_flags));
        #[cfg(not(target_os = "none"))]
        {
            let to = to.cast::<u8>();
            vst1q_u8(to, v[0]);
            vst1q_u8(to.add(16), v[1]);
            vst1q_u8(to.add(32), v[2]);
            vst1q_u8(to.add(48), v[3]);
        }
    }
}
