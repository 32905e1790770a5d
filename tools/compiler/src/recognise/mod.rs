//! Recognises CLIP's text or image transformer in a decluttered tract graph.
//!
//! The graph is read once, forwards. Each edge is given its meaning as a value of the mathematics (`value::Expr`) and
//! a record of how the tensor's axes hold that value (`axes`), so that neither the order of transposes and reshapes
//! nor the spelling of a function matters. Each kind of operator has a rule that answers with the value it makes or
//! says why it does not fit. An edge that does not fit is no error yet: only if an output depends on it is the graph
//! refused, with the first node on the way that stopped fitting. The last step walks from the outputs' values back
//! through the layers and copies the weights out.

use tract_core::internal::{
    AxisOp, DatumType, DimLike, IntoArcTensor, IntoTValue, OutletId, TypedModel, TypedNode,
};
use tract_core::ops::array::{Gather, GatherNd, MultiBroadcastTo, Slice, TypedConcat};
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::cast::Cast;
use tract_core::ops::cnn::Conv;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::identity::Identity;
use tract_core::ops::konst::Const;
use tract_core::ops::logic::Iff;
use tract_core::ops::nn::{Reduce, Reducer, RmsNorm, Softmax};

use crate::colours::{COLOURS, Colours};
use crate::ir::{ImageModel, Modality, Outputs, TextModel};
use crate::tract::guard::guard;
use crate::tract::run::Outlets;

mod attention;
mod axes;
mod expanded;
mod function;
mod grid;
mod image;
mod linear;
mod lookup;
mod misfit;
mod norm;
mod outputs;
mod patches;
mod pointwise;
mod tower;
mod value;

use axes::{Axes, Dim, Piece};
pub use misfit::Misfit;
use misfit::{Mismatch, Rule, mismatch};
use outputs::Output;
use value::{Input, Value, Values, View};

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

/// An image encoder read out of a graph, and where in the graph its embedding is.
#[derive(Clone, Debug)]
pub struct RecognisedImage {
    /// The tower with its weights.
    pub model: ImageModel,
    /// Whether the graph divides the embedding by its length.
    pub normalized: bool,
    /// The edge that holds the embedding.
    pub embedding: OutletId,
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
    let (shape, datum_type) = input(model, Modality::Text, "the token ids")?;
    let (batch, context) = match shape[..] {
        [batch, context] if datum_type.is_integer() => (batch, context),
        [context] if datum_type.is_integer() => (1, context),
        _ => {
            return Err(whole(
                Modality::Text,
                "token ids [batch, context]",
                format!("{datum_type:?} of {shape:?}"),
            ));
        }
    };
    let mut axes = vec![axes::whole(Dim::Batch, batch), axes::whole(Dim::Token, context)];
    axes.drain(..2 - shape.len());
    let values = Values::new(batch, context, Input::Ids { vocabulary: SAMPLED_IDS, datum_type });
    let reader = Reader::read(model, values, axes)?;
    let outputs = reader.outputs()?;
    let assembled = outputs::assemble(&reader.values, &outputs).map_err(|found| reader.misfit_of(found))?;
    Ok(Recognised {
        outlets: Outlets {
            hidden: reader.prompt_edge(assembled.hidden),
            pooled: assembled.pooled.map(|at| model.outputs[at]),
            states: vec![],
        },
        model: assembled.model,
        outputs: assembled.outputs,
    })
}

/// Reads an image encoder out of a graph whose one input is normalised pixels, `[batch, 3, side, side]`, of the mean and deviation
/// that `colours` says: decluttered, but with slices where they stand, since one that takes the class token's row is looked for.
///
/// # Errors
/// When the graph is not a CLIP image encoder that is a vision transformer: the first node that does not fit and that an output
/// depends on.
pub fn recognise_image(model: &TypedModel, colours: Colours) -> Result<RecognisedImage, Misfit> {
    let (shape, datum_type) = input(model, Modality::Image, "the pixels")?;
    let (batch, side) = match shape[..] {
        [batch, COLOURS, side, other] if datum_type.is_float() && side == other => (batch, side),
        _ => {
            let found = format!("{datum_type:?} of {shape:?}");
            return Err(whole(Modality::Image, "pixels of square images [batch, 3, side, side]", found));
        }
    };
    let places = |stride| axes::merged(&[Piece { dim: Dim::Token, stride, size: side }]);
    let axes =
        vec![axes::whole(Dim::Batch, batch), axes::whole(Dim::Channel, COLOURS), places(side), places(1)];
    // The tokens are known from the patch embedding on.
    let reader = Reader::read(model, Values::new(batch, 0, Input::Pixels { side }), axes)?;
    let outputs = reader.outputs()?;
    let assembled =
        image::assemble(&reader.values, &outputs, colours).map_err(|found| reader.misfit_of(found))?;
    Ok(RecognisedImage {
        model: assembled.model,
        normalized: assembled.normalized,
        embedding: model.outputs[assembled.embedding],
    })
}

