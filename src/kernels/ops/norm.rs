//! Layer normalisation of a row, to f32 or straight to int8 codes.

use super::math::sqrt;
use super::quantize::{CHAINS, QuantParams, Range, load_last};
use crate::kernels::blocks::{Blocks, BlocksMut};
use crate::kernels::simd::{LANES, Simd};

/// `y = (x - mean) / sqrt(variance + epsilon) · gain + bias`, the division as `x · inverse - mean · inverse`.
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a> {
    pub(crate) gain: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) epsilon: f32,
}

/// Running sums of a row kept apart: additions wait for one another, four of them overlap.
const SUMS: usize = 4;

/// The sum of each of `R` rows' values, or if `SQUARED` of the squares of their distances to `means`; block `i` goes to
/// running sum `i % SUMS`.
#[inline(always)]
fn sums<S: Simd, const R: usize, const SQUARED: bool>(s: S, rows: [&[f32]; R], means: [S::V; R]) -> [f32; R] {
    let mut sums = [[s.splat(0.0); SUMS]; R];
    let blocks = Blocks::<f32, LANES, R>::of(rows);
    for four in 0..blocks.count() / SUMS {
        for chain in 0..SUMS {
            for row in 0..R {
                // SAFETY: fours of the blocks that are there.
                let block = s.load(unsafe { blocks.at(row, SUMS * four + chain) });
                sums[row][chain] = s.add(sums[row][chain], value::<S, SQUARED>(s, block, means[row]));
            }
        }
    }
    let mut out = [0.0; R];
    for row in 0..R {
        let (blocks, tail) = rows[row].as_chunks::<{ SUMS * LANES }>().1.as_chunks::<LANES>();
        let (sums, mean) = (&mut sums[row], means[row]);
        for (sum, block) in sums.iter_mut().zip(blocks) {
            *sum = s.add(*sum, value::<S, SQUARED>(s, s.load(block), mean));
        }
        // Fewer than `SUMS` whole blocks were left.
        if !tail.is_empty()
            && let Some(sum) = sums.get_mut(blocks.len())
        {
            // Behind the row's end there is nothing to deviate.
            let last = value::<S, SQUARED>(s, s.load_part(tail), mean);
            *sum = s.add(*sum, s.first_lanes(tail.len(), last, s.splat(0.0)));
        }
        out[row] = total(s, *sums);
    }
    out
}

/// The running sums and their lanes, added up.
#[inline(always)]
fn total<S: Simd>(s: S, sums: [S::V; SUMS]) -> f32 {
    s.sum(s.add(s.add(sums[0], sums[1]), s.add(sums[2], sums[3])))
}

/// What [`sums`] sums.
#[inline(always)]
fn value<S: Simd, const SQUARED: bool>(s: S, block: S::V, mean: S::V) -> S::V {
    if !SQUARED {
        return block;
    }
    let deviation = s.sub(block, mean);
    s.mul(deviation, deviation)
}

/// What brings a row to mean 0 and variance 1: `x · inverse + shift`.
#[derive(Clone, Copy)]
struct Moments<S: Simd> {
    /// `1 / sqrt(variance + epsilon)`.
    inverse: S::V,
    /// `-mean · inverse`.
    shift: S::V,
}

impl<S: Simd> Moments<S> {
    /// Of each row, by the sum of its values.
    #[inline(always)]
    fn of<const R: usize>(s: S, rows: [&[f32]; R], totals: [f32; R], epsilon: f32) -> [Self; R] {
        let zero = s.splat(0.0);
        let (mut means, mut mean_lanes) = ([0.0; R], [zero; R]);
        for row in 0..R {
            means[row] = totals[row] / rows[row].len() as f32;
            mean_lanes[row] = s.splat(means[row]);
        }
        let mut moments = [Self { inverse: zero, shift: zero }; R];
        for (row, sum) in sums::<S, R, true>(s, rows, mean_lanes).into_iter().enumerate() {
            let inverse = 1.0 / sqrt(sum / rows[row].len() as f32 + epsilon);
            moments[row] = Self { inverse: s.splat(inverse), shift: s.splat(-means[row] * inverse) };
        }
        moments
    }

