//! Rows of f32 to int8 codes, symmetric, a scale per row.

use crate::kernels::simd::{LANES, Simd};

/// Rows whose largest magnitude is below this become zeros: its reciprocal would overflow.
const TINY: f32 = 1e-30;

/// The scale of a row whose largest magnitude is `largest`, and the factor that makes codes of its values.
///
/// `|x| ≤ largest` gives `|x · factor| < 127.5`: a code is never -128.
#[inline(always)]
pub(crate) fn row_scale(largest: f32) -> (f32, f32) {
    if largest < TINY { (0.0, 0.0) } else { (largest / 127.0, 127.0 / largest) }
}

/// Quantizes `row` into the first `row.len()` of `codes` (each xor `flip`); returns the scale.
#[inline(always)]
pub(crate) fn quantize_row<S: Simd>(s: S, row: &[f32], flip: u8, codes: &mut [u8]) -> f32 {
    let (blocks, tail) = row.as_chunks::<LANES>();
    // Comparisons wait for one another: four chains of them.
    let mut largest = [s.splat(0.0); 4];
    let (fours, rest) = blocks.as_chunks::<4>();
    for four in fours {
        for (largest, block) in largest.iter_mut().zip(four) {
            *largest = s.max(s.abs(s.load(block)), *largest);
        }
    }
    for (largest, block) in largest.iter_mut().zip(rest) {
        *largest = s.max(s.abs(s.load(block)), *largest);
    }
    let mut largest = s.max(s.max(largest[0], largest[1]), s.max(largest[2], largest[3]));
    if !tail.is_empty() {
        largest = s.max(s.abs(s.load_part(tail)), largest);
    }
    let (scale, factor) = row_scale(s.maximum(largest));
    let factor = s.splat(factor);
    let (places, _) = codes.as_chunks_mut::<LANES>();
    for (block, place) in blocks.iter().zip(places.iter_mut()) {
        s.store_codes(s.mul(s.load(block), factor), flip, place);
    }
    if !tail.is_empty()
        && let Some(place) = places.get_mut(blocks.len())
    {
        s.store_codes(s.mul(s.load_part(tail), factor), flip, place);
    }
    scale
}
