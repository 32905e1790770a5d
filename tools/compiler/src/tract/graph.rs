//! Parts of a tower as tract graphs.

use anyhow::Result;
use cliptext::plan::Mask;
use tract_core::internal::{AxisOp, IntoArcTensor, Tensor, ToDim, TypedOp, tvec};
use tract_core::model::TypedModel;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::math::{add, erf, mul, rsqrt, square, sub, tanh};
use tract_core::ops::nn::{Reduce, Reducer, RmsNorm, Softmax, SoftmaxKind, sigmoid};
use tract_core::prelude::*;

use crate::ir::{Activation, Layer, LayerNorm, Linear, Matrix};

/// Shape of a graph's input: so many rows of such a width, in a batch of one.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// Rows, of a text its tokens.
    pub rows: usize,
    /// Columns.
    pub width: usize,
}

impl Rows {
    /// A graph with one input of this shape, and what `wire` makes of it.
    fn graph(self, wire: impl FnOnce(&mut Graph, OutletId) -> Result<OutletId>) -> Result<TypedModel> {
        let mut g = Graph { model: TypedModel::default(), nodes: 0 };
        let x = g.model.add_source("x", DatumType::F32.fact([1, self.rows, self.width]))?;
        let out = wire(&mut g, x)?;
        g.model.select_output_outlets(&[out])?;
        Ok(g.model)
    }
}

/// A layer, from the residual stream before it to the one behind it.
///
/// # Errors
/// When tract refuses a shape.
pub fn layer(layer: &Layer, rows: Rows, heads: usize, mask: Mask) -> Result<TypedModel> {
    rows.graph(|g, x| {
        let mask = match mask {
            Mask::Causal => Some(g.constant(&[1, 1, rows.rows, rows.rows], &causal(rows.rows))?),
            Mask::None => None,
        };
        g.layer(layer, x, mask, heads)
    })
}

/// A linear of each row.
///
/// # Errors
/// As [`layer`].
pub fn linear(linear: &Linear, rows: Rows) -> Result<TypedModel> {
    rows.graph(|g, x| g.linear(linear, x))
}

/// A norm of each row.
///
/// # Errors
/// As [`layer`].
pub fn norm(norm: &LayerNorm, rows: Rows) -> Result<TypedModel> {
    rows.graph(|g, x| g.norm(norm, x))
}

/// The pooled output of the residual stream's row at the end token: the norm, the `projection` if there is one, and a length of 1
/// where it is `normalized`.
///
/// # Errors
/// As [`layer`].
pub fn head(norm: &LayerNorm, projection: Option<&Matrix>, normalized: bool) -> Result<TypedModel> {
    Rows { rows: 1, width: norm.gain.len() }.graph(|g, x| {
        let mut row = g.norm(norm, x)?;
        if let Some(projection) = projection {
            let weight = g.matrix(projection)?;
            row = g.product("btk,nk->btn", row, weight)?;
        }
        if normalized { g.unit(row) } else { Ok(row) }
    })
}

/// `[context, context]`: zero up to the diagonal, minus infinity behind it.
fn causal(context: usize) -> Vec<f32> {
    let entry = |at: usize| if at % context > at / context { f32::NEG_INFINITY } else { 0.0 };
    (0..context * context).map(entry).collect()
}

/// Wires nodes whose names are their numbers.
struct Graph {
    model: TypedModel,
    nodes: usize,
}

/// An operator of any kind.
type Op = Box<dyn TypedOp>;

impl Graph {
    fn wire(&mut self, op: impl Into<Op>, inputs: &[OutletId]) -> Result<OutletId> {
        self.nodes += 1;
        Ok(self.model.wire_node(format!("node{}", self.nodes), op, inputs)?[0])
    }

    fn constant(&mut self, shape: &[usize], values: &[f32]) -> Result<OutletId> {
        self.nodes += 1;
        self.model.add_const(format!("node{}", self.nodes), Tensor::from_shape(shape, values)?)
    }

    fn matrix(&mut self, matrix: &Matrix) -> Result<OutletId> {
        self.constant(&[matrix.rows, matrix.cols], &matrix.values)
    }

    /// `op` with a number that is the same everywhere.
    fn with(&mut self, op: TypedBinOp, x: OutletId, number: f32) -> Result<OutletId> {
        let rank = self.model.outlet_fact(x)?.rank();
        let number = self.constant(&vec![1; rank], &[number])?;
        self.wire(op, &[x, number])
    }

    /// `op` with a number for each channel, the last axis.
    fn along(&mut self, op: TypedBinOp, x: OutletId, numbers: &[f32]) -> Result<OutletId> {
        let mut shape = vec![1; self.model.outlet_fact(x)?.rank()];
        if let Some(channels) = shape.last_mut() {
            *channels = numbers.len();
        }
        let numbers = self.constant(&shape, numbers)?;
        self.wire(op, &[x, numbers])
    }