    #[inline(always)]
    fn normalise(self, s: S, x: S::V, gain: S::V, bias: S::V) -> S::V {
        s.mul_add(s.mul_add(x, self.inverse, self.shift), gain, bias)
    }
}

impl Norm<'_> {
    /// The gains and biases that stand behind the last whole block, if any; behind them the first of each again.
    #[inline(always)]
    fn last<S: Simd>(&self, s: S) -> (S::V, S::V) {
        (load_last(s, self.gain.as_chunks::<LANES>().1), load_last(s, self.bias.as_chunks::<LANES>().1))
    }
}

/// Normalises `row` into `out`.
#[inline(always)]
pub(crate) fn norm_row<S: Simd>(s: S, norm: &Norm<'_>, row: &[f32], out: &mut [f32]) {
    let totals = sums::<S, 1, false>(s, [row], [s.splat(0.0)]);
    let [moments] = Moments::of(s, [row], totals, norm.epsilon);
    let (places, tail) = out.as_chunks_mut::<LANES>();
    let (gains, biases) = (norm.gain.as_chunks::<LANES>().0, norm.bias.as_chunks::<LANES>().0);
    let (blocks, last) = row.as_chunks::<LANES>();
    for (((place, x), gain), bias) in places.iter_mut().zip(blocks).zip(gains).zip(biases) {
        s.store(moments.normalise(s, s.load(x), s.load(gain), s.load(bias)), place);
    }
    if !last.is_empty() {
        let (gain, bias) = norm.last(s);
        s.store_part(moments.normalise(s, load_last(s, last), gain, bias), tail);
    }
}

/// Normalises rows and quantizes the results: as many rows as `params`, which are filled in, as long as the
/// gains; row by row in `codes` (each xor `flip`), which are cut evenly.
///
/// Where there are registers for it, two rows at once: one's divisions and reductions go on beside the other's.
#[inline(always)]
pub(crate) fn norm_rows_to_codes<S: Simd>(
    s: S,
    norm: &Norm<'_>,
    rows: &[f32],
    flip: u8,
    codes: &mut [u8],
    params: &mut [QuantParams],
) {
    let stride = codes.len() / params.len().max(1);
    if S::CHAINS != 16 {
        return groups_to_codes::<S, 1>(s, norm, rows, flip, codes, params);
    }
    let paired = params.len() / 2 * 2;
    if let Some((rows, last_rows)) = rows.split_at_checked(paired * norm.gain.len())
        && let Some((codes, last_codes)) = codes.split_at_mut_checked(paired * stride)
        && let Some((params, last_params)) = params.split_at_mut_checked(paired)
    {
        groups_to_codes::<S, 2>(s, norm, rows, flip, codes, params);
        groups_to_codes::<S, 1>(s, norm, last_rows, flip, last_codes, last_params);
    }
}

/// [`norm_rows_to_codes`] for groups of `R` rows.
///
/// The next group's values are summed while a group's codes are made: they come from far, and come meanwhile.
#[inline(always)]
fn groups_to_codes<S: Simd, const R: usize>(
    s: S,
    norm: &Norm<'_>,
    rows: &[f32],
    flip: u8,
    codes: &mut [u8],
    params: &mut [QuantParams],
) {
    let (width, stride) = (norm.gain.len(), codes.len() / params.len().max(1));
    let mut groups = rows.chunks_exact((R * width).max(1));
    let Some(mut group) = groups.next().map(|rows| cut::<R>(rows, width)) else { return };
    let mut totals = sums::<S, R, false>(s, group, [s.splat(0.0); R]);
    let stride = stride.max(1);
    for (codes, params) in codes.chunks_exact_mut(R * stride).zip(params.as_chunks_mut::<R>().0) {
        // The last group once more: what comes of it is not used.
        let next = groups.next().map_or(group, |rows| cut::<R>(rows, width));
        let mut parts = codes.chunks_exact_mut(stride);
        let codes = core::array::from_fn(|_| parts.next().unwrap_or_default());
        (*params, totals) = to_codes(s, norm, group, totals, flip, codes, next);
        group = next;
    }
}

/// `R` rows of `width` values.
#[inline(always)]
fn cut<const R: usize>(rows: &[f32], width: usize) -> [&[f32]; R] {
    core::array::from_fn(|row| rows.get(row * width..(row + 1) * width).unwrap_or(&[]))
}

