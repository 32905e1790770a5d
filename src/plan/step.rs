//! Steps: an operation, the places that it reads and writes, its constants, and what part of which tower it is.

use super::format::ALIGN;
use super::place::{Format, Place};
use crate::kernels::Activation;
pub use crate::kernels::Mask;
use crate::kernels::dispatch::attention_scratch;
use crate::kernels::layout::{MAX_INPUTS, Packing, Panels};
use crate::tokenizer::Padding;

/// One fused step over places `P`: in a plan [`Place`]s in the arena, in the compiler buffers that have no place yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step<P = Place> {
    /// What part of the model it is.
    pub role: Role,
    /// What it computes.
    pub op: Op,
    /// Read.
    pub input: Option<P>,
    /// Read too: what a linear adds to its product, what a join puts on the right.
    pub second: Option<P>,
    /// Written.
    pub out: P,
    /// Written too: the quantized form of `out`.
    pub codes: Option<P>,
    /// Working memory.
    pub scratch: Option<P>,
    /// Where its constants begin, in bytes from the start of the constants section.
    pub constants: u64,
}

/// What part of the model a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// The tower, from 0. A join belongs to the last of the towers that it joins.
    pub tower: u8,
    /// The layer, from 1; of what follows the layers the one that it follows; 0 before the first.
    pub layer: u16,
    /// The part.
    pub part: Part,
}

/// A part of a tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// Token and position embeddings, or those of patches.
    Embedding,
    /// A layer's attention, with the norm before it and the sum behind it.
    Attention,
    /// A layer's MLP, with the norm before it and the sum behind it.
    Mlp,
    /// The norm behind the last layer.
    FinalNorm,
    /// The pooled row.
    Pool,
    /// Its projection.
    Projection,
    /// Several towers' outputs, brought together.
    Join,
}

impl Part {
    /// Every part, in the order of their codes in a plan.
    pub const ALL: [Part; 7] = [
        Part::Embedding,
        Part::Attention,
        Part::Mlp,
        Part::FinalNorm,
        Part::Pool,
        Part::Projection,
        Part::Join,
    ];
}

/// What a step computes, row by row where it does not say otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// `out[i] = tokens[ids[i]] + positions[i]`: the beginning of a text tower.
    Embed(Embed),
    /// `out = (input - mean) / sqrt(variance + epsilon) · gain + bias`, quantized where `out` is a place for codes.
    ///
    /// Constants: gain, bias, `[columns]` f32 each.
    Norm {
        /// Added to the variance.
        epsilon: f32,
    },
    /// `out = activation(input · weightsᵀ + bias) + second`. The input is codes where the weights are int8.
    ///
    /// Constants: the panels, see [`layout`](crate::kernels::layout).
    Linear {
        /// How the weights are packed.
        packing: Packing,
        /// Applied after the bias.
        activation: Activation,
    },
    /// `out[i] = Σ_j softmax_j(scale · q_i · k_j) · v_j` for each head, over the `j` that the mask lets `i` see. The input is
    /// queries, keys and values side by side, `[rows, 3 · width]`.
    Attention {
        /// How many heads share the width.
        heads: u16,
        /// Factor on each score.
        scale: f32,
        /// Which rows a row sees.
        mask: Mask,
    },
    /// The row of each sequence at its first end token.
    Pool,
    /// `x /= sqrt(Σ x²)`, in place; a row of zeros stays one.
    Normalize,
    /// `out[i] = input[i] | second[i]`: two rows as one.
    Join,
    /// In each sequence that begins with `token`, the first row becomes the constants, in place; the others stay.
    ///
    /// Under a causal mask all that a text tower computes at the first position depends on the token there alone; and that
    /// is nearly always the start token, whose values are known when the plan is made.
    ///
    /// Constants: the row, `[columns]` f32.
    CachedRow {
        /// The token.
        token: u32,
    },
    /// The beginning of an image tower: row `1 + i` has the pixels of patch `i`, the first row, the class token's, zeros. Pixels
    /// are whole numbers, so their codes are exact: pixel `p` is code `p - 128`, the negated zero point 128, the scale 1; the first
    /// row's scale is 0. Where `out` is no place for codes it has the pixels.
    Patches(Grid),
    /// `out[i] = positions[i]`, in each sequence.
    ///
    /// Constants: `[rows, columns]` f32.
    Positions,
}

/// A square image cut into square patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Pixels of a side of the image.
    pub side: u16,
    /// Pixels of a side of a patch, of which the image has whole numbers only.
    pub patch: u16,
}

