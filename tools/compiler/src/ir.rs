//! The compiler's intermediate representation: a CLIP tower as mathematics, with its weights in f32 or int8.
//!
//! Front ends end here, edits and quantization change what is here, and the back end starts here. Nothing in this file
//! knows tract, ONNX or the plan's bytes.

use std::borrow::Cow;
use std::fmt;

use crate::arithmetic::parallel::{self, ROWS};

/// What a tower encodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modality {
    /// Prompts.
    Text,
    /// Pictures.
    Image,
}

impl fmt::Display for Modality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Modality::Text => "text encoder",
            Modality::Image => "image encoder",
        })
    }
}

/// A dense row-major f32 matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// `rows * cols` values, row after row.
    pub values: Vec<f32>,
}

impl Matrix {
    /// Row `index`, `cols` long.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.cols..][..self.cols]
    }
}

/// A matrix of int8 codes with a scale for each row: `value ≈ code · scale`.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedMatrix {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// `rows * cols` codes in -127..=127, row after row.
    pub codes: Vec<i8>,
    /// A scale per row.
    pub scales: Vec<f32>,
}

impl QuantizedMatrix {
    /// The values that the codes stand for.
    pub fn to_f32(&self) -> Matrix {
        let mut values = vec![0.0; self.codes.len()];
        let chunk = ROWS * self.cols.max(1);
        let chunks = values.chunks_mut(chunk).zip(self.codes.chunks(chunk)).zip(self.scales.chunks(ROWS));
        parallel::each(chunks, |((values, codes), scales)| {
            let rows = values.chunks_exact_mut(self.cols).zip(codes.chunks_exact(self.cols)).zip(scales);
            for ((values, codes), scale) in rows {
                values.iter_mut().zip(codes).for_each(|(value, &code)| *value = f32::from(code) * scale);
            }
        });
        Matrix { rows: self.rows, cols: self.cols, values }
    }
}

/// A linear layer's weights, `[outputs, inputs]`: a row per output channel, as torch stores it.
#[derive(Clone, Debug, PartialEq)]
pub enum Weight {
    /// As the model has them.
    F32(Matrix),
    /// Quantized.
    Int8(QuantizedMatrix),
}

impl Weight {
    /// Number of outputs.
    pub fn rows(&self) -> usize {
        match self {
            Weight::F32(matrix) => matrix.rows,
            Weight::Int8(matrix) => matrix.rows,
        }
    }

    /// Number of inputs.
    pub fn cols(&self) -> usize {
        match self {
            Weight::F32(matrix) => matrix.cols,
            Weight::Int8(matrix) => matrix.cols,
        }
    }

    /// The weights in f32: those that the codes stand for where they are quantized.
    pub fn to_f32(&self) -> Cow<'_, Matrix> {
        match self {
            Weight::F32(matrix) => Cow::Borrowed(matrix),
            Weight::Int8(matrix) => Cow::Owned(matrix.to_f32()),
        }
    }

    /// The f32 values that it is made of, and what to call them.
    fn floats(&self) -> (&'static str, &[f32]) {
        match self {
            Weight::F32(matrix) => ("weight", &matrix.values),
            Weight::Int8(matrix) => ("scales of the weight", &matrix.scales),
        }
    }

    /// The weights in f32, to be changed: quantized ones become what their codes stand for.
    pub fn make_f32(&mut self) -> &mut Matrix {
        if let Weight::Int8(matrix) = self {
            *self = Weight::F32(matrix.to_f32());
        }
        match self {
            Weight::F32(matrix) => matrix,
            Weight::Int8(_) => unreachable!("made f32 just now"),
        }
    }
}

/// `y = x · weightᵀ + bias`.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// `[outputs, inputs]`.
    pub weight: Weight,
    /// `outputs` values; zeros where the model has none.
    pub bias: Vec<f32>,
}

/// `y = (x - mean) / sqrt(variance + epsilon) * gain + bias`, over the last axis, biased variance.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNorm {
    /// `width` factors.
    pub gain: Vec<f32>,
    /// `width` offsets.
    pub bias: Vec<f32>,
    /// Added to the variance.
    pub epsilon: f32,
}

