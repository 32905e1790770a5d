//! Recognises the CLIP text transformer in a decluttered tract graph.
//!
//! The graph is read once, forwards. Each edge is given its meaning as a value of the mathematics (`value::Expr`) and
//! a record of how the tensor's axes hold that value (`axes`), so that neither the order of transposes and reshapes
//! nor the spelling of a function matters. Each kind of operator has a rule that answers with the value it makes or
//! says why it does not fit. An edge that does not fit is no error yet: only if an output depends on it is the graph
//! refused, with the first node on the way that stopped fitting. The last step walks from the outputs' values back
//! through the layers and copies the weights out.

use tract_core::internal::{AxisOp, DimLike, IntoArcTensor, IntoTValue, OutletId, TypedModel, TypedNode};
use tract_core::ops::array::{Gather, GatherNd, MultiBroadcastTo, Slice, TypedConcat};
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::cast::Cast;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::identity::Identity;
use tract_core::ops::konst::Const;
use tract_core::ops::logic::Iff;
use tract_core::ops::nn::{Reduce, Reducer, RmsNorm, Softmax};

use crate::ir::{Outputs, TextModel};
use crate::tract::guard::guard;
use crate::tract::run::Outlets;

mod attention;
mod axes;
mod expanded;
mod function;
mod grid;
mod linear;
mod lookup;
mod misfit;
mod norm;
mod outputs;
mod pointwise;
mod tower;
mod value;

use axes::Dim;
pub use misfit::Misfit;
use misfit::{Mismatch, Rule, mismatch};
use value::{Value, Values, View};

/// A text encoder read out of a graph, and where in the graph its outputs are.
#[derive(Clone, Debug)]
pub struct Recognised {
    /// The tower with its weights.
    pub model: TextModel,
    /// What the graph gives out.
    pub outputs: Outputs,
    /// The edges that hold them; no hidden states where the graph nowhere norms every token's.
    pub outlets: Outlets,
}

/// Ids at which functions of the ids are sampled, at least: more than any CLIP vocabulary with its added tokens.
const SAMPLED_IDS: usize = 1 << 16;

/// Reads a text encoder out of a decluttered graph whose one input is the ids, of shape `[batch, context]` or
/// `[context]`.
///
/// Every value must hold each prompt of the batch once, so that what is read is what the graph does with any one.
///
/// # Errors
/// When the graph is not a CLIP text encoder: the first node that does not fit and that an output depends on.
pub fn recognise(model: &TypedModel) -> Result<Recognised, Misfit> {
    let whole = |expected: &str, found: String| Misfit {
        node: "`inputs and outputs`".into(),
        expected: expected.into(),
        found,
    };
    let [input] = model.inputs[..] else {
        return Err(whole("one input, the token ids", format!("{} inputs", model.inputs.len())));
    };
    let order = model.eval_order().map_err(|e| whole("a graph without cycles", e.to_string()))?;
    let ids = model.outlet_fact(input).map_err(|e| whole("an ids input", e.to_string()))?;
    let shape = ids.shape.as_concrete().map(<[usize]>::to_vec);
    let (batch, context) = match shape.as_deref() {
        Some(&[batch, context]) if ids.datum_type.is_integer() => (batch, context),
        Some(&[context]) if ids.datum_type.is_integer() => (1, context),
        _ => return Err(whole("token ids [batch, context]", format!("{ids:?}"))),
    };
    let mut reader = Reader {
        model,
        values: Values::new(batch, context, SAMPLED_IDS, ids.datum_type),
        edges: vec![Vec::new(); model.nodes.len()],
        makers: vec![input.node],
    };
    let axes = vec![axes::whole(Dim::Batch, batch), axes::whole(Dim::Token, context)];
    let axes = if shape.as_ref().is_some_and(|shape| shape.len() == 1) { axes[1..].to_vec() } else { axes };
    reader.edges[input.node] = vec![Ok(Value::View(View { of: Values::IDS, axes }))];
    for node in order {
        if node != input.node {
            reader.visit(node);
        }
    }
    reader.outputs()
}

