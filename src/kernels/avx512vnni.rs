//! x86-64 with AVX-512 (F, BW, DQ, VL) and VNNI: `vpdpbusd` multiplies unsigned codes by signed weights.

use core::arch::x86_64::*;

use super::layout::PANEL;
use super::ops::tile::{Accumulators, Int8Tile, TileInput};
use super::simd::{Block, LANES, Simd};

/// The instructions are there: see [`Simd`].
#[derive(Clone, Copy)]
pub(super) struct Avx512Vnni(pub(super) ());

impl Avx512Vnni {
    /// The lanes' reduction: lane `i` with lane `i + 8`, then 4, 2, 1.
    #[inline(always)]
    fn tree(
        self,
        v: __m512,
        f8: impl Fn(__m256, __m256) -> __m256,
        f4: impl Fn(__m128, __m128) -> __m128,
    ) -> f32 {
        // SAFETY: an `Avx512Vnni` exists only where the CPU has the instructions.
        unsafe {
            let eight = f8(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps::<1>(v));
            let four = f4(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = f4(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(f4(two, _mm_movehdup_ps(two)))
        }
    }
}

impl Simd for Avx512Vnni {
    type V = __m512;

    const REGISTERS: usize = 1;
    const CHAINS: usize = 16;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: an `Avx512Vnni` exists only where the CPU has the instructions.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    fn load(self, from: &Block) -> __m512 {
        // SAFETY: as above; the block has sixteen values.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: __m512, to: &mut Block) {
        // SAFETY: as above.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; LANES]) -> __m512 {
        // SAFETY: as above; sixteen bytes.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast()))) }
    }
    #[inline(always)]
    fn load_i32(self, from: &[i32; LANES]) -> __m512 {
        // SAFETY: as above; sixteen integers.
        unsafe { _mm512_cvtepi32_ps(_mm512_loadu_si512(from.as_ptr().cast())) }
    }
    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES]) -> __m512 {
        // SAFETY: as above; sixteen halves.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())) }
    }
    #[inline(always)]
    fn store_codes(self, v: __m512, shift: u8, to: &mut [u8; LANES]) {
        // SAFETY: as above; sixteen bytes.
        unsafe {
            let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v));
            _mm_storeu_si128(to.as_mut_ptr().cast(), _mm_add_epi8(bytes, _mm_set1_epi8(shift as i8)));
        }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn abs(self, v: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_abs_ps(v) }
    }
    #[inline(always)]
    fn clamp(self, v: __m512, limit: f32) -> __m512 {
        // Of the two magnitudes the smaller, with the sign of `v`.
        // SAFETY: as above.
        unsafe { _mm512_range_ps::<0b0010>(v, _mm512_set1_ps(limit)) }
    }
    #[inline(always)]
    fn round(self, v: __m512) -> __m512 {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: as above.
        unsafe { _mm512_roundscale_ps::<NEAREST>(v) }
    }
    #[inline(always)]
    fn pow2(self, v: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(v), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    fn mul_pow2(self, v: __m512, n: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_scalef_ps(v, n) }
    }
    #[inline(always)]
    fn first_lanes(self, count: usize, v: __m512, rest: __m512) -> __m512 {
        let lanes = ((1u32 << count.min(LANES)) - 1) as u16;
        // SAFETY: as above.
        unsafe { _mm512_mask_mov_ps(rest, lanes, v) }
    }
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // `j` is a column of all four, and a place
    unsafe fn transpose(self, from: *const f32, from_step: usize, to: *mut f32, to_step: usize) {
        // Within each 128-bit part four rows become four columns; then the parts change places, twice in pairs.
        const EVEN: i32 = 0b10_00_10_00;
        const ODD: i32 = 0b11_01_11_01;
        // SAFETY: as above; the values are there, as the caller promises.
        unsafe {
            // `fours[i][j]`: in part `p` column `4p + j` of rows `4i..4i + 4`.
            let mut fours = [[_mm512_setzero_ps(); 4]; 4];
            for (i, columns) in fours.iter_mut().enumerate() {
                let from = from.add(4 * i * from_step);
                let (a, b) = (_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(from_step)));
                let (c, d) =
                    (_mm512_loadu_ps(from.add(2 * from_step)), _mm512_loadu_ps(from.add(3 * from_step)));
                let (ab, cd) = (_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d));
                let (ab_high, cd_high) = (_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d));
                *columns = [
                    _mm512_shuffle_ps::<0b01_00_01_00>(ab, cd),
                    _mm512_shuffle_ps::<0b11_10_11_10>(ab, cd),
                    _mm512_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high),
                    _mm512_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high),
                ];
            }
            for j in 0..4 {
                let [a, b, c, d] = [fours[0][j], fours[1][j], fours[2][j], fours[3][j]];
                let (ab_even, ab_odd) =
                    (_mm512_shuffle_f32x4::<EVEN>(a, b), _mm512_shuffle_f32x4::<ODD>(a, b));
                let (cd_even, cd_odd) =
                    (_mm512_shuffle_f32x4::<EVEN>(c, d), _mm512_shuffle_f32x4::<ODD>(c, d));
                let columns = [
                    _mm512_shuffle_f32x4::<EVEN>(ab_even, cd_even),
                    _mm512_shuffle_f32x4::<EVEN>(ab_odd, cd_odd),
                    _mm512_shuffle_f32x4::<ODD>(ab_even, cd_even),
                    _mm512_shuffle_f32x4::<ODD>(ab_odd, cd_odd),
                ];
                for (part, column) in columns.into_iter().enumerate() {
                    _mm512_storeu_ps(to.add((4 * part + j) * to_step), column);
                }
            }
        }
    }
    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        // SAFETY: as above.
        self.tree(v, |a, b| unsafe { _mm256_add_ps(a, b) }, |a, b| unsafe { _mm_add_ps(a, b) })
    }
    #[inline(always)]
    fn maximum(self, v: __m512) -> f32 {
        // SAFETY: as above.
        self.tree(v, |a, b| unsafe { _mm256_max_ps(a, b) }, |a, b| unsafe { _mm_max_ps(a, b) })
    }
}

