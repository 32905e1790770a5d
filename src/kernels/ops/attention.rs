//! Causal attention of one head over one sequence.

use core::ops::Range;

use super::math::{EXP2_LIMIT, exp2};
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
/// Scores are scaled by `scale · log2 e`, so that the exponentials are powers of two.
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
            16 => attend_by::<S, 6, 2, 4>(s, step, rows, head, keys),
            _ => attend_by::<S, 4, 1, 1>(s, step, rows, head, keys),
        }
    }
}

/// [`attend`], `Q` queries going through `K` blocks of keys, then through `V` of the values' channels, together.
///
/// # Safety
/// As [`attend`].
#[inline(always)]
unsafe fn attend_by<S: Simd, const Q: usize, const K: usize, const V: usize>(
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
        let whole = blocks - blocks % K;
        for block in (0..whole).step_by(K) {
            score::<S, Q, K>(s, &head, first, queries, block, &mut scores);
        }
        for block in whole..blocks {
            score::<S, Q, 1>(s, &head, first, queries, block, &mut scores);
        }
        let mut inverse = [0.0; Q];
        for (query, inverse) in inverse.iter_mut().enumerate().take(queries) {
            *inverse = softmax(s, &mut scores[query], first + query + 1, first + queries);
        }
        let whole = step.head_dim / (V * LANES) * (V * LANES);
        for channel in (0..whole).step_by(V * LANES) {
            // SAFETY: the caller's promise.
            unsafe { mix::<S, Q, V>(s, &head, first, queries, channel, &scores, &inverse) };
        }
        for channel in (whole..step.head_dim).step_by(LANES) {
            // SAFETY: the caller's promise.
            unsafe { mix::<S, Q, 1>(s, &head, first, queries, channel, &scores, &inverse) };
        }
    }
}

/// `keys[channel][token]`; what stands behind the last token is masked anyway.
#[inline(always)]
fn transpose_keys<S: Simd>(
    s: S,
    step: &Attention<'_>,
    rows: Range<usize>,
    head: usize,
    stride: usize,
    keys: &mut [f32],
) {
    let (tokens, channels) = (rows.len(), step.head_dim);
    let keys = &mut keys[..channels * stride];
    if tokens < LANES || channels < LANES {
        for (token, row) in rows.enumerate() {
            for (keys, &value) in keys.chunks_exact_mut(stride).zip(step.vector(row, 1, head)) {
                keys[token] = value;
            }
        }
        return;
    }
    for token in (0..tokens).step_by(LANES) {
        // The last sixteen tokens, or channels, may have some of those before them.
        let token = token.min(tokens - LANES);
        let from = step.vector(rows.start + token, 1, head);
        for channel in (0..channels).step_by(LANES) {
            let channel = channel.min(channels - LANES);
            let to = &mut keys[channel * stride + token..];
            // SAFETY: sixteen of the sequence's rows, which are rows of `qkv`, and of the head's channels; there is a
            // row of `stride` keys for each channel.
            unsafe { s.transpose(from[channel..].as_ptr(), 3 * step.width(), to.as_mut_ptr(), stride) };
        }
    }
}

/// The vectors of a chain: vector `i` of block `b` has the sixteen values from `start + i * step + b * LANES` on.
#[derive(Clone, Copy)]
struct Vectors {
    start: *const f32,
    step: usize,
    /// How many there are.
    count: usize,
    /// Values in each: [`LANES`], or fewer where a single block is wanted.
    lanes: usize,
}

impl Vectors {
    /// `B` blocks of vector `index`, which has all lanes if `FULL`.
    ///
    /// # Safety
    /// They are there.
    #[inline(always)]
    unsafe fn load<S: Simd, const B: usize, const FULL: bool>(self, s: S, index: usize) -> [S::V; B] {
        let mut blocks = [s.splat(0.0); B];
        for (at, block) in blocks.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            unsafe {
                let from = self.start.add(index * self.step + at * LANES);
                *block = if FULL {
                    s.load(&*from.cast::<Block>())
                } else {
                    s.load_part(core::slice::from_raw_parts(from, self.lanes))
                };
            }
        }
        blocks
    }
}

