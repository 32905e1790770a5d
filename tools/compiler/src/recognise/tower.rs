//! From the values behind a graph's outputs to the tower: layers from the last to the first.

use std::rc::Rc;

use tract_core::prelude::Tensor;

use super::axes;
use super::function;
use super::misfit::{Mismatch, Rule, mismatch};
use super::value::{Affine, Expr, Heads, Id, Start, Values};
use crate::ir::{Layer, LayerNorm, Linear, Matrix, Weight};
use crate::tract::numbers::numbers;

/// A value of the tower that a layer or the end is built from, before its weights are copied out.
#[derive(Clone, Copy, Debug)]
struct Block {
    norm1: Id,
    query: Id,
    key: Id,
    value: Id,
    weights: Id,
    mixture: Id,
    out: Id,
    norm2: Id,
    fc1: Id,
    activation: Id,
    fc2: Id,
}

/// The residual stream of a tower: its state before the first layer, and after each.
#[derive(Clone, Debug)]
pub struct Stream {
    /// `states[n]`: after `n` layers.
    pub states: Vec<Id>,
    blocks: Vec<Block>,
}

/// A mismatch, and the value at which it was met.
pub type Found<T> = Result<T, (Id, Mismatch)>;

fn at<T>(id: Id, rule: Rule<T>) -> Found<T> {
    rule.map_err(|mismatch| (id, mismatch))
}

/// Reads the layers behind a hidden state.
pub fn tower(values: &Values, hidden: Id) -> Found<Stream> {
    let mut tower = Stream { states: vec![hidden], blocks: vec![] };
    let mut state = hidden;
    while !is_start(values, state) {
        let (middle, mut block) = mlp(values, state)?;
        state = attention(values, middle, &mut block)?;
        tower.states.push(state);
        tower.blocks.push(block);
    }
    tower.states.reverse();
    tower.blocks.reverse();
    Ok(tower)
}

/// Whether a state is the one before the first layer: what is embedded, in an image tower behind a norm.
fn is_start(values: &Values, state: Id) -> bool {
    match values.get(state) {
        Expr::Embedding { .. } => true,
        Expr::Normed { of, .. } => matches!(values.get(*of), Expr::Embedding { .. }),
        _ => false,
    }
}

/// The residual sum's two sides, the one that ends in a linear layer of `inner` second.
fn residual(values: &Values, sum: Id, inner: impl Fn(&Expr) -> bool, what: &str) -> Found<(Id, Id)> {
    let expected = || format!("a residual sum of the layer's input and {what}");
    let Expr::Sum { left, right } = *values.get(sum) else {
        return at(sum, mismatch(expected(), values.describe(sum)));
    };
    let ends_so = |id: Id| matches!(values.get(id), Expr::Linear(linear) if inner(values.get(linear.of)));
    match (ends_so(left), ends_so(right)) {
        (_, true) => Ok((left, right)),
        (true, false) => Ok((right, left)),
        _ => {
            let found = format!("{} plus {}", values.describe(left), values.describe(right));
            at(sum, mismatch(expected(), found))
        }
    }
}

fn linear<'v>(values: &'v Values, id: Id, what: &str) -> Found<&'v Affine> {
    match values.get(id) {
        Expr::Linear(affine) => Ok(affine),
        _ => at(id, mismatch(format!("a linear layer: {what}"), values.describe(id))),
    }
}

/// The norm `id`, if it is one of `input`.
fn norm_of(values: &Values, id: Id, input: Id, what: &str) -> Found<()> {
    match values.get(id) {
        Expr::Normed { of, .. } if *of == input => Ok(()),
        Expr::Normed { of, .. } => at(
            id,
            mismatch(
                format!("the layer norm before {what} to take what the residual sum adds to"),
                format!(
                    "that it takes another value ({}), so the residual is not this layer's",
                    values.describe(*of)
                ),
            ),
        ),
        _ => at(id, mismatch(format!("a layer norm before {what}"), values.describe(id))),
    }
}