/// Groups of inputs in a turn of the tile's loop.
const TURN: usize = 8;

/// Adds the products of a group of inputs.
///
/// # Safety
/// The CPU has the instructions; `input` describes readable memory for `R` rows and `P` panels, `group` is one of its
/// groups.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn add_group<const R: usize, const P: usize>(
    input: &TileInput,
    group: usize,
    sums: &mut [[__m512i; P]; R],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut weights = [_mm512_setzero_si512(); P];
        for (panel, weights) in weights.iter_mut().enumerate() {
            let at = input.panel.add(panel * input.panel_stride + group * 4 * PANEL);
            *weights = _mm512_loadu_si512(at.cast());
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            let four = input.codes.add(row * input.stride + group * 4).cast::<i32>().read_unaligned();
            let codes = _mm512_set1_epi32(four);
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = _mm512_dpbusd_epi32(*sum, codes, weights);
            }
        }
    }
}

impl Int8Tile for Avx512Vnni {
    const FETCHES: bool = true;
    const ROWS: usize = 13;
    const PANELS: usize = 2;
    const FLIP: u8 = 0x80;

    #[inline(always)]
    unsafe fn tile<const R: usize, const P: usize>(self, input: &TileInput, out: &mut Accumulators) {
        // SAFETY: as above; `TileInput` promises `groups` groups in each of `R` rows and `P` panels.
        unsafe {
            let mut sums = [[_mm512_setzero_si512(); P]; R];
            for panel in 0..P {
                let weights = _mm512_loadu_si512(input.sums(panel).cast());
                for (row, sums) in sums.iter_mut().enumerate() {
                    // As they stand the codes are 128 too large.
                    let zero_points = _mm512_set1_epi32(input.neg_zero_point(row) - 128);
                    sums[panel] = _mm512_mullo_epi32(weights, zero_points);
                }
            }
            // A short loop of long turns: a branch predictor counts its turns, and the next tile's instructions are on
            // their way when this one's products end.
            let turns = input.groups / TURN;
            for turn in 0..turns {
                input.ahead.lines(turn * TURN, TURN, |line| _mm_prefetch::<_MM_HINT_T0>(line));
                for group in 0..TURN {
                    add_group(input, turn * TURN + group, &mut sums);
                }
            }
            for group in turns * TURN..input.groups {
                input.ahead.lines(group, 1, |line| _mm_prefetch::<_MM_HINT_T0>(line));
                add_group(input, group, &mut sums);
            }
            for (row, sums) in sums.into_iter().enumerate() {
                for (panel, sum) in sums.into_iter().enumerate() {
                    _mm512_storeu_si512(out.place(row, panel).cast(), sum);
                }
            }
        }
    }
}
