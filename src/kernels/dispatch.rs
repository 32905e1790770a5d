//! The safe side of the kernels: sizes are checked here, work is cut into tasks here.

use core::num::NonZero;
use core::ops::Range;

use super::choice::Kernels;
use super::float_mode::Exact;
use super::layout::{Packing, Panels, Piece, code_stride};
use super::ops::attention::{Attention, Heads, MAX_TOKENS, head_scratch};
use super::ops::embed::{PositionRow, TokenRow};
use super::ops::linear::{Epilogue, Task, TaskSize};
use super::ops::linear_f32::LinearF32;
use super::ops::linear_int8::LinearInt8;
use super::ops::norm::Norm;
use super::ops::patches::{Patches, row_to_codes};
use super::ops::quantize::QuantParams;
use super::set::KernelSet;
use super::shared::SharedMut;
use super::shares::Shares;
use crate::threads::Team;

/// Rows in a task of a step that goes row by row: even, for kernels that pair rows.
const ROWS_PER_TASK: usize = 8;
/// How products in f32 are cut.
const F32_TASK: TaskSize = TaskSize { least_panels: 1, panels: 1, rows: 24, per_worker: 12 };

/// Quantized rows: `rows` rows of `stride` bytes, and the quantization parameters of each.
#[derive(Clone, Copy)]
pub(crate) struct Codes<'a> {
    pub(crate) codes: &'a [u8],
    pub(crate) params: &'a [QuantParams],
    pub(crate) columns: usize,
}

/// A place for quantized rows.
pub(crate) struct CodesMut<'a> {
    pub(crate) codes: &'a mut [u8],
    pub(crate) params: &'a mut [QuantParams],
    pub(crate) columns: usize,
}

/// Sequences whose rows follow one another, by their lengths in tokens.
#[derive(Clone, Copy)]
pub(crate) struct Sequences<'a>(pub(crate) &'a [usize]);

impl Sequences<'_> {
    pub(crate) fn rows(self) -> usize {
        self.0.iter().sum()
    }

    /// The rows of sequence `index`.
    pub(crate) fn range(self, index: usize) -> Range<usize> {
        let start = self.0.iter().take(index).sum();
        start..start + self.0.get(index).copied().unwrap_or(0)
    }

    /// For each row its position in its sequence.
    pub(crate) fn positions(self) -> impl Iterator<Item = usize> {
        self.0.iter().flat_map(|&tokens| 0..tokens)
    }
}

/// The rows of task `task`.
fn rows_of_task(task: usize, rows: usize) -> Range<usize> {
    task * ROWS_PER_TASK..((task + 1) * ROWS_PER_TASK).min(rows)
}

/// Has the team do `tasks` tasks, each in the floating-point mode that results are right in: `task(worker, number)`.
fn share(team: &impl Team, tasks: usize, task: impl Fn(usize, usize) + Sync) {
    let shares = Shares::new(tasks, team.workers());
    team.run(tasks, &|worker, number| {
        let _exact = Exact::enter();
        if let Some(number) = shares.next(worker, number) {
            task(worker, number);
        }
    });
}

/// Cuts a product with `panels` into tasks: some panels, and of the rows all, or a part where there are few panels. Tasks go through
/// `parts` equal parts of the panels side by side, where several workers share them.
fn by_panels(
    team: &impl Team,
    panels: Range<usize>,
    parts: usize,
    rows: usize,
    size: TaskSize,
    run: impl Fn(usize, Task) + Sync,
) {
    let workers = team.workers();
    let tasks = if workers == 1 { 1 } else { size.per_worker * workers };
    let panels_per_task = size.panels.min(panels.len() / tasks.max(1)).max(size.least_panels);
    let parts = NonZero::new(parts).filter(|&parts| workers > 1 && panels.len() % parts == 0);
    let parts = parts.unwrap_or(NonZero::<usize>::MIN);
    let part = panels.len() / parts;
    let across = (parts.get() * part.div_ceil(panels_per_task.max(1))).max(1);
    let down =
        NonZero::new(tasks.div_ceil(across).min(rows / size.rows.max(1))).unwrap_or(NonZero::<usize>::MIN);
    // Even, for kernels that pair rows.
    let rows_per_task = rows.div_ceil(down.get()).next_multiple_of(2);
    // Tasks that read the same panels follow one another. Behind the last are the next step's.
    let panels_of = |task: usize| match task / down {
        place if place < across => {
            let start = panels.start + place % parts * part;
            let first = start + place / parts * panels_per_task;
            first..(first + panels_per_task).min(start + part)
        }
        _ => panels.end..panels.end,
    };
    share(team, across * down.get(), |worker, task| {
        let (own, next, row) = (panels_of(task), panels_of(task + 1).start, task % down * rows_per_task);
        let next = (next != own.start).then_some(next);
        let rows = row.min(rows)..(row + rows_per_task).min(rows);
        run(worker, Task { panels: own, rows, next });
    });
}