fn mlp(values: &Values, sum: Id) -> Found<(Id, Block)> {
    let is_function = |expr: &Expr| matches!(expr, Expr::Function { .. });
    let (input, fc2) = residual(values, sum, is_function, "an MLP (linear, activation, linear)")?;
    let activation = linear(values, fc2, "the MLP's second")?.of;
    let (fc1, samples) = values.sampled(activation);
    at(activation, function::activation(&samples))?;
    let norm2 = linear(values, fc1, "the MLP's first")?.of;
    norm_of(values, norm2, input, "the MLP")?;
    let none = 0;
    let block = Block {
        norm1: none,
        query: none,
        key: none,
        value: none,
        weights: none,
        mixture: none,
        out: none,
        norm2,
        fc1,
        activation,
        fc2,
    };
    Ok((input, block))
}

fn attention(values: &Values, sum: Id, block: &mut Block) -> Found<Id> {
    let is_mixture = |expr: &Expr| matches!(expr, Expr::Mixture { .. });
    let (input, out) = residual(values, sum, is_mixture, "attention")?;
    let mixture = linear(values, out, "the attention's output")?.of;
    let Expr::Mixture { weights, value } = values.get(mixture) else {
        return at(mixture, mismatch("attended values", values.describe(mixture)));
    };
    let Expr::Weights { query, key, .. } = values.get(*weights) else {
        return at(*weights, mismatch("attention weights", values.describe(*weights)));
    };
    let norm1 = linear(values, query.of, "the query")?.of;
    norm_of(values, norm1, input, "the attention")?;
    for (side, what) in [(key.of, "the key"), (value.of, "the value")] {
        if linear(values, side, what)?.of != norm1 {
            let found = "one of another value";
            return at(
                side,
                mismatch(format!("{what} to be a linear layer of the same norm as the query"), found),
            );
        }
    }
    let (heads, width) = (axes::size(&query.head), values.channels(query.of));
    let alike = [query, key, value]
        .iter()
        .all(|side| axes::size(&side.head) == heads && values.channels(side.of) == width);
    if !alike || width != values.channels(input) {
        let found =
            format!("{heads} heads of a query of {width} channels beside other keys, values or residual");
        return at(*weights, mismatch("query, key and value as wide as the residual, in equal heads", found));
    }
    block.norm1 = norm1;
    block.query = query.of;
    block.key = key.of;
    block.value = value.of;
    block.weights = *weights;
    block.mixture = mixture;
    block.out = out;
    Ok(input)
}

impl Stream {
    /// Attention heads, if every layer has as many.
    pub fn heads(&self, values: &Values) -> Found<usize> {
        let mut heads = None;
        for block in &self.blocks {
            if let Expr::Weights { query, .. } = values.get(block.weights) {
                let here = axes::size(&query.head);
                if *heads.get_or_insert(here) != here {
                    return at(
                        block.weights,
                        mismatch("as many heads in every layer", format!("{here} here")),
                    );
                }
            }
        }
        let none = || (self.states[0], Mismatch::new("a layer at least", "none"));
        heads.ok_or_else(none)
    }

    /// The layers with their weights.
    pub fn layers(&self, values: &Values) -> Found<Vec<Layer>> {
        self.blocks.iter().map(|block| layer(values, block)).collect()
    }

    /// `[vocabulary, width]` and `[context, width]`.
    pub fn embeddings(&self, values: &Values) -> Found<(Matrix, Matrix)> {
        let start = self.states[0];
        let Expr::Embedding { start: Start::Table(table), positions } = values.get(start) else {
            return at(start, mismatch("token embeddings plus positions", values.describe(start)));
        };
        let (rows, cols) = (table.shape()[0], table.shape()[1]);
        let tokens = Matrix { rows, cols, values: at(start, floats(table))? };
        Ok((tokens, Matrix { rows: values.context, cols, values: positions.to_vec() }))
    }
}

/// The patches' matrix, class token and positions, and the norm on their sum.
pub struct Patches<'v> {
    /// `[width, 3 · patch²]`, of each patch one colour after the other.
    pub matrix: &'v Matrix,
    /// `[1 + patches, width]`.
    pub positions: Matrix,
    /// Before the first layer.
    pub norm: LayerNorm,
}

impl Stream {
    /// What an image tower's layers begin with.
    pub fn patches<'v>(&self, values: &'v Values) -> Found<Patches<'v>> {
        let start = self.states[0];
        let expected = "a norm on the patches, their class token and positions, before the first layer";
        let Expr::Normed { of, .. } = values.get(start) else {
            return at(start, mismatch(expected, values.describe(start)));
        };
        let Expr::Embedding { start: Start::Patches(matrix), positions } = values.get(*of) else {
            return at(*of, mismatch(expected, values.describe(*of)));
        };
        let positions = Matrix { rows: values.context, cols: matrix.rows, values: positions.to_vec() };
        Ok(Patches { matrix, positions, norm: layer_norm(values, start)? })
    }
}

