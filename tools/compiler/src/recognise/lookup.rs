//! Lookups: token embeddings, the pooled row, the parts of a fused product.

use std::sync::Arc;

use tract_core::ops::array::{Gather, GatherNd};
use tract_core::ops::nn::{Reduce, Reducer};
use tract_core::prelude::Tensor;

use super::axes::{self, Axes, Dim, Piece};
use super::function;
use super::linear::{absorb, select};
use super::misfit::{Rule, mismatch};
use super::value::{Coordinate, EndToken, Expr, Id, Value, Values, View};

/// Axes of the result: the data's, with the index's in place of the one looked up.
fn spliced(data: &Axes, at: usize, index: &Axes) -> Axes {
    [&data[..at], index, &data[at + 1..]].concat()
}

/// A `Gather` of a constant table: the token embeddings.
pub fn embed(values: &mut Values, op: &Gather, table: &Arc<Tensor>, index: &View) -> Rule<View> {
    let (base, samples) = values.sampled(index.of);
    if !matches!(values.get(base), Expr::Ids) || table.rank() != 2 || op.axis != 0 {
        return mismatch(
            "a lookup of the token ids in a table [vocabulary, width]",
            format!("a lookup of {} in a table {:?}", values.describe(index.of), table.shape()),
        );
    }
    let rows = table.shape()[0];
    let begins = samples.slice(0, 0, rows.min(samples.len()));
    if !begins.is_ok_and(|head| function::is_identity(&head)) {
        return mismatch("a lookup of the token ids as they are", "a lookup of a function of them");
    }
    let of = values.add(Expr::Tokens { table: table.clone() });
    let data = vec![vec![], axes::whole(Dim::Channel, table.shape()[1])];
    Ok(View { of, axes: spliced(&data, 0, &index.axes) })
}

/// A `Gather` from a value of the graph.
pub fn gather(values: &mut Values, op: &Gather, data: &View, index: &Value) -> Rule<View> {
    match index {
        Value::View(index) => {
            let of = pool(values, data, op.axis, index.of)?;
            Ok(View { of, axes: spliced(&data.axes, op.axis, &index.axes) })
        }
        Value::Const(index) => {
            let Ok(at) = index.cast_to_scalar::<i64>() else {
                return mismatch("a lookup of one index", format!("one of {:?}", index.shape()));
            };
            let part = pick(values, data, op.axis, at)?;
            Ok(View { of: part.of, axes: spliced(&part.axes, op.axis, &vec![vec![]; index.rank()]) })
        }
    }
}

/// Index `at` of an axis, which keeps its place with size 1.
fn pick(values: &mut Values, data: &View, axis: usize, at: i64) -> Rule<View> {
    let size = axes::size(&data.axes[axis]);
    let at = if at < 0 { at + size as i64 } else { at };
    match usize::try_from(at) {
        Ok(0) if size == 1 => Ok(data.clone()),
        Ok(at) if at < size => slice(values, data, axis, at..at + 1),
        _ => mismatch(format!("an index within {size}"), at.to_string()),
    }
}

/// Part of an axis: all of it, some channels, or the first token's row.
pub fn slice(values: &mut Values, view: &View, axis: usize, range: std::ops::Range<usize>) -> Rule<View> {
    let size = axes::size(&view.axes[axis]);
    if range == (0..size) {
        return Ok(view.clone());
    }
    if range == (0..1) && view.axes[axis] == axes::whole(Dim::Token, values.extent(view.of, Dim::Token)) {
        let of = absorb(values, view)?.of;
        let at = values.add(Expr::FirstPlace);
        let mut axes = view.axes.clone();
        axes[axis].clear();
        return Ok(View { of: values.add(Expr::Pooled { of, at }), axes });
    }
    if !view.axes[axis].iter().all(|piece| piece.dim == Dim::Channel) {
        return mismatch(
            "the row at the end token, the first row, or all tokens",
            format!("tokens {range:?} of {}", values.describe(view.of)),
        );
    }
    select(values, view, axis, range)
}

/// The row of a value at the place that `index` holds, among the tokens of one prompt or of all.
fn pool(values: &mut Values, data: &View, axis: usize, index: Id) -> Rule<Id> {
    let (at, samples) = values.sampled(index);
    let tokens = axes::whole(Dim::Token, values.context);
    let (at, rows) = match *values.get(at) {
        Expr::EndPlace(_) if function::is_identity(&samples) => (at, tokens),
        Expr::PlaceInAll { at } if function::is_identity(&samples) => {
            (at, [axes::whole(Dim::Batch, values.batch), tokens].concat())
        }
        _ => return mismatch("the place of the end token as index", values.describe(index)),
    };
    if data.axes[axis] != rows {
        return mismatch("the end token's row of the prompt", format!("an index into axis {axis}"));
    }
    let of = absorb(values, data)?.of;
    Ok(values.add(Expr::Pooled { of, at }))
}

