//! Operators that work on each number alone.

use tract_core::internal::{IntoArcTensor, TValue, TVec, TypedNode};
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::logic::Iff;
use tract_core::ops::math::{Add, Div, Mul, Sub};
use tract_core::prelude::{IntoTValue, Tensor};

use super::attention;
use super::axes::{self, Axes, Dim};
use super::expanded;
use super::function;
use super::linear::{absorb, add_bias, multiply};
use super::lookup;
use super::misfit::{Rule, mismatch};
use super::norm;
use super::value::{Expr, Id, Start, Value, Values, View};
use crate::tract::guard::guard;

/// Applies a pointwise operator to its operands.
pub fn apply(values: &mut Values, node: &TypedNode, inputs: &[Value]) -> Rule<View> {
    if let Some(view) = compose(values, node, inputs)? {
        return Ok(view);
    }
    if node.op_is::<Iff>() {
        return match inputs {
            [Value::Const(condition), Value::View(scores), Value::Const(number)] => {
                attention::choose(values, condition, scores, number, false)
            }
            [Value::Const(condition), Value::Const(number), Value::View(scores)] => {
                attention::choose(values, condition, scores, number, true)
            }
            _ => mismatch("a mask over attention scores", "a choice between other values"),
        };
    }
    let Some(TypedBinOp(op, _)) = node.op_as::<TypedBinOp>() else {
        return mismatch("an operator of a tower of CLIP", "a function of several values");
    };
    match inputs {
        [Value::View(left), Value::View(right)] => {
            if op.is::<Add>() {
                sum(values, left, right)
            } else if op.is::<Sub>() {
                let centred = norm::subtract(values, left, right, -1.0);
                let centred = centred.or_else(|| difference(values, left, right));
                centred.map_or_else(|| odd(values, "minus", left, right), Ok)
            } else if op.is::<Mul>() {
                let scaled = norm::scale(values, left, right, false);
                let scaled = scaled.or_else(|| norm::scale(values, right, left, false));
                let scaled = scaled.or_else(|| expanded::product(values, left, right, false));
                let scaled = scaled.or_else(|| expanded::product(values, right, left, false));
                scaled.map_or_else(|| odd(values, "times", left, right), Ok)
            } else if op.is::<Div>() {
                let scaled = norm::scale(values, left, right, true);
                let scaled = scaled.or_else(|| expanded::product(values, left, right, true));
                scaled.map_or_else(|| odd(values, "over", left, right), Ok)
            } else {
                odd(values, op.name(), left, right)
            }
        }
        [Value::View(view), Value::Const(constant)] => {
            if op.is::<Add>() {
                add(values, view, constant, 1.0)
            } else if op.is::<Sub>() {
                add(values, view, constant, -1.0)
            } else if op.is::<Mul>() {
                times(values, view, constant, |x| x)
            } else if op.is::<Div>() {
                times(values, view, constant, |x| 1.0 / x)
            } else {
                mismatch("a bias or a factor", format!("{} with a constant", op.name()))
            }
        }
        [Value::Const(constant), Value::View(view)] if op.is::<Add>() => add(values, view, constant, 1.0),
        [Value::Const(constant), Value::View(view)] if op.is::<Mul>() => times(values, view, constant, |x| x),
        [Value::Const(constant), Value::View(view)] if op.is::<Sub>() => {
            let view = absorb(values, view)?;
            let part = expanded::plus(values, &view, constant, -1.0, 1.0);
            part.map_or_else(|| mismatch("a bias or a factor", "a constant minus a value"), Ok)
        }
        [Value::Const(constant), Value::View(view)] if op.is::<Div>() => {
            let part = expanded::times(values, view, constant, |x| x, true);
            part.map_or_else(|| mismatch("a bias or a factor", "a constant over a value"), Ok)
        }
        _ => mismatch("a bias or a factor", format!("a constant {} a value", op.name())),
    }
}

fn odd<T>(values: &Values, what: &str, left: &View, right: &View) -> Rule<T> {
    mismatch(
        "a residual sum, a layer norm or an activation",
        format!("{} {what} {}", values.describe(left.of), values.describe(right.of)),
    )
}

/// One operand of a composition.
enum Operand {
    Number(Tensor),
    Function(Tensor),
}

