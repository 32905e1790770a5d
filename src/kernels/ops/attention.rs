//! Causal attention of one head over one sequence.

use core::ops::Range;

use super::math::exp;
use crate::kernels::shared::SharedMut;
use crate::kernels::simd::{Block, LANES, Simd};

/// The longest sequence: bounds the scores that a task keeps on its stack.
pub(crate) const MAX_TOKENS: usize = 256;

/// Causal self-attention over the rows of one or more sequences.
pub(crate) struct Attention<'a> {
    /// `[rows, 3 * width]`: queries, keys and values side by side, head after head in each.
    pub(crate) qkv: &'a [f32],
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
    /// Factor on every score.
    pub(crate) scale: f32,
    /// `[rows, width]`.
    pub(crate) out: SharedMut<'a, f32>,
}

impl Attention<'_> {
    fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// `head_dim` values of `head` in `row`: the query (`part` 0), key (1) or value (2).
    #[inline(always)]
    fn vector(&self, row: usize, part: usize, head: usize) -> &[f32] {
        &self.qkv[(3 * row + part) * self.width() + head * self.head_dim..][..self.head_dim]
    }
}

/// Keys in a row of the transposed keys: whole vectors.
pub(crate) const fn padded_keys(tokens: usize) -> usize {
    tokens.next_multiple_of(LANES)
}

/// Scores of the queries at hand, later their probabilities.
type Scores<const Q: usize> = [[f32; MAX_TOKENS]; Q];

/// One head of one sequence.
struct Head<'a> {
    step: &'a Attention<'a>,
    head: usize,
    /// The sequence's first row.
    start: usize,
    /// `[head_dim, stride]`: the keys, a token in each column.
    keys: &'a [f32],
    stride: usize,
}

impl Head<'_> {
    /// The query (`part` 0), key (1) or value (2) of `token`.
    #[inline(always)]
    fn vector(&self, token: usize, part: usize) -> &[f32] {
        self.step.vector(self.start + token, part, self.head)
    }
}

/// `out[i] = Σ_{j ≤ i} softmax_j(scale · q_i · k_j) · v_j` for `head`, over the sequence `rows`.
///
/// The order: a score is one chain of fused multiply-adds over the head's channels; the sum of a row's exponentials
/// goes in blocks of [`LANES`] keys from the first, then down the tree; an output is one chain over the keys. Masked
/// keys count as exact zeros, so a row's result does not depend on what follows it.
///
/// # Safety
/// `rows` are at most [`MAX_TOKENS`] rows of `step`, `keys` has `head_dim * padded_keys(rows.len())` values, and no
/// other task has this head of this sequence.
#[inline(always)]
pub(crate) unsafe fn attend<S: Simd>(
    s: S,
    step: &Attention<'_>,
    rows: Range<usize>,
    head: usize,
    keys: &mut [f32],
) {
    // SAFETY: the caller's promise.
    unsafe {
        match S::CHAINS {
            16 => attend_by::<S, 8, 2>(s, step, rows, head, keys),
            _ => attend_by::<S, 4, 1>(s, step, rows, head, keys),
        }
    }
}

/// [`attend`], `Q` queries going through `B` blocks of keys, or of the values' channels, together.
///
/// # Safety
/// As [`attend`].
#[inline(always)]
unsafe fn attend_by<S: Simd, const Q: usize, const B: usize>(
    s: S,
    step: &Attention<'_>,
    rows: Range<usize>,
    head: usize,
    keys: &mut [f32],
) {
    let tokens = rows.len();
    let stride = padded_keys(tokens);
    transpose_keys(s, step, rows.clone(), head, stride, keys);
    let head = Head { step, head, start: rows.start, keys, stride };
    let mut scores: Scores<Q> = [[0.0; MAX_TOKENS]; Q];
    for first in (0..tokens).step_by(Q) {
        let queries = (tokens - first).min(Q);
        let blocks = (first + queries).div_ceil(LANES);
        let whole = blocks - blocks % B;
        for block in (0..whole).step_by(B) {
            score::<S, Q, B>(s, &head, first, queries, block, &mut scores);
        }
        for block in whole..blocks {
            score::<S, Q, 1>(s, &head, first, queries, block, &mut scores);
        }
        let mut inverse = [0.0; Q];
        for (query, inverse) in inverse.iter_mut().enumerate().take(queries) {
            *inverse = softmax(s, &mut scores[query], first + query + 1, first + queries);
        }
        let whole = step.head_dim / (B * LANES) * (B * LANES);
        for channel in (0..whole).step_by(B * LANES) {
            // SAFETY: the caller's promise.
            unsafe { mix::<S, Q, B>(s, &head, first, queries, channel, &scores, &inverse) };
        }
        for channel in (whole..step.head_dim).step_by(LANES) {
            // SAFETY: the caller's promise.
            unsafe { mix::<S, Q, 1>(s, &head, first, queries, channel, &scores, &inverse) };
        }
    }
}

