//! The intermediate representation to the plan's steps.
//!
//! Steps are first written over numbered buffers; when all are there, the buffers' lifetimes are known and each gets
//! its place in the arena.

use std::borrow::Cow;

use anyhow::{Context, Result, ensure};
use cliptext::kernels::Activation as PlanActivation;
use cliptext::kernels::layout::Packing;
use cliptext::plan::{
    Attention, Axis, CachedRow, Codes, Embed, EmbedPrecision, Join, Linear as LinearStep, Norm, NormOutput,
    Normalize, Pool, Rows, Step,
};
use cliptext::tokenizer::Padding;

use crate::backend::arena::{self, Demand};
use crate::backend::pack;
use crate::ir::{Activation, LayerNorm, Linear, Outputs, Pooled, TextModel};
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
pub struct Program<'m> {
    /// The steps and what their constants are made of.
    pub steps: Vec<(Step, Constants<'m>)>,
    /// Tokens of the context.
    pub context: usize,
    /// Bytes of arena for one sequence.
    pub arena_bytes: usize,
    /// The hidden states.
    pub hidden: Rows,
    /// The pooled output.
    pub pooled: Option<Rows>,
}

/// A buffer by its number.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Buffer(usize);

/// What a buffer holds.
#[derive(Clone, Copy)]
enum Shape {
    Rows { columns: usize, axis: Axis },
    Codes { columns: usize, axis: Axis },
    Bytes(usize),
}

/// Collects steps over buffers.
struct Builder<'m> {
    context: usize,
    packing: Packing,
    shapes: Vec<Shape>,
    /// First and last step that uses each buffer.
    lives: Vec<Option<(usize, usize)>>,
    steps: Vec<(Draft, Constants<'m>)>,
}

/// A step over buffers.
enum Draft {
    Embed {
        tokens: u32,
        f16_rows: u32,
        padding: Padding,
        out: Buffer,
    },
    Norm {
        input: Buffer,
        epsilon: f32,
        out: Buffer,
    },
    Linear {
        input: Buffer,
        activation: PlanActivation,
        residual: Option<Buffer>,
        out: Buffer,
        codes: Option<Buffer>,
    },
    Attention {
        qkv: Buffer,
        heads: u16,
        scale: f32,
        scratch: Buffer,
        out: Buffer,
        codes: Option<Buffer>,
    },
    Pool {
        input: Buffer,
        out: Buffer,
        codes: Option<Buffer>,
    },
    Normalize {
        rows: Buffer,
    },
    CachedRow {
        id: u32,
        rows: Buffer,
    },
    Join {
        left: Buffer,
        right: Buffer,
        out: Buffer,
    },
}

/// Lowers `towers`, which read the same text, to the steps that compute their outputs, with weights in `packing`. Hidden
/// states and pooled outputs of several towers come side by side, in the towers' order.
///
/// # Errors
/// When there is no tower, the towers' contexts differ, a tower lacks what is wanted of it, or a size is too large.
pub fn lower<'m>(towers: &[Tower<'m>], packing: Packing) -> Result<Program<'m>> {
    let context = towers.first().context("a plan needs a text tower")?.model.context();
    let mut b = Builder { context, packing, shapes: vec![], lives: vec![], steps: vec![] };
    let (mut hidden, mut pooled) = (None, None);
    for tower in towers {
        let other = tower.model.context();
        ensure!(
            other == context,
            "the text towers take {context} and {other} tokens: one plan has one context"
        );
        let (its_hidden, its_pooled) = b.tower(tower)?;
        hidden = b.joined(hidden, Some(its_hidden));
        pooled = b.joined(pooled, its_pooled);
    }
    b.finish(hidden.context("a plan needs hidden states")?, pooled)
}

fn activation(activation: Activation) -> PlanActivation {
    match activation {
        Activation::QuickGelu => PlanActivation::QuickGelu,
        Activation::Gelu => PlanActivation::Gelu,
        Activation::GeluTanh => PlanActivation::GeluTanh,
    }
}

impl<'m> Builder<'m> {
    fn buffer(&mut self, shape: Shape) -> Buffer {
        self.shapes.push(shape);
        self.lives.push(None);
        Buffer(self.shapes.len() - 1)
    }

    fn rows(&mut self, columns: usize, axis: Axis) -> Buffer {
        self.buffer(Shape::Rows { columns, axis })
    }

