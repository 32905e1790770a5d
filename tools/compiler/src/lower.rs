//! The intermediate representation to the plan's steps.
//!
//! Steps are first written over numbered buffers; when all are there, the buffers' lifetimes are known and each gets
//! its place in the arena.

use anyhow::{Context, Result, ensure};
use cliptext::kernels::Activation as PlanActivation;
use cliptext::kernels::layout::Packing;
use cliptext::plan::{
    Attention, Codes, Embed, EmbedPrecision, Linear as LinearStep, Norm, NormOutput, Normalize, Per, Pool,
    Rows, Step,
};

use crate::arena::{self, Demand};
use crate::ir::{Activation, LayerNorm, Linear, Outputs, Pooled, TextModel};
use crate::pack;

/// The constants of a step, by where they stand in the model.
pub enum Constants<'m> {
    /// Token and position tables.
    Embeddings,
    /// Gain and bias.
    Norm(&'m LayerNorm),
    /// Weights and biases of linears with the same inputs, as one.
    Linears(Vec<&'m Linear>),
    /// None.
    None,
}

/// A model as steps with their places.
pub struct Program<'m> {
    /// The steps and what their constants are made of.
    pub steps: Vec<(Step, Constants<'m>)>,
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
    Rows { columns: usize, per: Per },
    Codes { columns: usize, per: Per },
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
}

/// Lowers `model` to the steps that compute `outputs`, with weights in `packing`.
pub fn lower<'m>(
    model: &'m TextModel,
    projection: Option<&'m Linear>,
    outputs: &Outputs,
    packing: Packing,
) -> Result<Program<'m>> {
    ensure!(
        outputs.hidden_layer <= model.layers.len(),
        "hidden states after layer {} are wanted, the model has {} layers",
        outputs.hidden_layer,
        model.layers.len()
    );
    let width = model.width();
    let mut b = Builder { context: model.context(), packing, shapes: vec![], lives: vec![], steps: vec![] };
    let mut x = b.rows(width, Per::Token);
    b.push(Draft::Embed { tokens: model.token_embedding.rows as u32, out: x }, Constants::Embeddings);
    let layers = if outputs.pooled == Pooled::None { outputs.hidden_layer } else { model.layers.len() };
    let mut hidden = None;
    for (index, layer) in model.layers[..layers].iter().enumerate() {
        if index == outputs.hidden_layer {
            hidden = Some(b.hidden(x, outputs, &model.final_norm));
        }
        // The states that are an output stay: the sum goes to a new place.
        let next = if hidden == Some(x) { b.rows(width, Per::Token) } else { x };
        let normed = b.norm(x, &layer.norm1);
        let qkv = b.rows(3 * width, Per::Token);
        let linears = vec![&layer.query, &layer.key, &layer.value];
        b.linear(normed, linears, PlanActivation::Identity, None, qkv, None);
        let mixed = b.rows(width, Per::Token);
        let codes = b.codes_of(mixed);
        let scratch = b.scratch(width);
        let heads = u16::try_from(model.heads).context("more heads than 65535")?;
        let attention = Draft::Attention { qkv, heads, scale: layer.scale, scratch, out: mixed, codes };
        b.push(attention, Constants::None);
        let mixed = codes.unwrap_or(mixed);
        b.linear(mixed, vec![&layer.out], PlanActivation::Identity, Some(x), next, None);
        x = next;
        let normed = b.norm(x, &layer.norm2);
        let inner = b.rows(layer.fc1.weight.rows, Per::Token);
        let codes = b.codes_of(inner);
        b.linear(normed, vec![&layer.fc1], activation(layer.activation), None, inner, codes);
        let inner = codes.unwrap_or(inner);
        b.linear(inner, vec![&layer.fc2], PlanActivation::Identity, Some(x), x, None);
    }
    let hidden = match hidden {
        Some(hidden) => hidden,
        None => b.hidden(x, outputs, &model.final_norm),
    };
    let pooled = match outputs.pooled {
        Pooled::None => None,
        pooled => {
            let at_end = outputs.hidden_layer == model.layers.len();
            let normed =
                if at_end && outputs.hidden_norm { hidden } else { b.norm_rows(x, &model.final_norm) };
            let row = b.rows(width, Per::Sequence);
            let pooled = if pooled == Pooled::EndToken {
                b.push(Draft::Pool { input: normed, out: row, codes: None }, Constants::None);
                row
            } else {
                let projection =
                    projection.context("a projected output is wanted, the model has no projection")?;
                let codes = b.codes_of(row);
                b.push(Draft::Pool { input: normed, out: row, codes }, Constants::None);
                let out = b.rows(projection.weight.rows, Per::Sequence);
                let input = codes.unwrap_or(row);
                b.linear(input, vec![projection], PlanActivation::Identity, None, out, None);
                out
            };
            if outputs.normalized {
                b.push(Draft::Normalize { rows: pooled }, Constants::None);
            }
            Some(pooled)
        }
    };
    b.finish(hidden, pooled)
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

    fn rows(&mut self, columns: usize, per: Per) -> Buffer {
        self.buffer(Shape::Rows { columns, per })
    }

    /// A buffer for the codes of `rows`, where linears read codes.
    fn codes_of(&mut self, rows: Buffer) -> Option<Buffer> {
        let Shape::Rows { columns, per } = self.shapes[rows.0] else { return None };
        self.packing.is_int8().then(|| self.buffer(Shape::Codes { columns, per }))
    }

    /// Attention's working memory.
    fn scratch(&mut self, width: usize) -> Buffer {
        let out = Rows { offset: 0, columns: width as u32, per: Per::Token };
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

    fn linear(
        &mut self,
        input: Buffer,
        linears: Vec<&'m Linear>,
        activation: PlanActivation,
        residual: Option<Buffer>,
        out: Buffer,
        codes: Option<Buffer>,
    ) {
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
                Shape::Rows { columns, per } => {
                    Rows { offset: 0, columns: columns as u32, per }.bytes(self.context)
                }
                Shape::Codes { columns, per } => {
                    Codes { offset: 0, columns: columns as u32, per }.bytes(self.context)
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
        let (columns, per) = self.shape(buffer);
        Rows { offset: self.offset(buffer), columns, per }
    }

    fn codes(&self, buffer: Buffer) -> Codes {
        let (columns, per) = self.shape(buffer);
        Codes { offset: self.offset(buffer), columns, per }
    }

    fn shape(&self, buffer: Buffer) -> (u32, Per) {
        match self.shapes[buffer.0] {
            Shape::Rows { columns, per } | Shape::Codes { columns, per } => (columns as u32, per),
            Shape::Bytes(bytes) => (bytes as u32, Per::Sequence),
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
            Draft::Normalize { rows } => [Some(rows), None, None, None],
        };
        all.into_iter().flatten()
    }

    fn resolve(&self, places: &Places<'_>, constants: &Constants<'_>, packing: Packing) -> Step {
        match *self {
            Draft::Embed { tokens, out } => {
                let precision = if packing.is_int8() { EmbedPrecision::Int8 } else { EmbedPrecision::F32 };
                Step::Embed(Embed { tokens, precision, out: places.rows(out) })
            }
            Draft::Norm { input, epsilon, out } => {
                let out = match places.shapes[out.0] {
                    Shape::Codes { .. } => NormOutput::Codes(places.codes(out)),
                    _ => NormOutput::Rows(places.rows(out)),
                };
                Step::Norm(Norm { input: places.rows(input), epsilon, out })
            }
            Draft::Linear { input, activation, residual, out, codes } => {
                let linears: &[&Linear] =
                    if let Constants::Linears(linears) = constants { linears } else { &[] };
                Step::Linear(LinearStep {
                    panels: pack::panels(linears, packing),
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
            Draft::Normalize { rows } => Step::Normalize(Normalize { rows: places.rows(rows) }),
            Draft::Pool { input, out, codes } => Step::Pool(Pool {
                input: places.rows(input),
                out: places.rows(out),
                requantized: codes.map(|b| places.codes(b)),
            }),
        }
    }
}
