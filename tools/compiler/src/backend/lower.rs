//! The intermediate representation to the plan's steps.
//!
//! Steps are first written over numbered buffers; when all are there, the buffers' lifetimes are known and each gets
//! its place in the arena.

use std::borrow::Cow;

use anyhow::{Context, Result, ensure};
use cliptext::kernels::Activation as PlanActivation;
use cliptext::kernels::layout::Packing;
use cliptext::plan::{Axis, Embed, EmbedPrecision, Format, Mask, Op, Part, Place, Role, Step};
use cliptext::tokenizer::Padding;

use crate::backend::arena::{self, Demand};
use crate::ir::{Activation, LayerNorm, Linear, Outputs, Pooled, TextModel, Weight};
use crate::quantize::Quantized;

/// A text tower and what a plan takes of it.
#[derive(Clone, Copy, Debug)]
pub struct Tower<'m> {
    /// The tower.
    pub model: &'m TextModel,
    /// What it gives out.
    pub outputs: Outputs,
    /// How it fills prompts up to the context.
    pub padding: Padding,
    /// What quantizing its weights has found out; `None`: the plan does without.
    pub quantized: Option<&'m Quantized>,
}

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

/// Text towers as steps with their places.
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
struct Buffer(usize);

/// Collects steps over buffers.
struct Builder<'m> {
    packing: Packing,
    keeps_rows: bool,
    role: Role,
    /// The buffers, as places that are nowhere yet.
    buffers: Vec<Place>,
    steps: Vec<(Step<Buffer>, Constants<'m>)>,
}

/// Lowers `towers`, which read the same text, to the steps that compute their outputs, with weights in `packing`. Hidden
/// states and pooled outputs of several towers come side by side, in the towers' order. Where `keeps_rows`, what a pass reads
/// of rows that it need not compute stays in the arena for the next.
///
/// # Errors
/// When there is no tower, the towers' contexts differ, a tower lacks what is wanted of it, or a size is too large.
pub fn lower<'m>(towers: &[Tower<'m>], packing: Packing, keeps_rows: bool) -> Result<Lowered<'m>> {
    let context = towers.first().context("a plan needs a text tower")?.model.context();
    let role = Role { tower: 0, layer: 0, part: Part::Embedding };
    let mut b = Builder { packing, keeps_rows, role, buffers: vec![], steps: vec![] };
    let (mut hidden, mut pooled) = (None, None);
    for (index, tower) in towers.iter().enumerate() {
        let other = tower.model.context();
        ensure!(
            other == context,
            "the text towers take {context} and {other} tokens: one plan has one context"
        );
        let index = u8::try_from(index).context("a plan takes at most 256 text towers")?;
        b.role = Role { tower: index, layer: 0, part: Part::Embedding };
        let (its_hidden, its_pooled) = b.tower(tower)?;
        b.role.part = Part::Join;
        hidden = b.joined(hidden, Some(its_hidden));
        pooled = b.joined(pooled, its_pooled);
    }
    b.finish(context, hidden.context("a plan needs hidden states")?, pooled)
}

fn activation(activation: Activation) -> PlanActivation {
    match activation {
        Activation::QuickGelu => PlanActivation::QuickGelu,
        Activation::Gelu => PlanActivation::Gelu,
        Activation::GeluTanh => PlanActivation::GeluTanh,
    }
}

fn columns(count: usize) -> Result<u32> {
    u32::try_from(count).context("more columns than 32 bits count")
}

impl<'m> Builder<'m> {
    fn buffer(&mut self, place: Place) -> Buffer {
        self.buffers.push(place);
        Buffer(self.buffers.len() - 1)
    }

    /// A buffer with the rows of `like` and other columns.
    fn rows_like(&mut self, like: Buffer, columns: u32) -> Buffer {
        self.buffer(Place { columns, format: Format::F32, ..self.buffers[like.0] })
    }

    /// A buffer for one row of each sequence.
    fn row(&mut self, columns: u32) -> Buffer {
        self.buffer(Place { offset: 0, columns, rows: 1, axis: Axis::Sequence, format: Format::F32 })
    }

    /// A buffer for the codes of `rows`, where linears read codes.
    fn codes_of(&mut self, rows: Buffer) -> Option<Buffer> {
        let place = Place { format: Format::Codes, ..self.buffers[rows.0] };
        self.packing.is_int8().then(|| self.buffer(place))
    }

    fn columns(&self, buffer: Buffer) -> u32 {
        self.buffers[buffer.0].columns
    }

