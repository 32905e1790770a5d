//! aarch64 with NEON, which every one has: Cortex-A53, A57, A72.

use core::arch::aarch64::*;
use core::arch::asm;

use super::by_vector::{asm_tile, by_vector, tile_of_halves};
use super::layout::PANEL;
use super::ops::tile::{Accumulators, Int8Tile, TileInput};
use super::simd::{Block, LANES, Simd};

/// Every aarch64 CPU has the instructions.
#[derive(Clone, Copy)]
pub(super) struct Neon;

/// Lanes 0 to 3, 4 to 7, 8 to 11 and 12 to 15.
pub(super) type V = [float32x4_t; 4];

/// Runs a NEON intrinsic on the four quarters.
macro_rules! quarters {
    ($f:ident($a:expr $(, $b:expr)*)) => {
        // SAFETY: NEON is part of aarch64.
        unsafe { [$f($a[0] $(, $b[0])*), $f($a[1] $(, $b[1])*), $f($a[2] $(, $b[2])*), $f($a[3] $(, $b[3])*)] }
    };
}

impl Neon {
    #[inline(always)]
    fn convert(self, v: [int32x4_t; 4]) -> V {
        quarters!(vcvtq_f32_s32(v))
    }
}

impl Simd for Neon {
    type V = V;