/// The nonlinearity between a layer's two MLP matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(1.702 x)`: OpenAI's CLIP.
    QuickGelu,
    /// `x/2 · (1 + erf(x/√2))`: OpenCLIP.
    Gelu,
    /// `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
    GeluTanh,
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Activation::QuickGelu => "quick GELU",
            Activation::Gelu => "GELU",
            Activation::GeluTanh => "GELU by tanh",
        })
    }
}

/// One pre-norm transformer layer: `x += out(attention(norm1(x)))`, then `x += fc2(act(fc1(norm2(x))))`.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Before the attention.
    pub norm1: LayerNorm,
    /// `[width, width]` each; head `h` owns channels `h*head_dim..(h+1)*head_dim`.
    pub query: Linear,
    /// As `query`.
    pub key: Linear,
    /// As `query`.
    pub value: Linear,
    /// Factor on `q·k` before the softmax, with every scale found in the graph gathered into it.
    pub scale: f32,
    /// `[width, width]`.
    pub out: Linear,
    /// Before the MLP.
    pub norm2: LayerNorm,
    /// `[mlp, width]`.
    pub fc1: Linear,
    /// Between `fc1` and `fc2`.
    pub activation: Activation,
    /// `[width, mlp]`.
    pub fc2: Linear,
}

impl Layer {
    /// Every tensor of the layer, with what to call it in messages.
    pub fn tensors(&self) -> impl Iterator<Item = (String, &[f32])> {
        let norms = [("first norm", &self.norm1), ("second norm", &self.norm2)];
        let linears = [
            ("query", &self.query),
            ("key", &self.key),
            ("value", &self.value),
            ("attention output", &self.out),
            ("MLP in", &self.fc1),
            ("MLP out", &self.fc2),
        ];
        let norms = norms
            .into_iter()
            .flat_map(|(name, norm)| [(name, "gain", &norm.gain[..]), (name, "bias", &norm.bias)]);
        let linears = linears.into_iter().flat_map(|(name, linear)| {
            let (what, values) = linear.weight.floats();
            [(name, what, values), (name, "bias", &linear.bias)]
        });
        norms.chain(linears).map(|(name, part, values)| (format!("{name}, {part}"), values))
    }
}

/// Every tensor of some layers.
fn all_layers(layers: &[Layer]) -> impl Iterator<Item = (String, &[f32])> {
    layers.iter().enumerate().flat_map(|(index, layer)| {
        layer.tensors().map(move |(name, values)| (format!("layer {}, {name}", index + 1), values))
    })
}

/// A CLIP text tower.
#[derive(Clone, Debug, PartialEq)]
pub struct TextModel {
    /// `[vocabulary, width]`.
    pub token_embedding: Matrix,
    /// `[context, width]`.
    pub position_embedding: Matrix,
    /// Attention heads in every layer; `width` is a multiple.
    pub heads: usize,
    /// From first to last.
    pub layers: Vec<Layer>,
    /// After the last layer. Of a graph that uses it for no output: ones and zeros.
    pub final_norm: LayerNorm,
    /// `[projected, width]`, no bias: from the pooled row to the joint image and text space.
    pub projection: Option<Matrix>,
}

impl TextModel {
    /// Width of the hidden states.
    pub fn width(&self) -> usize {
        self.token_embedding.cols
    }

    /// Tokens of the fixed context.
    pub fn context(&self) -> usize {
        self.position_embedding.rows
    }

    /// Every tensor of the model, with what to call it in messages.
    pub fn tensors(&self) -> impl Iterator<Item = (String, &[f32])> {
        let own = [
            ("the token embedding", Some(&self.token_embedding.values)),
            ("the position embedding", Some(&self.position_embedding.values)),
            ("the final norm's gain", Some(&self.final_norm.gain)),
            ("the final norm's bias", Some(&self.final_norm.bias)),
            ("the projection", self.projection.as_ref().map(|matrix| &matrix.values)),
        ];
        let own = own.into_iter().filter_map(|(name, values)| Some((name.to_owned(), &values?[..])));
        own.chain(all_layers(&self.layers))
    }

    /// Columns of the pooled output that `outputs` want, where they want one.
    pub fn pooled_columns(&self, outputs: &Outputs) -> Option<usize> {
        match (outputs.pooled, &self.projection) {
            (Pooled::None, _) => None,
            (Pooled::Projected, Some(projection)) => Some(projection.rows),
            _ => Some(self.width()),
        }
    }
}

