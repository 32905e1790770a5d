//! ONNX Runtime's `FusedMatMul`: a product of matrices, each transposed or not, times a number.
//!
//! Its graph optimiser writes the attention's products so; tract does not know the operator.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::logic::wire_with_rank_broadcast;
use tract_onnx::tract_hir::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_hir::tract_core::ops::change_axes::{AxisOp, wire_rank_broadcast};
use tract_onnx::tract_hir::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_hir::tract_core::ops::math::mul;

#[derive(Debug, Clone)]
struct FusedMatMul {
    alpha: f32,
    transposed: [bool; 2],
}

/// Builds the operator from its node.
pub fn build(_: &ParsingContext, node: &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let flag = |name: &str| -> TractResult<bool> { Ok(node.get_attr_opt::<i64>(name)?.unwrap_or(0) != 0) };
    ensure!(!flag("transBatchA")? && !flag("transBatchB")?, "FusedMatMul with its batch axes moved");
    let op = FusedMatMul {
        alpha: node.get_attr_opt("alpha")?.unwrap_or(1.0),
        transposed: [flag("transA")?, flag("transB")?],
    };
    Ok((expand(op), vec![]))
}

impl Expansion for FusedMatMul {
    fn name(&self) -> StaticName {
        "FusedMatMul".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 2)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        s.given_2(&inputs[0].shape, &inputs[1].shape, move |s, mut left, mut right| {
            ensure!(left.len() >= 2 && right.len() >= 2, "FusedMatMul of a vector");
            for (shape, transposed) in [&mut left, &mut right].into_iter().zip(self.transposed) {
                if transposed {
                    let rank = shape.len();
                    shape.swap(rank - 2, rank - 1);
                }
            }
            let (rows, columns) = (left[left.len() - 2].clone(), right[right.len() - 1].clone());
            let batches = [&left[..left.len() - 2], &right[..right.len() - 2]];
            let mut shape = multi_broadcast(&batches).context("FusedMatMul of batches that do not fit")?;
            shape.extend([rows, columns]);
            s.equals(&outputs[0].shape, shape)
        })
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let mut sides = wire_rank_broadcast(prefix, model, &inputs[..2])?;
        let rank = model.outlet_fact(sides[0])?.rank();
        for (at, side) in sides.iter_mut().enumerate().filter(|(at, _)| self.transposed[*at]) {
            *side = model.wire_node(format!("{prefix}.{at}"), AxisOp::Move(rank - 2, rank - 1), &[*side])?[0];
        }
        let batch: String = ('a'..).take(rank - 2).collect();
        let letters = format!("{batch}xk,{batch}ky->{batch}xy");
        let product = EinSum::new(letters.parse()?, f32::datum_type());
        let product = model.wire_node(format!("{prefix}.product"), product, &sides)?;
        let alpha = model.add_const(format!("{prefix}.alpha"), tensor0(self.alpha))?;
        wire_with_rank_broadcast(prefix, model, mul(), &[product[0], alpha])
    }
}
