//! Opset 23's `Attention` as products, sum and softmax.
//!
//! tract reads the operator and simplifies it, but has no code to run it. This one is registered in its place and
//! takes itself apart as soon as types and shapes are known.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::logic::wire_with_rank_broadcast;
use tract_onnx::tract_hir::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_hir::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_hir::tract_core::ops::math::{add, mul};
use tract_onnx::tract_hir::tract_core::ops::nn::{Softmax, SoftmaxKind};

/// Attention over the whole prompt, without cache.
#[derive(Debug, Clone)]
struct Attention {
    /// Heads, where the inputs are `[batch, tokens, heads · width]`; 0 where they are `[batch, heads, tokens, width]`.
    heads: usize,
    causal: bool,
    /// `None`: one over the square root of a head's width.
    scale: Option<f32>,
    masked: bool,
}

/// Builds the operator from its node.
pub fn build(_: &ParsingContext, node: &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let present = |names: &[String], index: usize| names.get(index).is_some_and(|name| !name.is_empty());
    let plain = (4..7).all(|index| !present(&node.input, index))
        && (1..4).all(|index| !present(&node.output, index))
        && node.get_attr_opt::<f32>("softcap")?.unwrap_or(0.0) == 0.0;
    ensure!(
        plain,
        "Attention with a cache, a soft cap or a second output; expected it plain, over the whole prompt"
    );
    let heads = |name: &str| -> TractResult<usize> {
        usize::try_from(node.get_attr_opt::<i64>(name)?.unwrap_or(0)).context("a negative number of heads")
    };
    ensure!(heads("q_num_heads")? == heads("kv_num_heads")?, "Attention whose heads share keys and values");
    let op = Attention {
        heads: heads("q_num_heads")?,
        causal: node.get_attr_opt::<i64>("is_causal")?.unwrap_or(0) != 0,
        scale: node.get_attr_opt("scale")?,
        masked: present(&node.input, 3),
    };
    Ok((expand(op), vec![]))
}

impl Expansion for Attention {
    fn name(&self) -> StaticName {
        "Attention".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 3 + usize::from(self.masked))?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        s.equals(&inputs[0].rank, if self.heads == 0 { 4 } else { 3 })?;
        // As many outputs as the query has tokens, as wide as the value.
        s.given_2(&inputs[0].shape, &inputs[2].shape, move |s, query, value| {
            let mut shape = query;
            if let (Some(last), Some(width)) = (shape.last_mut(), value.last()) {
                last.clone_from(width);
            }
            s.equals(&outputs[0].shape, shape)
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let mut split = [inputs[0], inputs[1], inputs[2]];
        if self.heads > 0 {
            for (outlet, part) in split.iter_mut().zip(["query", "key", "value"]) {
                let width = model.outlet_fact(*outlet)?.shape[2].clone();
                let heads = tvec![self.heads.to_dim(), width.clone() / self.heads];
                let reshape = AxisOp::Reshape(2, tvec![width], heads);
                *outlet = model.wire_node(format!("{prefix}.{part}.split"), reshape, &[*outlet])?[0];
                *outlet =
                    model.wire_node(format!("{prefix}.{part}.heads"), AxisOp::Move(2, 1), &[*outlet])?[0];
            }
        }
        let fact = model.outlet_fact(split[0])?.clone();
        let (tokens, width) = (fact.shape[2].to_usize()?, fact.shape[3].to_usize()?);
        let product = EinSum::new("bhqd,bhkd->bhqk".parse()?, f32::datum_type());
        let mut scores = model.wire_node(format!("{prefix}.product"), product, &split[..2])?[0];
        let scale = model.add_const(
            format!("{prefix}.scale"),
            tensor0(self.scale.unwrap_or(1.0 / (width as f32).sqrt())),
        )?;
        let scaled = format!("{prefix}.scaled");
        scores = wire_with_rank_broadcast(scaled, model, mul(), &[scores, scale])?[0];
        if self.causal {
            let future = |(q, k): (usize, usize)| if k > q { f32::NEG_INFINITY } else { 0.0 };
            let causal = tract_ndarray::Array2::from_shape_fn((tokens, tokens), future);
            let causal = model.add_const(format!("{prefix}.causal"), causal.into_tensor())?;
            scores = wire_with_rank_broadcast(format!("{prefix}.past"), model, add(), &[scores, causal])?[0];
        }
        if self.masked {
            scores = mask(prefix, model, scores, inputs[3])?;
        }
        let softmax = Softmax { axes: tvec![3], quant_output_dt: None, kind: SoftmaxKind::default() };
        let weights = model.wire_node(format!("{prefix}.softmax"), softmax, &[scores])?[0];
        let mixture = EinSum::new("bhqk,bhkd->bhqd".parse()?, f32::datum_type());
        let mut mixed = model.wire_node(format!("{prefix}.mixed"), mixture, &[weights, split[2]])?[0];
        if self.heads > 0 {
            mixed = model.wire_node(format!("{prefix}.mixed.tokens"), AxisOp::Move(1, 2), &[mixed])?[0];
            let from: TVec<TDim> = model.outlet_fact(mixed)?.shape[2..].into();
            let joined = AxisOp::Reshape(2, from.clone(), tvec![from.iter().product()]);
            mixed = model.wire_node(format!("{prefix}.mixed.joined"), joined, &[mixed])?[0];
        }
        Ok(tvec![mixed])
    }
}

/// Adds a mask of numbers; where the mask is of bools, keeps the scores at `true` and puts minus infinity elsewhere.
fn mask(prefix: &str, model: &mut TypedModel, scores: OutletId, mask: OutletId) -> TractResult<OutletId> {
    let name = format!("{prefix}.masked");
    if model.outlet_fact(mask)?.datum_type != bool::datum_type() {
        return Ok(wire_with_rank_broadcast(name, model, add(), &[scores, mask])?[0]);
    }
    let never = model.add_const(format!("{prefix}.never"), tensor0(f32::NEG_INFINITY))?;
    let choose = tract_onnx::tract_hir::tract_core::ops::logic::Iff;
    Ok(wire_with_rank_broadcast(name, model, choose, &[mask, scores, never])?[0])
}