    const REGISTERS: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        // SAFETY: NEON is part of aarch64.
        [unsafe { vdupq_n_f32(x) }; 4]
    }
    #[inline(always)]
    fn constant(self, x: f32) -> V {
        // SAFETY: NEON is part of aarch64. The empty assembly hides the bits: to make a constant from them takes three
        // instructions, which the compiler would repeat in every turn of a loop that is short of registers.
        unsafe {
            let mut v = vdupq_n_f32(x);
            asm!("/* {0:v} */", inout(vreg) v, options(pure, nomem, nostack, preserves_flags));
            [v; 4]
        }
    }
    #[inline(always)]
    fn load(self, from: &Block) -> V {
        let p = from.as_ptr();
        // SAFETY: the block has sixteen values.
        unsafe { [vld1q_f32(p), vld1q_f32(p.add(4)), vld1q_f32(p.add(8)), vld1q_f32(p.add(12))] }
    }
    #[inline(always)]
    fn store(self, v: V, to: &mut Block) {
        let p = to.as_mut_ptr();
        // SAFETY: the block has sixteen values.
        unsafe {
            vst1q_f32(p, v[0]);
            vst1q_f32(p.add(4), v[1]);
            vst1q_f32(p.add(8), v[2]);
            vst1q_f32(p.add(12), v[3]);
        }
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; LANES]) -> V {
        // SAFETY: sixteen bytes.
        self.convert(unsafe {
            let bytes = vld1q_s8(from.as_ptr());
            let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
            [
                vmovl_s16(vget_low_s16(low)),
                vmovl_high_s16(low),
                vmovl_s16(vget_low_s16(high)),
                vmovl_high_s16(high),
            ]
        })
    }
    #[inline(always)]
    fn load_i32(self, from: &[i32; LANES]) -> V {
        let p = from.as_ptr();
        // SAFETY: sixteen integers.
        self.convert(unsafe {
            [vld1q_s32(p), vld1q_s32(p.add(4)), vld1q_s32(p.add(8)), vld1q_s32(p.add(12))]
        })
    }
    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES]) -> V {
        let p = from.as_ptr();
        let widen = |at: usize| {
            // SAFETY: four of the sixteen halves; FCVTL is part of NEON.
            unsafe {
                let halves = vld1_u16(p.add(at));
                let out: float32x4_t;
                asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) out, in(vreg) halves,
                     options(pure, nomem, nostack, preserves_flags));
                out
            }
        };
        [widen(0), widen(4), widen(8), widen(12)]
    }
    #[inline(always)]
    fn store_codes(self, v: V, shift: u8, to: &mut [u8; LANES]) {
        // SAFETY: sixteen bytes.
        unsafe {
            let pair = |a, b| vcombine_s16(vmovn_s32(vcvtnq_s32_f32(a)), vmovn_s32(vcvtnq_s32_f32(b)));
            let bytes = vcombine_s8(vmovn_s16(pair(v[0], v[1])), vmovn_s16(pair(v[2], v[3])));
            vst1q_u8(to.as_mut_ptr(), vaddq_u8(vreinterpretq_u8_s8(bytes), vdupq_n_u8(shift)));
        }
    }

    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        quarters!(vaddq_f32(a, b))
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        quarters!(vsubq_f32(a, b))
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        quarters!(vmulq_f32(a, b))
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        quarters!(vdivq_f32(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: V, b: V, c: V) -> V {
        quarters!(vfmaq_f32(c, a, b))
    }
    #[inline(always)]
    fn mul_add_lane<const LANE: i32>(self, from: &[f32; 4], b: V, c: V) -> V {
        // SAFETY: NEON is part of aarch64; four values.
        unsafe {
            let from = vld1q_f32(from.as_ptr());
            core::array::from_fn(|i| vfmaq_laneq_f32::<LANE>(c[i], b[i], from))
        }
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        quarters!(vmaxq_f32(a, b))
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        quarters!(vminq_f32(a, b))
    }
    #[inline(always)]
    fn abs(self, v: V) -> V {
        quarters!(vabsq_f32(v))
    }
    #[inline(always)]
    fn round(self, v: V) -> V {
        quarters!(vrndnq_f32(v))
    }
    #[inline(always)]
    fn pow2(self, v: V) -> V {
        let quarter = |v| {
            // SAFETY: NEON is part of aarch64.
            unsafe {
                let exponent = vaddq_s32(vcvtnq_s32_f32(v), vdupq_n_s32(127));
                vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
            }
        };
        [quarter(v[0]), quarter(v[1]), quarter(v[2]), quarter(v[3])]
    }
    #[inline(always)]
    fn mul_pow2(self, a: V, n: V) -> V {
        // SAFETY: NEON is part of aarch64. The exponent is counted up.
        core::array::from_fn(|i| unsafe {
            let up = vshlq_n_s32::<23>(vcvtnq_s32_f32(n[i]));
            vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a[i]), up))
        })
    }
    #[inline(always)]
    fn first_lanes(self, count: usize, v: V, rest: V) -> V {
        const NUMBERS: [u32; 4] = [0, 1, 2, 3];
        // SAFETY: NEON is part of aarch64; four numbers.
        unsafe {
            let numbers = vld1q_u32(NUMBERS.as_ptr());
            core::array::from_fn(|quarter| {
                let left = vdupq_n_u32(count.saturating_sub(4 * quarter) as u32);
                vbslq_f32(vcltq_u32(numbers, left), v[quarter], rest[quarter])
            })
        }
    }
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_step: usize, to: *mut f32, to_step: usize) {
        for row in (0..LANES).step_by(4) {
            for column in (0..LANES).step_by(4) {
                // SAFETY: NEON is part of aarch64; four by four of the values that the caller promises.
                unsafe {
                    let line = |i: usize| vld1q_f32(from.add((row + i) * from_step + column));
                    let (low, high) = (vtrnq_f32(line(0), line(1)), vtrnq_f32(line(2), line(3)));
                    let halves = |a, b| (vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b));
                    let put = |i: usize, v| {
                        vst1q_f32(to.add((column + i) * to_step + row), vreinterpretq_f32_f64(v))
                    };
                    let (a, b) = halves(low.0, high.0);
                    put(0, vtrn1q_f64(a, b));
                    put(2, vtrn2q_f64(a, b));
                    let (a, b) = halves(low.1, high.1);
                    put(1, vtrn1q_f64(a, b));
                    put(3, vtrn2q_f64(a, b));
                }
            }
        }
    }
    #[inline(always)]
    fn sum(self, v: V) -> f32 {
        // SAFETY: NEON is part of aarch64.
        unsafe {
            let four = vaddq_f32(vaddq_f32(v[0], v[2]), vaddq_f32(v[1], v[3]));
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }
    #[inline(always)]
    fn maximum(self, v: V) -> f32 {
        // SAFETY: NEON is part of aarch64.
        unsafe { vmaxvq_f32(vmaxq_f32(vmaxq_f32(v[0], v[2]), vmaxq_f32(v[1], v[3]))) }
    }
}

/// For weights in groups of 16, the packing made for it.
#[derive(Clone, Copy)]
pub(super) struct By16;

/// For weights in groups of 4.
#[derive(Clone, Copy)]
pub(super) struct By4;