    /// A step that writes `out`, reading nothing.
    fn step(&self, op: Op, out: Buffer) -> Step<Buffer> {
        Step { role: self.role, op, input: None, second: None, out, codes: None, scratch: None, constants: 0 }
    }

    /// A step that reads `input` and writes `out`.
    fn from(&self, op: Op, input: Buffer, out: Buffer) -> Step<Buffer> {
        Step { input: Some(input), ..self.step(op, out) }
    }

    fn push(&mut self, step: Step<Buffer>, constants: Constants<'m>) {
        self.steps.push((step, constants));
    }

    /// The steps of one tower; says where its hidden states and its pooled output are.
    fn tower(&mut self, tower: &Tower<'m>) -> Result<(Buffer, Option<Buffer>)> {
        let Tower { model, outputs, quantized, .. } = *tower;
        let start = quantized.map(|quantized| &quantized.start);
        ensure!(
            outputs.hidden_layer <= model.layers.len(),
            "hidden states after layer {} are wanted, the model has {} layers",
            outputs.hidden_layer,
            model.layers.len()
        );
        let mut x = self.embedding(tower)?;
        let layers = outputs.layers(model.layers.len());
        let mut hidden = None;
        for (index, layer) in model.layers[..layers].iter().enumerate() {
            if index == outputs.hidden_layer {
                hidden = Some(self.hidden(x, &outputs, &model.final_norm));
            }
            self.role.layer = u16::try_from(index + 1).context("more than 65535 layers")?;
            self.role.part = Part::Attention;
            // The states that are an output stay: the sum goes to a new place.
            let next = if hidden == Some(x) { self.rows_like(x, self.columns(x)) } else { x };
            let normed = self.norm(x, &layer.norm1);
            let width = self.columns(x);
            let qkv = self.rows_like(x, width.checked_mul(3).context("a layer is too wide")?);
            let linears = [&layer.query, &layer.key, &layer.value];
            self.linear(normed, linears, PlanActivation::Identity, None, qkv, None);
            if let Some(start) = start {
                self.cached_row(start.id, qkv, Cow::Borrowed(&start.qkv[index]));
            }
            let mixed = self.attention(qkv, model.heads, layer.scale, width)?;
            self.linear(mixed, [&layer.out], PlanActivation::Identity, Some(x), next, None);
            x = next;
            self.role.part = Part::Mlp;
            let normed = self.norm(x, &layer.norm2);
            let inner = self.rows_like(x, columns(layer.fc1.weight.rows())?);
            let codes = self.codes_of(inner);
            self.linear(normed, [&layer.fc1], activation(layer.activation), None, inner, codes);
            let inner = codes.unwrap_or(inner);
            self.linear(inner, [&layer.fc2], PlanActivation::Identity, Some(x), x, None);
        }
        let hidden = match hidden {
            Some(hidden) => hidden,
            None => self.hidden(x, &outputs, &model.final_norm),
        };
        self.role.part = Part::FinalNorm;
        if let Some(start) = start {
            let row = start.hidden(model, outputs.hidden_layer, outputs.hidden_norm);
            self.cached_row(start.id, hidden, Cow::Owned(row));
        }
        if outputs.pooled == Pooled::None {
            return Ok((hidden, None));
        }
        let at_end = outputs.hidden_layer == model.layers.len();
        let normed = if at_end && outputs.hidden_norm {
            hidden
        } else {
            let normed = self.norm_rows(x, &model.final_norm);
            if let Some(start) = start {
                self.cached_row(start.id, normed, Cow::Owned(start.hidden(model, layers, true)));
            }
            normed
        };
        let pooled = self.pooled(normed, model, &outputs)?;
        Ok((hidden, Some(pooled)))
    }

    /// The embedding step, and the residual stream that it begins.
    fn embedding(&mut self, tower: &Tower<'m>) -> Result<Buffer> {
        let Tower { model, padding, quantized, .. } = *tower;
        let out = self.buffer(Place {
            offset: 0,
            columns: columns(model.width())?,
            rows: u16::try_from(model.context()).context("the context has more than 65535 tokens")?,
            axis: Axis::Token,
            format: Format::F32,
        });
        let f16_rows = quantized.map_or(&[][..], |quantized| &quantized.f16_rows);
        let embed = Embed {
            vocabulary: u32::try_from(model.token_embedding.rows)
                .context("more tokens than 32 bits count")?,
            precision: if self.packing.is_int8() { EmbedPrecision::Int8 } else { EmbedPrecision::F32 },
            f16_rows: f16_rows.len() as u32,
            padding,
        };
        self.push(self.step(Op::Embed(embed), out), Constants::Embeddings(model, f16_rows));
        Ok(out)
    }

