//! What a plan says: the manifest and the steps, the types that compiler and runtime share.

use serde::{Deserialize, Serialize};

use super::format::ALIGN;
use crate::kernels::layout::{Packing, Panels, code_stride};
use crate::kernels::{Activation, attention_scratch};
use crate::tokenizer::Padding;

/// A short string.
pub type Text = heapless::String<64>;

/// What a plan says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The program that made it.
    pub producer: Text,
    /// The model that it was made from.
    pub source: Text,
    /// Tokens of the fixed context.
    pub context: u16,
    /// How the linear steps' weights are packed.
    pub packing: Packing,
    /// Bytes of arena for one sequence of the whole context.
    pub arena_bytes: u32,
    /// The hidden states, one row per token.
    pub hidden: Rows,
    /// The pooled output, one row per sequence.
    pub pooled: Option<Rows>,
    /// What CLIP multiplies cosines between texts and images with before the softmax: `exp` of the trained parameter,
    /// 100 in the published models. `None` where the model's files do not say.
    pub logit_scale: Option<f32>,
}

/// What a row of a buffer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Axis {
    /// A token.
    Token,
    /// A sequence: a prompt.
    Sequence,
}

impl Axis {
    /// Rows of a sequence of `context` tokens.
    pub const fn rows(self, context: usize) -> usize {
        match self {
            Axis::Token => context,
            Axis::Sequence => 1,
        }
    }
}

/// A place in the arena for rows of f32.
///
/// For `n` sequences at once offset and size are `n`-fold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// In bytes, a multiple of 64.
    pub offset: u32,
    /// Values in a row.
    pub columns: u32,
    /// What a row belongs to.
    pub axis: Axis,
}

impl Rows {
    /// Bytes for one sequence of `context` tokens, a multiple of 64; `None` when they overflow.
    pub fn bytes(&self, context: usize) -> Option<usize> {
        aligned(self.axis.rows(context).checked_mul(self.columns as usize)?.checked_mul(4)?)
    }
}

/// Bytes that go with each row of activation codes.
pub(crate) const QUANT_PARAMS_BYTES: usize = 8;

/// A place in the arena for rows of activation codes: the codes, each row at a multiple of 64 bytes, then for each row
/// its scale (f32) and its negated zero point (i32): a value is `(code + negated zero point) · scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Codes {
    /// In bytes, a multiple of 64.
    pub offset: u32,
    /// Codes in a row.
    pub columns: u32,
    /// What a row belongs to.
    pub axis: Axis,
}

impl Codes {
    /// Bytes for one sequence of `context` tokens, a multiple of 64; `None` when they overflow.
    pub fn bytes(&self, context: usize) -> Option<usize> {
        let row = code_stride(self.columns as usize).checked_add(QUANT_PARAMS_BYTES)?;
        aligned(self.axis.rows(context).checked_mul(row)?)
    }
}

/// `bytes` up to the next multiple of [`ALIGN`].
fn aligned(bytes: usize) -> Option<usize> {
    bytes.checked_next_multiple_of(ALIGN)
}

/// One fused step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// Token and position embeddings.
    Embed(Embed),
    /// Layer norm, to f32 or codes.
    Norm(Norm),
    /// A matrix product and what follows it.
    Linear(Linear),
    /// Causal self-attention.
    Attention(Attention),
    /// The row of each sequence at its end token.
    Pool(Pool),
    /// Rows to unit length.
    Normalize(Normalize),
    /// Rows side by side.
    Join(Join),
    /// What the first row of a sequence is known to be.
    CachedRow(CachedRow),
}

/// How an embedding step's tables are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EmbedPrecision {
    /// Tokens int8 with a scale per row, positions f16.
    Int8,
    /// Both f32.
    F32,
}

/// `out[i] = tokens[ids[i]] + positions[i]`: the beginning of a text tower, which pads in its own way.
///
/// Constants, each at the next multiple of 64: for `Int8` the rows' codes `[tokens, width]`, the rows' scales
/// `[tokens]` f32, positions `[context, width]` f16, the ids `[f16_rows]` of those read in f16, u32 in ascending order, and those rows
/// `[f16_rows, width]` f16; for `F32` rows and positions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Embed {
    /// Rows of the token table.
    pub tokens: u32,
    /// How the tables are stored.
    pub precision: EmbedPrecision,
    /// Tokens whose rows also stand in f16, and are read there; none where the tables are f32.
    pub f16_rows: u32,
    /// What the ids behind the text are.
    pub padding: Padding,
    /// Written.
    pub out: Rows,
}

impl Embed {
    /// Bytes of token rows, row scales, positions, ids of f16 rows and f16 rows, each a multiple of 64; `None` when they
    /// overflow.
    pub fn constants(&self, context: usize) -> Option<[usize; 5]> {
        let (tokens, width) = (self.tokens as usize, self.out.columns as usize);
        let values = tokens.checked_mul(width)?;
        let positions = context.checked_mul(width)?;
        let f16_rows = self.f16_rows as usize;
        Some(match self.precision {
            EmbedPrecision::Int8 => {
                let scales = aligned(tokens.checked_mul(4)?)?;
                let ids = aligned(f16_rows.checked_mul(4)?)?;
                let rows = aligned(f16_rows.checked_mul(width)?.checked_mul(2)?)?;
                [aligned(values)?, scales, aligned(positions.checked_mul(2)?)?, ids, rows]
            }
            EmbedPrecision::F32 => {
                [aligned(values.checked_mul(4)?)?, 0, aligned(positions.checked_mul(4)?)?, 0, 0]
            }
        })
    }
}