type Edge = Result<Value, Misfit>;

struct Reader<'m> {
    model: &'m TypedModel,
    values: Values,
    /// What each output of each node is.
    edges: Vec<Vec<Edge>>,
    /// The node that made each value.
    makers: Vec<usize>,
}

impl Reader<'_> {
    fn misfit(&self, node: usize, mismatch: Mismatch) -> Misfit {
        let node = &self.model.nodes[node];
        Misfit {
            node: format!("`{}` ({})", node.name, node.op.name()),
            expected: mismatch.expected,
            found: mismatch.found,
        }
    }

    fn visit(&mut self, id: usize) {
        let node = &self.model.nodes[id];
        let inputs: Result<Vec<Value>, Misfit> =
            node.inputs.iter().map(|from| self.edges[from.node][from.slot].clone()).collect();
        let edges = match inputs {
            Ok(inputs) => match read(&mut self.values, node, &inputs) {
                Ok(values) => values.into_iter().map(Ok).collect(),
                Err(mismatch) => vec![Err(self.misfit(id, mismatch)); node.outputs.len()],
            },
            Err(misfit) => vec![Err(misfit); node.outputs.len()],
        };
        self.edges[id] = edges;
        self.makers.resize(self.values.len(), id);
    }

    fn outputs(self) -> Result<Recognised, Misfit> {
        let mut outputs = Vec::new();
        for &outlet in &self.model.outputs {
            let OutletId { node, slot } = outlet;
            let read = match self.edges[node][slot].clone()? {
                Value::View(view) => outputs::classify(&self.values, &view),
                Value::Const(_) => mismatch("an output that depends on the token ids", "a constant"),
            };
            let name = self.model.outlet_label(outlet).unwrap_or_default().to_owned();
            outputs.push((name, read.map_err(|mismatch| self.misfit(node, mismatch))?));
        }
        let assembled = outputs::assemble(&self.values, &outputs)
            .map_err(|(value, mismatch)| self.misfit(self.makers[value], mismatch))?;
        Ok(Recognised {
            outlets: Outlets {
                hidden: self.prompt_edge(assembled.hidden),
                pooled: assembled.pooled.map(|at| self.model.outputs[at]),
                states: vec![],
            },
            model: assembled.model,
            outputs: assembled.outputs,
        })
    }

    /// An edge that holds the value for every token, in a row-major `[batch, context, width]`.
    fn prompt_edge(&self, id: value::Id) -> Option<OutletId> {
        let whole = [
            axes::whole(Dim::Token, self.values.context),
            axes::whole(Dim::Channel, self.values.channels(id)),
        ];
        let holds = |edge: &Edge| match edge {
            Ok(Value::View(view)) => {
                view.of == id && axes::of_one_prompt(&view.axes).is_some_and(|axes| axes == whole)
            }
            _ => false,
        };
        let edges = self.edges.iter().enumerate();
        edges
            .flat_map(|(node, edges)| edges.iter().enumerate().map(move |(slot, edge)| (node, slot, edge)))
            .find(|(_, _, edge)| holds(edge))
            .map(|(node, slot, _)| OutletId::new(node, slot))
    }
}

/// The values that a node makes of its inputs.
fn read(values: &mut Values, node: &TypedNode, inputs: &[Value]) -> Rule<Vec<Value>> {
    if let Some(konst) = node.op_as::<Const>() {
        return Ok(vec![Value::Const(konst.val().clone())]);
    }
    let constants: Option<_> = inputs
        .iter()
        .map(|input| match input {
            Value::Const(tensor) => Some(tensor.clone().into_tvalue()),
            Value::View(_) => None,
        })
        .collect();
    if let Some(constants) = constants
        && !inputs.is_empty()
        && let Ok(Some(results)) = guard(|| node.op().eval_out_of_plan(constants))
    {
        return Ok(results.into_iter().map(|result| Value::Const(result.into_arc_tensor())).collect());
    }
    let view = view(values, node, inputs)?;
    if !axes::holds_every_prompt(&view.axes, values.batch) {
        return mismatch("each prompt of the batch by itself", "an operator on some of them, or across them");
    }
    Ok(vec![Value::View(view)])
}