impl Grid {
    /// Colours of a pixel: red, green, blue, a byte each.
    pub const COLOURS: usize = 3;

    /// Patches along a side.
    pub const fn across(self) -> usize {
        match (self.side as usize).checked_div(self.patch as usize) {
            Some(across) => across,
            None => 0,
        }
    }

    /// Rows of an image: the class token's, then a row for each patch, from the top left to the bottom right.
    pub const fn tokens(self) -> usize {
        1 + self.across() * self.across()
    }

    /// Values of a patch: its pixels from the top left to the bottom right, of each the colours.
    pub const fn columns(self) -> u32 {
        (Self::COLOURS as u32 * self.patch as u32).saturating_mul(self.patch as u32)
    }

    /// Bytes of an image.
    pub const fn bytes(self) -> usize {
        (Self::COLOURS * self.side as usize).saturating_mul(self.side as usize)
    }

    /// Whether patches fill the image, and a linear takes them.
    pub(super) fn is_whole(self) -> bool {
        let whole = self.across() > 0 && self.across() * usize::from(self.patch) == usize::from(self.side);
        whole && self.columns() <= MAX_INPUTS
    }
}

/// The tables of token and position embeddings, and what fills the context.
///
/// Constants: for [`EmbedPrecision::Int8`] the rows' codes `[vocabulary, columns]` int8, the rows' scales `[vocabulary]` f32,
/// positions `[rows, columns]` f16, the ids `[f16_rows]` u32, ascending, of the tokens whose rows are read in f16, and those
/// rows `[f16_rows, columns]` f16; for `F32` token rows and positions, f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embed {
    /// Rows of the token table.
    pub vocabulary: u32,
    /// How the tables are stored.
    pub precision: EmbedPrecision,
    /// Tokens whose rows are read in f16; none where the tables are f32.
    pub f16_rows: u32,
    /// What the ids behind the text are.
    pub padding: Padding,
}

/// How an embedding's tables are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmbedPrecision {
    /// Tokens int8 with a scale per row, positions f16.
    Int8,
    /// All f32.
    F32,
}

/// Arrays that a step's constants have at the most.
pub const CONSTANT_ARRAYS: usize = 5;

/// Bytes in the constants section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// From the start of the section.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
}

impl Extent {
    /// `count` items of `bytes` bytes from item `index` of this array on.
    pub fn items(self, index: usize, count: usize, bytes: usize) -> Extent {
        Extent { offset: self.offset + index as u64 * bytes as u64, bytes: count as u64 * bytes as u64 }
    }
}

impl<P> Step<P> {
    /// The places that it reads.
    pub fn reads(&self) -> impl Iterator<Item = &P> {
        self.input.iter().chain(&self.second)
    }

    /// The places that it writes.
    pub fn writes(&self) -> impl Iterator<Item = &P> {
        core::iter::once(&self.out).chain(&self.codes)
    }

    /// Every place that it uses: what it reads, what it writes, its working memory.
    pub fn places(&self) -> impl Iterator<Item = &P> {
        self.reads().chain(self.writes()).chain(&self.scratch)
    }

    /// The one place that it reads and that `out` may be, or must be where the step is always done in place.
    pub fn in_place(&self) -> Option<&P> {
        match self.op {
            Op::Linear { .. } => self.second.as_ref(),
            Op::Normalize | Op::CachedRow { .. } => self.input.as_ref(),
            _ => None,
        }
    }

    /// Whether it leaves out a row at the front of a pass whose value is cached wherever another row or an output depends on
    /// it.
    pub fn skips_cached_row(&self) -> bool {
        matches!(self.op, Op::Norm { .. } | Op::Linear { .. })
    }

    /// Whether it reads rows other than those that it computes: attention's keys and values, and what is pooled.
    pub fn reads_other_rows(&self) -> bool {
        matches!(self.op, Op::Attention { .. } | Op::Pool)
    }

    /// The same step over other places.
    pub fn map<Q>(self, mut place: impl FnMut(P) -> Q) -> Step<Q> {
        Step {
            role: self.role,
            op: self.op,
            input: self.input.map(&mut place),
            second: self.second.map(&mut place),
            out: place(self.out),
            codes: self.codes.map(&mut place),
            scratch: self.scratch.map(place),
            constants: self.constants,
        }
    }

    /// The layer whose residual stream `out` is, 0 for the embedding: the places at which a tower can be compared with
    /// another implementation.
    pub fn completes_layer(&self) -> Option<usize> {
        match (self.op, self.role.part) {
            (Op::Embed(_), _) => Some(0),
            (Op::Linear { .. }, Part::Mlp) if self.second.is_some() => Some(self.role.layer.into()),
            _ => None,
        }
    }

