//! A layer norm that is multiplied out: `x · a + (bias - mean(x) · a)` with `a = gain / deviation(x)`, as TensorFlow
//! writes it, or with the gain on one of the factors first.

use tract_core::prelude::Tensor;

use super::axes::{self, Axes, Dim};
use super::function;
use super::norm::{is_mean, of_total, squared};
use super::value::{Expanded, Expr, Term, Values, View};
use crate::tract::numbers::numbers;

/// One over the deviation of some value, `divided` if the view is the deviation itself.
fn inverse(values: &Values, view: &View, divided: bool) -> Option<Expanded> {
    if let Expr::Expanded(known) = values.get(view.of) {
        return (known.term == Term::One && known.bias.is_none() && !divided).then(|| known.clone());
    }
    let (summed, samples) = of_total(values, view.of)?;
    let Expr::Centred { of } = *values.get(squared(values, summed)?) else {
        return None;
    };
    let epsilon = function::inverse_deviation(&samples, values.channels(of), divided)?;
    Some(Expanded { of, epsilon, term: Term::One, factor: 1.0, gain: None, bias: None })
}

/// Whether the small view is alike along the channels of the large one, and both are the same otherwise.
fn broadcasts(small: &View, large: &View) -> bool {
    let fits = |(s, l): (&Vec<axes::Piece>, &Vec<axes::Piece>)| {
        s == l || (s.is_empty() && l.iter().all(|piece| piece.dim == Dim::Channel))
    };
    small.axes.len() == large.axes.len() && small.axes.iter().zip(&large.axes).all(fits)
}

/// `left · right`, or `left / right` if `divided`, where the right is one over a deviation, perhaps with the gain on it.
pub fn product(values: &mut Values, left: &View, right: &View, divided: bool) -> Option<View> {
    let scale = inverse(values, right, divided)?;
    if let Expr::Centred { of } = *values.get(left.of) {
        let fits = of == scale.of && broadcasts(right, left);
        let gain = scale.gain.map(|gain| gain.iter().map(|g| scale.factor * g).collect());
        let normed = Expr::Normed { of, epsilon: scale.epsilon, gain, bias: None };
        return fits.then(|| View { of: values.add(normed), axes: left.axes.clone() });
    }
    if left.of == scale.of && broadcasts(right, left) {
        let of = values.add(Expr::Expanded(Expanded { term: Term::Value, ..scale }));
        return Some(View { of, axes: left.axes.clone() });
    }
    let (summed, samples) = of_total(values, left.of)?;
    let fits = summed == scale.of && is_mean(&samples, values.channels(summed)) && broadcasts(left, right);
    let of = Expr::Expanded(Expanded { term: Term::Mean, ..scale });
    fits.then(|| View { of: values.add(of), axes: right.axes.clone() })
}

/// `left + sign · right`, where one is the value and the other its mean, both over the deviation.
pub fn sum(values: &mut Values, left: &View, right: &View, sign: f32) -> Option<View> {
    let (Expr::Expanded(a), Expr::Expanded(b)) = (values.get(left.of), values.get(right.of)) else {
        return None;
    };
    let width = values.channels(a.of);
    let b = b.line(sign, 0.0, width)?;
    let (value, mean, view) = match (a.term, b.term) {
        (Term::Value, Term::Mean) if broadcasts(right, left) => (a, &b, left),
        (Term::Mean, Term::Value) if broadcasts(left, right) => (&b, a, right),
        _ => return None,
    };
    let alike = value.of == mean.of && value.epsilon == mean.epsilon && value.gain == mean.gain;
    if !alike || value.factor != -mean.factor {
        return None;
    }
    let factor = value.factor;
    let gain = value.gain.as_ref().map_or_else(
        || (factor != 1.0).then(|| vec![factor; width].into()),
        |gain| Some(gain.iter().map(|g| factor * g).collect()),
    );
    let bias = match (&value.bias, &mean.bias) {
        (Some(one), Some(other)) => Some(one.iter().zip(other.iter()).map(|(a, b)| a + b).collect()),
        (one, other) => one.clone().or_else(|| other.clone()),
    };
    let normed = Expr::Normed { of: value.of, epsilon: value.epsilon, gain, bias };
    let axes = view.axes.clone();
    Some(View { of: values.add(normed), axes })
}

/// The constant as one number per channel, and the axes of a value of these channels. `None` if it is something else.
fn per_channel(view: &View, constant: &Tensor, width: usize) -> Option<(Vec<f32>, Axes)> {
    if let Some(read) = axes::read(constant, &view.axes, &[(Dim::Channel, width)])
        && view.axes.iter().flatten().any(|piece| piece.dim == Dim::Channel)
    {
        return Some((read, view.axes.clone()));
    }
    let at = constant.shape().iter().position(|&length| length > 1)?;
    let fits = constant.len() == width && constant.shape()[at] == width;
    let mut axes = view.axes.clone();
    if !fits || constant.rank() != axes.len() || !axes[at].is_empty() {
        return None;
    }
    axes[at] = axes::whole(Dim::Channel, width);
    Some((numbers::<f32>(constant)?.to_vec(), axes))
}

/// `gain · view`, or `gain / view` if `divided`, where the view is part of a multiplied-out norm; `map` is applied to the
/// constant first.
pub fn times(
    values: &mut Values,
    view: &View,
    constant: &Tensor,
    map: fn(f32) -> f32,
    divided: bool,
) -> Option<View> {
    let part = match values.get(view.of) {
        Expr::Expanded(known) if known.bias.is_none() && !divided => known.clone(),
        _ => inverse(values, view, divided)?,
    };
    let (mut gain, axes) = per_channel(view, constant, values.channels(part.of))?;
    gain.iter_mut().for_each(|g| *g = map(*g));
    if let Some(before) = &part.gain {
        gain.iter_mut().zip(before.iter()).for_each(|(g, before)| *g *= before);
    }
    let of = values.add(Expr::Expanded(Expanded { gain: Some(gain.into()), ..part }));
    Some(View { of, axes })
}

/// `sign · view + bias_sign · constant`, where the view is part of a multiplied-out norm.
pub fn plus(values: &mut Values, view: &View, constant: &Tensor, sign: f32, bias_sign: f32) -> Option<View> {
    let Expr::Expanded(known) = values.get(view.of) else {
        return None;
    };
    let width = values.channels(known.of);
    let part = known.line(sign, 0.0, width)?;
    let (mut bias, axes) = per_channel(view, constant, width)?;
    bias.iter_mut().for_each(|b| *b *= bias_sign);
    if let Some(before) = &part.bias {
        bias.iter_mut().zip(before.iter()).for_each(|(b, before)| *b += before);
    }
    let of = values.add(Expr::Expanded(Expanded { bias: Some(bias.into()), ..part }));
    Some(View { of, axes })
}
