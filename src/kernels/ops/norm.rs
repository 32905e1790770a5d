//! Layer normalisation of a row, to f32 or straight to int8 codes.

use super::quantize::row_scale;
use crate::kernels::simd::{LANES, Simd};

/// `y = (x - mean) / sqrt(variance + epsilon) · gain + bias`.
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a> {
    pub(crate) gain: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) epsilon: f32,
}

/// Running sums kept apart: additions wait for one another, four of them overlap.
const SUMS: usize = 4;

/// Block `index` of `row`, zeros behind its end.
#[inline(always)]
fn block<S: Simd>(s: S, row: &[f32], index: usize) -> S::V {
    let (blocks, tail) = row.as_chunks::<LANES>();
    match blocks.get(index) {
        Some(block) => s.load(block),
        None => s.load_part(tail),
    }
}

/// `(x - mean)²` of a block; zero in the lanes behind the row's end.
#[inline(always)]
fn squared_deviation<S: Simd>(s: S, row: &[f32], index: usize, mean: S::V) -> S::V {
    let deviation = s.sub(block(s, row, index), mean);
    let squared = s.mul(deviation, deviation);
    let left = row.len() - index * LANES;
    if left >= LANES {
        return squared;
    }
    let mut lanes = [0.0; LANES];
    s.store(squared, &mut lanes);
    s.load_part(&lanes[..left])
}

#[inline(always)]
fn total<S: Simd>(s: S, sums: [S::V; SUMS]) -> f32 {
    s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
}

/// Mean and `1/sqrt(variance + epsilon)` of a row.
#[inline(always)]
fn moments<S: Simd>(s: S, row: &[f32], epsilon: f32) -> (S::V, S::V) {
    let blocks = row.len().div_ceil(LANES);
    let count = row.len() as f32;
    let mut sums = [s.splat(0.0); SUMS];
    for index in 0..blocks {
        sums[index % SUMS] = s.add(sums[index % SUMS], block(s, row, index));
    }
    let mean = s.splat(total(s, sums) / count);
    let mut sums = [s.splat(0.0); SUMS];
    for index in 0..blocks {
        sums[index % SUMS] = s.add(sums[index % SUMS], squared_deviation(s, row, index, mean));
    }
    let variance = total(s, sums) / count;
    (mean, s.splat(1.0 / libm::sqrtf(variance + epsilon)))
}

/// Block `index` of the normalised row.
#[inline(always)]
fn normalised<S: Simd>(s: S, norm: &Norm<'_>, row: &[f32], index: usize, mean: S::V, inverse: S::V) -> S::V {
    let scaled = s.mul(s.sub(block(s, row, index), mean), inverse);
    s.mul_add(scaled, block(s, norm.gain, index), block(s, norm.bias, index))
}

/// Normalises `row` into `out`.
#[inline(always)]
pub(crate) fn norm_row<S: Simd>(s: S, norm: &Norm<'_>, row: &[f32], out: &mut [f32]) {
    let (mean, inverse) = moments(s, row, norm.epsilon);
    let (places, tail) = out.as_chunks_mut::<LANES>();
    let full = places.len();
    for (index, place) in places.iter_mut().enumerate() {
        s.store(normalised(s, norm, row, index, mean, inverse), place);
    }
    if !tail.is_empty() {
        s.store_part(normalised(s, norm, row, full, mean, inverse), tail);
    }
}

/// Normalises `row` and quantizes the result into `codes` (each xor `flip`); returns the scale.
///
/// The normalised values are worked out twice, once for their largest and once for the codes: cheaper than a place
/// to keep them.
#[inline(always)]
pub(crate) fn norm_row_to_codes<S: Simd>(
    s: S,
    norm: &Norm<'_>,
    row: &[f32],
    flip: u8,
    codes: &mut [u8],
) -> f32 {
    let (mean, inverse) = moments(s, row, norm.epsilon);
    let blocks = row.len().div_ceil(LANES);
    let mut largest = s.splat(0.0);
    for index in 0..blocks {
        // Behind the row's end gain and bias are zero, and so is the value.
        largest = s.max(s.abs(normalised(s, norm, row, index, mean, inverse)), largest);
    }
    let (scale, factor) = row_scale(s.maximum(largest));
    let factor = s.splat(factor);
    let (places, _) = codes.as_chunks_mut::<LANES>();
    for (index, place) in places.iter_mut().enumerate().take(blocks) {
        s.store_codes(s.mul(normalised(s, norm, row, index, mean, inverse), factor), flip, place);
    }
    scale
}