/// For each list of factors, as long as there are vectors, the chains `Σ factors[i] · vectors[i]`.
///
/// # Safety
/// Factors and `B` blocks of the vectors are there; the vectors have all lanes if `FULL`.
// No closures and no slices in the loop: a closure would be compiled without the instruction set.
#[inline(always)]
unsafe fn chains<S: Simd, const Q: usize, const B: usize, const FULL: bool>(
    s: S,
    factors: [*const f32; Q],
    vectors: Vectors,
) -> [[S::V; B]; Q] {
    let mut sums = [[s.splat(0.0); B]; Q];
    let fours = vectors.count / 4;
    for index in 0..fours {
        macro_rules! link {
            ($lane:literal) => {
                // SAFETY: the caller's promise.
                let blocks = unsafe { vectors.load::<S, B, FULL>(s, 4 * index + $lane) };
                for (sums, factors) in sums.iter_mut().zip(&factors) {
                    // SAFETY: as above: four factors.
                    let four = unsafe { &*factors.add(4 * index).cast::<[f32; 4]>() };
                    for (sum, block) in sums.iter_mut().zip(blocks) {
                        *sum = s.mul_add_lane::<$lane>(four, block, *sum);
                    }
                }
            };
        }
        link!(0);
        link!(1);
        link!(2);
        link!(3);
    }
    for index in 4 * fours..vectors.count {
        // SAFETY: the caller's promise.
        let blocks = unsafe { vectors.load::<S, B, FULL>(s, index) };
        for (sums, factors) in sums.iter_mut().zip(&factors) {
            // SAFETY: as above.
            let factor = s.splat(unsafe { *factors.add(index) });
            for (sum, block) in sums.iter_mut().zip(blocks) {
                *sum = s.mul_add(factor, block, *sum);
            }
        }
    }
    sums
}

/// Factors of a chain in [`exercise`].
pub(crate) const EXERCISE: usize = 64;

/// What the inner loop of [`attend`] multiplies in benchmarks: factors, and vectors of two blocks.
pub(crate) struct Exercise {
    pub(crate) factors: [f32; EXERCISE],
    pub(crate) vectors: [[Block; 2]; EXERCISE],
}

/// The inner loop of [`attend`] alone; adds its sums to `out` and returns the number of multiplications.
#[inline(always)]
pub(crate) fn exercise<S: Simd>(s: S, exercise: &Exercise, out: &mut Block) -> usize {
    match S::CHAINS {
        16 => exercise_by::<S, 6, 2>(s, exercise, out),
        _ => exercise_by::<S, 4, 1>(s, exercise, out),
    }
}

/// [`exercise`] with `Q` lists of factors and `B` blocks, at most two.
#[inline(always)]
fn exercise_by<S: Simd, const Q: usize, const B: usize>(s: S, exercise: &Exercise, out: &mut Block) -> usize {
    let vectors =
        Vectors { start: exercise.vectors.as_ptr().cast(), step: 2 * LANES, count: EXERCISE, lanes: LANES };
    // SAFETY: as many factors as vectors, and two blocks of each.
    let sums = unsafe { chains::<S, Q, B, true>(s, [exercise.factors.as_ptr(); Q], vectors) };
    for sum in sums.as_flattened() {
        s.store(s.add(s.load(out), *sum), out);
    }
    Q * B * LANES * EXERCISE
}

/// Scores of queries `first..first + queries`, scaled to powers of two, against `B` blocks of keys from `block` on.
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
    let mut q = [core::ptr::null(); Q];
    for (query, q) in q.iter_mut().enumerate() {
        *q = head.vector(first + query.min(queries - 1), 0).as_ptr();
    }
    let keys = Vectors {
        start: head.keys[block * LANES..].as_ptr(),
        step: head.stride,
        count: head.step.head_dim,
        lanes: LANES,
    };
    // SAFETY: a query has `head_dim` values; `attend` was promised `head_dim` rows of `stride` keys, and the blocks lie
    // in a row.
    let sums = unsafe { chains::<S, Q, B, true>(s, q, keys) };
    let scale = head.step.scale * core::f32::consts::LOG2_E;
    for (sums, scores) in sums.into_iter().zip(scores) {
        for (sum, place) in sums.into_iter().zip(&mut scores.as_chunks_mut::<LANES>().0[block..]) {
            s.store(s.mul(sum, s.splat(scale)), place);
        }
    }
}

/// `2^(score - largest)`, at least `2^-126`.
#[inline(always)]
fn power<S: Simd>(s: S, score: S::V, largest: S::V) -> S::V {
    exp2(s, s.max(s.sub(score, largest), s.constant(-EXP2_LIMIT)))
}

/// Turns the first `seen` scores into `2^(score - largest)`, those behind them up to `end` into zeros; returns one over
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
        let power = power(s, s.load(block), largest);
        s.store(power, block);
        sum = s.add(sum, power);
    }
    let last_power = s.first_lanes(left, power(s, last_scores, largest), s.splat(0.0));
    s.store(last_power, last);
    1.0 / s.sum(s.add(sum, last_power))
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
    let mut factors = [core::ptr::null(); Q];
    for (scores, factors) in scores.iter().zip(&mut factors) {
        *factors = scores.as_ptr();
    }
    let values = Vectors {
        start: head.vector(0, 2)[channel..].as_ptr(),
        step: 3 * heads * head_dim,
        count: (first + queries).min(MAX_TOKENS),
        lanes: channels.len().min(LANES),
    };
    // SAFETY: the sequence's rows are rows of `qkv`, and the head's channels lie in them; there are scores for each.
    let sums = unsafe {
        if channels.len() == B * LANES {
            chains::<S, Q, B, true>(s, factors, values)
        } else {
            chains::<S, Q, B, false>(s, factors, values)
        }
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