    /// Attention over `qkv`; what it gives a linear to read.
    fn attention(&mut self, qkv: Buffer, heads: usize, scale: f32, width: u32) -> Result<Buffer> {
        let out = self.rows_like(qkv, width);
        let codes = self.codes_of(out);
        let heads = u16::try_from(heads).context("more heads than 65535")?;
        let op = Op::Attention { heads, scale, mask: Mask::Causal };
        let step = Step { codes, ..self.from(op, qkv, out) };
        let values = step.map(|buffer| self.buffers[buffer.0]).scratch_values();
        let scratch = self.row(columns(values.context("an attention too large for any memory")?)?);
        self.push(Step { scratch: Some(scratch), ..step }, Constants::None);
        Ok(codes.unwrap_or(out))
    }

    /// The pooled output, made of the rows behind the final norm.
    fn pooled(&mut self, normed: Buffer, model: &'m TextModel, outputs: &Outputs) -> Result<Buffer> {
        self.role.part = Part::Pool;
        let row = self.row(self.columns(normed));
        let pooled = if outputs.pooled == Pooled::EndToken {
            self.push(self.from(Op::Pool, normed, row), Constants::None);
            row
        } else {
            let weight = model
                .projection
                .clone()
                .context("a projected output is wanted, the model has no projection")?;
            let codes = self.codes_of(row);
            self.push(Step { codes, ..self.from(Op::Pool, normed, row) }, Constants::None);
            self.role.part = Part::Projection;
            let out = self.row(columns(weight.rows)?);
            let bias = vec![0.0; weight.rows];
            let projection = Cow::Owned(Linear { weight: Weight::F32(weight), bias });
            let op = Op::Linear { packing: self.packing, activation: PlanActivation::Identity };
            let step = self.from(op, codes.unwrap_or(row), out);
            self.push(step, Constants::Linears(vec![projection]));
            out
        };
        if outputs.normalized {
            self.push(self.from(Op::Normalize, pooled, pooled), Constants::None);
        }
        Ok(pooled)
    }

    /// Two towers' rows side by side, or those of the only one that has some.
    fn joined(&mut self, left: Option<Buffer>, right: Option<Buffer>) -> Option<Buffer> {
        let (Some(left), Some(right)) = (left, right) else { return left.or(right) };
        let out = self.rows_like(left, self.columns(left) + self.columns(right));
        let step = Step { second: Some(right), ..self.from(Op::Join, left, out) };
        self.push(step, Constants::None);
        Some(out)
    }

    /// Puts the cached first row into `rows`.
    fn cached_row(&mut self, token: u32, rows: Buffer, row: Cow<'m, [f32]>) {
        self.push(self.from(Op::CachedRow { token }, rows, rows), Constants::Row(row));
    }

    /// Normalised input for a linear: codes where linears read codes.
    fn norm(&mut self, input: Buffer, norm: &'m LayerNorm) -> Buffer {
        match self.codes_of(input) {
            Some(out) => self.push_norm(input, norm, out),
            None => self.norm_rows(input, norm),
        }
    }

    fn norm_rows(&mut self, input: Buffer, norm: &'m LayerNorm) -> Buffer {
        let out = self.rows_like(input, self.columns(input));
        self.push_norm(input, norm, out)
    }

    fn push_norm(&mut self, input: Buffer, norm: &'m LayerNorm, out: Buffer) -> Buffer {
        self.push(self.from(Op::Norm { epsilon: norm.epsilon }, input, out), Constants::Norm(norm));
        out
    }

    /// The hidden states that the outputs want, made of the residual stream `x`.
    fn hidden(&mut self, x: Buffer, outputs: &Outputs, norm: &'m LayerNorm) -> Buffer {
        self.role.part = Part::FinalNorm;
        if outputs.hidden_norm { self.norm_rows(x, norm) } else { x }
    }

    fn linear<const N: usize>(
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
    fn finish(self, context: usize, hidden: Buffer, pooled: Option<Buffer>) -> Result<Lowered<'m>> {
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
    fn lay_out(&self, demands: &[Demand]) -> (Vec<usize>, usize) {
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
    fn demands(&self, outputs: [Option<Buffer>; 2]) -> Result<Vec<Demand>> {
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