/// A CLIP image tower: a vision transformer over the patches of a square image.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageModel {
    /// Pixels of a side of the image.
    pub side: usize,
    /// Pixels of a side of a patch.
    pub patch: usize,
    /// `[width, 3 · patch²]`, over pixels of 0 to 255 as they stand in the image: row after row, of each its colours. The
    /// preprocessing's `(x / 255 - mean) / deviation` is in it and in `positions`; the bias is zero.
    pub patch_embedding: Linear,
    /// `[1 + patches, width]`, added to the patches: the class token with its position, then the patches' positions.
    pub positions: Matrix,
    /// Before the first layer.
    pub pre_norm: LayerNorm,
    /// Attention heads in every layer; `width` is a multiple.
    pub heads: usize,
    /// From first to last; each row sees all.
    pub layers: Vec<Layer>,
    /// Of the class token's row, behind the last layer.
    pub post_norm: LayerNorm,
    /// `[projected, width]`, no bias: into the joint image and text space.
    pub projection: Option<Matrix>,
}

impl ImageModel {
    /// Width of the hidden states.
    pub fn width(&self) -> usize {
        self.positions.cols
    }

    /// Rows of an image: the class token's and one for each patch.
    pub fn tokens(&self) -> usize {
        self.positions.rows
    }

    /// Every tensor of the model, with what to call it in messages.
    pub fn tensors(&self) -> impl Iterator<Item = (String, &[f32])> {
        let own = [
            ("the patch embedding", Some(self.patch_embedding.weight.floats().1)),
            ("the positions", Some(&self.positions.values[..])),
            ("the norm before the layers, gain", Some(&self.pre_norm.gain)),
            ("the norm before the layers, bias", Some(&self.pre_norm.bias)),
            ("the norm behind the layers, gain", Some(&self.post_norm.gain)),
            ("the norm behind the layers, bias", Some(&self.post_norm.bias)),
            ("the projection", self.projection.as_ref().map(|matrix| &matrix.values[..])),
        ];
        let own = own.into_iter().filter_map(|(name, values)| Some((name.to_owned(), values?)));
        own.chain(all_layers(&self.layers))
    }

    /// Columns of the pooled output.
    pub fn pooled_columns(&self) -> usize {
        self.projection.as_ref().map_or(self.width(), |projection| projection.rows)
    }

    /// The patches of `image` as rows of pixels, zeros for the class token.
    pub fn rows_of(&self, image: &[u8]) -> Matrix {
        let (line, part, across) = (3 * self.side, 3 * self.patch, self.side / self.patch);
        let cols = part * self.patch;
        let mut values = vec![0.0; cols];
        for patch in 0..across * across {
            for y in 0..self.patch {
                let start = (patch / across * self.patch + y) * line + patch % across * part;
                values.extend(image[start..start + part].iter().map(|&pixel| f32::from(pixel)));
            }
        }
        Matrix { rows: self.tokens(), cols, values }
    }
}

/// What the pooled output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooled {
    /// The graph has no pooled output.
    None,
    /// The final-normed hidden state at the first end token.
    EndToken,
    /// The same, times the projection.
    Projected,
}

/// The token that a model means which pools at the highest id: CLIP's end token, or the last of a smaller vocabulary.
pub fn highest_end(vocabulary: usize) -> u32 {
    /// The end token of CLIP's vocabulary.
    const CLIP_END: u32 = 49407;
    CLIP_END.min(vocabulary.saturating_sub(1) as u32)
}

/// Which values a plan computes from a [`TextModel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outputs {
    /// Hidden states after this many layers (`layers.len()`: the last).
    pub hidden_layer: usize,
    /// Whether the final norm is applied to them.
    pub hidden_norm: bool,
    /// The pooled output.
    pub pooled: Pooled,
    /// Whether the pooled output is divided by its length, as zero-shot models give it out.
    pub normalized: bool,
    /// The token at whose first place the model pools. Of a model that pools at `argmax(ids)` it is CLIP's end token,
    /// 49407, the highest id of every published vocabulary (tokens added above it by textual inversion would draw the
    /// argmax away from the end, which nobody means); of a smaller vocabulary it is the highest id.
    pub end_token: u32,
}

impl Outputs {
    /// How many of a model's layers are computed for them: the pooled row takes all.
    pub fn layers(&self, all: usize) -> usize {
        if self.pooled == Pooled::None { self.hidden_layer.min(all) } else { all }
    }
}