/// If all operands are functions of one value, the operator run on their samples. `None` if they are not.
fn compose(values: &mut Values, node: &TypedNode, inputs: &[Value]) -> Rule<Option<View>> {
    let mut base: Option<(Id, Axes)> = None;
    let mut operands = Vec::new();
    for input in inputs {
        match input {
            Value::Const(tensor) => match tensor.as_uniform() {
                Some(number) => operands.push(Operand::Number(number)),
                None => return Ok(None),
            },
            Value::View(view) => {
                let (of, samples) = values.sampled(view.of);
                let same = base.get_or_insert_with(|| (of, view.axes.clone()));
                if *same != (of, view.axes.clone()) {
                    return Ok(None);
                }
                operands.push(Operand::Function((*samples).clone()));
            }
        }
    }
    let Some((of, axes)) = base else {
        return Ok(None);
    };
    // A constant larger than the value broadcasts it: no function of each number alone.
    let shape: Vec<usize> = axes.iter().map(|pieces| axes::size(pieces)).collect();
    let grows = |input: &Value| match input {
        Value::Const(tensor) => {
            tensor.rank() != shape.len() || tensor.shape().iter().zip(&shape).any(|(c, s)| c > s)
        }
        Value::View(_) => false,
    };
    if inputs.iter().any(grows) {
        return Ok(None);
    }
    let rank_one = |operand: Operand| -> Rule<TValue> {
        match operand {
            Operand::Function(samples) => Ok(samples.into_tvalue()),
            Operand::Number(number) => match number.into_shape(&[1]) {
                Ok(number) => Ok(number.into_tvalue()),
                Err(error) => mismatch("a number", error.to_string()),
            },
        }
    };
    let operands = operands.into_iter().map(rank_one).collect::<Rule<TVec<TValue>>>()?;
    let result = match guard(|| node.op().eval_out_of_plan(operands)) {
        Ok(Some(results)) if results.len() == 1 => results[0].clone().into_arc_tensor(),
        Ok(_) => return mismatch("an operator on numbers", "one that tract cannot run by itself"),
        Err(error) => return mismatch("an operator on numbers", format!("one that fails: {error}")),
    };
    let grid = values.grid(of);
    if result.shape() != grid.shape() {
        return mismatch("an operator on each number alone", "one that changes how many there are");
    }
    if *result == grid {
        return Ok(Some(View { of, axes }));
    }
    let shifted = function::affine(&result).is_some_and(|(a, _)| a == 1.0);
    let view = View { of: values.add(Expr::Function { of, samples: result }), axes };
    // A bias whose channels are all alike belongs to its layer, not to the activation that follows.
    Ok(Some(if shifted { absorb(values, &view)? } else { view }))
}

/// The sum of two values.
fn sum(values: &mut Values, left: &View, right: &View) -> Rule<View> {
    if let Some(view) =
        norm::subtract(values, left, right, 1.0).or_else(|| norm::subtract(values, right, left, 1.0))
    {
        return Ok(view);
    }
    let (left, right) = (absorb(values, left)?, absorb(values, right)?);
    if let Some(view) = expanded::sum(values, &left, &right, 1.0) {
        return Ok(view);
    }
    let hidden = |view: &View| {
        matches!(
            values.get(view.of),
            Expr::Tokens { .. }
                | Expr::Embedding { .. }
                | Expr::Linear(_)
                | Expr::Sum { .. }
                | Expr::Normed { .. }
        )
    };
    if left.axes != right.axes || !hidden(&left) || !hidden(&right) {
        return odd(values, "plus", &left, &right);
    }
    Ok(View { of: values.add(Expr::Sum { left: left.of, right: right.of }), axes: left.axes })
}

/// `left - right` of a multiplied-out norm.
fn difference(values: &mut Values, left: &View, right: &View) -> Option<View> {
    let (left, right) = (absorb(values, left).ok()?, absorb(values, right).ok()?);
    expanded::sum(values, &left, &right, -1.0)
}

/// The value plus `sign` times a constant: positions, a bias or a mask.
fn add(values: &mut Values, view: &View, constant: &Tensor, sign: f32) -> Rule<View> {
    let view = absorb(values, view)?;
    if let Some(part) = expanded::plus(values, &view, constant, 1.0, sign) {
        return Ok(part);
    }
    if sign == 1.0
        && let Some(place) = lookup::place_in_all(values, &view, constant)
    {
        return Ok(place);
    }
    if matches!(values.get(view.of), Expr::Scores { .. }) && sign == 1.0 {
        return attention::add_mask(values, &view, constant);
    }
    let (width, context) = (values.channels(view.of), values.context);
    let embedded = match values.get(view.of) {
        Expr::Tokens { table } => Some((Start::Table(table.clone()), None)),
        Expr::Embedding { start, positions } => Some((start.clone(), Some(positions.clone()))),
        _ => None,
    };
    if let Some((start, before)) = embedded {
        let dims = [(Dim::Token, context), (Dim::Channel, width)];
        let Some(mut positions) = axes::read(constant, &view.axes, &dims) else {
            return mismatch(
                format!("position embeddings [{context}, {width}]"),
                format!("a constant of {:?}", constant.shape()),
            );
        };
        for (at, position) in positions.iter_mut().enumerate() {
            *position = sign * *position + before.as_ref().map_or(0.0, |before| before[at]);
        }
        let of = values.add(Expr::Embedding { start, positions: positions.into() });
        return Ok(View { of, axes: view.axes });
    }
    let bias = per_channel(values, &view, constant, |x| sign * x)?;
    Ok(View { of: add_bias(values, view.of, &bias)?, axes: view.axes })
}

/// The value times `factor` of a constant.
fn times(values: &mut Values, view: &View, constant: &Tensor, factor: fn(f32) -> f32) -> Rule<View> {
    let view = absorb(values, view)?;
    if let Some(part) = expanded::times(values, &view, constant, factor, false) {
        return Ok(part);
    }
    let gain = per_channel(values, &view, constant, factor)?;
    Ok(View { of: multiply(values, view.of, &gain)?, axes: view.axes })
}

fn per_channel(values: &Values, view: &View, constant: &Tensor, map: impl Fn(f32) -> f32) -> Rule<Vec<f32>> {
    let width = values.channels(view.of);
    match axes::read(constant, &view.axes, &[(Dim::Channel, width)]) {
        Some(numbers) => Ok(numbers.into_iter().map(map).collect()),
        None => mismatch(
            format!("one number per channel of {} ({width} of them)", values.describe(view.of)),
            format!("a constant of {:?}", constant.shape()),
        ),
    }
}
