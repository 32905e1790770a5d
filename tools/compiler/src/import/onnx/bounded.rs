//! Operators that may neither compute more than fits nor panic: tract folds constants while it works out shapes, and an
//! operator such as `ConstantOfShape` makes any amount of memory from a few bytes of file. tract says which node failed,
//! but not which one panicked.

use std::collections::HashMap;

use tract_onnx::ops::logic::If;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::*;

use super::proto::attribute;
use crate::tract::guard::guard;

/// The axes that nodes name, by the names of all nodes, which must be different.
pub type NodeAxes = HashMap<String, Option<NodeAxis>>;

/// An axis that a node names: of its first input, or next to those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeAxis {
    axis: i64,
    /// How far it may lie beyond the input's axes: `OneHot` and others mean a new one.
    beyond: i64,
}

/// The axis that the node names, or is defined with; tract counts up to it.
pub fn node_axis(node: &NodeProto) -> Option<NodeAxis> {
    let named = attribute(node, "axis").map(|attribute| attribute.i);
    match node.op_type.as_str() {
        "LayerNormalization" => Some(NodeAxis { axis: named.unwrap_or(-1), beyond: 0 }),
        _ => named.map(|axis| NodeAxis { axis, beyond: 1 }),
    }
}

/// Wraps every operator of the model so that an axis that its input has not, an output of more than `most` bytes, and a
/// panic are errors, each before it takes memory or time.
pub fn bound(model: &mut InferenceModel, axes: &NodeAxes, most: usize) {
    for node in model.nodes_mut() {
        if InferenceModel::is_source(&node.op) {
            continue;
        }
        if let Some(choice) = node.op_as_mut::<If>() {
            bound(&mut choice.then_body, axes, most);
            bound(&mut choice.else_body, axes, most);
        }
        let op = std::mem::replace(&mut node.op, Box::new(tract_onnx::tract_hir::ops::identity::Identity));
        node.op = Box::new(Bounded { op, axis: axes.get(&node.name).copied().flatten(), most });
    }
}

#[derive(Debug, Clone)]
struct Bounded {
    op: Box<dyn InferenceOp>,
    axis: Option<NodeAxis>,
    /// Bytes of one output.
    most: usize,
}

impl Bounded {
    fn check_axis(&self, input: Option<&&InferenceFact>) -> TractResult<()> {
        let rank = input.and_then(|fact| fact.shape.rank().concretize());
        if let (Some(NodeAxis { axis, beyond }), Some(rank)) = (self.axis, rank) {
            ensure!(
                (-rank - beyond..rank + beyond).contains(&axis),
                "{} along axis {axis} of a tensor of {rank} axes; export the model again",
                self.op.name()
            );
        }
        Ok(())
    }

    /// tract reads beyond a tensor without elements where it looks for a single number. Only `Resize` is given such floats, in
    /// place of a region.
    fn check_inputs(&self, inputs: &[&InferenceFact]) -> TractResult<()> {
        let empty = inputs.iter().any(|fact| is_float(fact) && bytes(fact) == Some(Some(0)));
        ensure!(
            !empty || self.op.name() == "Resize",
            "{} of a tensor without elements; export the model again",
            self.op.name()
        );
        // tract counts to one less than the indices' rank.
        let rank = inputs.get(1).and_then(|fact| fact.shape.rank().concretize());
        ensure!(
            self.op.name() != "GatherNd" || rank != Some(0),
            "GatherND at a single number; export the model again"
        );
        Ok(())
    }

    fn check_outputs(&self, outputs: &[InferenceFact]) -> TractResult<()> {
        for fact in outputs {
            let Some(bytes) = bytes(fact) else { continue };
            ensure!(
                bytes.is_some_and(|bytes| bytes <= self.most),
                "{} makes a tensor of {:?}, more than {} bytes; export the model for one prompt, without what does not belong to it",
                self.op.name(),
                fact.shape,
                self.most
            );
        }
        Ok(())
    }
}

fn is_float(fact: &InferenceFact) -> bool {
    fact.datum_type.concretize().is_some_and(|datum_type| datum_type.is_float())
}

/// The bytes of a tensor, if its type and shape are known; `Some(None)` where no number of bytes is enough.
fn bytes(fact: &InferenceFact) -> Option<Option<usize>> {
    let (shape, datum_type) = (fact.shape.concretize()?, fact.datum_type.concretize()?);
    Some(shape.iter().try_fold(datum_type.size_of(), |product, dim| match dim.to_usize() {
        Ok(dim) => product.checked_mul(dim),
        // An axis that is still free; without symbols, it is that of two tensors that do not fit together.
        Err(_) => (!dim.symbols().is_empty()).then_some(product),
    }))
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        (self.axis, self.most) == (other.axis, other.most) && self.op.as_op().dyn_eq(other.op.as_op())
    }
}

impl Eq for Bounded {}

impl Op for Bounded {
    fn name(&self) -> StaticName {
        self.op.name()
    }

    fn validation(&self) -> Validation {
        self.op.validation()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        self.op.info()
    }

    fn as_typed(&self) -> Option<&dyn TypedOp> {
        self.op.as_typed()
    }
}

impl EvalOp for Bounded {
    fn eval(&self, context: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.op.eval(context, inputs)
    }

    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        self.op.eval_out_of_plan(inputs)
    }

    fn state(&self, context: &EvalContext) -> TractResult<Option<Box<dyn OpState>>> {
        self.op.state(context)
    }
}

type Facts = TVec<InferenceFact>;

impl InferenceOp for Bounded {
    fn infer(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(Facts, Facts, Facts)> {
        self.check_axis(inputs.first())?;
        self.check_inputs(&inputs)?;
        // Where all inputs are known, the operator is computed: its outputs' shapes come first.
        if inputs.iter().all(|fact| fact.value.is_concrete()) {
            let mut op = self.op.clone();
            let inferred = guard(|| op.infer_facts(inputs.clone(), outputs.clone(), observed.clone()))?;
            self.check_outputs(&inferred.1)?;
        }
        let inferred = guard(|| self.op.infer(inputs, outputs, observed))?;
        self.check_outputs(&inferred.1)?;
        Ok(inferred)
    }

    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(Facts, Facts, Facts)> {
        self.op.infer_facts(inputs, outputs, observed)
    }

    fn observe_outlets(&self, model: &InferenceModel, node: &InferenceNode) -> TractResult<Vec<OutletId>> {
        self.op.observe_outlets(model, node)
    }

    fn incorporate(
        &self,
        model: &InferenceModel,
        node: &InferenceNode,
    ) -> TractResult<Option<InferenceModelPatch>> {
        self.op.incorporate(model, node)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.op.nboutputs()
    }

    // What asks for a node's operator gets the wrapped one.
    fn as_op(&self) -> &dyn Op {
        self.op.as_op()
    }

    fn as_op_mut(&mut self) -> &mut dyn Op {
        self.op.as_op_mut()
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        guard(|| self.op.to_typed(source, node, target, mapping))
            .with_context(|| format!("node `{}`", node.name))
    }
}