    fn product(&mut self, letters: &str, left: OutletId, right: OutletId) -> Result<OutletId> {
        self.wire(EinSum::new(letters.parse()?, DatumType::F32), &[left, right])
    }

    fn linear(&mut self, linear: &Linear, x: OutletId) -> Result<OutletId> {
        let weight = self.matrix(&linear.weight.to_f32())?;
        let product = self.product("btk,nk->btn", x, weight)?;
        self.along(add(), product, &linear.bias)
    }

    fn sum_of_channels(&mut self, x: OutletId) -> Result<OutletId> {
        let last = self.model.outlet_fact(x)?.rank() - 1;
        self.wire(Reduce { axes: tvec![last], reducer: Reducer::Sum }, &[x])
    }

    fn norm(&mut self, norm: &LayerNorm, x: OutletId) -> Result<OutletId> {
        let sum = self.sum_of_channels(x)?;
        let mean = self.with(mul(), sum, 1.0 / norm.gain.len() as f32)?;
        let centred = self.wire(sub(), &[x, mean])?;
        let eps = tensor0(norm.epsilon).into_arc_tensor();
        let normed = self.wire(RmsNorm { axis: 2, eps }, &[centred])?;
        let scaled = self.along(mul(), normed, &norm.gain)?;
        self.along(add(), scaled, &norm.bias)
    }

    fn layer(
        &mut self,
        layer: &Layer,
        x: OutletId,
        mask: Option<OutletId>,
        heads: usize,
    ) -> Result<OutletId> {
        let width = layer.query.weight.rows();
        let (whole, split) = (tvec![width.to_dim()], tvec![heads.to_dim(), (width / heads).to_dim()]);
        let normed = self.norm(&layer.norm1, x)?;
        let [query, key, value] = [&layer.query, &layer.key, &layer.value].map(|side| {
            let side = self.linear(side, normed)?;
            self.wire(AxisOp::Reshape(2, whole.clone(), split.clone()), &[side])
        });
        let scores = self.product("bthd,bshd->bhts", query?, key?)?;
        let mut scores = self.with(mul(), scores, layer.scale)?;
        if let Some(mask) = mask {
            scores = self.wire(add(), &[scores, mask])?;
        }
        let softmax = Softmax { axes: tvec![3], quant_output_dt: None, kind: SoftmaxKind::Softmax };
        let weights = self.wire(softmax, &[scores])?;
        let mixed = self.product("bhts,bshd->bthd", weights, value?)?;
        let mixed = self.wire(AxisOp::Reshape(2, split, whole), &[mixed])?;
        let out = self.linear(&layer.out, mixed)?;
        let x = self.wire(add(), &[x, out])?;
        let normed = self.norm(&layer.norm2, x)?;
        let inner = self.linear(&layer.fc1, normed)?;
        let inner = self.activation(layer.activation, inner)?;
        let out = self.linear(&layer.fc2, inner)?;
        self.wire(add(), &[x, out])
    }

    fn activation(&mut self, activation: Activation, x: OutletId) -> Result<OutletId> {
        let gate = match activation {
            Activation::QuickGelu => {
                let scaled = self.with(mul(), x, 1.702)?;
                self.wire(sigmoid(), &[scaled])?
            }
            Activation::Gelu => {
                let scaled = self.with(mul(), x, std::f32::consts::FRAC_1_SQRT_2)?;
                let erf = self.wire(erf(), &[scaled])?;
                let shifted = self.with(add(), erf, 1.0)?;
                self.with(mul(), shifted, 0.5)?
            }
            Activation::GeluTanh => {
                let squared = self.wire(square(), &[x])?;
                let cubic = self.with(mul(), squared, 0.044715)?;
                let cubic = self.with(add(), cubic, 1.0)?;
                let inner = self.wire(mul(), &[x, cubic])?;
                let inner = self.with(mul(), inner, (2.0 / std::f32::consts::PI).sqrt())?;
                let tanh = self.wire(tanh(), &[inner])?;
                let shifted = self.with(add(), tanh, 1.0)?;
                self.with(mul(), shifted, 0.5)?
            }
        };
        self.wire(mul(), &[x, gate])
    }

    /// Each row divided by its length.
    fn unit(&mut self, x: OutletId) -> Result<OutletId> {
        let squared = self.wire(square(), &[x])?;
        let sum = self.sum_of_channels(squared)?;
        let factor = self.wire(rsqrt(), &[sum])?;
        self.wire(mul(), &[x, factor])
    }
}
