//! SmoothQuant: outlier channels of activations are scaled down and the weights that read them up, where a factor per channel
//! costs nothing at run time.
//!
//! Channel `j` of a linear's input is divided by `s_j` in whatever makes it (a layer norm's gain and bias, or a linear's row),
//! and column `j` of its weights is multiplied by it: the product stays the same, while a few outlier channels no longer set
//! the step of a whole row. `s_j = a_j^α / w_j^(1-α)`, with `a` the channel's largest or mean input and `w` its column's largest
//! weight (Xiao et al., "SmoothQuant", 2022); of a list of `α`, the one with the least error on the calibration's inputs is
//! taken, and none at all where nothing does better.

use crate::arithmetic::extremes::larger;
use crate::arithmetic::gemm::{View, add_gram, product};
use crate::arithmetic::parallel;
use crate::ir::Matrix;

use super::activations::row_through_codes;
use super::rows::row_scale;

/// Exponents that are tried.
const ALPHAS: [f32; 7] = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
/// Rows of the calibration that they are tried on.
const ROWS: usize = 768;
/// How much of the error of rounding each weight to its nearest code is left by rounding that makes up for errors.
const LEFT: f64 = 0.3;
/// Rows of weights that are looked at together.
const ROWS_PER_TASK: usize = 64;

/// The factors by which the channels of `inputs` are to be divided before linears of these `weights` read them; `compensated`: whether the
/// weights will be rounded to make up for errors.
pub fn factors(inputs: &Matrix, weights: &[&Matrix], compensated: bool) -> Vec<f32> {
    let n = inputs.cols;
    let step = inputs.rows.div_ceil(ROWS).max(1);
    let sample: Vec<f32> = (0..inputs.rows).step_by(step).flat_map(|row| inputs.row(row)).copied().collect();
    let mut gram = vec![0.0; n * n];
    weights.iter().for_each(|weight| add_gram(&mut gram, &weight.values, n));
    let mut squares = vec![0f64; n];
    let (mut largest, mut mean) = (vec![0f32; n], vec![0f32; n]);
    for row in sample.chunks_exact(n) {
        for (j, x) in row.iter().enumerate() {
            largest[j] = larger(largest[j], x.abs());
            mean[j] += x.abs();
            squares[j] += f64::from(*x) * f64::from(*x);
        }
    }
    let mut columns = vec![0f32; n];
    for row in weights.iter().flat_map(|weight| weight.values.chunks_exact(n)) {
        row.iter().zip(&mut columns).for_each(|(x, largest)| *largest = larger(*largest, x.abs()));
    }
    let error = |factors: &[f32]| {
        let left = if compensated { LEFT } else { 1.0 };
        activation_error(&sample, factors, &gram) + left * weight_error(&squares, factors, weights)
    };
    let mut best = vec![1.0; n];
    let mut least = error(&best);
    for inputs in [&largest, &mean] {
        for alpha in ALPHAS {
            let tried = by_alpha(inputs, &columns, alpha);
            let error = error(&tried);
            if error < least {
                (best, least) = (tried, error);
            }
        }
    }
    best
}

/// `a^α / w^(1-α)`, with a geometric mean of 1.
fn by_alpha(inputs: &[f32], weights: &[f32], alpha: f32) -> Vec<f32> {
    let logarithm = |x: f32| libm::log2(f64::from(x.max(1e-6)));
    let alpha = f64::from(alpha);
    let logarithms: Vec<f64> = inputs
        .iter()
        .zip(weights)
        .map(|(&a, &w)| alpha * logarithm(a) - (1.0 - alpha) * logarithm(w))
        .collect();
    let mean = logarithms.iter().sum::<f64>() / logarithms.len() as f64;
    logarithms.iter().map(|l| libm::exp2(l - mean) as f32).collect()
}

/// `Σ |e · Wᵀ|²` over the errors `e` that quantizing makes in the rows.
fn activation_error(rows: &[f32], factors: &[f32], gram: &[f32]) -> f64 {
    let n = factors.len();
    let mut errors = vec![0.0; rows.len()];
    parallel::each(errors.chunks_exact_mut(n).zip(rows.chunks_exact(n)), |(errors, row)| {
        errors.iter_mut().zip(row).zip(factors).for_each(|((e, x), s)| *e = x / s);
        row_through_codes(errors);
        errors.iter_mut().zip(row).zip(factors).for_each(|((e, x), s)| *e = *e * s - x);
    });
    let spread = product(View::new(&errors, n), View::new(gram, n));
    errors.iter().zip(spread).map(|(a, b)| f64::from(*a) * f64::from(b)).sum()
}

/// The error to be expected from weights rounded to their nearest codes, as if errors were even over a step.
fn weight_error(squares: &[f64], factors: &[f32], weights: &[&Matrix]) -> f64 {
    let n = factors.len();
    let per_step: f64 = squares.iter().zip(factors).map(|(q, &s)| q / (f64::from(s) * f64::from(s))).sum();
    let rows = || weights.iter().flat_map(|weight| weight.values.chunks(ROWS_PER_TASK * n));
    let count = weights.iter().map(|weight| weight.rows.div_ceil(ROWS_PER_TASK)).sum();
    let mut steps = vec![[0f64; ROWS_PER_TASK]; count];
    parallel::each(steps.iter_mut().zip(rows()), |(steps, rows)| {
        let mut scaled = vec![0.0; n];
        for (step, row) in steps.iter_mut().zip(rows.chunks_exact(n)) {
            scaled.iter_mut().zip(row).zip(factors).for_each(|((x, w), s)| *x = w * s);
            *step = f64::from(row_scale(&scaled));
        }
    });
    // In the order of the rows; those that are not there add nothing.
    steps.as_flattened().iter().map(|step| step * step).sum::<f64>() / 12.0 * per_step
}
