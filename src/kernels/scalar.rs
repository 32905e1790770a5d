//! The portable reference: plain Rust, one lane after the other. Every other kernel must give its bits.

use super::layout::PANEL;
use super::ops::math::{fused, round};
use super::ops::tile::{Accumulators, Int8Tile, TileInput};
use super::simd::{Block, LANES, Simd};

/// Plain Rust.
#[derive(Clone, Copy)]
pub(super) struct Scalar;

impl Scalar {
    #[inline(always)]
    fn zip(a: Block, b: Block, f: impl Fn(f32, f32) -> f32) -> Block {
        let mut out = a;
        for (out, b) in out.iter_mut().zip(b) {
            *out = f(*out, b);
        }
        out
    }

    #[inline(always)]
    fn tree(v: Block, f: impl Fn(f32, f32) -> f32) -> f32 {
        let mut v = v;
        for half in [8, 4, 2, 1] {
            if let Some((low, high)) = v.split_at_mut_checked(half) {
                for (low, high) in low.iter_mut().zip(high) {
                    *low = f(*low, *high);
                }
            }
        }
        v[0]
    }
}

impl Simd for Scalar {
    type V = Block;

    const REGISTERS: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> Block {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, from: &Block) -> Block {
        *from
    }
    #[inline(always)]
    fn store(self, v: Block, to: &mut Block) {
        *to = v;
    }
    #[inline(always)]
    fn load_i8(self, from: &[i8; LANES]) -> Block {
        from.map(f32::from)
    }
    #[inline(always)]
    fn load_i32(self, from: &[i32; LANES]) -> Block {
        from.map(|x| x as f32)
    }
    #[inline(always)]
    fn load_f16(self, from: &[u16; LANES]) -> Block {
        from.map(|bits| half::f16::from_bits(bits).to_f32())
    }
    #[inline(always)]
    fn store_codes(self, v: Block, shift: u8, to: &mut [u8; LANES]) {
        for (to, x) in to.iter_mut().zip(v) {
            *to = (round(x) as i32 as u8).wrapping_add(shift);
        }
    }

    #[inline(always)]
    fn add(self, a: Block, b: Block) -> Block {
        Self::zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Block, b: Block) -> Block {
        Self::zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Block, b: Block) -> Block {
        Self::zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Block, b: Block) -> Block {
        Self::zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn mul_add(self, a: Block, b: Block, c: Block) -> Block {
        let mut out = c;
        for i in 0..LANES {
            out[i] = fused(a[i], b[i], c[i]);
        }
        out
    }
    #[inline(always)]
    fn max(self, a: Block, b: Block) -> Block {
        Self::zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: Block, b: Block) -> Block {
        Self::zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn abs(self, v: Block) -> Block {
        v.map(f32::abs)
    }
    #[inline(always)]
    fn round(self, v: Block) -> Block {
        v.map(round)
    }
    #[inline(always)]
    fn pow2(self, v: Block) -> Block {
        v.map(|n| f32::from_bits(((n as i32).wrapping_add(127) as u32) << 23))
    }
    #[inline(always)]
    fn sum(self, v: Block) -> f32 {
        Self::tree(v, |a, b| a + b)
    }
    #[inline(always)]
    fn maximum(self, v: Block) -> f32 {
        Self::tree(v, |a, b| if a > b { a } else { b })
    }
}

impl Int8Tile for Scalar {
    const ROWS: usize = 4;
    const PANELS: usize = 1;
    const FLIP: u8 = 0;

    #[inline(always)]
    unsafe fn tile<const R: usize, const P: usize>(self, input: &TileInput, out: &mut Accumulators) {
        let group = input.group;
        for row in 0..R {
            // SAFETY: the row has parameters, the panel its channels' sums.
            let (neg_zero_point, weights) =
                unsafe { (input.neg_zero_point(row), *input.sums(0).cast::<[i32; PANEL]>()) };
            // Modulo 2^32, as elsewhere: a plan may lie about its sums.
            let mut sums = weights.map(|sum| sum.wrapping_mul(neg_zero_point));
            for index in 0..input.groups {
                for (channel, sum) in sums.iter_mut().enumerate() {
                    for k in 0..group {
                        // SAFETY: `TileInput` promises `groups` groups in each of `R` rows and in the panel.
                        let (code, weight) = unsafe {
                            (
                                *input.codes.add(row * input.stride + index * group + k) as i8,
                                *input.panel.add((index * PANEL + channel) * group + k),
                            )
                        };
                        *sum = sum.wrapping_add(i32::from(code) * i32::from(weight));
                    }
                }
            }
            // SAFETY: a place for sixteen sums.
            unsafe { out.place(row, 0).cast::<[i32; PANEL]>().write(sums) };
        }
    }
}