by_vector!(
    /// A vector of weights is one channel. Two products are added in 16 bits (at most 2 · 127 · 128) before they are
    /// widened: SMULL, SMLAL2, SADALP, 16 products by three instructions, two of them for the multiply pipe.
    ///
    /// # Safety
    /// `input` as [`Int8Tile::tile`] wants it for groups of 16; `out` has the rows' places.
    sixteens, load: "ldr q" "", bytes: "16", group: "256", folds: "2", column: [
        r"smull v2.8h, v\weights\().8b, v5.8b",
        ".if {R} > 1", r"smull v3.8h, v\weights\().8b, v6.8b", ".endif",
        ".if {R} > 2", r"smull v4.8h, v\weights\().8b, v7.8b", ".endif",
        r"smlal2 v2.8h, v\weights\().16b, v5.16b",
        ".if {R} > 1", r"smlal2 v3.8h, v\weights\().16b, v6.16b", ".endif",
        ".if {R} > 2", r"smlal2 v4.8h, v\weights\().16b, v7.16b", ".endif",
        r"sadalp v\a0\().4s, v2.8h",
        ".if {R} > 1", r"sadalp v\a1\().4s, v3.8h", ".endif",
        ".if {R} > 2", r"sadalp v\a2\().4s, v4.8h", ".endif",
    ]
);

tile_of_halves!(By16, sixteens);

impl Int8Tile for By4 {
    const ROWS: usize = 2;
    const PANELS: usize = 1;
    const FLIP: u8 = 0;

    #[inline(always)]
    unsafe fn tile<const R: usize, const P: usize>(self, input: &TileInput, out: &mut Accumulators) {
        // A vector of weights is four channels, a vector of sums two: each channel as two sums, inputs 0 and 1 of the
        // groups, inputs 2 and 3. As above two products are added in 16 bits: those of two groups.
        const QUARTERS: usize = PANEL / 4;
        // SAFETY: `TileInput` promises `groups` groups in each of `R` rows and in the panel.
        unsafe {
            let mut sums = [[vdupq_n_s32(0); 2 * QUARTERS]; R];
            let codes = |row: usize, group: usize| {
                let four = input.codes.add(row * input.stride + group * 4).cast::<i32>().read_unaligned();
                vreinterpretq_s8_s32(vdupq_n_s32(four))
            };
            let weights =
                |group: usize, quarter: usize| vld1q_s8(input.panel.add((group * PANEL + quarter * 4) * 4));
            let mut group = 0;
            while group + 2 <= input.groups {
                let mut pairs = [[vdupq_n_s8(0); 2]; R];
                for (row, pair) in pairs.iter_mut().enumerate() {
                    *pair = [codes(row, group), codes(row, group + 1)];
                }
                for quarter in 0..QUARTERS {
                    let (first, second) = (weights(group, quarter), weights(group + 1, quarter));
                    for (sums, pair) in sums.iter_mut().zip(pairs) {
                        let low = vmull_s8(vget_low_s8(first), vget_low_s8(pair[0]));
                        let low = vmlal_s8(low, vget_low_s8(second), vget_low_s8(pair[1]));
                        sums[2 * quarter] = vpadalq_s16(sums[2 * quarter], low);
                        let high = vmull_high_s8(first, pair[0]);
                        let high = vmlal_high_s8(high, second, pair[1]);
                        sums[2 * quarter + 1] = vpadalq_s16(sums[2 * quarter + 1], high);
                    }
                }
                group += 2;
            }
            if group < input.groups {
                for (row, sums) in sums.iter_mut().enumerate() {
                    let codes = codes(row, group);
                    for quarter in 0..QUARTERS {
                        let weights = weights(group, quarter);
                        let low = vmull_s8(vget_low_s8(weights), vget_low_s8(codes));
                        sums[2 * quarter] = vpadalq_s16(sums[2 * quarter], low);
                        sums[2 * quarter + 1] =
                            vpadalq_s16(sums[2 * quarter + 1], vmull_high_s8(weights, codes));
                    }
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                for quarter in 0..QUARTERS {
                    let products = vpaddq_s32(sums[2 * quarter], sums[2 * quarter + 1]);
                    let weights = vld1q_s32(input.sums(0).add(quarter * 4));
                    let sums = vmlaq_n_s32(products, weights, input.neg_zero_point(row));
                    vst1q_s32(out.place(row, 0).add(4 * quarter), sums);
                }
            }
        }
    }
}
