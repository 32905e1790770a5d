//! Causal attention of one head over one sequence.

use core::ops::Range;

use super::math::exp;
use crate::kernels::shared::SharedMut;
use crate::kernels::simd::{Block, LANES, Simd};

/// The longest sequence: bounds the scores that a task keeps on its stack.
pub(crate) const MAX_TOKENS: usize = 256;

/// Queries that go through the keys together.
const QUERIES: usize = 4;

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
type Scores = [[f32; MAX_TOKENS]; QUERIES];

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
    let tokens = rows.len();
    let stride = padded_keys(tokens);
    transpose_keys(step, rows.clone(), head, stride, keys);
    let mut scores: Scores = [[0.0; MAX_TOKENS]; QUERIES];
    let mut first = 0;
    while first < tokens {
        let queries = (tokens - first).min(QUERIES);
        score(s, step, rows.start, first, queries, head, keys, stride, &mut scores);
        let mut inverse = [0.0; QUERIES];
        for (query, inverse) in inverse.iter_mut().enumerate().take(queries) {
            let end = padded_keys(first + queries);
            *inverse = softmax(s, &mut scores[query][..end], first + query + 1);
        }
        // SAFETY: the caller's promise.
        unsafe { mix(s, step, rows.start, first, queries, head, &scores, inverse) };
        first += queries;
    }
}

/// `keys[channel][token]`, zeros behind the last token.
#[inline(always)]
fn transpose_keys(step: &Attention<'_>, rows: Range<usize>, head: usize, stride: usize, keys: &mut [f32]) {
    let tokens = rows.len();
    // Four by four, as vectors; then the tokens and channels that are left.
    let whole = (tokens - tokens % 4, step.head_dim - step.head_dim % 4);
    for token in (0..whole.0).step_by(4) {
        let four: [&[f32]; 4] = core::array::from_fn(|i| step.vector(rows.start + token + i, 1, head));
        let [a, b, c, d] = four.map(|vector| vector.as_chunks::<4>().0);
        let places = keys.chunks_exact_mut(4 * stride);
        for ((((a, b), c), d), places) in a.iter().zip(b).zip(c).zip(d).zip(places) {
            for (channel, place) in places.chunks_exact_mut(stride).enumerate() {
                place[token..token + 4].copy_from_slice(&[a[channel], b[channel], c[channel], d[channel]]);
            }
        }
    }
    for (token, row) in rows.enumerate() {
        let from = if token < whole.0 { whole.1 } else { 0 };
        for (channel, &value) in step.vector(row, 1, head).iter().enumerate().skip(from) {
            keys[channel * stride + token] = value;
        }
    }
    for channel in 0..step.head_dim {
        keys[channel * stride + tokens..(channel + 1) * stride].fill(0.0);
    }
}

/// Sixteen values of `values` from `at`.
///
/// # Safety
/// They are there.
#[inline(always)]
unsafe fn block_at(values: &[f32], at: usize) -> &Block {
    debug_assert!(at + LANES <= values.len());
    // SAFETY: the caller's promise.
    unsafe { &*values.as_ptr().add(at).cast::<Block>() }
}

/// For each list of factors the chain `Σ factors[i] · vector(i)`; all lists are equally long.
#[inline(always)]
fn chains<S: Simd>(s: S, factors: [&[f32]; QUERIES], vector: impl Fn(usize) -> S::V) -> [S::V; QUERIES] {
    let mut sums = [s.splat(0.0); QUERIES];
    let [a, b, c, d] = factors.map(|factors| factors.as_chunks::<4>().0);
    for (index, (((a, b), c), d)) in a.iter().zip(b).zip(c).zip(d).enumerate() {
        macro_rules! link {
            ($lane:literal) => {
                let vector = vector(4 * index + $lane);
                for (sum, factors) in sums.iter_mut().zip([a, b, c, d]) {
                    *sum = s.mul_add_lane::<$lane>(factors, vector, *sum);
                }
            };
        }
        link!(0);
        link!(1);
        link!(2);
        link!(3);
    }
    for index in 4 * a.len()..factors[0].len() {
        let vector = vector(index);
        for (sum, factors) in sums.iter_mut().zip(factors) {
            *sum = s.mul_add(s.splat(factors[index]), vector, *sum);
        }
    }
    sums
}

