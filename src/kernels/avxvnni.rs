//! x86-64 with AVX-VNNI: byte products by `vpdpbusd` in 256-bit registers, of which there are sixteen. Everything else is AVX2's.

use core::arch::x86_64::*;

use super::layout::PANEL;
use super::ops::tile::{Accumulators, Ahead, Int8Tile, TileInput};

/// The instructions are there: see [`Simd`](super::simd::Simd).
#[derive(Clone, Copy)]
pub(super) struct AvxVnni(pub(super) ());

/// Vectors of a panel's channels.
const HALVES: usize = 2;
/// Bytes of a vector.
const VECTOR: usize = 32;

/// The sums of `R` rows for one panel, which begins at `panel`: for each row its two vectors of eight channels, from `sums` on.
/// Prefetches `ahead`.
///
/// # Safety
/// The CPU has the instructions; `input` describes readable memory for `R` rows, `panel` has its groups.
#[inline]
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn add_panel<const R: usize>(
    input: &TileInput,
    panel: *const i8,
    ahead: Ahead,
    sums: &mut [[__m256i; HALVES]; R],
) {
    for group in 0..input.groups {
        ahead.lines(group, 1, |line| _mm_prefetch::<_MM_HINT_T0>(line));
        // SAFETY: the caller's promise: the panel and each row have the group.
        unsafe {
            let weights = panel.add(group * 4 * PANEL);
            let weights =
                [_mm256_loadu_si256(weights.cast()), _mm256_loadu_si256(weights.add(VECTOR).cast())];
            for (row, sums) in sums.iter_mut().enumerate() {
                let four = input.codes.add(row * input.stride + group * 4).cast::<i32>().read_unaligned();
                let codes = _mm256_set1_epi32(four);
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = _mm256_dpbusd_avx_epi32(*sum, codes, weights);
                }
            }
        }
    }
}

impl Int8Tile for AvxVnni {
    const FETCHES: bool = true;
    // Twelve sums, two vectors of weights, one of codes.
    const ROWS: usize = 6;
    const PANELS: usize = 2;
    const FLIP: u8 = 0x80;

    #[inline(always)]
    unsafe fn tile<const R: usize, const P: usize>(self, input: &TileInput, out: &mut Accumulators) {
        for panel in 0..P {
            // SAFETY: an `AvxVnni` exists only where the CPU has the instructions; `TileInput` promises `groups` groups in each of
            // `R` rows and `P` panels.
            unsafe {
                let mut sums = [[_mm256_setzero_si256(); HALVES]; R];
                let weights = input.sums(panel);
                for (row, sums) in sums.iter_mut().enumerate() {
                    // As they stand the codes are 128 too large.
                    let zero_point = _mm256_set1_epi32(input.neg_zero_point(row) - 128);
                    for (half, sum) in sums.iter_mut().enumerate() {
                        let weights = _mm256_loadu_si256(weights.add(half * 8).cast());
                        *sum = _mm256_mullo_epi32(weights, zero_point);
                    }
                }
                let ahead = if panel == 0 { input.ahead } else { Ahead::NONE };
                add_panel::<R>(input, input.panel.add(panel * input.panel_stride), ahead, &mut sums);
                for (row, sums) in sums.into_iter().enumerate() {
                    for (half, sum) in sums.into_iter().enumerate() {
                        _mm256_storeu_si256(out.place(row, panel).add(half * 8).cast(), sum);
                    }
                }
            }
        }
    }
}