/// The end token's place plus the number of tokens in the prompts before: its place in all of them. `None` if the view
/// and the constant are something else.
pub fn place_in_all(values: &mut Values, view: &View, constant: &Tensor) -> Option<View> {
    let (at, samples) = values.sampled(view.of);
    let is_place = matches!(values.get(at), Expr::EndPlace(_)) && function::is_identity(&samples);
    let starts = constant.cast_to::<f32>().ok().filter(|_| is_place)?;
    let starts = axes::read(&starts, &view.axes, &[(Dim::Batch, values.batch)])?;
    let counted = starts.iter().zip(0..).all(|(&start, prompt)| start == (prompt * values.context) as f32);
    counted.then(|| View { of: values.add(Expr::PlaceInAll { at }), axes: view.axes.clone() })
}

/// `argmax` over the ids, or over a comparison of them with the end token.
pub fn argmax(values: &mut Values, op: &Reduce, view: &View) -> Rule<View> {
    let (base, samples) = values.sampled(view.of);
    let over: Vec<Piece> = op.axes.iter().flat_map(|&at| &view.axes[at]).copied().collect();
    if !matches!(values.get(base), Expr::Ids) || !axes::covers(&over, Dim::Token, values.context) {
        return mismatch("an argmax over the token ids", format!("one of {}", values.describe(view.of)));
    }
    if op.reducer != Reducer::ArgMax(false) {
        return mismatch("the first end token", "the last one");
    }
    let end = if function::is_growing(&samples) {
        EndToken::Highest
    } else if let Some(id) = function::indicated(&samples).and_then(|id| u32::try_from(id).ok()) {
        EndToken::Id(id)
    } else {
        return mismatch(
            "the highest id, or the first of one id",
            "the argmax of another function of the ids",
        );
    };
    let mut axes = view.axes.clone();
    op.axes.iter().for_each(|&at| axes[at].clear());
    Ok(View { of: values.add(Expr::EndPlace(end)), axes })
}

/// Joins constants and places into the indices of a `GatherND`.
pub fn coordinates(values: &mut Values, axis: usize, parts: &[Value]) -> Rule<View> {
    let mut list = Vec::new();
    let place = parts.iter().find_map(|part| match part {
        Value::View(view) => Some(view.axes.clone()),
        Value::Const(_) => None,
    });
    let mut axes = place.unwrap_or_default();
    let prompts = [(Dim::Batch, values.batch)];
    let is_count = |tensor: &Tensor| {
        let wide = tensor.cast_to::<f32>().ok();
        let read = wide.and_then(|wide| axes::read(&wide, &axes, &prompts));
        read.is_some_and(|read| read.len() > 1 && read.iter().zip(0..).all(|(&n, prompt)| n == prompt as f32))
    };
    for part in parts {
        match part {
            Value::Const(tensor) if is_count(tensor) => list.push(Coordinate::Batch),
            Value::Const(tensor) if tensor.len() == 1 => {
                let Ok(at) = tensor.cast_to::<i64>().and_then(|t| t.cast_to_scalar::<i64>()) else {
                    return mismatch("indices", "a constant that is no number");
                };
                list.push(Coordinate::At(at));
            }
            Value::View(view) if view.axes == axes => {
                let (at, samples) = values.sampled(view.of);
                match values.get(at) {
                    Expr::EndPlace(_) if function::is_identity(&samples) => list.push(Coordinate::End(at)),
                    _ => return mismatch("the end token's place", values.describe(view.of)),
                }
            }
            Value::View(view) => return mismatch("indices to be joined", values.describe(view.of)),
            Value::Const(tensor) => return mismatch("one index", format!("{:?} of them", tensor.shape())),
        }
    }
    if let Some(joined) = axes.get_mut(axis) {
        *joined = axes::whole(Dim::Channel, list.len());
    }
    Ok(View { of: values.add(Expr::Coordinates(list)), axes })
}

/// A `GatherND` with one tuple of indices.
pub fn gather_nd(values: &mut Values, op: &GatherNd, data: &View, index: &View) -> Rule<View> {
    let list = match values.get(index.of) {
        Expr::Coordinates(list) if op.batch_dims == 0 => list.clone(),
        Expr::EndPlace(_) if op.batch_dims <= 1 => {
            let prompt = if values.batch > 1 { Coordinate::Batch } else { Coordinate::At(0) };
            vec![prompt; op.batch_dims].into_iter().chain([Coordinate::End(index.of)]).collect()
        }
        _ => return mismatch("the end token's place as index", values.describe(index.of)),
    };
    let mut view = data.clone();
    for (axis, coordinate) in list.iter().enumerate() {
        view = match coordinate {
            Coordinate::At(at) => pick(values, &view, axis, *at)?,
            Coordinate::Batch if axes::covers(&view.axes[axis], Dim::Batch, values.batch) => {
                View { of: view.of, axes: spliced(&view.axes, axis, &vec![vec![]]) }
            }
            Coordinate::Batch => {
                return mismatch("each prompt's own row", format!("an index into axis {axis}"));
            }
            Coordinate::End(place) => {
                let of = pool(values, &view, axis, *place)?;
                View { of, axes: spliced(&view.axes, axis, &vec![vec![]]) }
            }
        };
    }
    // The result is as deep as the index without its last axis, followed by the data's axes that no index chose.
    let mut axes = index.axes.clone();
    axes.pop();
    axes.resize(axes.len().max(op.batch_dims), vec![]);
    axes.extend_from_slice(&view.axes[list.len()..]);
    Ok(View { of: view.of, axes })
}
