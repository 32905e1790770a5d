//! Rows of f32 to int8 codes: asymmetric quantization per row (per token), with a scale and a zero point.

use super::math::round;
use crate::copy::copy;
use crate::kernels::blocks::{Blocks, BlocksMut};
use crate::kernels::layout::{HALF, NARROW, TINY};
use crate::kernels::simd::{Block, LANES, Simd};

/// The quantization parameters of a row: a value is `(code + neg_zero_point) · scale`. The zero point is kept negated,
/// so that a product's sums begin with it times the sum of the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub(crate) struct QuantParams {
    pub(crate) scale: f32,
    pub(crate) neg_zero_point: i32,
}

// SAFETY: an f32, an i32 and nothing between or behind them; zeros are among their values.
unsafe impl bytemuck::Zeroable for QuantParams {}
// SAFETY: as above; every bit pattern is a value.
unsafe impl bytemuck::Pod for QuantParams {}

impl QuantParams {
    /// For values from `least` to `largest`, and the factor that makes codes of values: `round(x · factor) -
    /// neg_zero_point`.
    #[inline(always)]
    fn new(least: f32, largest: f32) -> (Self, f32) {
        let middle = least * 0.5 + largest * 0.5;
        let (above, below, narrow) = (largest - middle, middle - least, libm::fabsf(middle) * NARROW);
        let half = if above > below { above } else { below };
        let half = if half > narrow { half } else { narrow };
        if half < TINY {
            return (Self { scale: 0.0, neg_zero_point: 0 }, 0.0);
        }
        let factor = HALF / half;
        (Self { scale: half / HALF, neg_zero_point: round(middle * factor) as i32 }, factor)
    }

    /// What to add to a row's rounded values, modulo 256, so that they become codes xor `flip`, 0 or 0x80.
    #[inline(always)]
    pub(super) fn shift(self, flip: u8) -> u8 {
        flip.wrapping_sub(self.neg_zero_point as u8)
    }
}

/// Chains of comparisons, at the most.
pub(super) const CHAINS: usize = 2;

/// The least and the largest of the values that it is shown, by [`CHAINS`]: comparisons wait for one another.
#[derive(Clone, Copy)]
pub(super) struct Range<S: Simd> {
    least: [S::V; CHAINS],
    largest: [S::V; CHAINS],
}

impl<S: Simd> Range<S> {
    #[inline(always)]
    pub(super) fn new(s: S) -> Self {
        Self { least: [s.splat(f32::INFINITY); CHAINS], largest: [s.splat(f32::NEG_INFINITY); CHAINS] }
    }

    #[inline(always)]
    pub(super) fn see(&mut self, s: S, chain: usize, block: S::V) {
        // A vector of several registers is chains enough.
        let chain = if S::REGISTERS < 4 { chain } else { 0 };
        self.least[chain] = s.min(block, self.least[chain]);
        self.largest[chain] = s.max(block, self.largest[chain]);
    }

    #[inline(always)]
    pub(super) fn params(self, s: S) -> (QuantParams, S::V) {
        let least = s.min(self.least[0], self.least[1]);
        let largest = s.maximum(s.max(self.largest[0], self.largest[1]));
        let (params, factor) = QuantParams::new(-s.maximum(s.sub(s.splat(0.0), least)), largest);
        (params, s.splat(factor))
    }
}

/// The last values of a row, of which there are fewer than lanes; the first of them also stands behind them, where it
/// changes neither the least nor the largest.
#[inline(always)]
pub(super) fn load_last<S: Simd>(s: S, tail: &[f32]) -> S::V {
    let mut block: Block = [tail.first().copied().unwrap_or(0.0); LANES];
    copy(&mut block, tail);
    s.load(&block)
}

/// Quantizes rows, as many as `params`, which are filled in; `rows` and `codes` (each xor `flip`) are cut
/// evenly, a row's codes begin its part.
///
/// The next row's range is found while a row's codes are made: values come from far, and come meanwhile.
#[inline(always)]
pub(crate) fn quantize_rows<S: Simd>(
    s: S,
    rows: &[f32],
    flip: u8,
    codes: &mut [u8],
    params: &mut [QuantParams],
) {
    let count = params.len().max(1);
    let (width, stride) = ((rows.len() / count).max(1), (codes.len() / count).max(1));
    let mut ahead = rows.chunks_exact(width);
    let Some(first) = ahead.next() else { return };
    let mut range = Range::new(s);
    let (blocks, tail) = first.as_chunks::<LANES>();
    let (turns, rest) = blocks.as_chunks::<CHAINS>();
    for blocks in turns {
        for chain in 0..CHAINS {
            range.see(s, chain, s.load(&blocks[chain]));
        }
    }
    for block in rest {
        range.see(s, 0, s.load(block));
    }
    if !tail.is_empty() {
        range.see(s, 0, load_last(s, tail));
    }
    let parts = rows.chunks_exact(width).zip(codes.chunks_exact_mut(stride));
    for ((row, codes), row_params) in parts.zip(params) {
        let factor;
        (*row_params, factor) = range.params(s);
        // The last row once more: what comes of it is not used.
        range = code_row(s, row, factor, row_params.shift(flip), codes, ahead.next().unwrap_or(row));
    }
}

/// Writes the first `row.len()` of `codes`; returns the range of `next`, a row as long.
#[inline(always)]
fn code_row<S: Simd>(s: S, row: &[f32], factor: S::V, shift: u8, codes: &mut [u8], next: &[f32]) -> Range<S> {
    let mut range = Range::new(s);
    let (tail, next_tail) = (row.as_chunks::<LANES>().1, next.as_chunks::<LANES>().1);
    let blocks = Blocks::<f32, LANES, 2>::of([row, next]);
    let mut places = BlocksMut::<u8, LANES, 1>::of([codes]);
    let count = blocks.count().min(places.count());
    macro_rules! code_block {
        ($index:expr, $chain:expr) => {
            let index = $index;
            // SAFETY: the loops below stay below `count`.
            unsafe {
                range.see(s, $chain, s.load(blocks.at(1, index)));
                s.store_codes(s.mul(s.load(blocks.at(0, index)), factor), shift, places.at(0, index));
            }
        };
    }
    for turn in 0..count / CHAINS {
        for chain in 0..CHAINS {
            code_block!(CHAINS * turn + chain, chain);
        }
    }
    for index in count / CHAINS * CHAINS..count {
        code_block!(index, 0);
    }
    if !tail.is_empty() && count < places.count() {
        range.see(s, 0, load_last(s, next_tail));
        // SAFETY: as asked.
        s.store_codes(s.mul(load_last(s, tail), factor), shift, unsafe { places.at(0, count) });
    }
    range
}