/// Scaled scores of queries `first..first + queries` against all keys up to the last of them.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn score<S: Simd>(
    s: S,
    step: &Attention<'_>,
    start: usize,
    first: usize,
    queries: usize,
    head: usize,
    keys: &[f32],
    stride: usize,
    scores: &mut Scores,
) {
    // Missing queries repeat the last: four chains at once whatever their number.
    let query = |i: usize| step.vector(start + first + i.min(queries - 1), 0, head);
    let q = [query(0), query(1), query(2), query(3)];
    for block in 0..(first + queries).div_ceil(LANES) {
        // SAFETY: `attend` was promised `head_dim` rows of `stride` keys, and the block lies in a row.
        let sums =
            chains(s, q, |channel| s.load(unsafe { block_at(keys, channel * stride + block * LANES) }));
        for (sum, scores) in sums.into_iter().zip(scores.iter_mut()) {
            if let Some(place) = scores[block * LANES..].first_chunk_mut::<LANES>() {
                s.store(s.mul(sum, s.splat(step.scale)), place);
            }
        }
    }
}

/// Turns the first `seen` scores into `e^(score - largest)`, those behind them into zeros; returns one over the sum.
#[inline(always)]
fn softmax<S: Simd>(s: S, scores: &mut [f32], seen: usize) -> f32 {
    scores[seen..].fill(f32::MIN);
    let (blocks, _) = scores.as_chunks_mut::<LANES>();
    let mut largest = s.splat(f32::MIN);
    for block in blocks.iter() {
        largest = s.max(s.load(block), largest);
    }
    let largest = s.splat(s.maximum(largest));
    for block in blocks.iter_mut() {
        s.store(exp(s, s.sub(s.load(block), largest)), block);
    }
    scores[seen..].fill(0.0);
    let (blocks, _) = scores.as_chunks::<LANES>();
    let mut sum = s.splat(0.0);
    for block in blocks {
        sum = s.add(sum, s.load(block));
    }
    1.0 / s.sum(sum)
}

/// The weighted sums of the values.
///
/// # Safety
/// As [`attend`].
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn mix<S: Simd>(
    s: S,
    step: &Attention<'_>,
    start: usize,
    first: usize,
    queries: usize,
    head: usize,
    scores: &Scores,
    inverse: [f32; QUERIES],
) {
    for block in 0..step.head_dim.div_ceil(LANES) {
        let channels = block * LANES..((block + 1) * LANES).min(step.head_dim);
        let seen = scores.each_ref().map(|scores| &scores[..first + queries]);
        let value = |token: usize| (3 * (start + token) + 2) * step.width() + head * step.head_dim;
        let sums = if channels.len() == LANES {
            // SAFETY: the sequence's rows are rows of `qkv`, and the head's channels lie in them.
            chains(s, seen, |token| s.load(unsafe { block_at(step.qkv, value(token) + channels.start) }))
        } else {
            chains(s, seen, |token| s.load_part(&step.qkv[value(token)..][channels.clone()]))
        };
        for (query, sum) in sums.into_iter().enumerate().take(queries) {
            // A sum of nothing but vanishing products may be -0 or +0 by the number of masked keys: adding 0 makes
            // it +0.
            let mixed = s.add(s.mul(sum, s.splat(inverse[query])), s.splat(0.0));
            let at = (start + first + query) * step.width() + head * step.head_dim;
            // SAFETY: the head's channels of this row are this task's.
            let place = unsafe { step.out.part(at + channels.start..at + channels.end) };
            match place.as_mut_array::<LANES>() {
                Some(place) => s.store(mixed, place),
                None => s.store_part(mixed, place),
            }
        }
    }
}
