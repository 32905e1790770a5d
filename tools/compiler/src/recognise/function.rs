//! Functions of one number, known by their values on a grid.
//!
//! An exporter may spell a GELU or a square root in a dozen ways. Each operator is run, by tract, on the samples of its
//! operands; what the whole composition is shows in the samples.

use tract_core::prelude::Tensor;

use super::grid::float_grid;
use super::misfit::{Rule, mismatch};
use crate::arithmetic::extremes::larger;
use crate::arithmetic::functions::erf;
use crate::ir::Activation;
use crate::tract::numbers::numbers;

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
        errors.fold(0.0, larger)
    };
    let known = [
        (distance(quick_gelu), Activation::QuickGelu),
        (distance(gelu), Activation::Gelu),
        (distance(gelu_tanh), Activation::GeluTanh),
    ];
    let nearest = known.into_iter().min_by(|a, b| a.0.total_cmp(&b.0));
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

#[cfg(test)]
mod tests {
    use super::*;
    use tract_core::prelude::tensor1;

    fn samples(f: impl Fn(f64) -> f64) -> Tensor {
        tensor1(&float_grid().into_iter().map(|x| f(f64::from(x)) as f32).collect::<Vec<_>>())
    }

    #[test]
    fn activations_are_told_apart() {
        assert_eq!(activation(&samples(quick_gelu)), Ok(Activation::QuickGelu));
        assert_eq!(activation(&samples(gelu)), Ok(Activation::Gelu));
        assert_eq!(activation(&samples(gelu_tanh)), Ok(Activation::GeluTanh));
        // Constants as f16 rounds them.
        assert_eq!(activation(&samples(|x| x / (1.0 + (-1.702_148_4 * x).exp()))), Ok(Activation::QuickGelu));
        // SiLU, ReLU, and a factor that is nearly OpenAI's.
        for other in
            [|x: f64| x / (1.0 + (-x).exp()), |x: f64| x.max(0.0), |x: f64| x / (1.0 + (-1.7 * x).exp())]
        {
            assert!(activation(&samples(other)).is_err());
        }
        assert!(activation(&samples(|_| f64::NAN)).is_err());
    }

    #[test]
    fn one_sample_that_is_no_number_is_no_activation_wherever_it_stands() {
        let grid = float_grid();
        for at in [grid[0], grid[grid.len() / 2], grid[grid.len() - 1]] {
            let broken = samples(|x| if x == f64::from(at) { f64::NAN } else { gelu(x) });
            assert!(activation(&broken).is_err(), "{at}");
        }
    }

    #[test]
    fn straight_lines() {
        assert_eq!(affine(&samples(|x| 0.125 * x)), Some((0.125, 0.0)));
        assert_eq!(affine(&samples(|x| x - 2.0)), Some((1.0, -2.0)));
        assert_eq!(affine(&samples(|x| x * x)), None);
        assert_eq!(affine(&samples(f64::abs)), None);
    }

    #[test]
    fn deviations() {
        let close = |epsilon: Option<f32>| epsilon.is_some_and(|e| (e - 1e-5).abs() < 1e-11);
        assert!(close(inverse_deviation(&samples(|t| (t / 16.0 + 1e-5).sqrt()), 16, true)));
        assert!(close(inverse_deviation(&samples(|t| 1.0 / (t / 16.0 + 1e-5).sqrt()), 16, false)));
        assert_eq!(inverse_deviation(&samples(|t| (t / 15.0 + 1e-5).sqrt()), 16, true), None);
        assert_eq!(inverse_deviation(&samples(|t| t / 16.0 + 1e-5), 16, true), None);
    }

    #[test]
    fn functions_of_the_ids() {
        assert!(is_identity(&tensor1(&[0i32, 1, 2])) && is_growing(&tensor1(&[0i64, 2, 4])));
        assert!(!is_identity(&tensor1(&[0i64, 1, 1])) && !is_growing(&tensor1(&[0i64, 1, 1])));
        assert_eq!(indicated(&tensor1(&[false, false, true])), Some(2));
        assert_eq!(indicated(&tensor1(&[0i64, 1, 1])), None);
    }
}
