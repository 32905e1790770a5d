//! Attention of one head over one sequence.

use core::ops::Range;

use super::math::{EXP2_LIMIT, exp2};
use crate::kernels::shared::SharedMut;
use crate::kernels::simd::{Block, LANES, Simd};

/// The most rows of a sequence: CLIP's image encoders have up to 577. Each row takes room in the arena, not on the stack.
pub const MAX_TOKENS: usize = 1024;

/// Which rows of its sequence a row sees in attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Itself and those before it.
    Causal,
    /// All.
    None,
}

impl Mask {
    /// How many of a sequence's `tokens` rows, from the first, row `row` sees.
    #[inline(always)]
    fn seen(self, row: usize, tokens: usize) -> usize {
        match self {
            Mask::Causal => row + 1,
            Mask::None => tokens,
        }
    }
}

/// What the heads of an attention step have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    /// How many there are.
    pub(crate) count: usize,
    /// Channels of each.
    pub(crate) channels: usize,
    /// Factor on every score.
    pub(crate) scale: f32,
    pub(crate) mask: Mask,
}

impl Heads {
    /// Channels of all of them.
    pub(crate) fn width(self) -> usize {
        self.count * self.channels
    }
}

/// Self-attention over the rows of one or more sequences.
pub(crate) struct Attention<'a> {
    /// `[rows, 3 * width]`: queries, keys and values side by side, head after head in each.
    pub(crate) qkv: &'a [f32],
    pub(crate) heads: Heads,
    /// The first row whose output is wanted: those of the rows before it are left alone.
    pub(crate) from: usize,
    /// `[rows, width]`.
    pub(crate) out: SharedMut<'a, f32>,
}

/// The most queries that go through the keys together.
const MAX_QUERIES: usize = 6;

/// Keys in a row of the transposed keys, and scores of a query: whole vectors.
const fn padded_keys(tokens: usize) -> usize {
    tokens.next_multiple_of(LANES)
}

/// Values of working memory for one head of `channels` channels over a sequence of `tokens` tokens: the keys, transposed, and the
/// scores of [`MAX_QUERIES`] queries.
pub(crate) const fn head_scratch(tokens: usize, channels: usize) -> usize {
    (channels + MAX_QUERIES) * padded_keys(tokens)
}

/// One head of one sequence.
struct Head<'a> {
    step: &'a Attention<'a>,
    head: usize,
    /// The sequence's rows.
    rows: Range<usize>,
    /// `[channels, stride]`: the keys, a token in each column.
    keys: &'a [f32],
    /// Keys, and scores, in a row.
    stride: usize,
}

impl Head<'_> {
    /// Where the query (`part` 0), key (1) or value (2) of `token` begins: a pointer that may go on to those of other tokens.
    ///
    /// # Safety
    /// The sequence has the token.
    #[inline(always)]
    unsafe fn vector(&self, token: usize, part: usize) -> *const f32 {
        let Heads { channels, .. } = self.step.heads;
        let at = (3 * (self.rows.start + token) + part) * self.step.heads.width() + self.head * channels;
        debug_assert!(at + channels <= self.step.qkv.len());
        // SAFETY: the rows are rows of `qkv`, the head is one of them.
        unsafe { self.step.qkv.as_ptr().add(at) }
    }
}