/// [`norm_rows_to_codes`] for `R` rows, whose values' sums are `totals`; returns the sums of the rows `next`, too.
///
/// The normalised values are worked out twice, once for their range and once for the codes: cheaper than a place
/// to keep them.
#[inline(always)]
fn to_codes<S: Simd, const R: usize>(
    s: S,
    norm: &Norm<'_>,
    rows: [&[f32]; R],
    totals: [f32; R],
    flip: u8,
    codes: [&mut [u8]; R],
    next: [&[f32]; R],
) -> ([QuantParams; R], [f32; R]) {
    let moments = Moments::of(s, rows, totals, norm.epsilon);
    let mut ranges = [Range::new(s); R];
    let tail = norm.gain.as_chunks::<LANES>().1;
    let tails = rows.map(|row| row.as_chunks::<LANES>().1);
    let (blocks, next_blocks) = (Blocks::<f32, LANES, R>::of(rows), Blocks::<f32, LANES, R>::of(next));
    let mut places = BlocksMut::<u8, LANES, R>::of(codes);
    let weights = Blocks::<f32, LANES, 2>::of([norm.gain, norm.bias]);
    // As many of all.
    let count = weights.count().min(blocks.count()).min(next_blocks.count()).min(places.count());
    macro_rules! see_block {
        ($index:expr, $chain:expr) => {
            let index = $index;
            // SAFETY: the loops below stay below `count`.
            let (gain, bias) = unsafe { (s.load(weights.at(0, index)), s.load(weights.at(1, index))) };
            for row in 0..R {
                // SAFETY: as above.
                let block = s.load(unsafe { blocks.at(row, index) });
                let value = moments[row].normalise(s, block, gain, bias);
                ranges[row].see(s, $chain, value);
            }
        };
    }
    for turn in 0..count / CHAINS {
        for chain in 0..CHAINS {
            see_block!(CHAINS * turn + chain, chain);
        }
    }
    for index in count / CHAINS * CHAINS..count {
        see_block!(index, 0);
    }
    if !tail.is_empty() {
        let (gain, bias) = norm.last(s);
        for row in 0..R {
            ranges[row].see(s, 0, moments[row].normalise(s, load_last(s, tails[row]), gain, bias));
        }
    }
    let zero = s.splat(0.0);
    let mut params = [QuantParams::default(); R];
    let (mut factors, mut shifts) = ([zero; R], [0; R]);
    for row in 0..R {
        (params[row], factors[row]) = ranges[row].params(s);
        shifts[row] = params[row].shift(flip);
    }
    let mut chains = [[zero; SUMS]; R];
    macro_rules! code_block {
        ($index:expr, $chain:expr) => {
            let index = $index;
            // SAFETY: as above.
            let (gain, bias) = unsafe { (s.load(weights.at(0, index)), s.load(weights.at(1, index))) };
            for row in 0..R {
                // SAFETY: as above.
                let (block, next) = unsafe { (blocks.at(row, index), next_blocks.at(row, index)) };
                let (block, next) = (s.load(block), s.load(next));
                chains[row][$chain] = s.add(chains[row][$chain], next);
                let value = moments[row].normalise(s, block, gain, bias);
                // SAFETY: as above.
                s.store_codes(s.mul(value, factors[row]), shifts[row], unsafe { places.at(row, index) });
            }
        };
    }
    for four in 0..count / SUMS {
        for chain in 0..SUMS {
            code_block!(SUMS * four + chain, chain);
        }
    }
    for index in count / SUMS * SUMS..count {
        code_block!(index, index % SUMS);
    }
    if !tail.is_empty() {
        let (gain, bias) = norm.last(s);
        for row in 0..R {
            let value = moments[row].normalise(s, load_last(s, tails[row]), gain, bias);
            if count < places.count() {
                // SAFETY: as asked.
                s.store_codes(s.mul(value, factors[row]), shifts[row], unsafe { places.at(row, count) });
            }
        }
    }
    let mut next_totals = [0.0; R];
    for row in 0..R {
        if !tail.is_empty() {
            let chain = &mut chains[row][count % SUMS];
            *chain = s.add(*chain, s.load_part(next[row].as_chunks::<LANES>().1));
        }
        next_totals[row] = total(s, chains[row]);
    }
    (params, next_totals)
}
