//! aarch64 with the dot-product instructions: Cortex-A55, A75, A76, A78.

use core::arch::aarch64::*;
use core::arch::asm;

use super::layout::PANEL;
use super::ops::linear::{Accumulators, Int8Tile, TileInput};

/// The instructions are there: see [`Int8Tile`].
#[derive(Clone, Copy)]
pub(super) struct DotProd(pub(super) ());

/// `sum[i] += Σ weights[4i..4i+4] · codes[4·LANE..4·LANE+4]`: SDOT by element, whose intrinsic is not stable yet.
///
/// # Safety
/// The CPU has the dot-product instructions.
#[inline(always)]
unsafe fn sdot<const LANE: usize>(sum: int32x4_t, weights: int8x16_t, codes: int8x16_t) -> int32x4_t {
    let mut sum = sum;
    // SAFETY: the caller's promise; registers only.
    unsafe {
        asm!("sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[{lane}]",
             inout(vreg) sum, in(vreg) weights, in(vreg) codes, lane = const LANE,
             options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

impl Int8Tile for DotProd {
    const ROWS: usize = 6;
    const PANELS: usize = 1;
    const FLIP: u8 = 0;

    #[inline(always)]
    unsafe fn tile<const R: usize, const P: usize>(self, input: &TileInput, out: &mut Accumulators) {
        // A vector of sums holds four channels.
        const QUARTERS: usize = PANEL / 4;
        // SAFETY: `TileInput` promises `groups` groups in each of `R` rows and in the panel.
        unsafe {
            let mut sums = [[vdupq_n_s32(0); QUARTERS]; R];
            macro_rules! group {
                ($group:expr, $lane:literal, $codes:expr) => {
                    for quarter in 0..QUARTERS {
                        let weights = vld1q_s8(input.panel.add(($group * PANEL + quarter * 4) * 4));
                        for (sums, codes) in sums.iter_mut().zip($codes) {
                            sums[quarter] = sdot::<$lane>(sums[quarter], weights, codes);
                        }
                    }
                };
            }
            let mut group = 0;
            while group + 4 <= input.groups {
                let mut codes = [vdupq_n_s8(0); R];
                for (row, codes) in codes.iter_mut().enumerate() {
                    *codes = vld1q_s8(input.codes.add(row * input.stride + group * 4).cast());
                }
                group!(group, 0, codes);
                group!(group + 1, 1, codes);
                group!(group + 2, 2, codes);
                group!(group + 3, 3, codes);
                group += 4;
            }
            while group < input.groups {
                let mut codes = [vdupq_n_s8(0); R];
                for (row, codes) in codes.iter_mut().enumerate() {
                    let four = input.codes.add(row * input.stride + group * 4).cast::<i32>().read_unaligned();
                    *codes = vreinterpretq_s8_s32(vdupq_n_s32(four));
                }
                group!(group, 0, codes);
                group += 1;
            }
            for (sums, out) in sums.iter().zip(out.iter_mut()) {
                for (sum, out) in sums.iter().zip(out[0].as_chunks_mut::<4>().0) {
                    vst1q_s32(out.as_mut_ptr(), *sum);
                }
            }
        }
    }
}