/// `keys[channel][token]`, zeros behind the last token.
#[inline(always)]
fn transpose_keys<S: Simd>(
    s: S,
    step: &Attention<'_>,
    rows: Range<usize>,
    head: usize,
    stride: usize,
    keys: &mut [f32],
) {
    for (column, first) in rows.clone().step_by(LANES).enumerate() {
        for (index, keys) in keys[..step.head_dim * stride].chunks_mut(LANES * stride).enumerate() {
            let channels = index * LANES..((index + 1) * LANES).min(step.head_dim);
            let mut tile = [[0.0; LANES]; LANES];
            for (row, out) in (first..rows.end).zip(&mut tile) {
                let key = &step.vector(row, 1, head)[channels.clone()];
                match key.as_array::<LANES>() {
                    Some(key) => s.store(s.load(key), out),
                    None => out[..key.len()].copy_from_slice(key),
                }
            }
            s.transpose(&mut tile);
            for (out, channel) in keys.chunks_exact_mut(stride).zip(&tile) {
                if let Some(place) = out.as_chunks_mut::<LANES>().0.get_mut(column) {
                    s.store(s.load(channel), place);
                }
            }
        }
    }
}

/// `B` blocks of `values` from `at`.
///
/// # Safety
/// They are there.
#[inline(always)]
unsafe fn blocks_at<S: Simd, const B: usize>(s: S, values: &[f32], at: usize) -> [S::V; B] {
    debug_assert!(at + B * LANES <= values.len());
    let mut blocks = [s.splat(0.0); B];
    for (index, block) in blocks.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *block = s.load(unsafe { &*values.as_ptr().add(at + index * LANES).cast::<Block>() });
    }
    blocks
}

/// For each list of factors the chains `Σ factors[i] · vectors(i)`; all lists are equally long.
#[inline(always)]
fn chains<S: Simd, const Q: usize, const B: usize>(
    s: S,
    factors: [&[f32]; Q],
    vectors: impl Fn(usize) -> [S::V; B],
) -> [[S::V; B]; Q] {
    let mut sums = [[s.splat(0.0); B]; Q];
    let count = factors[0].len();
    let fours = factors.map(|factors| &factors.as_chunks::<4>().0[..count / 4]);
    for index in 0..count / 4 {
        macro_rules! link {
            ($lane:literal) => {
                let vectors = vectors(4 * index + $lane);
                for (sums, fours) in sums.iter_mut().zip(&fours) {
                    for (sum, vector) in sums.iter_mut().zip(vectors) {
                        *sum = s.mul_add_lane::<$lane>(&fours[index], vector, *sum);
                    }
                }
            };
        }
        link!(0);
        link!(1);
        link!(2);
        link!(3);
    }
    for index in count - count % 4..count {
        let vectors = vectors(index);
        for (sums, factors) in sums.iter_mut().zip(factors) {
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                *sum = s.mul_add(s.splat(factors[index]), vector, *sum);
            }
        }
    }
    sums
}

