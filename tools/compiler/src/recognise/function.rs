//! Functions of one number, known by their values on a grid.
//!
//! An exporter may spell a GELU or a square root in a dozen ways. Each operator is run, by tract, on the samples of its
//! operands; what the whole composition is shows in the samples.

use tract_core::prelude::Tensor;

use super::misfit::{Rule, mismatch};
use super::numbers::numbers;
use super::value::float_grid;
use crate::ir::Activation;

/// Farthest that an activation's samples may lie from the named one's: a rounding of its constants to f16 moves them by
/// 1e-4, the next nearest activation lies 4.7e-4 off.
const ACTIVATION_TOLERANCE: f64 = 2e-4;

fn floats(samples: &Tensor) -> Option<Vec<f32>> {
    numbers::<f32>(samples).filter(|values| values.len() == float_grid().len()).map(<[f32]>::to_vec)
}

/// The `a` and `c` of samples of `a x + c`.
pub fn affine(samples: &Tensor) -> Option<(f32, f32)> {
    let values = floats(samples)?;
    let grid = float_grid();
    let at = |x: f32| grid.iter().position(|&g| g == x).map(|index| values[index]);
    let c = at(0.0)?;
    let a = at(1.0)? - c;
    let fits = grid
        .iter()
        .zip(&values)
        .all(|(x, y)| (a * x + c - y).abs() <= 1e-6 * ((a * x).abs() + c.abs()) + f32::MIN_POSITIVE);
    (fits && a.is_finite()).then_some((a, c))
}

/// Whether the samples are `x²`.
pub fn is_square(samples: &Tensor) -> bool {
    let square =
        |values: Vec<f32>| float_grid().iter().zip(values).all(|(x, y)| (x * x - y).abs() <= 1e-5 * x * x);
    floats(samples).is_some_and(square)
}

/// The `epsilon` for which `y(t)² = 1 / (t / n + epsilon)` at every `t >= 0`.
///
/// `inverted` samples hold `1 / y`. A zero `epsilon`, or one so small that it only keeps zero from dividing, is 0.
pub fn inverse_deviation(samples: &Tensor, n: usize, inverted: bool) -> Option<f32> {
    let values = floats(samples)?;
    let variance = |y: f32| {
        let y = f64::from(y);
        if inverted { y * y } else { 1.0 / (y * y) }
    };
    let grid = float_grid();
    let zero = grid.iter().position(|&x| x == 0.0)?;
    let epsilon = variance(values[zero]);
    let fits = grid[zero..].iter().zip(&values[zero..]).all(|(&t, &y)| {
        let expected = f64::from(t) / n as f64 + epsilon;
        y >= 0.0 && (variance(y) - expected).abs() <= 1e-5 * expected
    });
    (fits && epsilon.is_finite()).then_some(epsilon as f32)
}

/// Which of CLIP's activations the samples are.
pub fn activation(samples: &Tensor) -> Rule<Activation> {
    let expected = "quick GELU, GELU or its tanh form between the two linear layers of the MLP";
    let Some(values) = floats(samples) else {
        return mismatch(expected, "a function that is not of f32");
    };
    let distance = |f: fn(f64) -> f64| {
        let errors =
            float_grid().into_iter().zip(&values).map(|(x, &y)| (f(f64::from(x)) - f64::from(y)).abs());
        // NaN must count as far away, so not f64::max alone.
        errors.fold(0.0, |worst, error| if error <= worst { worst } else { error })
    };
    let known: [(Activation, fn(f64) -> f64); 3] =
        [(Activation::QuickGelu, quick_gelu), (Activation::Gelu, gelu), (Activation::GeluTanh, gelu_tanh)];
    let nearest = known.into_iter().map(|(name, f)| (distance(f), name)).min_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((distance, name)) if distance <= ACTIVATION_TOLERANCE => Ok(name),
        Some((distance, name)) => mismatch(
            expected,
            format!("a function that differs from the nearest of them, {name:?}, by {distance:.2e}"),
        ),
        None => mismatch(expected, "no function"),
    }
}

fn quick_gelu(x: f64) -> f64 {
    x / (1.0 + (-1.702 * x).exp())
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2))
}

fn gelu_tanh(x: f64) -> f64 {
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
    0.5 * x * (1.0 + inner.tanh())
}

/// `erf` by its Maclaurin series where that is exact enough, 1 beyond.
fn erf(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        let n = f64::from(n);
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

/// Whether the samples are their own arguments, whatever integer type they were cast to.
pub fn is_identity(samples: &Tensor) -> bool {
    integers(samples).is_some_and(|values| values.iter().zip(0..).all(|(&value, index)| value == index))
}

/// The one argument at which the samples, of 0 and 1, are 1.
pub fn indicated(samples: &Tensor) -> Option<usize> {
    let values = integers(samples)?;
    let place = values.iter().position(|&value| value == 1)?;
    let others_zero = values.iter().enumerate().all(|(index, &value)| index == place || value == 0);
    others_zero.then_some(place)
}

/// Whether the samples grow with their argument, so that the highest argument has the highest.
pub fn is_growing(samples: &Tensor) -> bool {
    integers(samples).is_some_and(|values| values.windows(2).all(|pair| pair[0] < pair[1]))
}

fn integers(samples: &Tensor) -> Option<Vec<i64>> {
    let wide = samples.cast_to::<i64>().ok()?;
    numbers::<i64>(&wide).map(<[i64]>::to_vec)
}

/// Whether the samples are `1 / sqrt(t)` for `t > 0`, or `sqrt(t)` if `inverted`; at 0 a bound may keep them finite.
pub fn is_inverse_root(samples: &Tensor, inverted: bool) -> bool {
    let root = |values: Vec<f32>| {
        float_grid().iter().zip(values).filter(|(t, _)| **t > 0.0).all(|(t, y)| {
            let y = if inverted { y } else { 1.0 / y };
            (y - t.sqrt()).abs() <= 1e-5 * t.sqrt()
        })
    };
    floats(samples).is_some_and(root)
}