    /// A buffer for the codes of `rows`, where linears read codes.
    fn codes_of(&mut self, rows: Buffer) -> Option<Buffer> {
        let Shape::Rows { columns, axis } = self.shapes[rows.0] else { return None };
        self.packing.is_int8().then(|| self.buffer(Shape::Codes { columns, axis }))
    }

    /// Attention's working memory.
    fn scratch(&mut self, width: usize) -> Buffer {
        let out = Rows { offset: 0, columns: width as u32, axis: Axis::Token };
        let step = Attention { qkv: out, heads: 1, scale: 1.0, scratch: 0, out, requantized: None };
        let bytes = step.scratch_bytes(self.context).unwrap_or(usize::MAX);
        self.buffer(Shape::Bytes(bytes))
    }

    fn push(&mut self, draft: Draft, constants: Constants<'m>) {
        let step = self.steps.len();
        for buffer in draft.buffers() {
            let life = self.lives[buffer.0].get_or_insert((step, step));
            life.1 = step;
        }
        self.steps.push((draft, constants));
    }

    /// The steps of one tower; says where its hidden states and its pooled output are.
    fn tower(&mut self, tower: &Tower<'m>) -> Result<(Buffer, Option<Buffer>)> {
        let Tower { model, outputs, padding, quantized } = *tower;
        let start = quantized.map(|quantized| &quantized.start);
        ensure!(
            outputs.hidden_layer <= model.layers.len(),
            "hidden states after layer {} are wanted, the model has {} layers",
            outputs.hidden_layer,
            model.layers.len()
        );
        let width = model.width();
        let mut x = self.rows(width, Axis::Token);
        let tokens = u32::try_from(model.token_embedding.rows).context("more tokens than 32 bits count")?;
        let f16_rows = quantized.map_or(&[][..], |quantized| &quantized.fine);
        let draft = Draft::Embed { tokens, f16_rows: f16_rows.len() as u32, padding, out: x };
        self.push(draft, Constants::Embeddings(model, f16_rows));
        let layers = outputs.layers(model.layers.len());
        let mut hidden = None;
        for (index, layer) in model.layers[..layers].iter().enumerate() {
            if index == outputs.hidden_layer {
                hidden = Some(self.hidden(x, &outputs, &model.final_norm));
            }
            // The states that are an output stay: the sum goes to a new place.
            let next = if hidden == Some(x) { self.rows(width, Axis::Token) } else { x };
            let normed = self.norm(x, &layer.norm1);
            let qkv = self.rows(3 * width, Axis::Token);
            let linears = [&layer.query, &layer.key, &layer.value];
            self.linear(normed, linears, PlanActivation::Identity, None, qkv, None);
            if let Some(start) = start {
                self.first(start.id, qkv, Cow::Borrowed(&start.qkv[index]));
            }
            let mixed = self.rows(width, Axis::Token);
            let codes = self.codes_of(mixed);
            let scratch = self.scratch(width);
            let heads = u16::try_from(model.heads).context("more heads than 65535")?;
            let attention = Draft::Attention { qkv, heads, scale: layer.scale, scratch, out: mixed, codes };
            self.push(attention, Constants::None);
            let mixed = codes.unwrap_or(mixed);
            self.linear(mixed, [&layer.out], PlanActivation::Identity, Some(x), next, None);
            x = next;
            let normed = self.norm(x, &layer.norm2);
            let inner = self.rows(layer.fc1.weight.rows, Axis::Token);
            let codes = self.codes_of(inner);
            self.linear(normed, [&layer.fc1], activation(layer.activation), None, inner, codes);
            let inner = codes.unwrap_or(inner);
            self.linear(inner, [&layer.fc2], PlanActivation::Identity, Some(x), x, None);
        }
        let hidden = match hidden {
            Some(hidden) => hidden,
            None => self.hidden(x, &outputs, &model.final_norm),
        };
        if let Some(start) = start {
            let row = start.hidden(model, outputs.hidden_layer, outputs.hidden_norm);
            self.first(start.id, hidden, Cow::Owned(row));
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
                self.first(start.id, normed, Cow::Owned(start.hidden(model, layers, true)));
            }
            normed
        };
        let pooled = self.pooled(normed, model, &outputs)?;
        Ok((hidden, Some(pooled)))
    }

    /// The pooled output, made of the rows behind the final norm.
    fn pooled(&mut self, normed: Buffer, model: &'m TextModel, outputs: &Outputs) -> Result<Buffer> {
        let row = self.rows(model.width(), Axis::Sequence);
        let pooled = if outputs.pooled == Pooled::EndToken {
            self.push(Draft::Pool { input: normed, out: row, codes: None }, Constants::None);
            row
        } else {
            let weight = model
                .projection
                .clone()
                .context("a projected output is wanted, the model has no projection")?;
            let codes = self.codes_of(row);
            self.push(Draft::Pool { input: normed, out: row, codes }, Constants::None);
            let out = self.rows(weight.rows, Axis::Sequence);
            let projection = Cow::Owned(Linear { bias: vec![0.0; weight.rows], weight, steps: None });
            let draft = Draft::Linear {
                input: codes.unwrap_or(row),
                activation: PlanActivation::Identity,
                residual: None,
                out,
                codes: None,
            };
            self.push(draft, Constants::Linears(vec![projection]));
            out
        };
        if outputs.normalized {
            self.push(Draft::Normalize { rows: pooled }, Constants::None);
        }
        Ok(pooled)
    }

    /// Two towers' rows side by side, or those of the only one that has some.
    fn joined(&mut self, left: Option<Buffer>, right: Option<Buffer>) -> Option<Buffer> {
        let (Some(left), Some(right)) = (left, right) else { return left.or(right) };
        let (Shape::Rows { columns, axis }, Shape::Rows { columns: more, .. }) =
            (self.shapes[left.0], self.shapes[right.0])
        else {
            return None;
        };
        let out = self.rows(columns + more, axis);
        self.push(Draft::Join { left, right, out }, Constants::None);
        Some(out)
    }

    /// Puts the known first row into `rows`.
    fn first(&mut self, id: u32, rows: Buffer, row: Cow<'m, [f32]>) {
        self.push(Draft::CachedRow { id, rows }, Constants::Row(row));
    }

    /// Normalised input for a linear: codes where linears read codes.
    fn norm(&mut self, input: Buffer, norm: &'m LayerNorm) -> Buffer {
        match self.codes_of(input) {
            Some(out) => self.push_norm(input, norm, out),
            None => self.norm_rows(input, norm),
        }
    }

    fn norm_rows(&mut self, input: Buffer, norm: &'m LayerNorm) -> Buffer {
        let out = self.buffer(self.shapes[input.0]);
        self.push_norm(input, norm, out)
    }

    fn push_norm(&mut self, input: Buffer, norm: &'m LayerNorm, out: Buffer) -> Buffer {
        self.push(Draft::Norm { input, epsilon: norm.epsilon, out }, Constants::Norm(norm));
        out
    }

    /// The hidden states that the outputs want, made of the residual stream `x`.
    fn hidden(&mut self, x: Buffer, outputs: &Outputs, norm: &'m LayerNorm) -> Buffer {
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
        let linears = linears.into_iter().map(Cow::Borrowed).collect();
        self.push(Draft::Linear { input, activation, residual, out, codes }, Constants::Linears(linears));
    }

    /// Gives every buffer its place.
    fn finish(mut self, hidden: Buffer, pooled: Option<Buffer>) -> Result<Program<'m>> {
        let end = self.steps.len();
        for output in [Some(hidden), pooled].into_iter().flatten() {
            self.lives[output.0].get_or_insert((0, end)).1 = end;
        }
        let mut demands = Vec::new();
        for (shape, life) in self.shapes.iter().zip(&self.lives) {
            let bytes = match *shape {
                Shape::Rows { columns, axis } => {
                    Rows { offset: 0, columns: columns as u32, axis }.bytes(self.context)
                }
                Shape::Codes { columns, axis } => {
                    Codes { offset: 0, columns: columns as u32, axis }.bytes(self.context)
                }
                Shape::Bytes(bytes) => Some(bytes),
            };
            let (first, last) = life.unwrap_or((0, 0));
            demands.push(Demand { bytes: bytes.context("a buffer is too large to address")?, first, last });
        }
        let (offsets, arena_bytes) = arena::lay_out(&demands);
        ensure!(
            u32::try_from(arena_bytes).is_ok(),
            "the arena would have {arena_bytes} bytes, more than 4 GiB"
        );
        let places = Places { shapes: &self.shapes, offsets: &offsets };
        let packing = self.packing;
        let mut steps = Vec::new();
        for (draft, constants) in self.steps {
            steps.push((draft.resolve(&places, &constants, packing), constants));
        }
        Ok(Program {
            steps,
            context: self.context,
            arena_bytes,
            hidden: places.rows(hidden),
            pooled: pooled.map(|b| places.rows(b)),
        })
    }
}