fn floats(tensor: &Tensor) -> Rule<Vec<f32>> {
    match numbers::<f32>(tensor) {
        Some(values) => Ok(values.to_vec()),
        None => mismatch("f32 embeddings", format!("{:?}", tensor.datum_type())),
    }
}

fn layer(values: &Values, block: &Block) -> Found<Layer> {
    let (Expr::Weights { query, key, factor, .. }, Expr::Mixture { value, .. }) =
        (values.get(block.weights), values.get(block.mixture))
    else {
        return at(block.weights, mismatch("attention weights", values.describe(block.weights)));
    };
    let (q, k) = (linear(values, block.query, "the query")?, linear(values, block.key, "the key")?);
    let v = linear(values, block.value, "the value")?;
    let activation = at(block.activation, function::activation(&values.sampled(block.activation).1))?;
    Ok(Layer {
        norm1: layer_norm(values, block.norm1)?,
        query: split_linear(q, query, false),
        key: split_linear(k, key, false),
        value: split_linear(v, value, true),
        scale: usual_scale(
            f64::from(*factor) * q.factor * k.factor,
            values.channels(query.of) / axes::size(&query.head),
        ),
        out: whole_linear(values, block.out)?,
        norm2: layer_norm(values, block.norm2)?,
        fc1: whole_linear(values, block.fc1)?,
        activation,
        fc2: whole_linear(values, block.fc2)?,
    })
}

/// `1/√d` for heads of `d` channels where a graph's scale is that but for the rounding of the factors it is made of, so
/// that the same model gives the same plan whichever exporter wrote it.
fn usual_scale(scale: f64, channels: usize) -> f32 {
    let usual = 1.0 / (channels as f64).sqrt();
    let near = (scale / usual - 1.0).abs() < f64::from(4.0 * f32::EPSILON);
    (if near { usual } else { scale }) as f32
}

/// A norm's parameters; a gain that the graph leaves out is 1, a bias 0.
pub fn layer_norm(values: &Values, id: Id) -> Found<LayerNorm> {
    let Expr::Normed { epsilon, gain, bias, .. } = values.get(id) else {
        return at(id, mismatch("a layer norm", values.describe(id)));
    };
    let width = values.channels(id);
    let given =
        |held: &Option<Rc<[f32]>>, missing| held.as_deref().map_or(vec![missing; width], <[f32]>::to_vec);
    Ok(LayerNorm { gain: given(gain, 1.0), bias: given(bias, 0.0), epsilon: *epsilon })
}

/// A linear layer with its channels in order and its factor in its weights.
pub fn whole_linear(values: &Values, id: Id) -> Found<Linear> {
    let affine = linear(values, id, "a product over the channels")?;
    let order: Vec<usize> = (0..affine.bias.len()).collect();
    Ok(reordered(affine, &order, true))
}

/// A query, key or value with the channels of head 0 first. A factor goes into the weights, or, of a query or key,
/// stays outside for the layer's scale, and then comes off the bias as well.
fn split_linear(affine: &Affine, heads: &Heads, with_factor: bool) -> Linear {
    let inner = axes::offsets(&heads.inner);
    let channel = |head: usize| inner.iter().map(move |offset| head + offset);
    let order: Vec<usize> = axes::offsets(&heads.head).into_iter().flat_map(channel).collect();
    reordered(affine, &order, with_factor)
}

fn reordered(affine: &Affine, order: &[usize], with_factor: bool) -> Linear {
    let cols = affine.weight.cols;
    let mut weight = Matrix { rows: order.len(), cols, values: Vec::with_capacity(order.len() * cols) };
    let (inside, outside) = if with_factor { (affine.factor, 1.0) } else { (1.0, affine.factor) };
    for &channel in order {
        let row = affine.weight.row(affine.rows.as_ref().map_or(channel, |rows| rows[channel]));
        weight.values.extend(row.iter().map(|&w| (f64::from(w) * inside) as f32));
    }
    let bias = order.iter().map(|&channel| (affine.bias[channel] / outside) as f32).collect();
    Linear { weight: Weight::F32(weight), bias }
}
