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

/// The sum of `f` of a row's values, block `b` going to running sum `b % SUMS`.
#[inline(always)]
fn sum<S: Simd>(s: S, row: &[f32], f: impl Fn(S::V) -> S::V) -> f32 {
    let (blocks, tail) = row.as_chunks::<LANES>();
    let (whole, rest) = blocks.as_chunks::<SUMS>();
    let mut sums = [s.splat(0.0); SUMS];
    for blocks in whole {
        for (sum, block) in sums.iter_mut().zip(blocks) {
            *sum = s.add(*sum, f(s.load(block)));
        }
    }
    for (sum, block) in sums.iter_mut().zip(rest) {
        *sum = s.add(*sum, f(s.load(block)));
    }
    if !tail.is_empty() {
        // Behind the row's end there is nothing to add.
        let mut lanes = [0.0; LANES];
        s.store(f(s.load_part(tail)), &mut lanes);
        let sum = &mut sums[rest.len()];
        *sum = s.add(*sum, s.load_part(&lanes[..tail.len()]));
    }
    s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
}

/// Mean and `1/sqrt(variance + epsilon)` of a row.
#[inline(always)]
fn moments<S: Simd>(s: S, row: &[f32], epsilon: f32) -> (S::V, S::V) {
    let count = row.len() as f32;
    let mean = s.splat(sum(s, row, |x| x) / count);
    let squares = sum(s, row, |x| {
        let deviation = s.sub(x, mean);
        s.mul(deviation, deviation)
    });
    (mean, s.splat(1.0 / libm::sqrtf(squares / count + epsilon)))
}

/// Calls `f` with each block of the normalised row, in order; behind the row's end its values are zero.
#[inline(always)]
fn normalised<S: Simd>(
    s: S,
    norm: &Norm<'_>,
    row: &[f32],
    moments: (S::V, S::V),
    mut f: impl FnMut(usize, S::V),
) {
    let (mean, inverse) = moments;
    let value = |x, gain, bias| s.mul_add(s.mul(s.sub(x, mean), inverse), gain, bias);
    let [row, gain, bias] = [row, norm.gain, norm.bias].map(|values| values.as_chunks::<LANES>());
    for (index, ((x, gain), bias)) in row.0.iter().zip(gain.0).zip(bias.0).enumerate() {
        f(index, value(s.load(x), s.load(gain), s.load(bias)));
    }
    if !row.1.is_empty() {
        f(row.0.len(), value(s.load_part(row.1), s.load_part(gain.1), s.load_part(bias.1)));
    }
}

/// Normalises `row` into `out`.
#[inline(always)]
pub(crate) fn norm_row<S: Simd>(s: S, norm: &Norm<'_>, row: &[f32], out: &mut [f32]) {
    let moments = moments(s, row, norm.epsilon);
    let (places, tail) = out.as_chunks_mut::<LANES>();
    normalised(s, norm, row, moments, |index, value| match places.get_mut(index) {
        Some(place) => s.store(value, place),
        None => s.store_part(value, tail),
    });
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
    let moments = moments(s, row, norm.epsilon);
    let mut largest = s.splat(0.0);
    normalised(s, norm, row, moments, |_, value| largest = s.max(s.abs(value), largest));
    let (scale, factor) = row_scale(s.maximum(largest));
    let factor = s.splat(factor);
    let (places, _) = codes.as_chunks_mut::<LANES>();
    normalised(s, norm, row, moments, |index, value| {
        if let Some(place) = places.get_mut(index) {
            s.store_codes(s.mul(value, factor), flip, place);
        }
    });
    scale
}