/// Where the buffers are.
struct Places<'b> {
    shapes: &'b [Shape],
    offsets: &'b [usize],
}

impl Places<'_> {
    fn offset(&self, buffer: Buffer) -> u32 {
        self.offsets[buffer.0] as u32
    }

    fn rows(&self, buffer: Buffer) -> Rows {
        let (columns, axis) = self.shape(buffer);
        Rows { offset: self.offset(buffer), columns, axis }
    }

    fn codes(&self, buffer: Buffer) -> Codes {
        let (columns, axis) = self.shape(buffer);
        Codes { offset: self.offset(buffer), columns, axis }
    }

    fn shape(&self, buffer: Buffer) -> (u32, Axis) {
        match self.shapes[buffer.0] {
            Shape::Rows { columns, axis } | Shape::Codes { columns, axis } => (columns as u32, axis),
            Shape::Bytes(bytes) => (bytes as u32, Axis::Sequence),
        }
    }
}

impl Draft {
    fn buffers(&self) -> impl Iterator<Item = Buffer> {
        let all = match *self {
            Draft::Embed { out, .. } => [Some(out), None, None, None],
            Draft::Norm { input, out, .. } => [Some(input), Some(out), None, None],
            Draft::Linear { input, residual, out, codes, .. } => [Some(input), residual, Some(out), codes],
            Draft::Attention { qkv, scratch, out, codes, .. } => [Some(qkv), Some(scratch), Some(out), codes],
            Draft::Pool { input, out, codes } => [Some(input), Some(out), codes, None],
            Draft::Normalize { rows } | Draft::CachedRow { rows, .. } => [Some(rows), None, None, None],
            Draft::Join { left, right, out } => [Some(left), Some(right), Some(out), None],
        };
        all.into_iter().flatten()
    }

