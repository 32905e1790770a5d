//! Rows of f32 to int8 codes, from the least value to the largest, with a scale and a middle per row.

use crate::kernels::simd::{Block, LANES, Simd};

/// Half of a row's range below which its codes are all zero: its reciprocal would overflow.
const TINY: f32 = 1e-30;

/// How the codes of a row are its values: `code · scale + middle`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub(crate) struct Spread {
    pub(crate) scale: f32,
    pub(crate) middle: f32,
}

// SAFETY: two f32 and nothing between or behind them; zeros are among their values.
unsafe impl bytemuck::Zeroable for Spread {}
// SAFETY: as above; every bit pattern is a value.
unsafe impl bytemuck::Pod for Spread {}

impl Spread {
    /// For values from `least` to `largest`; and the factor that makes codes of values less the middle.
    ///
    /// No value is further from the middle than the half below says, rounded as it is; so a code is within ±127.
    #[inline(always)]
    fn new(least: f32, largest: f32) -> (Self, f32) {
        // Of rows of zeros too the middle has one sign: which of 0 and -0 is larger, instruction sets see differently.
        let middle = least * 0.5 + largest * 0.5 + 0.0;
        let (above, below) = (largest - middle, middle - least);
        let half = if above > below { above } else { below };
        let (scale, factor) = if half < TINY { (0.0, 0.0) } else { (half / 127.0, 127.0 / half) };
        (Self { scale, middle }, factor)
    }
}

/// The least and the largest of the values that it is shown, by two chains each: comparisons wait for one another.
#[derive(Clone, Copy)]
pub(super) struct Range<S: Simd> {
    least: [S::V; 2],
    largest: [S::V; 2],
}

impl<S: Simd> Range<S> {
    #[inline(always)]
    pub(super) fn new(s: S) -> Self {
        Self { least: [s.splat(f32::INFINITY); 2], largest: [s.splat(f32::NEG_INFINITY); 2] }
    }

    #[inline(always)]
    pub(super) fn see(&mut self, s: S, block: S::V) {
        self.least = [s.min(block, self.least[1]), self.least[0]];
        self.largest = [s.max(block, self.largest[1]), self.largest[0]];
    }

    #[inline(always)]
    pub(super) fn spread(self, s: S) -> (Spread, f32) {
        let least = s.min(self.least[0], self.least[1]);
        let largest = s.maximum(s.max(self.largest[0], self.largest[1]));
        Spread::new(-s.maximum(s.sub(s.splat(0.0), least)), largest)
    }
}

/// The last values of a row, of which there are fewer than lanes; the first of them also stands behind them, where it
/// changes neither the least nor the largest.
#[inline(always)]
pub(super) fn load_last<S: Simd>(s: S, tail: &[f32]) -> S::V {
    let mut block: Block = [tail.first().copied().unwrap_or(0.0); LANES];
    block[..tail.len()].copy_from_slice(tail);
    s.load(&block)
}

/// The codes of a block.
#[inline(always)]
pub(super) fn codes<S: Simd>(s: S, block: S::V, middle: S::V, factor: S::V) -> S::V {
    s.mul(s.sub(block, middle), factor)
}

/// Quantizes rows, as many as `spreads`, which take how each is spread; `rows` and `codes` (each xor `flip`) are cut
/// evenly, a row's codes begin its part.
///
/// The next row's range is found while a row's codes are made: values come from far, and come meanwhile.
#[inline(always)]
pub(crate) fn quantize_rows<S: Simd>(s: S, rows: &[f32], flip: u8, codes: &mut [u8], spreads: &mut [Spread]) {
    let count = spreads.len().max(1);
    let (width, stride) = ((rows.len() / count).max(1), (codes.len() / count).max(1));
    let mut ahead = rows.chunks_exact(width);
    let Some(first) = ahead.next() else { return };
    let mut range = Range::new(s);
    let (blocks, tail) = first.as_chunks::<LANES>();
    for block in blocks {
        range.see(s, s.load(block));
    }
    if !tail.is_empty() {
        range.see(s, load_last(s, tail));
    }
    let parts = rows.chunks_exact(width).zip(codes.chunks_exact_mut(stride));
    for ((row, codes), spread) in parts.zip(spreads) {
        let factor;
        (*spread, factor) = range.spread(s);
        // The last row once more: what comes of it is not used.
        range = code_row(s, row, *spread, factor, flip, codes, ahead.next().unwrap_or(row));
    }
}

/// Writes the first `row.len()` of `codes`; returns the range of `next`, a row as long.
#[inline(always)]
fn code_row<S: Simd>(
    s: S,
    row: &[f32],
    spread: Spread,
    factor: f32,
    flip: u8,
    codes: &mut [u8],
    next: &[f32],
) -> Range<S> {
    let (middle, factor) = (s.splat(spread.middle), s.splat(factor));
    let mut range = Range::new(s);
    let ((blocks, tail), (next_blocks, next_tail)) = (row.as_chunks::<LANES>(), next.as_chunks::<LANES>());
    let (places, _) = codes.as_chunks_mut::<LANES>();
    for ((block, next), place) in blocks.iter().zip(next_blocks).zip(places.iter_mut()) {
        range.see(s, s.load(next));
        s.store_codes(self::codes(s, s.load(block), middle, factor), flip, place);
    }
    if !tail.is_empty()
        && let Some(place) = places.get_mut(blocks.len())
    {
        range.see(s, load_last(s, next_tail));
        s.store_codes(self::codes(s, load_last(s, tail), middle, factor), flip, place);
    }
    range
}