/// `out = (x - mean) / sqrt(variance + epsilon) · gain + bias`.
///
/// Constants: gain, then bias, `[columns]` f32, each at the next multiple of 64.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Norm {
    /// Read.
    pub input: Rows,
    /// Added to the variance.
    pub epsilon: f32,
    /// Written.
    pub out: NormOutput,
}

/// Where a norm's result goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NormOutput {
    /// As f32.
    Rows(Rows),
    /// Quantized.
    Codes(Codes),
}

/// `out = activation(input · weightsᵀ + bias) + residual`; then `out` quantized into `requantized` where there is one.
///
/// Constants: the panels, see [`layout`](crate::kernels::layout).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Linear {
    /// Sizes and packing of the weights.
    pub panels: Panels,
    /// Read: codes where the weights are int8, f32 rows where they are f32.
    pub input: u32,
    /// Applied after the bias.
    pub activation: Activation,
    /// Read and added, where there is one: `out` itself, or a place apart from it.
    pub residual: Option<Rows>,
    /// Written.
    pub out: Rows,
    /// Written too.
    pub requantized: Option<Codes>,
}

impl Linear {
    /// The input where the weights are f32.
    pub fn input_rows(&self) -> Rows {
        Rows { offset: self.input, columns: self.panels.inputs, axis: self.out.axis }
    }

    /// The input where the weights are int8.
    pub fn input_codes(&self) -> Codes {
        Codes { offset: self.input, columns: self.panels.inputs, axis: self.out.axis }
    }
}

/// `out[i] = Σ_{j ≤ i} softmax_j(scale · q_i · k_j) · v_j` for each head; then `out` quantized into `requantized` where
/// there is one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attention {
    /// Read: queries, keys and values side by side, `3 * width` columns.
    pub qkv: Rows,
    /// How many heads share the width.
    pub heads: u16,
    /// Factor on each score.
    pub scale: f32,
    /// Offset of the working memory, see [`Attention::scratch_bytes`].
    pub scratch: u32,
    /// Written.
    pub out: Rows,
    /// Written too.
    pub requantized: Option<Codes>,
}

impl Attention {
    /// Bytes of working memory for one sequence of `context` tokens, a multiple of 64.
    pub fn scratch_bytes(&self, context: usize) -> Option<usize> {
        aligned(attention_scratch(context, 1).checked_mul(self.out.columns as usize)?.checked_mul(4)?)
    }
}

/// The row of each sequence at the first end token; quantized into `requantized` where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// Read: a row per token.
    pub input: Rows,
    /// Written: a row per sequence.
    pub out: Rows,
    /// Written too.
    pub requantized: Option<Codes>,
}

/// `x /= sqrt(Σ x²)` for each row, in place.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalize {
    /// Read and written.
    pub rows: Rows,
}

/// `out[i] = left[i] | right[i]`: what several text towers give out, as one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Join {
    /// Read: the first columns.
    pub left: Rows,
    /// Read: the columns behind them.
    pub right: Rows,
    /// Written.
    pub out: Rows,
}

/// In each sequence that begins with token `id`, the first row of `rows` becomes the constants.
///
/// Attention being causal, all that a text tower computes at the first position depends on the token there alone; and that
/// is nearly always the start token, whose values are known when the plan is made.
///
/// Constants: `[columns]` f32, up to the next multiple of 64.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CachedRow {
    /// The token.
    pub id: u32,
    /// A row per token; what stands there but the first row stays.
    pub rows: Rows,
}

impl Step {
    /// Bytes of the step's constants, a multiple of 64; `None` when they overflow.
    pub fn constant_bytes(&self, context: usize) -> Option<usize> {
        match self {
            Step::Embed(embed) => embed.constants(context)?.into_iter().try_fold(0, usize::checked_add),
            Step::Norm(norm) => aligned((norm.input.columns as usize).checked_mul(4)?)?.checked_mul(2),
            Step::Linear(linear) => linear.panels.bytes(),
            Step::CachedRow(first) => aligned((first.rows.columns as usize).checked_mul(4)?),
            Step::Attention(_) | Step::Pool(_) | Step::Normalize(_) | Step::Join(_) => Some(0),
        }
    }

    /// The f32 rows that the step writes; `None` where it writes codes only.
    pub fn out(&self) -> Option<Rows> {
        match self {
            Step::Embed(step) => Some(step.out),
            Step::Norm(step) => match step.out {
                NormOutput::Rows(rows) => Some(rows),
                NormOutput::Codes(_) => None,
            },
            Step::Linear(step) => Some(step.out),
            Step::Attention(step) => Some(step.out),
            Step::Pool(step) => Some(step.out),
            Step::Normalize(step) => Some(step.rows),
            Step::Join(step) => Some(step.out),
            Step::CachedRow(step) => Some(step.rows),
        }
    }
}
