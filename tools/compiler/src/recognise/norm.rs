//! Layer norm in any spelling, and division by a vector's length.

use tract_core::internal::Tensor;
use tract_core::ops::nn::{Reduce, Reducer, RmsNorm};

use super::axes::{self, Axes, Dim, Piece};
use super::function;
use super::grid::float_grid;
use super::linear::absorb;
use super::misfit::{Rule, mismatch};
use super::value::{Expr, Id, Values, View};
use crate::tract::numbers::numbers;

/// The axes after those in `over` are summed away, if these hold exactly the channels.
fn over_channels(values: &Values, view: &View, over: &[usize], doing: &str) -> Rule<Axes> {
    let pieces: Vec<Piece> = over.iter().flat_map(|&at| &view.axes[at]).copied().collect();
    if !axes::covers(&pieces, Dim::Channel, values.channels(view.of)) {
        return mismatch(
            format!("{doing} over the channels of {}", values.describe(view.of)),
            format!("{doing} over axes {over:?}"),
        );
    }
    let keep = |(at, pieces): (usize, &Vec<Piece>)| if over.contains(&at) { vec![] } else { pieces.clone() };
    Ok(view.axes.iter().enumerate().map(keep).collect())
}

/// A sum, or a mean of squares, over the channels.
pub fn reduce(values: &mut Values, op: &Reduce, view: &View) -> Rule<View> {
    match op.reducer {
        Reducer::Sum => {
            let axes = over_channels(values, view, &op.axes, "a sum")?;
            // The sum over axes that hold nothing is the value itself.
            if values.channels(view.of) == 1 {
                return Ok(View { of: view.of, axes });
            }
            let of = absorb(values, view)?.of;
            Ok(View { of: values.add(Expr::Total { of }), axes })
        }
        Reducer::MeanOfSquares => {
            let axes = over_channels(values, view, &op.axes, "a mean of squares")?;
            let of = absorb(values, view)?.of;
            let n = values.channels(of) as f32;
            let square = map_grid(|x| x * x);
            let square = values.add(Expr::Function { of, samples: square.into() });
            let total = values.add(Expr::Total { of: square });
            let mean = map_grid(|x| x / n);
            Ok(View { of: values.add(Expr::Function { of: total, samples: mean.into() }), axes })
        }
        _ => mismatch("a sum or a mean over the channels", format!("{:?}", op.reducer)),
    }
}

fn map_grid(f: impl Fn(f32) -> f32) -> Tensor {
    let samples: Vec<f32> = float_grid().into_iter().map(f).collect();
    tract_core::prelude::tensor1(&samples)
}

/// tract's own `x / sqrt(mean(x²) + epsilon)`.
pub fn rms_norm(values: &mut Values, op: &RmsNorm, view: &View) -> Rule<View> {
    over_channels(values, view, &[op.axis], "a norm")?;
    let Expr::Centred { of } = *values.get(view.of) else {
        return mismatch(
            "a layer norm, which subtracts the mean first",
            format!("a norm of {}", values.describe(view.of)),
        );
    };
    let Ok(epsilon) = op.eps.cast_to_scalar::<f32>() else {
        return mismatch("a layer norm's epsilon", "one that is not a number");
    };
    let of = values.add(Expr::Normed { of, epsilon, gain: None, bias: None });
    Ok(View { of, axes: view.axes.clone() })
}

/// If `id` is a function of the sum over the channels of some value: that value, and the function's samples.
pub fn of_total(values: &Values, id: Id) -> Option<(Id, std::sync::Arc<Tensor>)> {
    let (base, samples) = values.sampled(id);
    match values.get(base) {
        Expr::Total { of } => Some((*of, samples)),
        _ => None,
    }
}

/// If `id` is a square: of what.
pub fn squared(values: &Values, id: Id) -> Option<Id> {
    match values.get(id) {
        Expr::Function { of, samples } if function::is_square(samples) => Some(*of),
        _ => None,
    }
}

/// Whether the samples of a sum over `n` channels are the mean.
pub fn is_mean(samples: &Tensor, n: usize) -> bool {
    function::affine(samples).is_some_and(|(a, c)| c == 0.0 && (a * n as f32 - 1.0).abs() < 1e-5)
}

/// `left + sign * right`, where the right is the left's mean, or the two make a variance. `None` if they do not.
pub fn subtract(values: &mut Values, left: &View, right: &View, sign: f32) -> Option<View> {
    let (summed, samples) = of_total(values, right.of)?;
    let n = values.channels(left.of);
    let mean = function::affine(&samples)
        .is_some_and(|(a, c)| c == 0.0 && (a * -sign * n as f32 - 1.0).abs() < 1e-5);
    if summed == left.of && n > 1 && mean {
        let of = values.add(Expr::Centred { of: left.of });
        return Some(View { of, axes: left.axes.clone() });
    }
    variance(values, left, summed, &samples, sign)
}

/// `mean(x²) - mean(x)²` is the mean of the centred value's squares.
fn variance(values: &mut Values, left: &View, summed: Id, samples: &Tensor, sign: f32) -> Option<View> {
    let (of_squares, mean_of_squares) = of_total(values, left.of)?;
    let x = squared(values, of_squares).filter(|&x| x == summed)?;
    let n = values.channels(x) as f32;
    let mean = is_mean(&mean_of_squares, values.channels(x));
    let square_of_mean = float_grid().iter().zip(numbers::<f32>(samples)?).all(|(t, y)| {
        let expected = -sign * (t / n) * (t / n);
        (y - expected).abs() <= 1e-5 * expected.abs()
    });
    if !(mean && square_of_mean) {
        return None;
    }
    let centred = values.add(Expr::Centred { of: x });
    let square = values.add(Expr::Function { of: centred, samples: map_grid(|x| x * x).into() });
    let total = values.add(Expr::Total { of: square });
    let of = values.add(Expr::Function { of: total, samples: mean_of_squares });
    Some(View { of, axes: left.axes.clone() })
}

/// `left * right`, or `left / right` if `divided`, where the right is the inverse deviation of the left. `None` if it
/// is not.
pub fn scale(values: &mut Values, left: &View, right: &View, divided: bool) -> Option<View> {
    let (summed, samples) = of_total(values, right.of)?;
    let (gained, gain) = match values.get(left.of) {
        Expr::Gained { of, gain } => (*of, Some(gain.clone())),
        _ => (left.of, None),
    };
    let x = squared(values, summed).filter(|&x| x == gained)?;
    let n = values.channels(x);
    let expr = match *values.get(x) {
        Expr::Centred { of } => {
            let epsilon = function::inverse_deviation(&samples, n, divided)?;
            Expr::Normed { of, epsilon, gain, bias: None }
        }
        _ if gain.is_none() && function::is_inverse_root(&samples, divided) => Expr::Unit { of: x },
        _ => return None,
    };
    Some(View { of: values.add(expr), axes: left.axes.clone() })
}
