//! Steps over numbered buffers: when all are there, the buffers' lifetimes are known and each gets its place in the arena.

use std::borrow::Cow;

use anyhow::{Context, Result, ensure};
use cliptext::kernels::Activation as PlanActivation;
use cliptext::kernels::layout::Packing;
use cliptext::plan::{Axis, Format, Mask, Op, Part, Place, Role, Step};

use crate::backend::arena::{self, Demand};
use crate::ir::{Activation, Layer, LayerNorm, Linear, Matrix, TextModel, Weight};

/// The constants of a step, by where they stand in the model.
pub enum Constants<'m> {
    /// Token and position tables; the tokens whose rows are read in f16.
    Embeddings(&'m TextModel, &'m [u32]),
    /// Gain and bias.
    Norm(&'m LayerNorm),
    /// Weights and biases of linears with the same inputs, as one.
    Linears(Vec<Cow<'m, Linear>>),
    /// A row.
    Row(Cow<'m, [f32]>),
    /// None.
    None,
}

/// Towers as steps with their places.
pub struct Lowered<'m> {
    /// The steps and what their constants are made of.
    pub steps: Vec<(Step, Constants<'m>)>,
    /// Bytes of all steps' constants.
    pub constant_bytes: u64,
    /// Tokens of the context.
    pub context: u16,
    /// Bytes of arena for one sequence.
    pub arena_bytes: usize,
    /// The hidden states.
    pub hidden: Place,
    /// The pooled output.
    pub pooled: Option<Place>,
}

/// A buffer by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Buffer(pub(super) usize);

/// Collects steps over buffers.
pub(super) struct Builder<'m> {
    pub(super) packing: Packing,
    pub(super) keeps_rows: bool,
    pub(super) role: Role,
    /// The buffers, as places that are nowhere yet.
    pub(super) buffers: Vec<Place>,
    pub(super) steps: Vec<(Step<Buffer>, Constants<'m>)>,
}

fn activation(activation: Activation) -> PlanActivation {
    match activation {
        Activation::QuickGelu => PlanActivation::QuickGelu,
        Activation::Gelu => PlanActivation::Gelu,
        Activation::GeluTanh => PlanActivation::GeluTanh,
    }
}

pub(super) fn columns(count: usize) -> Result<u32> {
    u32::try_from(count).context("more columns than 32 bits count")
}

impl<'m> Builder<'m> {
    pub(super) fn buffer(&mut self, place: Place) -> Buffer {
        self.buffers.push(place);
        Buffer(self.buffers.len() - 1)
    }

    /// A buffer with the rows of `like` and other columns.
    pub(super) fn rows_like(&mut self, like: Buffer, columns: u32) -> Buffer {
        self.buffer(Place { columns, format: Format::F32, ..self.buffers[like.0] })
    }

    /// A buffer for one row of each sequence.
    pub(super) fn row(&mut self, columns: u32) -> Buffer {
        self.buffer(Place { offset: 0, columns, rows: 1, axis: Axis::Sequence, format: Format::F32 })
    }

    /// A buffer for the codes of `rows`, where linears read codes.
    pub(super) fn codes_of(&mut self, rows: Buffer) -> Option<Buffer> {
        let place = Place { format: Format::Codes, ..self.buffers[rows.0] };
        self.packing.is_int8().then(|| self.buffer(place))
    }

    pub(super) fn columns(&self, buffer: Buffer) -> u32 {
        self.buffers[buffer.0].columns
    }

    /// A step that writes `out`, reading nothing.
    pub(super) fn step(&self, op: Op, out: Buffer) -> Step<Buffer> {
        Step { role: self.role, op, input: None, second: None, out, codes: None, scratch: None, constants: 0 }
    }

    /// A step that reads `input` and writes `out`.
    pub(super) fn from(&self, op: Op, input: Buffer, out: Buffer) -> Step<Buffer> {
        Step { input: Some(input), ..self.step(op, out) }
    }

    pub(super) fn push(&mut self, step: Step<Buffer>, constants: Constants<'m>) {
        self.steps.push((step, constants));
    }

    /// A layer, from the residual stream in one buffer to that in the other, which may be the same. `cached` are a token and its
    /// queries, keys and values in the first row.
    pub(super) fn layer(
        &mut self,
        layer: &'m Layer,
        (x, next): (Buffer, Buffer),
        (heads, mask): (usize, Mask),
        cached: Option<(u32, &'m [f32])>,
    ) -> Result<()> {
        self.role.part = Part::Attention;
        let normed = self.norm(x, &layer.norm1);
        let width = self.columns(x);
        let qkv = self.rows_like(x, width.checked_mul(3).context("a layer is too wide")?);
        let linears = [&layer.query, &layer.key, &layer.value];
        self.linear(normed, linears, PlanActivation::Identity, None, qkv, None);
        if let Some((token, row)) = cached {
            self.cached_row(token, qkv, Cow::Borrowed(row));
        }
        let mixed = self.attention(qkv, (heads, mask), layer.scale, width)?;
        self.linear(mixed, [&layer.out], PlanActivation::Identity, Some(x), next, None);
        self.role.part = Part::Mlp;
        let normed = self.norm(next, &layer.norm2);
        let inner = self.rows_like(next, columns(layer.fc1.weight.rows())?);
        let codes = self.codes_of(inner);
        self.linear(normed, [&layer.fc1], activation(layer.activation), None, inner, codes);
        let inner = codes.unwrap_or(inner);
        self.linear(inner, [&layer.fc2], PlanActivation::Identity, Some(next), next, None);
        Ok(())
    }

    /// Attention over `qkv`; what it gives a linear to read.
    pub(super) fn attention(
        &mut self,
        qkv: Buffer,
        (heads, mask): (usize, Mask),
        scale: f32,
        width: u32,
    ) -> Result<Buffer> {
        let out = self.rows_like(qkv, width);
        let codes = self.codes_of(out);
        let heads = u16::try_from(heads).context("more heads than 65535")?;
        let op = Op::Attention { heads, scale, mask };
        let step = Step { codes, ..self.from(op, qkv, out) };
        let values = step.map(|buffer| self.buffers[buffer.0]).scratch_values();
        let scratch = self.row(columns(values.context("an attention too large for any memory")?)?);
        self.push(Step { scratch: Some(scratch), ..step }, Constants::None);
        Ok(codes.unwrap_or(out))
    }

    /// The projection of a pooled row, into the joint image and text space.
    pub(super) fn projection(&mut self, row: Buffer, weight: Matrix) -> Result<Buffer> {
        self.role.part = Part::Projection;
        let out = self.row(columns(weight.rows)?);
        let bias = vec![0.0; weight.rows];
        let projection = Cow::Owned(Linear { weight: Weight::F32(weight), bias });
        let op = Op::Linear { packing: self.packing, activation: PlanActivation::Identity };
        self.push(self.from(op, row, out), Constants::Linears(vec![projection]));
        Ok(out)
    }

    /// Puts the cached first row into `rows`.
    pub(super) fn cached_row(&mut self, token: u32, rows: Buffer, row: Cow<'m, [f32]>) {
        self.push(self.from(Op::CachedRow { token }, rows, rows), Constants::Row(row));
    }

    /// Normalised input for a linear: codes where linears read codes.
    pub(super) fn norm(&mut self, input: Buffer, norm: &'m LayerNorm) -> Buffer {
        match self.codes_of(input) {
            Some(out) => self.push_norm(input, norm, out),
            None => self.norm_rows(input, norm),
        }
    }

    pub(super) fn norm_rows(&mut self, input: Buffer, norm: &'m LayerNorm) -> Buffer {
        let out = self.rows_like(input, self.columns(input));
        self.push_norm(input, norm, out)
    }

    pub(super) fn push_norm(&mut self, input: Buffer, norm: &'m LayerNorm, out: Buffer) -> Buffer {
        self.push(self.from(Op::Norm { epsilon: norm.epsilon }, input, out), Constants::Norm(norm));
        out
    }

    pub(super) fn linear<const N: usize>(
        &mut self,
        input: Buffer,
        linears: [&'m Linear; N],
        activation: PlanActivation,
        residual: Option<Buffer>,
        out: Buffer,
        codes: Option<Buffer>,
    ) {
        let op = Op::Linear { packing: self.packing, activation };
        let step = Step { second: residual, codes, ..self.from(op, input, out) };
        self.push(step, Constants::Linears(linears.into_iter().map(Cow::Borrowed).collect()));
    }

    /// Gives every buffer its place. Those with a row for each sequence are behind all others: of them a pass over many short
    /// texts has more than of rows of tokens.
    pub(super) fn finish(
        self,
        context: usize,
        hidden: Buffer,
        pooled: Option<Buffer>,
    ) -> Result<Lowered<'m>> {
        let demands = self.demands([Some(hidden), pooled])?;
        let (offsets, arena_bytes) = self.lay_out(&demands);
        ensure!(
            u32::try_from(arena_bytes).is_ok(),
            "the arena would have {arena_bytes} bytes, more than 4 GiB"
        );
        let buffers = self.buffers;
        let place = |buffer: Buffer| Place { offset: offsets[buffer.0] as u32, ..buffers[buffer.0] };
        let mut steps = Vec::new();
        let mut constant_bytes = 0u64;
        for (step, constants) in self.steps {
            let step = Step { constants: constant_bytes, ..step.map(place) };
            let bytes = step.constant_bytes().and_then(|bytes| constant_bytes.checked_add(bytes));
            constant_bytes = bytes.context("a step's constants are too large")?;
            steps.push((step, constants));
        }
        let context = u16::try_from(context).context("the context has more than 65535 tokens")?;
        let (hidden, pooled) = (place(hidden), pooled.map(place));
        Ok(Lowered { steps, constant_bytes, context, arena_bytes, hidden, pooled })
    }

    /// Where each buffer is, and the bytes of the arena.
    pub(super) fn lay_out(&self, demands: &[Demand]) -> (Vec<usize>, usize) {
        let scratch: Vec<Buffer> = self.steps.iter().filter_map(|(step, _)| step.scratch).collect();
        let of_sequences = |buffer: &usize| {
            self.buffers[*buffer].axis == Axis::Sequence && !scratch.contains(&Buffer(*buffer))
        };
        let (sequences, tokens): (Vec<usize>, Vec<usize>) = (0..demands.len()).partition(of_sequences);
        let mut offsets = vec![0; demands.len()];
        let mut bytes = 0;
        for buffers in [tokens, sequences] {
            let demands: Vec<Demand> = buffers.iter().map(|&buffer| demands[buffer]).collect();
            let (places, end) = arena::lay_out(&demands);
            for (buffer, place) in buffers.into_iter().zip(places) {
                offsets[buffer] = bytes + place;
            }
            bytes += end;
        }
        (offsets, bytes)
    }

    /// The bytes and the lifetime of each buffer; `outputs` live to the end, and rows that are kept all the time.
    pub(super) fn demands(&self, outputs: [Option<Buffer>; 2]) -> Result<Vec<Demand>> {
        let mut lives: Vec<Option<(usize, usize)>> = vec![None; self.buffers.len()];
        for (index, (step, _)) in self.steps.iter().enumerate() {
            for buffer in step.places() {
                lives[buffer.0].get_or_insert((index, index)).1 = index;
            }
        }
        let end = self.steps.len();
        for output in outputs.into_iter().flatten() {
            lives[output.0].get_or_insert((0, end)).1 = end;
        }
        if self.keeps_rows {
            let readers = self.steps.iter().map(|(step, _)| step).filter(|step| step.reads_other_rows());
            for buffer in readers.filter_map(|step| step.input).chain(outputs[0]) {
                lives[buffer.0] = Some((0, end));
            }
        }
        let demand = |(place, life): (&Place, &Option<(usize, usize)>)| {
            let (first, last) = life.unwrap_or((0, 0));
            let bytes = place.bytes().try_into().context("a buffer is too large to address")?;
            Ok(Demand { bytes, first, last })
        };
        self.buffers.iter().zip(&lives).map(demand).collect()
    }
}
