//! x86-64 with AVX2, FMA and F16C. Byte products by `vpmaddwd` on sign-extended codes: exact, nothing saturates.
//! A row tile's codes are widened once for several panels, weights as they are used.

use core::arch::asm;
use core::arch::x86_64::*;
use core::mem::MaybeUninit;

use super::layout::PANEL;
use super::ops::tile::{Accumulators, Ahead, Int8Tile, TileInput};
use super::simd::{Block, LANES, Simd};

/// The instructions are there: see [`Simd`].
#[derive(Clone, Copy)]
pub(super) struct Avx2(pub(super) ());

/// Lanes 0 to 7 and 8 to 15.
type V = (__m256, __m256);

/// Runs an AVX2 intrinsic on both halves.
macro_rules! both {
    ($f:ident($($v:expr),*)) => {
        // SAFETY: an `Avx2` exists only where the CPU has the instructions.
        unsafe { ($f($($v.0),*), $f($($v.1),*)) }
    };
}

impl Avx2 {
    /// Eight lanes as the sum's tree leaves them: lane `i` with lane `i + 4`, then 2, 1.
    #[inline(always)]
    fn tree(self, v: __m256, f: impl Fn(__m128, __m128) -> __m128) -> f32 {
        // SAFETY: an `Avx2` exists only where the CPU has the instructions.
        unsafe {
            let four = f(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let two = f(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(f(two, _mm_movehdup_ps(two)))
        }
    }
}

impl Simd for Avx2 {
    type V = V;

    const REGISTERS: usize = 2;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        // SAFETY: an `Avx2` exists only where the CPU has the instructions.
        unsafe { (_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }
    #[inline(always)]
    fn load(self, from: &Block) -> V {
        // SAFETY: as above; the block has sixteen values.
        unsafe { (_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))) }
    }
    #[inline(always)]
    fn store(self, v: V, to: &mut Block) {
        // SAFETY: as above.
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), v.0);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), v.1);
        }
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; LANES]) -> V {
        // SAFETY: as above; sixteen bytes.
        unsafe {
            let bytes = _mm_loadu_si128(from.as_ptr().cast());
            (
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
                _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(bytes, bytes))),
            )
        }
    }
    #[inline(always)]
    fn load_i32(self, from: &[i32; LANES]) -> V {
        // SAFETY: as above; sixteen integers.
        unsafe {
            (
                _mm256_cvtepi32_ps(_mm256_loadu_si256(from.as_ptr().cast())),
                _mm256_cvtepi32_ps(_mm256_loadu_si256(from.as_ptr().add(8).cast())),
            )
        }
    }
    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES]) -> V {
        // SAFETY: as above; sixteen halves.
        unsafe {
            (
                _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().add(8).cast())),
            )
        }
    }
    #[inline(always)]
    fn store_codes(self, v: V, shift: u8, to: &mut [u8; LANES]) {
        // SAFETY: as above; sixteen bytes.
        unsafe {
            let byte = _mm256_set1_epi32(0xff);
            let low = |v| _mm256_and_si256(_mm256_cvtps_epi32(v), byte);
            let words = _mm256_packus_epi32(low(v.0), low(v.1));
            // The pack went by 128-bit halves: put the quarters in order.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(to.as_mut_ptr().cast(), _mm_add_epi8(bytes, _mm_set1_epi8(shift as i8)));
        }
    }

    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        both!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        both!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        both!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        both!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: V, b: V, c: V) -> V {
        both!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        both!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        both!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn abs(self, v: V) -> V {
        let sign = self.splat(-0.0);
        both!(_mm256_andnot_ps(sign, v))
    }
    #[inline(always)]
    fn round(self, v: V) -> V {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: as above.
        unsafe { (_mm256_round_ps::<NEAREST>(v.0), _mm256_round_ps::<NEAREST>(v.1)) }
    }
    #[inline(always)]
    fn pow2(self, v: V) -> V {
        let half = |v| {
            // SAFETY: as above.
            unsafe {
                let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(v), _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
            }
        };
        (half(v.0), half(v.1))
    }
    #[inline(always)]
    fn first_lanes(self, count: usize, v: V, rest: V) -> V {
        // SAFETY: as above.
        unsafe {
            let count = _mm256_set1_epi32(count.min(LANES) as i32);
            let low = _mm256_cmpgt_epi32(count, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
            let high = _mm256_cmpgt_epi32(count, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15));
            (
                _mm256_blendv_ps(rest.0, v.0, _mm256_castsi256_ps(low)),
                _mm256_blendv_ps(rest.1, v.1, _mm256_castsi256_ps(high)),
            )
        }
    }
    #[inline(always)]
    fn sum(self, v: V) -> f32 {
        // SAFETY: as above.
        unsafe { self.tree(_mm256_add_ps(v.0, v.1), |a, b| _mm_add_ps(a, b)) }
    }
    #[inline(always)]
    fn maximum(self, v: V) -> f32 {
        // SAFETY: as above.
        unsafe { self.tree(_mm256_max_ps(v.0, v.1), |a, b| _mm_max_ps(a, b)) }
    }
}

