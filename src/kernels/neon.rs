//! aarch64 with NEON, which every one has: Cortex-A53, A57, A72.

use core::arch::aarch64::*;
use core::arch::asm;

use super::anywhere::{load, load_four, store, store_four};
use super::by_vector::{asm_tile, turns};
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
        // SAFETY: the block has sixteen values.
        let v = unsafe { load_four(from) };
        quarters!(vreinterpretq_f32_u8(v))
    }
    #[inline(always)]
    fn store(self, v: V, to: &mut Block) {
        let v = quarters!(vreinterpretq_u8_f32(v));
        // SAFETY: the block has sixteen values.
        unsafe { store_four(v, to) };
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; LANES]) -> V {
        // SAFETY: sixteen bytes.
        self.convert(unsafe {
            let bytes = vreinterpretq_s8_u8(load(from));
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
        // SAFETY: sixteen integers.
        let v = unsafe { load_four(from) };
        self.convert(quarters!(vreinterpretq_s32_u8(v)))
    }
    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES]) -> V {
        let widen = |at: usize| {
            // SAFETY: eight of the sixteen halves; FCVTL is part of NEON.
            unsafe {
                let halves = load(from.as_ptr().add(at));
                let (low, high): (float32x4_t, float32x4_t);
                asm!("fcvtl {0:v}.4s, {2:v}.4h", "fcvtl2 {1:v}.4s, {2:v}.8h",
                     out(vreg) low, lateout(vreg) high, in(vreg) halves,
                     options(pure, nomem, nostack, preserves_flags));
                [low, high]
            }
        };
        let ([a, b], [c, d]) = (widen(0), widen(8));
        [a, b, c, d]
    }
    #[inline(always)]
    fn store_codes(self, v: V, shift: u8, to: &mut [u8; LANES]) {
        // SAFETY: sixteen bytes.
        unsafe {
            let pair = |a, b| vcombine_s16(vmovn_s32(vcvtnq_s32_f32(a)), vmovn_s32(vcvtnq_s32_f32(b)));
            let bytes = vcombine_s8(vmovn_s16(pair(v[0], v[1])), vmovn_s16(pair(v[2], v[3])));
            store(vaddq_u8(vreinterpretq_u8_s8(bytes), vdupq_n_u8(shift)), to);
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
            let from = vreinterpretq_f32_u8(load(from));
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
                    let line =
                        |i: usize| vreinterpretq_f32_u8(load(from.add((row + i) * from_step + column)));
                    let (low, high) = (vtrnq_f32(line(0), line(1)), vtrnq_f32(line(2), line(3)));
                    let halves = |a, b| (vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b));
                    let put =
                        |i: usize, v| store(vreinterpretq_u8_f64(v), to.add((column + i) * to_step + row));
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

/// `R` rows (1 to 3) times the four channels whose weights begin `first` bytes into every group, as one vector of sums for each row.
///
/// A vector of weights is one channel. Two products are added in 16 bits (at most 2 · 127 · 128) before they are widened: SMULL,
/// SMLAL2, SADALP, 16 products by three instructions, two of them for the multiply pipe. Six such chains go side by side: in a core that
/// runs in order, such as the A53, each instruction waits for the one before it in its chain. Four channels leave the registers for that.
///
/// # Safety
/// `input` as [`Int8Tile::tile`] wants it for groups of 16; `out` has the rows' places.
#[inline(always)]
unsafe fn four_channels<const R: usize>(input: &TileInput, first: usize, out: *mut i32) {
    // SAFETY: the caller's promise: `input` is true and `out` has the rows.
    unsafe {
        asm_tile!(
            input, codes: [c0 = 0, c1 = 1, c2 = 2],
            ".irp a, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19",
            r".if \a < 8 + 4 * {R}", r"movi v\a\().2d, #0", ".endif",
            ".endr",
            // Two vectors of weights times each row's codes, to six vectors of products.
            r".macro products by, form, weights, others, p0, p1, p2, p3, p4, p5",
            r"\by v\p0\().8h, v\weights\().\form, v5.\form",
            r".if {R} > 1", r"\by v\p1\().8h, v\weights\().\form, v6.\form", ".endif",
            r".if {R} > 2", r"\by v\p2\().8h, v\weights\().\form, v7.\form", ".endif",
            r"\by v\p3\().8h, v\others\().\form, v5.\form",
            r".if {R} > 1", r"\by v\p4\().8h, v\others\().\form, v6.\form", ".endif",
            r".if {R} > 2", r"\by v\p5\().8h, v\others\().\form, v7.\form", ".endif",
            ".endm",
            r".macro two_channels weights, others, a0, a1, a2, a3, a4, a5, p0, p1, p2, p3, p4, p5",
            r"products smull, 8b, \weights, \others, \p0, \p1, \p2, \p3, \p4, \p5",
            r"products smlal2, 16b, \weights, \others, \p0, \p1, \p2, \p3, \p4, \p5",
            r"sadalp v\a0\().4s, v\p0\().8h",
            r".if {R} > 1", r"sadalp v\a1\().4s, v\p1\().8h", ".endif",
            r".if {R} > 2", r"sadalp v\a2\().4s, v\p2\().8h", ".endif",
            r"sadalp v\a3\().4s, v\p3\().8h",
            r".if {R} > 1", r"sadalp v\a4\().4s, v\p4\().8h", ".endif",
            r".if {R} > 2", r"sadalp v\a5\().4s, v\p5\().8h", ".endif",
            ".endm",
            // The group `at` groups on. No address is written back: that costs cores that run in order.
            r".macro group at",
            r"ldr q5, [{c0}, #16 * \at]",
            r"ldr q0, [{weights}, #256 * \at]",
            r".if {R} > 1", r"ldr q6, [{c1}, #16 * \at]", ".endif",
            r".if {R} > 2", r"ldr q7, [{c2}, #16 * \at]", ".endif",
            r"ldr q1, [{weights}, #256 * \at + 16]",
            r"ldr q2, [{weights}, #256 * \at + 32]",
            r"ldr q3, [{weights}, #256 * \at + 48]",
            "two_channels 0, 1, 8, 12, 16, 9, 13, 17, 20, 21, 22, 23, 24, 25",
            "two_channels 2, 3, 10, 14, 18, 11, 15, 19, 26, 27, 28, 29, 30, 31",
            ".endm",
            r".macro go_on groups",
            r"add {weights}, {weights}, #256 * \groups",
            r"add {c0}, {c0}, #16 * \groups",
            r".if {R} > 1", r"add {c1}, {c1}, #16 * \groups", ".endif",
            r".if {R} > 2", r"add {c2}, {c2}, #16 * \groups", ".endif",
            ".endm",
            "cbz {fours}, 3f",
            "2:",
            "group 0",
            "group 1",
            "group 2",
            "group 3",
            "go_on 4",
            "subs {fours}, {fours}, #1",
            "b.ne 2b",
            "3:",
            "cbz {rest}, 5f",
            "4:",
            "group 0",
            "go_on 1",
            "subs {rest}, {rest}, #1",
            "b.ne 4b",
            "5:",
            // To each row's sums comes its negated zero point times the sums of the weights.
            "ldr q0, [{sums}]",
            r".macro store row, a, b, c, d",
            r".if {R} > \row",
            r"ldr s1, [{neg_zero_points}, #8 * \row]",
            r"addp v\a\().4s, v\a\().4s, v\b\().4s",
            r"addp v\c\().4s, v\c\().4s, v\d\().4s",
            r"addp v\a\().4s, v\a\().4s, v\c\().4s",
            r"mla v\a\().4s, v0.4s, v1.s[0]",
            r"str q\a, [{out}]",
            "add {out}, {out}, #{row}",
            ".endif",
            ".endm",
            "store 0, 8, 9, 10, 11",
            "store 1, 12, 13, 14, 15",
            "store 2, 16, 17, 18, 19",
            ".purgem products", ".purgem two_channels", ".purgem group", ".purgem go_on", ".purgem store",
            weights = inout(reg) input.panel.wrapping_add(first) => _,
            sums = in(reg) input.sums(0).wrapping_add(first / input.group.max(1)),
            neg_zero_points = in(reg) input.neg_zero_points(),
            fours = inout(reg) input.groups / 4 => _,
            rest = inout(reg) input.groups % 4 => _,
            out = inout(reg) out => _,
        );
    }
}

impl Int8Tile for By16 {
    const ROWS: usize = 3;
    const PANELS: usize = 1;
    const FLIP: u8 = 0;

    #[inline(always)]
    unsafe fn tile<const R: usize, const P: usize>(self, input: &TileInput, out: &mut Accumulators) {
        let out = out.start();
        for quarter in 0..turns(4) {
            // SAFETY: NEON is part of aarch64; the caller's promise; a quarter is four channels of 16 bytes in each group.
            unsafe { four_channels::<R>(input, quarter * 64, out.add(quarter * 4)) };
        }
    }
}

impl Int8Tile for By4 {
    const ROWS: usize = 2;
    const PANELS: usize = 1;
    const FLIP: u8 = 0;

    /// A vector of weights is four channels, a vector of sums two: each channel as two sums, inputs 0 and 1 of the groups, inputs 2
    /// and 3. As in [`four_channels`] two products are added in 16 bits, those of two groups, and chains go side by side: eight.
    #[inline(always)]
    unsafe fn tile<const R: usize, const P: usize>(self, input: &TileInput, out: &mut Accumulators) {
        // SAFETY: NEON is part of aarch64; `TileInput` promises `groups` groups in each of `R` rows and in the panel; `out` has a place
        // for each row.
        unsafe {
            asm_tile!(
                input, codes: [c0 = 0, c1 = 1],
                ".irp a, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
                r".if \a < 16 + 8 * {R}", r"movi v\a\().2d, #0", ".endif",
                ".endr",
                // A vector of weights times the codes of one group, of each row, to four vectors of products.
                r".macro products by, weights, row0, row1, p0, p1, p2, p3",
                r"\by v\p0\().8h, v\weights\().8b, v\row0\().8b",
                r".if {R} > 1", r"\by v\p1\().8h, v\weights\().8b, v\row1\().8b", ".endif",
                r"\by\()2 v\p2\().8h, v\weights\().16b, v\row0\().16b",
                r".if {R} > 1", r"\by\()2 v\p3\().8h, v\weights\().16b, v\row1\().16b", ".endif",
                ".endm",
                r".macro widen a0, a1, a2, a3, b0, b1, b2, b3",
                r"sadalp v\a0\().4s, v8.8h", r".if {R} > 1", r"sadalp v\b0\().4s, v9.8h", ".endif",
                r"sadalp v\a1\().4s, v10.8h", r".if {R} > 1", r"sadalp v\b1\().4s, v11.8h", ".endif",
                r"sadalp v\a2\().4s, v12.8h", r".if {R} > 1", r"sadalp v\b2\().4s, v13.8h", ".endif",
                r"sadalp v\a3\().4s, v14.8h", r".if {R} > 1", r"sadalp v\b3\().4s, v15.8h", ".endif",
                ".endm",
                // Eight channels of two groups, whose weights stand `at` bytes from the pointer, the first two vectors of them in v0 and
                // v1. Those that come next stand at `next`; behind the last group that is the panel's trailer.
                r".macro eight_channels at, next, a0, a1, a2, a3, b0, b1, b2, b3",
                "products smull, 0, 4, 6, 8, 9, 10, 11",
                r"ldr q0, [{weights}, #\at + 64]",
                "products smull, 1, 4, 6, 12, 13, 14, 15",
                r"ldr q1, [{weights}, #\at + 80]",
                "products smlal, 0, 5, 7, 8, 9, 10, 11",
                r"ldr q0, [{weights}, #\next]",
                "products smlal, 1, 5, 7, 12, 13, 14, 15",
                r"ldr q1, [{weights}, #\next + 16]",
                r"widen \a0, \a1, \a2, \a3, \b0, \b1, \b2, \b3",
                ".endm",
                // The codes of two groups, each repeated for four channels.
                r".macro two_groups first, second, at",
                r"dup v4.4s, v2.s[\first]", r".if {R} > 1", r"dup v6.4s, v3.s[\first]", ".endif",
                r"dup v5.4s, v2.s[\second]", r".if {R} > 1", r"dup v7.4s, v3.s[\second]", ".endif",
                r"eight_channels \at, \at + 32, 16, 17, 18, 19, 24, 25, 26, 27",
                r"eight_channels \at + 32, \at + 128, 20, 21, 22, 23, 28, 29, 30, 31",
                ".endm",
                r".macro go_on groups",
                r"add {weights}, {weights}, #64 * \groups",
                r"add {c0}, {c0}, #4 * \groups",
                r".if {R} > 1", r"add {c1}, {c1}, #4 * \groups", ".endif",
                ".endm",
                "ldp q0, q1, [{weights}]",
                "cbz {eights}, 3f",
                "2:",
                "ldr q2, [{c0}]", ".if {R} > 1", "ldr q3, [{c1}]", ".endif",
                "two_groups 0, 1, 0",
                "two_groups 2, 3, 128",
                "ldr q2, [{c0}, #16]", ".if {R} > 1", "ldr q3, [{c1}, #16]", ".endif",
                "two_groups 0, 1, 256",
                "two_groups 2, 3, 384",
                "go_on 8",
                "subs {eights}, {eights}, #1",
                "b.ne 2b",
                "3:",
                "cbz {rest}, 5f",
                // One group at a time.
                "4:",
                "ld1r {{v4.4s}}, [{c0}]", ".if {R} > 1", "ld1r {{v6.4s}}, [{c1}]", ".endif",
                "products smull, 0, 4, 6, 8, 9, 10, 11",
                "products smull, 1, 4, 6, 12, 13, 14, 15",
                "ldp q0, q1, [{weights}, #32]",
                "widen 16, 17, 18, 19, 24, 25, 26, 27",
                "products smull, 0, 4, 6, 8, 9, 10, 11",
                "products smull, 1, 4, 6, 12, 13, 14, 15",
                "ldp q0, q1, [{weights}, #64]",
                "widen 20, 21, 22, 23, 28, 29, 30, 31",
                "go_on 1",
                "subs {rest}, {rest}, #1",
                "b.ne 4b",
                "5:",
                // To each row's sums comes its negated zero point times the sums of the weights.
                "ldp q0, q1, [{sums}]",
                "ldp q2, q3, [{sums}, #32]",
                r".macro store row, a, b, c, d, e, f, g, h",
                r".if {R} > \row",
                r"ldr s4, [{neg_zero_points}, #8 * \row]",
                r"addp v\a\().4s, v\a\().4s, v\b\().4s", r"addp v\c\().4s, v\c\().4s, v\d\().4s",
                r"addp v\e\().4s, v\e\().4s, v\f\().4s", r"addp v\g\().4s, v\g\().4s, v\h\().4s",
                r"mla v\a\().4s, v0.4s, v4.s[0]", r"mla v\c\().4s, v1.4s, v4.s[0]",
                r"mla v\e\().4s, v2.4s, v4.s[0]", r"mla v\g\().4s, v3.4s, v4.s[0]",
                r"stp q\a, q\c, [{out}]", r"stp q\e, q\g, [{out}, #32]",
                "add {out}, {out}, #{row}",
                ".endif",
                ".endm",
                "store 0, 16, 17, 18, 19, 20, 21, 22, 23",
                "store 1, 24, 25, 26, 27, 28, 29, 30, 31",
                ".purgem products", ".purgem widen", ".purgem eight_channels", ".purgem two_groups", ".purgem go_on",
                ".purgem store",
                weights = inout(reg) input.panel => _,
                sums = in(reg) input.sums(0),
                neg_zero_points = in(reg) input.neg_zero_points(),
                eights = inout(reg) input.groups / 8 => _,
                rest = inout(reg) input.groups % 8 => _,
                out = inout(reg) out.start() => _,
            );
        }
    }
}