/// The numbers of the panels of `piece`, where it is whole panels of such a step and starts at a multiple of 64.
fn at_hand(panels: Panels, piece: Piece<'_>) -> Option<Range<usize>> {
    let stride = panels.panel_bytes().max(1);
    let range = piece.first..piece.first.checked_add(piece.bytes.len() / stride)?;
    let whole = range.len() * stride == piece.bytes.len() && range.end <= panels.count();
    (whole && piece.bytes.as_ptr().addr().is_multiple_of(64)).then_some(range)
}

/// What is written where sizes do not fit, which a plan that was loaded rules out: nothing that could be taken for a result. The
/// runtime has no panic paths; builds with debug assertions stop here.
#[cold]
#[inline(never)]
fn unfit(out: &mut [f32]) {
    debug_assert!(false, "the sizes of a step do not fit");
    out.fill(f32::NAN);
}

/// [`unfit`], for rows of codes.
#[cold]
#[inline(never)]
fn unfit_codes(out: CodesMut<'_>) {
    debug_assert!(false, "the sizes of a step do not fit");
    out.params.fill(QuantParams { scale: f32::NAN, neg_zero_point: 0 });
}

impl KernelSet<'_> {
    /// `out[row] = token + position` for each pair.
    pub(crate) fn embed<'r>(
        self,
        rows: impl Iterator<Item = (TokenRow<'r>, PositionRow<'r>)>,
        width: usize,
        out: &mut [f32],
    ) {
        for ((token, position), out) in rows.zip(out.chunks_exact_mut(width.max(1))) {
            // SAFETY: holding `self` proves the instructions.
            unsafe { (self.first().0.vector.embed_row)(token, position, out) };
        }
    }

    /// Normalises each row of `input` into `out`.
    pub(crate) fn norm(self, team: &impl Team, norm: Norm<'_>, input: &[f32], out: &mut [f32]) {
        let width = norm.gain.len();
        if norm.bias.len() != width || input.len() != out.len() {
            return unfit(out);
        }
        let rows = input.len() / width.max(1);
        let out = SharedMut::new(out);
        share(team, rows.div_ceil(ROWS_PER_TASK), |worker, task| {
            for row in rows_of_task(task, rows) {
                let place = row * width..(row + 1) * width;
                let input = input.get(place.clone()).unwrap_or(&[]);
                // SAFETY: the row is this task's; holding `self` proves the instructions.
                unsafe { (self.of(worker).0.vector.norm_row)(&norm, input, out.part(place)) };
            }
        });
    }

    /// Normalises and quantizes each row of `input` into `out`.
    pub(crate) fn norm_to_codes(self, team: &impl Team, norm: Norm<'_>, input: &[f32], out: CodesMut<'_>) {
        if norm.bias.len() != norm.gain.len() || out.columns != norm.gain.len() {
            return unfit_codes(out);
        }
        let width = out.columns;
        self.rows_to_codes(team, input.len() / width.max(1), out, |kernels, rows, codes, params| {
            let input = input.get(rows.start * width..rows.end * width).unwrap_or(&[]);
            // SAFETY: holding `self` proves the instructions.
            unsafe { (kernels.0.vector.norm_rows_to_codes)(&norm, input, kernels.0.flip, codes, params) }
        });
    }

    /// Quantizes each row of `input` into `out`.
    pub(crate) fn quantize(self, team: &impl Team, input: &[f32], out: CodesMut<'_>) {
        let width = out.columns;
        self.rows_to_codes(team, input.len() / width.max(1), out, |kernels, rows, codes, params| {
            let input = input.get(rows.start * width..rows.end * width).unwrap_or(&[]);
            // SAFETY: holding `self` proves the instructions.
            unsafe { (kernels.0.vector.quantize_rows)(input, kernels.0.flip, codes, params) }
        });
    }

    /// The pixels of images, patch by patch, as rows of codes.
    pub(crate) fn patches_to_codes(self, team: &impl Team, patches: Patches<'_>, out: CodesMut<'_>) {
        let stride = code_stride(out.columns);
        let rows = patches.images.len() * patches.tokens();
        self.rows_to_codes(team, rows, out, |kernels, rows, codes, params| {
            for ((row, codes), params) in rows.zip(codes.chunks_exact_mut(stride.max(1))).zip(params) {
                *params = row_to_codes(patches, row, kernels.0.flip, codes);
            }
        });
    }

    /// Fills `rows` of `out` with codes: `quantize` those that it is given, with their parameters.
    fn rows_to_codes(
        self,
        team: &impl Team,
        rows: usize,
        out: CodesMut<'_>,
        quantize: impl Fn(Kernels, Range<usize>, &mut [u8], &mut [QuantParams]) + Sync,
    ) {
        let stride = code_stride(out.columns);
        if out.codes.len() < rows * stride || out.params.len() < rows {
            return unfit_codes(out);
        }
        let (codes, params) = (SharedMut::new(out.codes), SharedMut::new(out.params));
        share(team, rows.div_ceil(ROWS_PER_TASK), |worker, task| {
            let (kernels, part) = (self.of(worker), rows_of_task(task, rows));
            // SAFETY: the rows are this task's, and were found to be there.
            unsafe {
                let codes = codes.part(part.start * stride..part.end * stride);
                quantize(kernels, part.clone(), codes, params.part(part));
            }
            if let Some(pair_rows) = kernels.0.pair_rows {
                for row in rows_of_task(task, rows - rows % 2).step_by(2) {
                    let (first, second, end) = (row * stride, (row + 1) * stride, (row + 2) * stride);
                    // SAFETY: both rows are this task's; holding `self` proves the instructions.
                    unsafe { pair_rows(codes.part(first..second), codes.part(second..end)) };
                }
            }
        });
    }

    /// `out = epilogue(codes · weightsᵀ)` for each row, in the channels of the panels in `weights`, which are packed as `panels` says.
    pub(crate) fn linear_int8(
        self,
        team: &impl Team,
        input: Codes<'_>,
        panels: Panels,
        weights: Piece<'_>,
        epilogue: Epilogue,
        out: &mut [f32],
    ) {
        let rows = out.len() / (panels.outputs as usize).max(1);
        let stride = code_stride(input.columns);
        let product = |kernels: Kernels| kernels.product(panels.packing);
        let fits = input.columns == panels.inputs as usize
            && input.codes.len() >= rows * stride
            && input.params.len() >= rows
            && self.read(panels.packing).is_ok();
        let (true, Some(range), Some(first)) = (fits, at_hand(panels, weights), product(self.first())) else {
            return unfit(out);
        };
        let step = LinearInt8 {
            codes: input.codes,
            stride,
            params: input.params,
            panels,
            weights,
            epilogue,
            out: SharedMut::new(out),
        };
        // Side by side they are queries, keys and values, cut as attention cuts them into heads.
        let parts = if panels.outputs == 3 * panels.inputs { 3 } else { 1 };
        by_panels(team, range, parts, rows, first.task, |worker, task| {
            debug_assert!(step.holds(&task));
            if let Some(product) = product(self.of(worker)) {
                // SAFETY: the sizes were checked, panels and rows are this task's, `self` proves the instructions.
                unsafe { (product.linear)(&step, task) }
            }
        });
    }

    /// `out = epilogue(input · weightsᵀ)` for each row, in the channels of the panels in `weights`, all in f32.
    pub(crate) fn linear_f32(
        self,
        team: &impl Team,
        input: &[f32],
        panels: Panels,
        weights: Piece<'_>,
        epilogue: Epilogue,
        out: &mut [f32],
    ) {
        let rows = out.len() / (panels.outputs as usize).max(1);
        let fits = panels.packing == Packing::F32 && input.len() == rows * panels.inputs as usize;
        let (true, Some(range)) = (fits, at_hand(panels, weights)) else { return unfit(out) };
        let step = LinearF32 { input, panels, weights, epilogue, out: SharedMut::new(out) };
        by_panels(team, range, 1, rows, F32_TASK, |worker, task| {
            debug_assert!(step.holds(&task));
            // SAFETY: the sizes were checked, panels and rows are this task's, `self` proves the instructions.
            unsafe { (self.of(worker).0.vector.linear_f32)(&step, task) }
        });
    }

    /// Attention within each sequence: `qkv` is `[rows, 3 * width]`, `out` `[rows, width]`, of which the rows from `from` on are
    /// written, `scratch` at least what [`attention_scratch`] says of one head of the longest sequence.
    pub(crate) fn attention(
        self,
        team: &impl Team,
        qkv: &[f32],
        heads: Heads,
        (sequences, from): (Sequences<'_>, usize),
        scratch: &mut [f32],
        out: &mut [f32],
    ) {
        let longest = sequences.0.iter().copied().max().unwrap_or(0);
        let task_scratch = head_scratch(longest, heads.channels);
        let tasks = sequences.0.len() * heads.count;
        let places = scratch.len() / task_scratch.max(1);
        let fits = out.len() == sequences.rows() * heads.width() && qkv.len() == 3 * out.len();
        if !fits || longest > MAX_TOKENS || places == 0 {
            return unfit(out);
        }
        let step = Attention { qkv, heads, from, out: SharedMut::new(out) };
        let scratch = SharedMut::new(scratch);
        // A place for each worker, which stays in its cache; where there are more workers than places one for each of so
        // many tasks, and as many again when they are done.
        let by_worker = team.workers() <= places;
        for first in (0..tasks).step_by(if by_worker { tasks.max(1) } else { places.max(1) }) {
            let turn = if by_worker { tasks } else { places.min(tasks - first) };
            share(team, turn, |worker, task| {
                let place = if by_worker { worker } else { task };
                // A head of all sequences, then the next: a worker's share are the heads whose queries, keys and values it made.
                let count = sequences.0.len().max(1);
                let (sequence, head) = ((first + task) % count, (first + task) / count);
                // SAFETY: the sizes were checked, the head is this task's, and the scratch: a worker has one task at a
                // time; `self` proves the instructions.
                unsafe {
                    let scratch = scratch.part(place * task_scratch..(place + 1) * task_scratch);
                    (self.of(worker).0.vector.attend)(&step, sequences.range(sequence), head, scratch);
                }
            });
        }
    }
}

#[cfg(test)]
impl Kernels {
    /// Activation codes row by row, as signed bytes, whatever the form in which these kernels keep them.
    pub(crate) fn plain_codes(self, codes: &[u8], columns: usize) -> std::vec::Vec<u8> {
        let mut codes = codes.to_vec();
        let stride = code_stride(columns);
        if let Some(pair_rows) = self.0.pair_rows {
            for pair in codes.chunks_exact_mut(2 * stride) {
                let (first, second) = pair.split_at_mut(stride);
                // SAFETY: holding `self` proves the instructions.
                unsafe { pair_rows(first, second) };
            }
        }
        codes.chunks_exact(stride).flat_map(|row| &row[..columns]).map(|code| code ^ self.0.flip).collect()
    }
}

/// Values of scratch that attention needs for one sequence of `tokens` tokens: `heads` heads of `channels` channels.
/// `None` where that is more than an address can say.
pub(crate) fn attention_scratch(tokens: usize, heads: usize, channels: usize) -> Option<usize> {
    if tokens > MAX_TOKENS || channels > usize::MAX / (2 * MAX_TOKENS) {
        return None;
    }
    head_scratch(tokens, channels).checked_mul(heads)
}