/// Rows of a full tile.
const ROWS: usize = 6;
/// Groups of inputs whose codes are widened at once: 12 KiB, a part of the first-level cache.
const GROUPS: usize = 256;

/// The codes of a tile's rows as 16-bit integers.
type Wide = MaybeUninit<[[i16; 4 * GROUPS]; ROWS]>;

impl Avx2 {
    /// Widens the codes of `R` rows, `groups` groups from `first` on.
    ///
    /// # Safety
    /// As [`Int8Tile::tile`]; `groups ≤ GROUPS`.
    #[inline(always)]
    unsafe fn widen<const R: usize>(self, input: &TileInput, first: usize, groups: usize, wide: &mut Wide) {
        for row in 0..R {
            // SAFETY: the caller's promise; rows of codes have whole lines, so the last vector lies in the row too.
            unsafe {
                let from = input.codes.add(row * input.stride + 4 * first);
                let to = wide.as_mut_ptr().cast::<i16>().add(row * 4 * GROUPS);
                for at in (0..4 * groups).step_by(16) {
                    let codes = _mm256_cvtepi8_epi16(_mm_loadu_si128(from.add(at).cast()));
                    _mm256_storeu_si256(to.add(at).cast(), codes);
                }
            }
        }
    }
}

/// The products of eight channels, whose weights begin at `weights`: for each row two vectors of four channels, each
/// as two sums, inputs 0 and 1 of the groups, inputs 2 and 3.
///
/// # Safety
/// The CPU has the instructions; `weights` has `groups` groups of a panel behind it, `wide` the codes of `R` rows for them.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn eight_channels<const R: usize>(
    weights: *const i8,
    groups: usize,
    wide: &Wide,
    ahead: Ahead,
) -> [[__m256i; 2]; R] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[_mm256_setzero_si256(); 2]; R];
        let codes = wide.as_ptr().cast::<i16>();
        for group in 0..groups {
            ahead.lines(group, 1, |line| _mm_prefetch::<_MM_HINT_T1>(line));
            let weights = weights.add(group * 4 * PANEL).cast::<__m128i>();
            let low = _mm256_cvtepi8_epi16(_mm_loadu_si128(weights));
            let high = _mm256_cvtepi8_epi16(_mm_loadu_si128(weights.add(1)));
            // Twelve sums, the weights and two more: sixteen registers, which the compiler would not make do with.
            macro_rules! rows {
                ($($row:literal)*) => {
                    $(if let Some([first, second]) = sums.get_mut($row) {
                        asm!(
                            "vpbroadcastq {a}, qword ptr [{codes} + {at}]",
                            "vpmaddwd {b}, {a}, {low}",
                            "vpmaddwd {a}, {a}, {high}",
                            "vpaddd {first}, {first}, {b}",
                            "vpaddd {second}, {second}, {a}",
                            a = out(ymm_reg) _,
                            b = out(ymm_reg) _,
                            codes = in(reg) codes.add(group * 4),
                            at = const 2 * $row * 4 * GROUPS,
                            low = in(ymm_reg) low,
                            high = in(ymm_reg) high,
                            first = inout(ymm_reg) *first,
                            second = inout(ymm_reg) *second,
                            options(pure, readonly, nostack, preserves_flags),
                        );
                    })*
                };
            }
            rows!(0 1 2 3 4 5);
        }
        sums
    }
}

impl Int8Tile for Avx2 {
    const FETCHES: bool = true;
    const ROWS: usize = ROWS;
    const PANELS: usize = 4;
    const FLIP: u8 = 0;

    #[inline(always)]
    unsafe fn tile<const R: usize, const P: usize>(self, input: &TileInput, out: &mut Accumulators) {
        let mut wide: Wide = MaybeUninit::uninit();
        for first in (0..input.groups).step_by(GROUPS) {
            let groups = (input.groups - first).min(GROUPS);
            // SAFETY: as above; `TileInput` promises `groups` groups in each of `R` rows and `P` panels.
            unsafe {
                self.widen::<R>(input, first, groups, &mut wide);
                for panel in 0..P {
                    let start = input.panel.add(panel * input.panel_stride + first * 4 * PANEL);
                    for half in 0..2 {
                        let ahead = if panel == 0 && half == 0 { input.ahead } else { Ahead::NONE };
                        let sums = eight_channels::<R>(start.add(half * 32), groups, &wide, ahead);
                        for (row, sums) in sums.iter().enumerate() {
                            let place = out.place(row, panel).add(half * 8).cast::<__m256i>();
                            let eight = _mm256_hadd_epi32(sums[0], sums[1]);
                            let eight = _mm256_permute4x64_epi64::<0b11_01_10_00>(eight);
                            let before = if first > 0 {
                                _mm256_loadu_si256(place)
                            } else {
                                let sums = input.sums(panel).add(half * 8).cast::<__m256i>();
                                _mm256_mullo_epi32(
                                    _mm256_loadu_si256(sums),
                                    _mm256_set1_epi32(input.neg_zero_point(row)),
                                )
                            };
                            _mm256_storeu_si256(place, _mm256_add_epi32(eight, before));
                        }
                    }
                }
            }
        }
    }
}
