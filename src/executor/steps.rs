//! The steps, each as its kernels want it.

use core::ops::Range;

use super::StepOutput;
use super::arena::{Arena, codes, codes_mut, values, values_mut};
use crate::kernels::ops::embed::{PositionRow, TokenRow};
use crate::kernels::ops::linear::Epilogue;
use crate::kernels::ops::norm::Norm as NormParameters;
use crate::kernels::{Kernels, Sequences, attention_scratch};
use crate::plan::{
    Attention, Axis, CachedRow, Codes, Embed, EmbedPrecision, Join, Linear, Norm, NormOutput, Plan, Pool,
    Rows, Step,
};
use crate::threads::Team;
use crate::tokenizer::Tokens;

/// One pass through a plan.
struct Pass<'p, 'a, T> {
    kernels: Kernels,
    team: &'p T,
    arena: &'p mut Arena<'a>,
    /// Of each sequence, before any padding.
    tokens: &'p [Tokens],
    /// How many of each sequence's tokens are computed.
    sequences: Sequences<'p>,
    /// Rows at the front that are not computed: their values are known where something reads them. The first row of a
    /// second sequence is computed as those beside it are: rows stay in one piece.
    known: usize,
    end_id: u32,
    context: usize,
}

/// Runs all steps over `sequences`: the first so many of `tokens`, which no padding has touched yet, since each text tower
/// has its own. `after_step` is told each step once it is done.
pub(super) fn run(
    plan: &Plan<'_>,
    kernels: Kernels,
    team: &impl Team,
    arena: &mut Arena<'_>,
    tokens: &[Tokens],
    sequences: Sequences<'_>,
    mut after_step: impl FnMut(StepOutput<'_>),
) {
    let end_id = plan.tokenizer().vocabulary().end_id();
    let first = tokens.first().and_then(|tokens| tokens.unpadded().first());
    let known = usize::from(first.is_some() && first.copied() == plan.known_first());
    let mut pass = Pass { kernels, team, arena, tokens, sequences, known, end_id, context: plan.context() };
    for (index, (step, constants)) in plan.steps().enumerate() {
        match &step {
            Step::Embed(step) => pass.embed(step, constants),
            Step::Norm(step) => pass.norm(step, constants),
            Step::Linear(step) => pass.linear(step, constants),
            Step::Attention(step) => pass.attention(step),
            Step::Pool(step) => pass.pool(step),
            Step::Normalize(step) => pass.normalize(step.rows),
            Step::Join(step) => pass.join(step),
            Step::CachedRow(step) => pass.first(step, constants),
        }
        let (first, values) = pass.written(&step);
        after_step(StepOutput { index, step: &step, first, values });
    }
}

impl<T: Team> Pass<'_, '_, T> {
    /// The rows of this pass in a buffer.
    fn rows(&self, axis: Axis) -> Range<usize> {
        match axis {
            Axis::Token => 0..self.sequences.rows(),
            Axis::Sequence => 0..self.sequences.0.len(),
        }
    }

    /// Those that are computed.
    fn computed(&self, axis: Axis) -> Range<usize> {
        match axis {
            Axis::Token => self.known..self.sequences.rows(),
            Axis::Sequence => self.rows(axis),
        }
    }

    /// The rows of f32 that `step` wrote, and the number of the first.
    fn written(&mut self, step: &Step) -> (usize, &[f32]) {
        let Some(out) = step.out() else { return (0, &[]) };
        let rows = match step {
            Step::Norm(_) | Step::Linear(_) => self.computed(out.axis),
            _ => self.rows(out.axis),
        };
        let [bytes] = self.arena.cut([self.arena.place(out, rows.clone())]);
        (rows.start, values(bytes))
    }

    fn embed(&mut self, step: &Embed, constants: &[u8]) {
        let width = step.out.columns as usize;
        let Some([rows, scales, positions, ids, _]) = step.constants(self.context) else { return };
        let (tokens, rest) = constants.split_at(rows);
        let (scales, rest) = rest.split_at(scales);
        let (positions, rest) = rest.split_at(positions);
        let (ids, f16_rows) = rest.split_at(ids);
        let ids = &values::<u32>(ids)[..if ids.is_empty() { 0 } else { step.f16_rows as usize }];
        let token = |id: u32| {
            let at = id as usize * width;
            match step.precision {
                EmbedPrecision::Int8 if let Ok(index) = ids.binary_search(&id) => {
                    TokenRow::F16(&values(f16_rows)[index * width..(index + 1) * width])
                }
                EmbedPrecision::Int8 => {
                    TokenRow::Int8(&values::<i8>(tokens)[at..at + width], values::<f32>(scales)[id as usize])
                }
                EmbedPrecision::F32 => TokenRow::F32(&values::<f32>(tokens)[at..at + width]),
            }
        };
        let position = |position: usize| {
            let at = position * width;
            match step.precision {
                EmbedPrecision::Int8 => PositionRow::F16(&values::<u16>(positions)[at..at + width]),
                EmbedPrecision::F32 => PositionRow::F32(&values::<f32>(positions)[at..at + width]),
            }
        };
        let place = self.arena.place(step.out, self.rows(Axis::Token));
        let [out] = self.arena.cut([place]);
        let (padding, end_id) = (step.padding, self.end_id);
        let ids = self.tokens.iter().zip(self.sequences.0);
        let ids = ids.flat_map(|(tokens, &rows)| tokens.padded(padding, end_id).take(rows));
        let rows = ids.zip(self.sequences.positions()).map(|(id, at)| (token(id), position(at)));
        self.kernels.embed(rows, width, values_mut(out));
    }

    fn norm(&mut self, step: &Norm, constants: &[u8]) {
        let width = step.input.columns as usize;
        let (gain, bias) = constants.split_at(constants.len() / 2);
        let norm = NormParameters {
            gain: &values(gain)[..width],
            bias: &values(bias)[..width],
            epsilon: step.epsilon,
        };
        let rows = self.computed(step.input.axis);
        let input = self.arena.place(step.input, rows.clone());
        match step.out {
            NormOutput::Rows(out) => {
                let out = self.arena.place(out, rows);
                let [input, out] = self.arena.cut([input, out]);
                self.kernels.norm(self.team, norm, values(input), values_mut(out));
            }
            NormOutput::Codes(out) => {
                let place = self.arena.code_place(out, rows.len());
                let [input, bytes] = self.arena.cut([input, place]);
                self.kernels.norm_to_codes(self.team, norm, values(input), codes_mut(out, rows.len(), bytes));
            }
        }
    }

    fn linear(&mut self, step: &Linear, constants: &[u8]) {
        let rows = self.computed(step.out.axis);
        let epilogue = Epilogue { activation: step.activation, residual: step.residual.is_some() };
        let out = self.arena.place(step.out, rows.clone());
        // The kernels add to what stands in the output.
        if let Some(residual) = step.residual.filter(|residual| *residual != step.out) {
            let place = self.arena.place(residual, rows.clone());
            let [from, to] = self.arena.cut([place, out.clone()]);
            to.copy_from_slice(from);
        }
        if step.panels.packing.is_int8() {
            let input = step.input_codes();
            let place = self.arena.code_place(input, rows.len());
            let [bytes, out] = self.arena.cut([place, out]);
            let input = codes(input, rows.len(), bytes);
            self.kernels.linear_int8(self.team, input, step.panels, constants, epilogue, values_mut(out));
        } else {
            let place = self.arena.place(step.input_rows(), rows);
            let [input, out] = self.arena.cut([place, out]);
            self.kernels.linear_f32(
                self.team,
                values(input),
                step.panels,
                constants,
                epilogue,
                values_mut(out),
            );
        }
        self.requantize(step.out, step.requantized);
    }

    fn attention(&mut self, step: &Attention) {
        let rows = self.rows(Axis::Token);
        let (width, heads) = (step.out.columns as usize, usize::from(step.heads));
        let scratch = attention_scratch(self.context, width) * self.sequences.0.len() * 4;
        let places = [
            self.arena.place(step.qkv, rows.clone()),
            self.arena.range(step.scratch, scratch),
            self.arena.place(step.out, rows),
        ];
        let [qkv, scratch, out] = self.arena.cut(places);
        self.kernels.attention(
            self.team,
            values(qkv),
            heads,
            width / heads,
            step.scale,
            self.sequences,
            values_mut(scratch),
            values_mut(out),
        );
        self.requantize(step.out, step.requantized);
    }

    fn pool(&mut self, step: &Pool) {
        let columns = step.out.columns as usize;
        let input = self.arena.place(step.input, self.rows(Axis::Token));
        let out = self.arena.place(step.out, self.rows(Axis::Sequence));
        let [input, out] = self.arena.cut([input, out]);
        let input: &[f32] = values(input);
        for (sequence, out) in values_mut::<f32>(out).chunks_exact_mut(columns).enumerate() {
            let row = self.sequences.range(sequence).start + self.tokens[sequence].end_position();
            out.copy_from_slice(&input[row * columns..(row + 1) * columns]);
        }
        self.requantize(step.out, step.requantized);
    }

    /// A few rows at the most, so plain Rust does: the sum is one chain of fused multiply-adds from the first value.
    fn normalize(&mut self, rows: Rows) {
        let place = self.arena.place(rows, self.rows(rows.axis));
        let [bytes] = self.arena.cut([place]);
        for row in values_mut::<f32>(bytes).chunks_exact_mut(rows.columns as usize) {
            let length = libm::sqrtf(row.iter().fold(0.0, |sum, &x| libm::fmaf(x, x, sum)));
            row.iter_mut().for_each(|x| *x /= length);
        }
    }

    fn join(&mut self, step: &Join) {
        let rows = self.rows(step.out.axis);
        let places = [step.left, step.right, step.out].map(|place| self.arena.place(place, rows.clone()));
        let [left, right, out] = self.arena.cut(places);
        let (left_columns, right_columns) = (step.left.columns as usize, step.right.columns as usize);
        let parts = values::<f32>(left)
            .chunks_exact(left_columns)
            .zip(values::<f32>(right).chunks_exact(right_columns));
        for (out, (left, right)) in
            values_mut::<f32>(out).chunks_exact_mut(left_columns + right_columns).zip(parts)
        {
            let (first, second) = out.split_at_mut(left_columns);
            first.copy_from_slice(left);
            second.copy_from_slice(right);
        }
    }

    fn first(&mut self, step: &CachedRow, constants: &[u8]) {
        let columns = step.rows.columns as usize;
        let place = self.arena.place(step.rows, self.rows(Axis::Token));
        let [rows] = self.arena.cut([place]);
        let rows = values_mut::<f32>(rows);
        for (sequence, tokens) in self.tokens.iter().enumerate() {
            if tokens.unpadded().first() == Some(&step.id) {
                let start = self.sequences.range(sequence).start * columns;
                rows[start..start + columns].copy_from_slice(&values(constants)[..columns]);
            }
        }
    }

    /// Quantizes what a step has written, where the plan wants it.
    fn requantize(&mut self, out: Rows, requantized: Option<Codes>) {
        let Some(place) = requantized else { return };
        let rows = self.computed(out.axis);
        let places = [self.arena.place(out, rows.clone()), self.arena.code_place(place, rows.len())];
        let [out, bytes] = self.arena.cut(places);
        self.kernels.quantize(self.team, values(out), codes_mut(place, rows.len(), bytes));
    }
}
