//! Linear layers: a product over the channels, scales and biases.

use std::rc::Rc;
use std::sync::Arc;

use tract_core::internal::InOut;
use tract_core::ops::einsum::EinSum;
use tract_core::prelude::Tensor;

use super::axes::{self, Axes, Dim, Piece};
use super::function;
use super::misfit::{Rule, mismatch};
use super::value::{Affine, Expr, Id, Start, Values, View};
use crate::ir::Matrix;
use crate::tract::numbers::numbers;

/// One letter of an einsum of two operands: its place in each and in the result.
#[derive(Clone, Copy, Debug)]
pub struct Letter {
    pub inputs: [Option<usize>; 2],
    pub output: Option<usize>,
}

/// The letters of an einsum of two operands without repeated ones.
pub fn letters(op: &EinSum) -> Rule<Vec<Letter>> {
    let plain = op.axes.input_count() == 2 && op.q_params.is_none();
    let one = |places: &[usize]| places.len() <= 1;
    let mut out = Vec::new();
    for axis in op.axes.iter_all_axes() {
        if !plain || !axis.inputs.iter().chain(&axis.outputs).all(|places| one(places)) {
            return mismatch("a matrix product of two tensors", format!("the einsum {}", op.axes));
        }
        let at = |slot: usize| axis.inputs[slot].first().copied();
        out.push(Letter { inputs: [at(0), at(1)], output: axis.outputs[0].first().copied() });
    }
    out.sort_by_key(|letter| letter.output);
    Ok(out)
}

/// The product of a view with a constant, which stands at input 1 if `swapped` is not set.
pub fn product(
    values: &mut Values,
    op: &EinSum,
    view: &View,
    weight: &Arc<Tensor>,
    swapped: bool,
) -> Rule<View> {
    let (data, constant) = if swapped { (1, 0) } else { (0, 1) };
    let view = absorb(values, view)?;
    let rank = op.axes.rank(InOut::Out(0));
    let strides = row_major(weight.shape());
    let mut out: Axes = vec![vec![]; rank];
    // (pieces or size of the axis, its stride in the constant)
    let mut inner: Vec<(Vec<Piece>, usize)> = vec![];
    let mut outer: Vec<(usize, usize, usize)> = vec![];
    for letter in letters(op)? {
        let held = letter.inputs[data].map_or(&[][..], |at| &view.axes[at]);
        let (length, stride) = letter.inputs[constant].map_or((1, 0), |at| (weight.shape()[at], strides[at]));
        match letter.output {
            Some(at) if length == 1 => out[at] = held.to_vec(),
            Some(at) if held.is_empty() => outer.push((at, length, stride)),
            None if axes::size(held) == length => inner.push((held.to_vec(), stride)),
            _ => return mismatch("a weight matrix over the channels", format!("the einsum {}", op.axes)),
        }
    }
    let (inputs, outputs) = (values.channels(view.of), outer.iter().map(|(_, length, _)| length).product());
    let pieces: Vec<Piece> = inner.iter().flat_map(|(held, _)| held).copied().collect();
    if !axes::covers(&pieces, Dim::Channel, inputs) {
        return mismatch(
            format!("a product over all {inputs} channels of {}", values.describe(view.of)),
            format!("the einsum {} over other axes", op.axes),
        );
    }
    // Where in the constant each input channel lies, and each output channel.
    let mut columns = vec![0; inputs];
    let mut places = vec![(0, 0)];
    for (held, stride) in &inner {
        let offsets = axes::offsets(held);
        let step = |&(channel, place): &(usize, usize)| {
            offsets
                .iter()
                .zip(0..)
                .map(move |(offset, index)| (channel + offset, place + index * stride))
                .collect()
        };
        places = places.iter().flat_map::<Vec<(usize, usize)>, _>(step).collect();
    }
    places.into_iter().for_each(|(channel, place)| columns[channel] = place);
    let mut rows = vec![0];
    for &(_, length, stride) in &outer {
        rows = rows.iter().flat_map(|base| (0..length).map(move |index| base + index * stride)).collect();
    }
    let mut stride = outputs;
    for &(at, length, _) in &outer {
        stride /= length;
        out[at] = axes::merged(&[Piece { dim: Dim::Channel, stride, size: length }]);
    }
    let matrix = gather(weight, &rows, &columns)?;
    let affine = Affine {
        of: view.of,
        weight: Rc::new(matrix),
        rows: None,
        factor: 1.0,
        bias: vec![0.0; outputs].into(),
    };
    Ok(View { of: values.add(Expr::Linear(affine)), axes: out })
}

