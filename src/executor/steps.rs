//! The steps, each as its kernels want it.

use core::cmp::Ordering;
use core::ops::Range;

use super::arena::{Arena, codes, codes_mut, rows, rows_mut, values, values_mut};
use super::batch::{Batch, Member};
use super::sink::{Sink, StepOutput};
use crate::copy::copy;
use crate::kernels::Heads;
use crate::kernels::dispatch::Sequences;
use crate::kernels::layout::Piece;
use crate::kernels::ops::embed::{PositionRow, TokenRow};
use crate::kernels::ops::linear::Epilogue;
use crate::kernels::ops::math::{fused, sqrt};
use crate::kernels::ops::norm::Norm;
use crate::kernels::ops::patches::{Patches, row_to_f32};
use crate::kernels::set::KernelSet;
use crate::plan::{
    Axis, CONSTANT_ARRAYS, Embed, EmbedPrecision, Extent, Format, Graph, Grid, Op, Place, Source, Step,
};
use crate::threads::Team;

/// One pass through a plan.
struct Pass<'p, 'a, T, S> {
    kernels: KernelSet<'p>,
    team: &'p T,
    source: &'p mut S,
    arena: &'p mut Arena<'a>,
    /// All ids, one sequence's behind the other's.
    ids: &'p [u32],
    sequences: &'p [Member],
    /// Of a pass over images their pixels.
    images: &'p [&'p [u8]],
    /// How many rows of each sequence are computed.
    rows: Sequences<'p>,
    /// Rows at the front of every place that no step computes: they stand where something depends on them since the pass
    /// before.
    kept: usize,
    /// Rows at the front that some steps leave out: those that are kept, or the first, which is cached where something depends
    /// on it. The first row of a second sequence is computed as those beside it are: rows stay in one piece.
    skipped: usize,
    end_id: u32,
}

/// What the sequences of a batch are made of.
#[derive(Clone, Copy)]
pub(super) enum Given<'p> {
    /// Token ids; the first row of a sequence that begins with the `cached` one is, and `end` is the end token.
    Ids { ids: &'p [u32], cached: Option<u32>, end: u32 },
    /// Pixels, of each sequence its image's.
    Images(&'p [&'p [u8]]),
}

