//! A text tower as a tract graph: the f32 oracle of a model that came without a graph, or was changed after its import.

use anyhow::{Context, Result, ensure};
use tract_core::internal::{AxisOp, IntoArcTensor, Tensor, ToDim, TypedOp, tvec};
use tract_core::model::TypedModel;
use tract_core::ops::array::Gather;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::cast::cast;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::logic::comp_eq;
use tract_core::ops::math::{add, erf, mul, rsqrt, square, sub, tanh};
use tract_core::ops::nn::{Reduce, Reducer, RmsNorm, Softmax, SoftmaxKind, sigmoid};
use tract_core::prelude::*;

use super::Imported;
use crate::ir::{Activation, Layer, LayerNorm, Linear, Matrix, Outputs, Pooled, TextModel};

/// Builds the decluttered graph that computes `outputs` of `model` from `[1, context]` ids: the hidden states first, then
/// the pooled row where one is wanted, then, if `states`, the residual stream: before the first layer and after each. Layers
/// that no output needs are left out.
///
/// # Errors
/// When an output is wanted that the model has no layer or projection for, or tract refuses a shape.
pub fn build(model: &TextModel, outputs: &Outputs, states: bool) -> Result<Imported> {
    let context = model.context();
    ensure!(
        outputs.hidden_layer <= model.layers.len(),
        "hidden states after layer {} are wanted, the model has {} layers",
        outputs.hidden_layer,
        model.layers.len()
    );
    let graph = wire(model, outputs, states).context("tract cannot take this tower")?;
    let model = graph.into_decluttered().context("tract cannot simplify this tower")?;
    Ok(Imported { model, context, ids_type: DatumType::I64 })
}

fn wire(model: &TextModel, outputs: &Outputs, states: bool) -> Result<TypedModel> {
    let (context, width, heads) = (model.context(), model.width(), model.heads);
    let mut g = Graph { model: TypedModel::default(), nodes: 0 };
    let ids = g.model.add_source("input_ids", DatumType::I64.fact([1, context]))?;
    let table = g.matrix(&model.token_embedding)?;
    let tokens = g.wire(Gather::new(0), &[table, ids])?;
    let positions = g.constant(&[1, context, width], &model.position_embedding.values)?;
    let mut x = g.wire(add(), &[tokens, positions])?;
    let mask = g.constant(&[1, 1, context, context], &causal(context))?;
    let needed = outputs.layers(model.layers.len());
    let mut stream = vec![x];
    for layer in model.layers.iter().take(needed) {
        x = g.layer(layer, x, mask, heads)?;
        stream.push(x);
    }
    let state = stream[outputs.hidden_layer];
    let last = match outputs.pooled {
        Pooled::None => None,
        _ => Some(g.norm(&model.final_norm, x)?),
    };
    let hidden = match (outputs.hidden_norm, last) {
        (false, _) => state,
        (true, Some(normed)) if state == x => normed,
        (true, _) => g.norm(&model.final_norm, state)?,
    };
    let mut outlets = vec![hidden];
    if let Some(normed) = last {
        let row = g.pool(ids, normed, outputs.end_token)?;
        let projected = match (outputs.pooled, &model.projection) {
            (Pooled::Projected, projection) => {
                let projection = projection.as_ref().context("a projection is wanted, the model has none")?;
                let weight = g.matrix(projection)?;
                g.product("bk,nk->bn", row, weight)?
            }
            _ => row,
        };
        outlets.push(if outputs.normalized { g.unit(projected)? } else { projected });
    }
    if states {
        outlets.extend(stream);
    }
    g.model.select_output_outlets(&outlets)?;
    Ok(g.model)
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

    fn layer(&mut self, layer: &Layer, x: OutletId, mask: OutletId, heads: usize) -> Result<OutletId> {
        let width = layer.query.weight.rows();
        let (whole, split) = (tvec![width.to_dim()], tvec![heads.to_dim(), (width / heads).to_dim()]);
        let normed = self.norm(&layer.norm1, x)?;
        let [query, key, value] = [&layer.query, &layer.key, &layer.value].map(|side| {
            let side = self.linear(side, normed)?;
            self.wire(AxisOp::Reshape(2, whole.clone(), split.clone()), &[side])
        });
        let scores = self.product("bthd,bshd->bhts", query?, key?)?;
        let scores = self.with(mul(), scores, layer.scale)?;
        let scores = self.wire(add(), &[scores, mask])?;
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

    /// `[1, width]`: the row at the first end token.
    fn pool(&mut self, ids: OutletId, x: OutletId, end: u32) -> Result<OutletId> {
        let end = self.model.add_const("end_token", Tensor::from_shape(&[1, 1], &[i64::from(end)])?)?;
        let is_end = self.wire(TypedBinOp(comp_eq(), None), &[ids, end])?;
        let is_end = self.wire(cast(DatumType::I64), &[is_end])?;
        let place = self.wire(Reduce { axes: tvec![1], reducer: Reducer::ArgMax(false) }, &[is_end])?;
        let place = self.wire(AxisOp::Rm(1), &[place])?;
        let row = self.wire(Gather::new(1), &[x, place])?;
        self.wire(AxisOp::Rm(1), &[row])
    }

    /// Each row divided by its length.
    fn unit(&mut self, x: OutletId) -> Result<OutletId> {
        let squared = self.wire(square(), &[x])?;
        let sum = self.sum_of_channels(squared)?;
        let factor = self.wire(rsqrt(), &[sum])?;
        self.wire(mul(), &[x, factor])
    }
}