/// Strides of a row-major tensor.
pub fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for at in (1..shape.len()).rev() {
        strides[at - 1] = strides[at] * shape[at];
    }
    strides
}

/// The matrix whose value at `(r, c)` is the constant's at `rows[r] + columns[c]`.
pub fn gather(tensor: &Tensor, rows: &[usize], columns: &[usize]) -> Rule<Matrix> {
    /// Side of the squares in which a transposed weight is read: both sides stay in the first cache.
    const TILE: usize = 32;
    let Some(from) = numbers::<f32>(tensor) else {
        return mismatch("f32 weights", format!("weights of {:?}", tensor.datum_type()));
    };
    let mut values = vec![0.0; rows.len() * columns.len()];
    for (block, rows) in values.chunks_mut(TILE * columns.len().max(1)).zip(rows.chunks(TILE)) {
        for (start, columns_here) in columns.chunks(TILE).enumerate() {
            for (line, &row) in block.chunks_mut(columns.len()).zip(rows) {
                for (to, &column) in line[start * TILE..].iter_mut().zip(columns_here) {
                    *to = from[row + column];
                }
            }
        }
    }
    Ok(Matrix { rows: rows.len(), cols: columns.len(), values })
}

/// Takes a factor and an offset that are the same for every channel into the linear layer, norm or scores that they
/// are applied to.
pub fn absorb(values: &mut Values, view: &View) -> Rule<View> {
    let Expr::Function { of, samples } = values.get(view.of) else {
        return Ok(view.clone());
    };
    let (of, fits) = (*of, function::affine(samples));
    let Some((a, c)) = fits else {
        return Ok(view.clone());
    };
    let scaled = |bias: &Rc<[f32]>| bias.iter().map(|b| a * b + c).collect::<Rc<[f32]>>();
    let width = values.channels(of);
    let expr = match values.get(of) {
        Expr::Linear(affine) => {
            let (a, c) = (f64::from(a), f64::from(c));
            let bias = affine.bias.iter().map(|b| a * b + c).collect();
            Expr::Linear(Affine { factor: a * affine.factor, bias, ..affine.clone() })
        }
        Expr::Normed { of, epsilon, gain, bias } => Expr::Normed {
            of: *of,
            epsilon: *epsilon,
            gain: Some(
                gain.as_ref().map_or_else(|| vec![a; width].into(), |g| g.iter().map(|g| a * g).collect()),
            ),
            bias: Some(bias.as_ref().map_or_else(|| vec![c; width].into(), scaled)),
        },
        Expr::Embedding { start, positions } if a == 1.0 => {
            Expr::Embedding { start: start.clone(), positions: positions.iter().map(|p| p + c).collect() }
        }
        Expr::Tokens { table } if a == 1.0 => Expr::Embedding {
            start: Start::Table(table.clone()),
            positions: vec![c; width * values.context].into(),
        },
        Expr::Expanded(part) => match part.line(a, c, values.channels(part.of)) {
            Some(part) => Expr::Expanded(part),
            None => return Ok(view.clone()),
        },
        Expr::Gained { of, gain } if c == 0.0 => {
            Expr::Gained { of: *of, gain: gain.iter().map(|g| a * g).collect() }
        }
        Expr::Scores { left, right, factor, mask } if c == 0.0 => Expr::Scores {
            left: left.clone(),
            right: right.clone(),
            factor: a * factor,
            mask: mask.as_ref().map(|mask| mask.iter().map(|m| a * m).collect()),
        },
        _ => return Ok(view.clone()),
    };
    Ok(View { of: values.add(expr), axes: view.axes.clone() })
}