/// The value of a node that depends on the ids.
fn view(values: &mut Values, node: &TypedNode, inputs: &[Value]) -> Rule<View> {
    let pointwise = node.op_is::<TypedBinOp>()
        || node.op_is::<ElementWiseOp>()
        || node.op_is::<Cast>()
        || node.op_is::<Iff>();
    if pointwise {
        return pointwise::apply(values, node, inputs);
    }
    if let Some(op) = node.op_as::<TypedConcat>() {
        return lookup::coordinates(values, op.axis, inputs);
    }
    match inputs {
        [Value::View(view)] => unary(values, node, view),
        [Value::View(left), Value::View(right)] => {
            if let Some(op) = node.op_as::<EinSum>() {
                return attention::product(values, op, left, right);
            }
            if let Some(op) = node.op_as::<GatherNd>() {
                return lookup::gather_nd(values, op, left, right);
            }
            if let Some(op) = node.op_as::<Gather>() {
                return lookup::gather(values, op, left, &inputs[1]);
            }
            unknown(node)
        }
        [Value::View(view), Value::Const(constant)] => {
            if let Some(op) = node.op_as::<EinSum>() {
                return linear::product(values, op, view, constant, false);
            }
            if let Some(op) = node.op_as::<Gather>() {
                return lookup::gather(values, op, view, &inputs[1]);
            }
            unknown(node)
        }
        [Value::Const(constant), Value::View(view)] => {
            if let Some(op) = node.op_as::<EinSum>() {
                return linear::product(values, op, view, constant, true);
            }
            if let Some(op) = node.op_as::<Gather>() {
                return lookup::embed(values, op, constant, view);
            }
            unknown(node)
        }
        _ => unknown(node),
    }
}

fn unary(values: &mut Values, node: &TypedNode, view: &View) -> Rule<View> {
    if let Some(op) = node.op_as::<AxisOp>() {
        return Ok(View { of: view.of, axes: axes::apply(&view.axes, op)? });
    }
    if node.op_is::<Identity>() {
        return Ok(view.clone());
    }
    if let Some(op) = node.op_as::<MultiBroadcastTo>() {
        let shape = op.shape.as_concrete();
        let kept = |shape: &[usize]| {
            shape.len() == view.axes.len()
                && shape.iter().zip(&view.axes).all(|(&s, pieces)| s == axes::size(pieces))
        };
        return match shape {
            Some(shape) if kept(shape) => Ok(view.clone()),
            _ => mismatch(
                "no repetition of a value",
                format!("{} made {:?}", values.describe(view.of), op.shape),
            ),
        };
    }
    if let Some(op) = node.op_as::<Slice>() {
        let (Ok(start), Ok(end)) = (op.start.to_usize(), op.end.to_usize()) else {
            return mismatch("a part with fixed bounds", format!("{}..{}", op.start, op.end));
        };
        return lookup::slice(values, view, op.axis, start..end);
    }
    if let Some(op) = node.op_as::<RmsNorm>() {
        return norm::rms_norm(values, op, view);
    }
    if let Some(op) = node.op_as::<Softmax>() {
        return attention::softmax(values, op, view);
    }
    if let Some(op) = node.op_as::<Reduce>() {
        return match op.reducer {
            Reducer::ArgMax(_) => lookup::argmax(values, op, view),
            _ => norm::reduce(values, op, view),
        };
    }
    unknown(node)
}

fn unknown(node: &TypedNode) -> Rule<View> {
    mismatch("an operator of a CLIP text encoder, on values of one", format!("{} here", node.op.name()))
}
