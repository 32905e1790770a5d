//! The way from noise to picture.
//!
//! Both solvers step from one [`Point`] to the next as if the picture that the UNet expects were known: `x' = r x + (signal' - r signal) D`
//! with `r = noise' / noise`. They differ in `D`. DDIM (arXiv:2010.02502) takes the expected picture itself; with flow matching that is
//! Euler's method. DPM-Solver++(2M) (arXiv:2211.01095, algorithm 2) goes on in the direction in which the expectation has changed.

use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::recipe::Recipe;
use crate::schedule::Point;

/// How to step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Solver {
    /// First order; of a UNet trained by flow matching it is Euler's method
    Ddim,
    /// DPM-Solver++(2M): second order, for the same work
    #[value(name = "dpmpp-2m")]
    DpmPp2m,
}

impl Solver {
    /// What AUTOMATIC1111's program calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ddim => "DDIM",
            Self::DpmPp2m => "DPM++ 2M",
        }
    }
}

/// How to sample.
#[derive(Clone, Copy, Debug)]
pub struct Sampling<'s> {
    /// What the UNet says of itself.
    pub recipe: &'s Recipe,
    /// The way.
    pub points: &'s [Point],
    /// How to step along it.
    pub solver: Solver,
    /// Scale of classifier-free guidance (arXiv:2207.12598); 1: none.
    pub guidance: f32,
}

/// Turns noise into a picture, both `[3, height, width]`. `model` gives the UNet's outputs for a sample and a timestep: with guidance
/// `[prompt, negative]`, without the prompt's alone. `after` is told after each step how many are done.
///
/// # Errors
/// Those of `model`, and when what it gives is no number.
pub fn sample(
    sampling: &Sampling<'_>,
    noise: Vec<f32>,
    mut model: impl FnMut(&[f32], f32) -> Result<Vec<f32>>,
    mut after: impl FnMut(usize),
) -> Result<Vec<f32>> {
    let Sampling { recipe, points, solver, guidance } = *sampling;
    let mut x: Vec<f64> = noise.iter().copied().map(f64::from).collect();
    let mut sample = noise;
    // The expected picture of the step before, and where that was.
    let mut before: Option<(Vec<f64>, Point)> = None;
    for (step, pair) in points.windows(2).enumerate() {
        let [at, to] = [pair[0], pair[1]];
        let mut outputs = model(&sample, at.timestep as f32)?;
        let negative = outputs.split_off(x.len());
        for (output, negative) in outputs.iter_mut().zip(negative) {
            *output = negative + guidance * (*output - negative);
        }
        let expected =
            outputs.iter().zip(&x).map(|(&output, &x)| recipe.prediction.picture(x, f64::from(output), at));
        let expected: Vec<f64> = match recipe.clips {
            true => expected.map(|value| value.clamp(-1.0, 1.0)).collect(),
            false => expected.collect(),
        };
        let ratio = to.noise / at.noise;
        let share = to.signal - ratio * at.signal;
        let change = match &before {
            Some((_, earlier)) if solver == Solver::DpmPp2m => ahead(*earlier, at, to),
            _ => 0.0,
        };
        for (index, (x, &expected)) in x.iter_mut().zip(&expected).enumerate() {
            let earlier = before.as_ref().map_or(expected, |before| before.0[index]);
            *x = ratio * *x + share * (expected + change * (expected - earlier));
        }
        before = Some((expected, at));
        sample = x.iter().map(|&value| value as f32).collect();
        ensure!(
            sample.iter().all(|value| value.is_finite()),
            "the UNet gives NaN or infinity in step {}",
            step + 1
        );
        after(step + 1);
    }
    Ok(sample)
}

/// How far DPM-Solver++(2M) goes on in the direction from the last expectation to this one: half this step in units of the last, in
/// logarithms of signal to noise. The last step, to the picture, is infinitely long there and goes nowhere beyond.
fn ahead(earlier: Point, at: Point, to: Point) -> f64 {
    if to.noise == 0.0 {
        return 0.0;
    }
    let lambda = |point: Point| libm::log(point.signal) - libm::log(point.noise);
    0.5 * (lambda(to) - lambda(at)) / (lambda(at) - lambda(earlier))
}