/// Adds `offset`, one number per channel, to the value.
pub fn add_bias(values: &mut Values, of: Id, offset: &[f32]) -> Rule<Id> {
    let plus = |old: &[f32]| old.iter().zip(offset).map(|(a, b)| a + b).collect::<Rc<[f32]>>();
    let expr = match values.get(of).clone() {
        Expr::Linear(affine) => {
            let bias = affine.bias.iter().zip(offset).map(|(a, &b)| a + f64::from(b)).collect();
            Expr::Linear(Affine { bias, ..affine })
        }
        Expr::Normed { of, epsilon, gain, bias } => {
            let bias = bias.as_deref().map_or_else(|| offset.into(), plus);
            Expr::Normed { of, epsilon, gain, bias: Some(bias) }
        }
        // A bias that is added after the residual belongs to the branch that ends in a linear layer.
        Expr::Sum { left, right } => match (values.get(left), values.get(right)) {
            (_, Expr::Linear(_)) => Expr::Sum { left, right: add_bias(values, right, offset)? },
            (Expr::Linear(_), _) => Expr::Sum { left: add_bias(values, left, offset)?, right },
            _ => return mismatch("a bias after a linear layer or a norm", "one on a sum of neither"),
        },
        _ => {
            return mismatch(
                "a bias after a linear layer or a norm",
                format!("one on {}", values.describe(of)),
            );
        }
    };
    Ok(values.add(expr))
}

/// Multiplies the value by `gain`, one number per channel.
pub fn multiply(values: &mut Values, of: Id, gain: &[f32]) -> Rule<Id> {
    let times = |old: &[f32]| old.iter().zip(gain).map(|(a, b)| a * b).collect::<Rc<[f32]>>();
    let expr = match values.get(of).clone() {
        Expr::Linear(affine) => {
            let mut matrix = Matrix { rows: gain.len(), cols: affine.weight.cols, values: vec![] };
            for (row, gain) in gain.iter().enumerate() {
                let source = affine.rows.as_ref().map_or(row, |rows| rows[row]);
                matrix.values.extend(affine.weight.row(source).iter().map(|w| w * gain));
            }
            let bias = affine.bias.iter().zip(gain).map(|(a, &b)| a * f64::from(b)).collect();
            Expr::Linear(Affine { weight: Rc::new(matrix), rows: None, bias, ..affine })
        }
        Expr::Normed { of, epsilon, gain: old, bias } => Expr::Normed {
            of,
            epsilon,
            gain: Some(old.as_deref().map_or_else(|| gain.into(), times)),
            bias: bias.as_deref().map(times),
        },
        Expr::Centred { .. } => Expr::Gained { of, gain: gain.into() },
        Expr::Gained { of, gain: old } => Expr::Gained { of, gain: times(&old) },
        _ => {
            return mismatch(
                "a factor on a linear layer or a norm",
                format!("one on {}", values.describe(of)),
            );
        }
    };
    Ok(values.add(expr))
}

/// The part of a linear layer's channels that index `range` of axis `at` holds: one of a fused query, key and value.
pub fn select(values: &mut Values, view: &View, at: usize, range: std::ops::Range<usize>) -> Rule<View> {
    let view = absorb(values, view)?;
    let Expr::Linear(affine) = values.get(view.of) else {
        return mismatch(
            "channels to be taken apart behind a fused query, key and value product only",
            format!("a part of {}", values.describe(view.of)),
        );
    };
    // The axes that hold channels, in order, make the new channel's number.
    let mut rows = vec![0];
    let mut out = view.axes.clone();
    let mut sizes = vec![];
    for (axis, pieces) in view.axes.iter().enumerate() {
        if pieces.iter().any(|piece| piece.dim != Dim::Channel) {
            if axis == at || pieces.iter().any(|piece| piece.dim == Dim::Channel) {
                return mismatch(
                    "a part of the channels",
                    format!("a part of axis {axis}, which holds tokens"),
                );
            }
            continue;
        }
        let offsets = axes::offsets(pieces);
        let Some(kept) = offsets.get(if axis == at { range.clone() } else { 0..offsets.len() }) else {
            return mismatch("a part within the axis", format!("{range:?} of axis {axis}, which is shorter"));
        };
        rows = rows.iter().flat_map(|base| kept.iter().map(move |offset| base + offset)).collect();
        sizes.push((axis, kept.len()));
    }
    let mut stride = rows.len();
    for (axis, size) in sizes {
        stride /= size;
        out[axis] = axes::merged(&[Piece { dim: Dim::Channel, stride, size }]);
    }
    let selected = Affine {
        bias: rows.iter().map(|&row| affine.bias[row]).collect(),
        rows: Some(rows.iter().map(|&row| affine.rows.as_ref().map_or(row, |old| old[row])).collect()),
        ..affine.clone()
    };
    Ok(View { of: values.add(Expr::Linear(selected)), axes: out })
}