/// A misfit of the graph as a whole.
fn whole(modality: Modality, expected: impl Into<String>, found: String) -> Misfit {
    Misfit { modality, node: "`inputs and outputs`".into(), expected: expected.into(), found }
}

/// Shape and type of the graph's one input, which is `what`.
fn input(model: &TypedModel, modality: Modality, what: &str) -> Result<(Vec<usize>, DatumType), Misfit> {
    let expected = format!("one input, {what}, of a fixed shape");
    let [input] = model.inputs[..] else {
        return Err(whole(modality, expected, format!("{} inputs", model.inputs.len())));
    };
    let fact = model.outlet_fact(input).map_err(|e| whole(modality, &expected, e.to_string()))?;
    match fact.shape.as_concrete() {
        Some(shape) => Ok((shape.to_vec(), fact.datum_type)),
        None => Err(whole(modality, expected, format!("{fact:?}"))),
    }
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

impl<'m> Reader<'m> {
    /// Reads the graph, whose input's axes are given.
    fn read(model: &'m TypedModel, values: Values, axes: Axes) -> Result<Self, Misfit> {
        let order = model
            .eval_order()
            .map_err(|e| whole(values.modality(), "a graph without cycles", e.to_string()))?;
        let input = model.inputs[0].node;
        let edges = vec![Vec::new(); model.nodes.len()];
        let mut reader = Reader { model, values, edges, makers: vec![input] };
        reader.edges[input] = vec![Ok(Value::View(View { of: Values::INPUT, axes }))];
        order.into_iter().filter(|&node| node != input).for_each(|node| reader.visit(node));
        Ok(reader)
    }

    fn misfit(&self, node: usize, mismatch: Mismatch) -> Misfit {
        let node = &self.model.nodes[node];
        Misfit {
            modality: self.values.modality(),
            node: format!("`{}` ({})", node.name, node.op.name()),
            expected: mismatch.expected,
            found: mismatch.found,
        }
    }

    /// A mismatch at a value, by the node that made it.
    fn misfit_of(&self, (value, mismatch): (value::Id, Mismatch)) -> Misfit {
        self.misfit(self.makers[value], mismatch)
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

    /// What each output is, with its name.
    fn outputs(&self) -> Result<Vec<(String, Output)>, Misfit> {
        let mut outputs = Vec::new();
        for &outlet in &self.model.outputs {
            let OutletId { node, slot } = outlet;
            let read = match self.edges[node][slot].clone()? {
                Value::View(view) => outputs::classify(&self.values, &view),
                Value::Const(_) => mismatch("an output that depends on the input", "a constant"),
            };
            let name = self.model.outlet_label(outlet).unwrap_or_default().to_owned();
            outputs.push((name, read.map_err(|mismatch| self.misfit(node, mismatch))?));
        }
        Ok(outputs)
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

/// The value of a node that depends on the input.
fn view(values: &mut Values, node: &TypedNode, inputs: &[Value]) -> Rule<View> {
    let pointwise = node.op_is::<TypedBinOp>()
        || node.op_is::<ElementWiseOp>()
        || node.op_is::<Cast>()
        || node.op_is::<Iff>();
    if pointwise {
        return pointwise::apply(values, node, inputs);
    }
    if let Some(op) = node.op_as::<TypedConcat>() {
        return match values.modality() {
            Modality::Text => lookup::coordinates(values, op.axis, inputs),
            Modality::Image => patches::join(values, op.axis, inputs),
        };
    }
    if let Some(op) = node.op_as::<Conv>() {
        return patches::convolve(values, op, inputs);
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
    mismatch("an operator of a CLIP encoder, on values of one", format!("{} here", node.op.name()))
}