/// Runs all steps of `graph` with its constants from `source` over the sequences of `batch`. `sink` is told each step once it is
/// done.
pub(super) fn run<T: Team, S: Source>(
    graph: &Graph<'_>,
    source: &mut S,
    (kernels, team): (KernelSet<'_>, &T),
    arena: &mut Arena<'_>,
    (batch, given): (&Batch, Given<'_>),
    sink: &mut impl Sink,
) -> Result<(), S::Error> {
    let (sequences, rows) = (batch.members(), batch.rows());
    let (ids, images, cached, end_id) = match given {
        Given::Ids { ids, cached, end } => (ids, &[][..], cached, end),
        Given::Images(images) => (&[][..], images, None, 0),
    };
    let first = sequences.first().and_then(|sequence| sequence.first_id(ids));
    let is_cached = first.is_some() && first == cached;
    let kept = batch.kept;
    let skipped = kept.max(usize::from(is_cached));
    let mut pass = Pass { kernels, team, source, arena, ids, sequences, images, rows, kept, skipped, end_id };
    for (index, step) in graph.steps().enumerate() {
        pass.step(&step)?;
        let (first, values) = pass.written(&step);
        sink.step(StepOutput { index, step: &step, first, values });
    }
    Ok(())
}

/// The place of `id` in the ascending ids at `list`, of which only those are asked for that it is compared with.
fn find<S: Source>(source: &mut S, list: Extent, id: u32) -> Result<Option<usize>, S::Error> {
    let mut range = 0..list.bytes as usize / size_of::<u32>();
    while !range.is_empty() {
        let middle = range.start + range.len() / 2;
        let [found] = source.get([list.items(middle, 1, size_of::<u32>())])?;
        match values::<u32>(found).first().map_or(Ordering::Equal, |found| found.cmp(&id)) {
            Ordering::Less => range.start = middle + 1,
            Ordering::Greater => range.end = middle,
            Ordering::Equal => return Ok(Some(middle)),
        }
    }
    Ok(None)
}

impl<T: Team, S: Source> Pass<'_, '_, T, S> {
    fn step(&mut self, step: &Step) -> Result<(), S::Error> {
        if self.rows(step.out.axis).is_empty() {
            return Ok(());
        }
        let constants = step.constant_arrays().unwrap_or_default();
        let out = step.out;
        match *step {
            Step { op: Op::Embed(embed), .. } => self.embed(embed, constants, out)?,
            Step { op: Op::Norm { epsilon }, input: Some(input), .. } => {
                self.norm(epsilon, constants, input, out)?;
            }
            Step { op: Op::Linear { .. }, input: Some(input), second, .. } => {
                self.linear(step, constants[0], input, second)?;
            }
            Step {
                op: Op::Attention { heads, scale, mask },
                input: Some(qkv),
                scratch: Some(scratch),
                ..
            } => {
                let count = usize::from(heads);
                let heads = Heads { count, channels: out.columns as usize / count.max(1), scale, mask };
                self.attention(heads, qkv, scratch, out);
            }
            Step { op: Op::Pool, input: Some(input), .. } => self.pool(input, out),
            Step { op: Op::Normalize, .. } => self.normalize(out),
            Step { op: Op::Join, input: Some(left), second: Some(right), .. } => self.join(left, right, out),
            Step { op: Op::CachedRow { token }, .. } => self.cached_row(token, constants[0], out)?,
            Step { op: Op::Patches(grid), .. } => self.patches(grid, out),
            Step { op: Op::Positions, .. } => self.positions(constants[0], out)?,
            // A step without a place that it needs: `Plan::load` refuses it.
            _ => {}
        }
        if let Some(codes) = step.codes {
            self.quantize(out, codes);
        }
        Ok(())
    }

    /// The rows of this pass in a place that has one for each token.
    fn all(&self) -> Range<usize> {
        0..self.rows.rows()
    }

    /// Those that steps compute.
    fn rows(&self, axis: Axis) -> Range<usize> {
        match axis {
            Axis::Token => self.kept..self.rows.rows(),
            Axis::Sequence => 0..self.sequences.len(),
        }
    }

    /// Those that steps compute which leave out what is cached.
    fn computed(&self, axis: Axis) -> Range<usize> {
        match axis {
            Axis::Token => self.skipped..self.rows.rows(),
            Axis::Sequence => self.rows(axis),
        }
    }

    /// The rows of f32 that `step` wrote, and the number of the first.
    fn written(&mut self, step: &Step) -> (usize, &[f32]) {
        if !step.writes_f32() {
            return (0, &[]);
        }
        let axis = step.out.axis;
        let rows = if step.skips_cached_row() { self.computed(axis) } else { self.rows(axis) };
        let [bytes] = self.arena.cut([self.arena.place(step.out, rows.clone())]);
        (rows.start, values(bytes))
    }

    /// Asks the source for single rows, in the order of the tokens.
    fn embed(
        &mut self,
        embed: Embed,
        [tokens, scales, positions, f16_ids, f16_rows]: [Extent; CONSTANT_ARRAYS],
        out: Place,
    ) -> Result<(), S::Error> {
        let width = out.columns as usize;
        let place = self.arena.place(out, self.rows(Axis::Token));
        let [out] = self.arena.cut([place]);
        let ids =
            self.sequences.iter().flat_map(|sequence| sequence.padded(self.ids, embed.padding, self.end_id));
        let rows = rows_mut(out, width);
        for ((id, at), out) in ids.zip(self.rows.positions()).skip(self.kept).zip(rows) {
            let id_row = id as usize;
            match embed.precision {
                EmbedPrecision::Int8 => {
                    let position = positions.items(at * width, width, 2);
                    if let Some(index) = find(self.source, f16_ids, id)? {
                        let row = f16_rows.items(index * width, width, 2);
                        let [token, position] = self.source.get([row, position])?;
                        let rows = (TokenRow::F16(values(token)), PositionRow::F16(values(position)));
                        self.kernels.embed(core::iter::once(rows), width, out);
                    } else {
                        let row = tokens.items(id_row * width, width, 1);
                        let [token, scale, position] =
                            self.source.get([row, scales.items(id_row, 1, 4), position])?;
                        let scale = values(scale).first().copied().unwrap_or(0.0);
                        let rows = (TokenRow::Int8(values(token), scale), PositionRow::F16(values(position)));
                        self.kernels.embed(core::iter::once(rows), width, out);
                    }
                }
                EmbedPrecision::F32 => {
                    let row = tokens.items(id_row * width, width, 4);
                    let [token, position] = self.source.get([row, positions.items(at * width, width, 4)])?;
                    let rows = (TokenRow::F32(values(token)), PositionRow::F32(values(position)));
                    self.kernels.embed(core::iter::once(rows), width, out);
                }
            }
        }
        Ok(())
    }

    fn norm(
        &mut self,
        epsilon: f32,
        [gain, bias, ..]: [Extent; CONSTANT_ARRAYS],
        input: Place,
        out: Place,
    ) -> Result<(), S::Error> {
        let rows = self.computed(input.axis);
        let from = self.arena.place(input, rows.clone());
        let to = match out.format {
            Format::F32 => self.arena.place(out, rows.clone()),
            Format::Codes => self.arena.code_place(out, rows.len()),
        };
        let [from, to] = self.arena.cut([from, to]);
        let [gain, bias] = self.source.get([gain, bias])?;
        let norm = Norm { gain: values(gain), bias: values(bias), epsilon };
        match out.format {
            Format::F32 => self.kernels.norm(self.team, norm, values(from), values_mut(to)),
            Format::Codes => {
                let to = codes_mut(out, rows.len(), to);
                self.kernels.norm_to_codes(self.team, norm, values(from), to);
            }
        }
        Ok(())
    }

    fn linear(
        &mut self,
        step: &Step,
        panels: Extent,
        input: Place,
        residual: Option<Place>,
    ) -> Result<(), S::Error> {
        let (Op::Linear { activation, .. }, Some(layout)) = (step.op, step.panels()) else { return Ok(()) };
        let rows = self.computed(step.out.axis);
        let epilogue = Epilogue { activation, residual: residual.is_some() };
        let out = self.arena.place(step.out, rows.clone());
        // The kernels add to what stands in the output.
        if let Some(residual) = residual.filter(|residual| *residual != step.out) {
            let place = self.arena.place(residual, rows.clone());
            let [from, to] = self.arena.cut([place, out.clone()]);
            copy(to, from);
        }
        let place = match input.format {
            Format::F32 => self.arena.place(input, rows.clone()),
            Format::Codes => self.arena.code_place(input, rows.len()),
        };
        let [from, out] = self.arena.cut([place, out]);
        let (kernels, team, out) = (self.kernels, self.team, values_mut(out));
        self.source.panels(panels, layout.panel_bytes(), |first, bytes| {
            let weights = Piece { first, bytes };
            match input.format {
                Format::F32 => kernels.linear_f32(team, values(from), layout, weights, epilogue, out),
                Format::Codes => {
                    kernels.linear_int8(team, codes(input, rows.len(), from), layout, weights, epilogue, out);
                }
            }
        })
    }

    fn attention(&mut self, heads: Heads, qkv: Place, scratch: Place, out: Place) {
        let places = [
            self.arena.place(qkv, self.all()),
            self.arena.place(scratch, 0..self.arena.contexts()),
            self.arena.place(out, self.all()),
        ];
        let [qkv, scratch, out] = self.arena.cut(places);
        self.kernels.attention(
            self.team,
            values(qkv),
            heads,
            (self.rows, self.kept),
            values_mut(scratch),
            values_mut(out),
        );
    }

    fn pool(&mut self, input: Place, out: Place) {
        let columns = out.columns as usize;
        let places = [self.arena.place(input, self.all()), self.arena.place(out, self.rows(out.axis))];
        let [input, out] = self.arena.cut(places);
        let input: &[f32] = values(input);
        let rows = rows_mut(out, columns);
        for ((index, sequence), out) in self.sequences.iter().enumerate().zip(rows) {
            let row = self.rows.range(index).start + sequence.end();
            copy(out, input.get(row * columns..(row + 1) * columns).unwrap_or(&[]));
        }
    }

    /// A few rows at the most, so plain Rust does: the sum is one chain of fused multiply-adds from the first value. A row
    /// whose sum is zero has no direction and stays as it is.
    fn normalize(&mut self, rows: Place) {
        let place = self.arena.place(rows, self.rows(rows.axis));
        let [bytes] = self.arena.cut([place]);
        for row in rows_mut(bytes, rows.columns as usize) {
            let length = sqrt(row.iter().fold(0.0, |sum, &x| fused(x, x, sum)));
            if length != 0.0 {
                row.iter_mut().for_each(|x| *x /= length);
            }
        }
    }

    fn join(&mut self, left: Place, right: Place, out: Place) {
        let range = self.rows(out.axis);
        let places = [left, right, out].map(|place| self.arena.place(place, range.clone()));
        let [from_left, from_right, to] = self.arena.cut(places);
        let columns = left.columns as usize;
        let parts = rows(from_left, columns).zip(rows(from_right, right.columns as usize));
        for (to, (left, right)) in rows_mut(to, out.columns as usize).zip(parts) {
            let (first, second) = to.split_at_mut_checked(columns).unwrap_or((&mut [], &mut []));
            copy(first, left);
            copy(second, right);
        }
    }

    fn cached_row(&mut self, token: u32, row: Extent, rows: Place) -> Result<(), S::Error> {
        let columns = rows.columns as usize;
        let place = self.arena.place(rows, self.all());
        let [bytes] = self.arena.cut([place]);
        let [row] = self.source.get([row])?;
        let rows = values_mut::<f32>(bytes);
        for (index, sequence) in self.sequences.iter().enumerate() {
            // The steps behind this one have changed a row that is kept as they do.
            let is_kept = index == 0 && self.kept > 0;
            if !is_kept && sequence.first_id(self.ids) == Some(token) {
                let start = self.rows.range(index).start * columns;
                copy(rows.get_mut(start..start + columns).unwrap_or(&mut []), values(row));
            }
        }
        Ok(())
    }

    fn patches(&mut self, grid: Grid, out: Place) {
        let patches = Patches {
            images: self.images,
            line: Grid::COLOURS * usize::from(grid.side),
            part: Grid::COLOURS * usize::from(grid.patch),
            lines: grid.patch.into(),
            across: grid.across(),
        };
        let rows = self.all();
        match out.format {
            Format::Codes => {
                let [bytes] = self.arena.cut([self.arena.code_place(out, rows.len())]);
                let out = codes_mut(out, rows.len(), bytes);
                self.kernels.patches_to_codes(self.team, patches, out);
            }
            Format::F32 => {
                let [bytes] = self.arena.cut([self.arena.place(out, rows)]);
                for (row, out) in rows_mut(bytes, out.columns as usize).enumerate() {
                    row_to_f32(patches, row, out);
                }
            }
        }
    }

    /// Asks the source for single rows, as [`embed`](Self::embed) does.
    fn positions(&mut self, positions: Extent, out: Place) -> Result<(), S::Error> {
        let columns = out.columns as usize;
        let [bytes] = self.arena.cut([self.arena.place(out, self.all())]);
        for (at, out) in self.rows.positions().zip(rows_mut(bytes, columns)) {
            let [row] = self.source.get([positions.items(at * columns, columns, size_of::<f32>())])?;
            copy(out, values(row));
        }
        Ok(())
    }

    /// Quantizes what a step has written.
    fn quantize(&mut self, out: Place, to: Place) {
        let rows = self.computed(out.axis);
        let places = [self.arena.place(out, rows.clone()), self.arena.code_place(to, rows.len())];
        let [out, bytes] = self.arena.cut(places);
        self.kernels.quantize(self.team, values(out), codes_mut(to, rows.len(), bytes));
    }
}