/// Scaled scores of queries `first..first + queries` against `B` blocks of keys from `block` on.
#[inline(always)]
fn score<S: Simd, const Q: usize, const B: usize>(
    s: S,
    head: &Head<'_>,
    first: usize,
    queries: usize,
    block: usize,
    scores: &mut Scores<Q>,
) {
    // Missing queries repeat the last: the same number of chains at once whatever their number.
    let mut q = [head.vector(first, 0); Q];
    for (query, q) in q.iter_mut().enumerate() {
        *q = head.vector(first + query.min(queries - 1), 0);
    }
    let sums = chains::<S, Q, B>(s, q, |channel| {
        // SAFETY: `attend` was promised `head_dim` rows of `stride` keys, and the blocks lie in a row.
        unsafe { blocks_at(s, head.keys, channel * head.stride + block * LANES) }
    });
    for (sums, scores) in sums.into_iter().zip(scores) {
        for (sum, place) in sums.into_iter().zip(&mut scores.as_chunks_mut::<LANES>().0[block..]) {
            s.store(s.mul(sum, s.splat(head.step.scale)), place);
        }
    }
}

/// Turns the first `seen` scores into `e^(score - largest)`, those behind them up to `end` into zeros; returns one over
/// the sum.
#[inline(always)]
fn softmax<S: Simd>(s: S, scores: &mut [f32; MAX_TOKENS], seen: usize, end: usize) -> f32 {
    let blocks = &mut scores.as_chunks_mut::<LANES>().0[..end.div_ceil(LANES)];
    let (seen_blocks, masked) = blocks.split_at_mut(seen.div_ceil(LANES));
    masked.as_flattened_mut().fill(0.0);
    let Some((last, whole)) = seen_blocks.split_last_mut() else { return 0.0 };
    let left = seen - LANES * whole.len();
    let last_scores = s.first_lanes(left, s.load(last), s.splat(f32::MIN));
    let mut largest = last_scores;
    for block in whole.iter() {
        largest = s.max(s.load(block), largest);
    }
    let largest = s.splat(s.maximum(largest));
    let mut sum = s.splat(0.0);
    for block in whole {
        let power = exp(s, s.sub(s.load(block), largest));
        s.store(power, block);
        sum = s.add(sum, power);
    }
    let power = s.first_lanes(left, exp(s, s.sub(last_scores, largest)), s.splat(0.0));
    s.store(power, last);
    1.0 / s.sum(s.add(sum, power))
}

/// The weighted sums of the values, in `B` blocks of channels from `channel` on; a single block may be short.
///
/// # Safety
/// As [`attend`].
#[inline(always)]
unsafe fn mix<S: Simd, const Q: usize, const B: usize>(
    s: S,
    head: &Head<'_>,
    first: usize,
    queries: usize,
    channel: usize,
    scores: &Scores<Q>,
    inverse: &[f32; Q],
) {
    let Attention { head_dim, heads, .. } = *head.step;
    let channels = channel..(channel + B * LANES).min(head_dim);
    let seen = scores.each_ref().map(|scores| &scores[..(first + queries).min(MAX_TOKENS)]);
    let sums = if channels.len() == B * LANES {
        chains::<S, Q, B>(s, seen, |token| {
            let at = (3 * (head.start + token) + 2) * heads * head_dim + head.head * head_dim + channel;
            // SAFETY: the sequence's rows are rows of `qkv`, and the head's channels lie in them.
            unsafe { blocks_at(s, head.step.qkv, at) }
        })
    } else {
        chains::<S, Q, B>(s, seen, |token| [s.load_part(&head.vector(token, 2)[channels.clone()]); B])
    };
    for (query, (sums, &inverse)) in sums.iter().zip(inverse).enumerate().take(queries) {
        let at = ((head.start + first + query) * heads + head.head) * head_dim;
        // SAFETY: the head's channels of this row are this task's.
        let place = unsafe { head.step.out.part(at + channels.start..at + channels.end) };
        for (&sum, place) in sums.iter().zip(place.chunks_mut(LANES)) {
            // A sum of nothing but vanishing products may be -0 or +0 by the number of masked keys: adding 0 makes
            // it +0.
            let mixed = s.add(s.mul(sum, s.splat(inverse)), s.splat(0.0));
            match place.as_mut_array::<LANES>() {
                Some(place) => s.store(mixed, place),
                None => s.store_part(mixed, place),
            }
        }
    }
}