    /// What it does, in a word or two.
    pub fn name(&self) -> &'static str {
        match (self.op, self.role.part, self.second.is_some()) {
            (Op::Embed(_), ..) => "embed",
            (Op::Norm { .. }, ..) => "norm",
            (Op::Linear { .. }, Part::Attention, false) => "query, key, value",
            (Op::Linear { .. }, Part::Attention, true) => "attention output",
            (Op::Linear { .. }, Part::Mlp, false) => "MLP in",
            (Op::Linear { .. }, Part::Mlp, true) => "MLP out",
            (Op::Linear { .. }, Part::Projection, _) => "projection",
            (Op::Linear { .. }, Part::Embedding, _) => "patch embedding",
            (Op::Linear { .. }, ..) => "linear",
            (Op::Attention { .. }, ..) => "attention",
            (Op::Pool, ..) => "pool",
            (Op::Normalize, ..) => "normalize",
            (Op::Join, ..) => "join",
            (Op::CachedRow { .. }, ..) => "cached row",
            (Op::Patches(_), ..) => "patches",
            (Op::Positions, ..) => "positions",
        }
    }
}

impl Step {
    /// A linear's weights.
    pub fn panels(&self) -> Option<Panels> {
        match (self.op, self.input) {
            (Op::Linear { packing, .. }, Some(input)) => {
                Some(Panels { inputs: input.columns, outputs: self.out.columns, packing })
            }
            _ => None,
        }
    }

    /// Values of working memory that it needs for one sequence; `None` when they overflow.
    pub fn scratch_values(&self) -> Option<usize> {
        match self.op {
            Op::Attention { heads, .. } => {
                let channels = (self.out.columns as usize).checked_div(heads.into())?;
                attention_scratch(self.out.rows.into(), heads.into(), channels)
            }
            _ => Some(0),
        }
    }

    /// Bytes of each array of its constants before they are filled up to a multiple of 64, in their order; `None` when they
    /// overflow, or a linear has more inputs than its sums can take.
    fn constant_sizes(&self) -> Option<[u64; CONSTANT_ARRAYS]> {
        let columns = u64::from(self.out.columns);
        Some(match self.op {
            Op::Embed(embed) => {
                let values = u64::from(embed.vocabulary).checked_mul(columns)?;
                let positions = u64::from(self.out.rows) * columns;
                let f16_rows = u64::from(embed.f16_rows);
                match embed.precision {
                    EmbedPrecision::Int8 => [
                        values,
                        4 * u64::from(embed.vocabulary),
                        2 * positions,
                        4 * f16_rows,
                        f16_rows.checked_mul(columns)?.checked_mul(2)?,
                    ],
                    EmbedPrecision::F32 => [values.checked_mul(4)?, 0, 4 * positions, 0, 0],
                }
            }
            Op::Norm { .. } => [4 * columns, 4 * columns, 0, 0, 0],
            Op::Linear { .. } => {
                let panels = self.panels().filter(|panels| panels.inputs <= MAX_INPUTS)?;
                [panels.bytes()? as u64, 0, 0, 0, 0]
            }
            Op::CachedRow { .. } => [4 * columns, 0, 0, 0, 0],
            Op::Positions => [u64::from(self.out.rows).checked_mul(columns)?.checked_mul(4)?, 0, 0, 0, 0],
            Op::Attention { .. } | Op::Pool | Op::Normalize | Op::Join | Op::Patches(_) => {
                [0; CONSTANT_ARRAYS]
            }
        })
    }

    /// Where its constants are, array by array, each from a multiple of 64 on; `None` when they overflow.
    pub fn constant_arrays(&self) -> Option<[Extent; CONSTANT_ARRAYS]> {
        let mut arrays = [Extent::default(); CONSTANT_ARRAYS];
        let mut offset = self.constants;
        for (array, bytes) in arrays.iter_mut().zip(self.constant_sizes()?) {
            *array = Extent { offset, bytes };
            offset = offset.checked_add(bytes.checked_next_multiple_of(ALIGN as u64)?)?;
        }
        Some(arrays)
    }

    /// Bytes of all its constants, a multiple of 64; `None` when they overflow.
    pub fn constant_bytes(&self) -> Option<u64> {
        let [.., last] = self.constant_arrays()?;
        let end = last.offset + last.bytes.checked_next_multiple_of(ALIGN as u64)?;
        Some(end - self.constants)
    }

    /// Whether it writes f32 rows.
    pub fn writes_f32(&self) -> bool {
        self.out.format == Format::F32
    }
}