    fn resolve(&self, places: &Places<'_>, constants: &Constants<'_>, packing: Packing) -> Step {
        match *self {
            Draft::Embed { tokens, f16_rows, padding, out } => {
                let precision = if packing.is_int8() { EmbedPrecision::Int8 } else { EmbedPrecision::F32 };
                Step::Embed(Embed { tokens, precision, f16_rows, padding, out: places.rows(out) })
            }
            Draft::Norm { input, epsilon, out } => {
                let out = match places.shapes[out.0] {
                    Shape::Codes { .. } => NormOutput::Codes(places.codes(out)),
                    _ => NormOutput::Rows(places.rows(out)),
                };
                Step::Norm(Norm { input: places.rows(input), epsilon, out })
            }
            Draft::Linear { input, activation, residual, out, codes } => {
                let linears = if let Constants::Linears(linears) = constants { &linears[..] } else { &[] };
                let linears: Vec<&Linear> = linears.iter().map(Cow::as_ref).collect();
                Step::Linear(LinearStep {
                    panels: pack::panels(&linears, packing),
                    input: places.offset(input),
                    activation,
                    residual: residual.map(|b| places.rows(b)),
                    out: places.rows(out),
                    requantized: codes.map(|b| places.codes(b)),
                })
            }
            Draft::Attention { qkv, heads, scale, scratch, out, codes } => Step::Attention(Attention {
                qkv: places.rows(qkv),
                heads,
                scale,
                scratch: places.offset(scratch),
                out: places.rows(out),
                requantized: codes.map(|b| places.codes(b)),
            }),
            Draft::CachedRow { id, rows } => Step::CachedRow(CachedRow { id, rows: places.rows(rows) }),
            Draft::Normalize { rows } => Step::Normalize(Normalize { rows: places.rows(rows) }),
            Draft::Join { left, right, out } => {
                Step::Join(Join { left: places.rows(left), right: places.rows(right), out: places.rows(out) })
            }
            Draft::Pool { input, out, codes } => Step::Pool(Pool {
                input: places.rows(input),
                out: places.rows(out),
                requantized: codes.map(|b| places.codes(b)),
            }),
        }
    }
}