/// `out[i] = Σ_j softmax_j(scale · q_i · k_j) · v_j` for `head`, over the sequence `rows`, of which those from `step.from` on
/// are written; `j` goes over those rows that the mask lets `i` see.
///
/// Scores are scaled by `scale · log2 e`, so that the exponentials are powers of two.
///
/// The order: a score is one chain of fused multiply-adds over the head's channels; the sum of a row's exponentials
/// goes in blocks of [`LANES`] keys from the first, then down the tree; an output is one chain over the keys. Masked
/// keys count as exact zeros, so under a causal mask a row's result does not depend on what follows it.
///
/// # Safety
/// `rows` are rows of `step`, `head` is one of its heads, `scratch` has [`head_scratch`] values, and no other task has this head of
/// this sequence.
#[inline(always)]
pub(crate) unsafe fn attend<S: Simd>(
    s: S,
    step: &Attention<'_>,
    rows: Range<usize>,
    head: usize,
    scratch: &mut [f32],
) {
    // SAFETY: the caller's promise.
    unsafe {
        match S::CHAINS {
            16 => attend_by::<S, MAX_QUERIES, 2, 4>(s, step, rows, head, scratch),
            _ => attend_by::<S, 4, 1, 1>(s, step, rows, head, scratch),
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
    scratch: &mut [f32],
) {
    const { assert!(Q <= MAX_QUERIES) };
    let (tokens, channels) = (rows.len(), step.heads.channels);
    let stride = padded_keys(tokens);
    let Some((keys, scores)) = scratch.split_at_mut_checked(channels * stride) else { return };
    let Some(scores) = scores.get_mut(..Q * stride) else { return };
    let wanted = step.from.saturating_sub(rows.start);
    let mut head = Head { step, head, rows, keys: &[], stride };
    // SAFETY: the caller's promise.
    unsafe { transpose_keys(s, &head, keys) };
    head.keys = keys;
    for first in (wanted..tokens).step_by(Q) {
        let queries = (tokens - first).min(Q);
        // Keys that one of the queries sees.
        let seen = step.heads.mask.seen(first + queries - 1, tokens);
        let blocks = seen.div_ceil(LANES);
        let whole = blocks - blocks % K;
        for block in (0..whole).step_by(K) {
            // SAFETY: the caller's promise.
            unsafe { score::<S, Q, K>(s, &head, first, queries, block, scores) };
        }
        for block in whole..blocks {
            // SAFETY: the caller's promise.
            unsafe { score::<S, Q, 1>(s, &head, first, queries, block, scores) };
        }
        let mut inverse = [0.0; Q];
        for (query, inverse) in inverse.iter_mut().enumerate().take(queries) {
            let scores = scores.get_mut(query * stride..query * stride + blocks * LANES).unwrap_or(&mut []);
            *inverse = softmax(s, scores, step.heads.mask.seen(first + query, tokens));
        }
        let whole = channels / (V * LANES) * (V * LANES);
        for channel in (0..whole).step_by(V * LANES) {
            // SAFETY: the caller's promise.
            unsafe { mix::<S, Q, V>(s, &head, first, queries, seen, channel, scores, &inverse) };
        }
        for channel in (whole..channels).step_by(LANES) {
            // SAFETY: the caller's promise.
            unsafe { mix::<S, Q, 1>(s, &head, first, queries, seen, channel, scores, &inverse) };
        }
    }
}

/// `keys[channel][token]`; what stands behind the last token is masked anyway.
///
/// # Safety
/// As [`attend`]; `keys` has a row for each channel.
#[inline(always)]
unsafe fn transpose_keys<S: Simd>(s: S, head: &Head<'_>, keys: &mut [f32]) {
    let (tokens, channels, stride) = (head.rows.len(), head.step.heads.channels, head.stride);
    if tokens < LANES || channels < LANES {
        for token in 0..tokens {
            // SAFETY: the caller's promise; a key has so many channels.
            let key = unsafe { core::slice::from_raw_parts(head.vector(token, 1), channels) };
            for (keys, &value) in keys.chunks_exact_mut(stride.max(1)).zip(key) {
                if let Some(key) = keys.get_mut(token) {
                    *key = value;
                }
            }
        }
        return;
    }
    let step = 3 * head.step.heads.width();
    for token in (0..tokens).step_by(LANES) {
        // The last sixteen tokens, or channels, may have some of those before them.
        let token = token.min(tokens - LANES);
        for channel in (0..channels).step_by(LANES) {
            let channel = channel.min(channels - LANES);
            // SAFETY: sixteen of the sequence's rows, which are rows of `qkv`, and of the head's channels; there is a
            // row of `stride` keys for each channel.
            unsafe {
                let to = keys.as_mut_ptr().add(channel * stride + token);
                s.transpose(head.vector(token, 1).add(channel), step, to, stride);
            }
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
#[cfg(feature = "std")]
pub(crate) const EXERCISE: usize = 64;

/// What the inner loop of [`attend`] multiplies in benchmarks: factors, and vectors of two blocks.
#[cfg(feature = "std")]
pub(crate) struct Exercise {
    pub(crate) factors: [f32; EXERCISE],
    pub(crate) vectors: [[Block; 2]; EXERCISE],
}

/// The inner loop of [`attend`] alone; adds its sums to `out` and returns the number of multiplications.
#[cfg(feature = "std")]
#[inline(always)]
pub(crate) fn exercise<S: Simd>(s: S, exercise: &Exercise, out: &mut Block) -> usize {
    match S::CHAINS {
        16 => exercise_by::<S, MAX_QUERIES, 2>(s, exercise, out),
        _ => exercise_by::<S, 4, 1>(s, exercise, out),
    }
}

/// [`exercise`] with `Q` lists of factors and `B` blocks, at most two.
#[cfg(feature = "std")]
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

/// Scores of queries `first..first + queries`, scaled to powers of two, against `B` blocks of keys from `block` on: `[Q, stride]`.
///
/// # Safety
/// As [`attend`]; the sequence has the queries, a row of keys the blocks.
#[inline(always)]
unsafe fn score<S: Simd, const Q: usize, const B: usize>(
    s: S,
    head: &Head<'_>,
    first: usize,
    queries: usize,
    block: usize,
    scores: &mut [f32],
) {
    // Missing queries repeat the last: the same number of chains at once whatever their number.
    let mut q = [core::ptr::null(); Q];
    for (query, q) in q.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *q = unsafe { head.vector(first + query.min(queries - 1), 0) };
    }
    let keys = Vectors {
        // SAFETY: a row of keys has the blocks.
        start: unsafe { head.keys.as_ptr().add(block * LANES) },
        step: head.stride,
        count: head.step.heads.channels,
        lanes: LANES,
    };
    // SAFETY: queries, and columns of keys, have as many values as the head has channels.
    let sums = unsafe { chains::<S, Q, B, true>(s, q, keys) };
    let scale = head.step.heads.scale * core::f32::consts::LOG2_E;
    for (sums, scores) in sums.into_iter().zip(scores.chunks_exact_mut(head.stride.max(1))) {
        let places = scores.as_chunks_mut::<LANES>().0.get_mut(block..).unwrap_or(&mut []);
        for (sum, place) in sums.into_iter().zip(places) {
            s.store(s.mul(sum, s.splat(scale)), place);
        }
    }
}

/// `2^(score - largest)`, at least `2^-126`.
#[inline(always)]
fn power<S: Simd>(s: S, score: S::V, largest: S::V) -> S::V {
    exp2(s, s.max(s.sub(score, largest), s.constant(-EXP2_LIMIT)))
}

/// Turns the first `seen` of a query's scores into `2^(score - largest)`, those behind them, up to whole vectors, into zeros; returns one
/// over the sum.
#[inline(always)]
fn softmax<S: Simd>(s: S, scores: &mut [f32], seen: usize) -> f32 {
    let blocks = scores.as_chunks_mut::<LANES>().0;
    let Some((seen_blocks, masked)) = blocks.split_at_mut_checked(seen.div_ceil(LANES)) else {
        return f32::NAN;
    };
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

/// The weighted sums of the values of the first `seen` tokens, in `B` blocks of channels from `channel` on; a single block may be
/// short.
///
/// # Safety
/// As [`attend`]; the sequence has the queries and tokens, `scores` is `[Q, stride]`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn mix<S: Simd, const Q: usize, const B: usize>(
    s: S,
    head: &Head<'_>,
    first: usize,
    queries: usize,
    seen: usize,
    channel: usize,
    scores: &[f32],
    inverse: &[f32; Q],
) {
    let heads = head.step.heads;
    let channels = channel..(channel + B * LANES).min(heads.channels);
    let mut factors = [core::ptr::null(); Q];
    for (query, factors) in factors.iter_mut().enumerate() {
        // SAFETY: there is a row of scores for each query.
        *factors = unsafe { scores.as_ptr().add(query * head.stride) };
    }
    let values = Vectors {
        // SAFETY: the sequence's rows are rows of `qkv`, and the head's channels lie in them.
        start: unsafe { head.vector(0, 2).add(channel) },
        step: 3 * heads.width(),
        count: seen,
        lanes: channels.len().min(LANES),
    };
    // SAFETY: as above; there are scores for each.
    let sums = unsafe {
        if channels.len() == B * LANES {
            chains::<S, Q, B, true>(s, factors, values)
        } else {
            chains::<S, Q, B, false>(s, factors, values)
        }
    };
    for (query, (sums, &inverse)) in sums.iter().zip(inverse).enumerate().take(queries) {
        let at = (head.rows.start + first + query) * heads.width() + head.head * heads.channels;
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
