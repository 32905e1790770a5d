//! Layer normalisation of a row, to f32 or straight to int8 codes.

use super::quantize::{Range, Spread, codes as codes_of, load_last};
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

/// The sum of `value` over the blocks of `row`, block `i` going to running sum `i % SUMS`. The last block may be short:
/// its `value` is told how many lanes count.
#[inline(always)]
fn sum_blocks<S: Simd>(s: S, row: &[f32], value: impl Fn(S::V, usize) -> S::V) -> f32 {
    let mut sums = [s.splat(0.0); SUMS];
    let (fours, rest) = row.as_chunks::<{ SUMS * LANES }>();
    for four in fours {
        for (sum, block) in sums.iter_mut().zip(four.as_chunks::<LANES>().0) {
            *sum = s.add(*sum, value(s.load(block), LANES));
        }
    }
    let (blocks, tail) = rest.as_chunks::<LANES>();
    for (sum, block) in sums.iter_mut().zip(blocks) {
        *sum = s.add(*sum, value(s.load(block), LANES));
    }
    if !tail.is_empty() {
        // Fewer than `SUMS` whole blocks were left.
        for sum in sums.iter_mut().skip(blocks.len()).take(1) {
            *sum = s.add(*sum, value(s.load_part(tail), tail.len()));
        }
    }
    s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
}

/// Mean and `1/sqrt(variance + epsilon)` of a row.
#[inline(always)]
fn moments<S: Simd>(s: S, row: &[f32], epsilon: f32) -> (S::V, S::V) {
    let count = row.len() as f32;
    let mean = s.splat(sum_blocks(s, row, |block, _| block) / count);
    let squared_deviation = |block, lanes| {
        let deviation = s.sub(block, mean);
        let squared = s.mul(deviation, deviation);
        if lanes == LANES {
            return squared;
        }
        // Behind the row's end there is nothing to deviate.
        let mut block = [0.0; LANES];
        s.store(squared, &mut block);
        s.load_part(&block[..lanes])
    };
    let variance = sum_blocks(s, row, squared_deviation) / count;
    (mean, s.splat(1.0 / libm::sqrtf(variance + epsilon)))
}

/// Calls `each` with the blocks of the normalised row, in order; behind the row's end the last block has its first value.
#[inline(always)]
fn normalise<S: Simd>(
    s: S,
    norm: &Norm<'_>,
    row: &[f32],
    (mean, inverse): (S::V, S::V),
    mut each: impl FnMut(S::V),
) {
    let block = |x, gain, bias| s.mul_add(s.mul(s.sub(x, mean), inverse), gain, bias);
    let ((xs, x), (gains, gain), (biases, bias)) =
        (row.as_chunks::<LANES>(), norm.gain.as_chunks::<LANES>(), norm.bias.as_chunks::<LANES>());
    for ((x, gain), bias) in xs.iter().zip(gains).zip(biases) {
        each(block(s.load(x), s.load(gain), s.load(bias)));
    }
    if !x.is_empty() {
        each(block(load_last(s, x), load_last(s, gain), load_last(s, bias)));
    }
}

/// Normalises `row` into `out`.
#[inline(always)]
pub(crate) fn norm_row<S: Simd>(s: S, norm: &Norm<'_>, row: &[f32], out: &mut [f32]) {
    let moments = moments(s, row, norm.epsilon);
    let (places, tail) = out.as_chunks_mut::<LANES>();
    let mut places = places.iter_mut();
    normalise(s, norm, row, moments, |block| match places.next() {
        Some(place) => s.store(block, place),
        None => s.store_part(block, tail),
    });
}

/// Normalises `row` and quantizes the result into `codes` (each xor `flip`); returns how they are spread.
///
/// The normalised values are worked out twice, once for their range and once for the codes: cheaper than a place
/// to keep them.
#[inline(always)]
pub(crate) fn norm_row_to_codes<S: Simd>(
    s: S,
    norm: &Norm<'_>,
    row: &[f32],
    flip: u8,
    codes: &mut [u8],
) -> Spread {
    let moments = moments(s, row, norm.epsilon);
    let mut range = Range::new(s);
    normalise(s, norm, row, moments, |block| range.see(s, block));
    let (spread, factor) = range.spread(s);
    let (middle, factor) = (s.splat(spread.middle), s.splat(factor));
    let mut places = codes.as_chunks_mut::<LANES>().0.iter_mut();
    normalise(s, norm, row, moments, |block| {
        if let Some(place) = places.next() {
            s.store_codes(codes_of(s, block, middle, factor), flip, place);
        }
    });
    spread
}
