//! Sixteen f32 lanes: the one vocabulary in which everything that is not an integer product is written.
//!
//! The operations in [`ops`](super::ops) are generic over [`Simd`] and are compiled once per instruction set. Each
//! lane operation is exactly rounded (IEEE 754, ties to even) and every reduction has one fixed order, so all
//! implementations give the same bits. Finite inputs are assumed; a NaN costs accuracy, never safety.

use crate::copy::copy;

/// Lanes of every vector, whatever the width of the registers behind it.
pub(crate) const LANES: usize = 16;

/// Sixteen f32 as they stand in memory.
pub(crate) type Block = [f32; LANES];

/// An instruction set's way to compute on sixteen f32 lanes.
///
/// A value of an implementing type is the proof that the CPU has the instructions: it is only made inside functions
/// that are compiled for them.
pub(crate) trait Simd: Copy {
    /// Sixteen f32 in registers.
    type V: Copy;

    /// Vectors to sum side by side, 4 or 16: additions wait for one another, registers are few.
    const CHAINS: usize = 4;

    /// Registers of a vector.
    const REGISTERS: usize;

    fn splat(self, x: f32) -> Self::V;
    /// `splat` for a constant in a loop: kept in a register or reloaded, not made anew from its bits.
    #[inline(always)]
    fn constant(self, x: f32) -> Self::V {
        self.splat(x)
    }
    fn load(self, from: &Block) -> Self::V;
    fn store(self, v: Self::V, to: &mut Block);
    /// Signed bytes, converted (exact).
    fn load_i8(self, from: &[i8; LANES]) -> Self::V;
    /// 32-bit integers, converted (rounded to nearest even).
    fn load_i32(self, from: &[i32; LANES]) -> Self::V;
    /// Half-precision values by their bits, converted (exact).
    fn load_f16(self, from: &[u16; LANES]) -> Self::V;
    /// Rounds to nearest even, adds `shift` and stores the sums' lowest bytes; lanes lie within ±2^15.
    fn store_codes(self, v: Self::V, shift: u8, to: &mut [u8; LANES]);

    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `from[LANE] * b + c`, rounded once: for instructions that take one factor from a vector's lane.
    #[inline(always)]
    fn mul_add_lane<const LANE: i32>(self, from: &[f32; 4], b: Self::V, c: Self::V) -> Self::V {
        self.mul_add(self.splat(from[LANE as usize]), b, c)
    }
    /// The larger; of two zeros, `b`.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; of two zeros, `b`.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    fn abs(self, v: Self::V) -> Self::V;
    /// `v`, or where its magnitude is above `limit` that with the sign of `v`.
    #[inline(always)]
    fn clamp(self, v: Self::V, limit: f32) -> Self::V {
        self.min(self.max(v, self.constant(-limit)), self.constant(limit))
    }
    /// To the nearest integer, ties to even; `|v| < 2^22`.
    fn round(self, v: Self::V) -> Self::V;
    /// `2^v` for integral `v` in -126..=127.
    fn pow2(self, v: Self::V) -> Self::V;
    /// `a · 2^n` for integral `n` in -126..=127, where neither `a` nor the result is subnormal or overflows.
    #[inline(always)]
    fn mul_pow2(self, a: Self::V, n: Self::V) -> Self::V {
        self.mul(a, self.pow2(n))
    }

    /// The sum of the lanes, as a fixed tree: lane `i` with lane `i + 8`, then 4, 2, 1.
    fn sum(self, v: Self::V) -> f32;
    /// The largest lane.
    fn maximum(self, v: Self::V) -> f32;

    /// The first `count` lanes of `v`, behind them those of `rest`.
    #[inline(always)]
    fn first_lanes(self, count: usize, v: Self::V, rest: Self::V) -> Self::V {
        let (mut lanes, mut out) = ([0.0; LANES], [0.0; LANES]);
        self.store(v, &mut lanes);
        self.store(rest, &mut out);
        for (out, lane) in out.iter_mut().zip(lanes).take(count) {
            *out = lane;
        }
        self.load(&out)
    }

    /// Swaps rows and columns: [`LANES`] rows of as many values, `from_step` values apart, become columns.
    ///
    /// # Safety
    /// Sixteen values stand at each of the sixteen places from `from` on, and there is room for as many at each of those
    /// from `to` on, `to_step` values apart, which nobody else uses.
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_step: usize, to: *mut f32, to_step: usize) {
        for row in 0..LANES {
            for column in 0..LANES {
                // SAFETY: the caller's promise.
                unsafe { *to.add(column * to_step + row) = *from.add(row * from_step + column) };
            }
        }
    }

    /// The first `from.len() < LANES` lanes, zeros behind them.
    #[inline(always)]
    fn load_part(self, from: &[f32]) -> Self::V {
        let mut block = [0.0; LANES];
        copy(&mut block, from);
        self.load(&block)
    }

    /// Stores the first `to.len() < LANES` lanes.
    #[inline(always)]
    fn store_part(self, v: Self::V, to: &mut [f32]) {
        let mut block = [0.0; LANES];
        self.store(v, &mut block);
        copy(to, &block);
    }
}
