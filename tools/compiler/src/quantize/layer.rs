//! One layer made int8: smoothed, then rounded linear by linear, each fitted to what the linears before it give out.

use anyhow::{Result, anyhow};

use crate::arithmetic::extremes::larger;
use crate::arithmetic::functions::activate;
use crate::arithmetic::gemm::add_gram;
use crate::arithmetic::parallel;
use crate::ir::{Layer, Linear, Matrix, Weight};

use super::activations::through_codes;
use super::forward::{self, Attended, add, attention, normed};
use super::recipe::Recipe;
use super::rounding::Inputs;
use super::rows::quantize_rows;
use super::smooth;

/// What smoothing did to the inputs of some linears, on the calibration's prompts.
#[derive(Clone, Debug, PartialEq)]
pub struct Smoothed {
    /// The layer, from 1.
    pub layer: usize,
    /// The linears that read them.
    pub linears: &'static str,
    /// The largest absolute value of each channel before.
    pub before: Vec<f32>,
    /// And after.
    pub after: Vec<f32>,
}

impl Smoothed {
    fn new(linears: &'static str, inputs: &Matrix, factors: &[f32]) -> Self {
        let mut before = vec![0f32; inputs.cols];
        for row in inputs.values.chunks_exact(inputs.cols) {
            row.iter().zip(&mut before).for_each(|(x, largest)| *largest = larger(*largest, x.abs()));
        }
        let after = before.iter().zip(factors).map(|(largest, factor)| largest / factor).collect();
        Smoothed { layer: 0, linears, before, after }
    }
}

/// The residual stream of the calibration's prompts or images: as the model has it, and as the plan will.
pub(super) struct Streams {
    pub(super) exact: Matrix,
    pub(super) ours: Matrix,
    /// Rows of each.
    pub(super) tokens: usize,
}

/// Quantizes the layer's linears and moves `streams` to behind it; returns what smoothing did. `start` are the query, key and value
/// of the first position of all prompts; of images, whose rows see all of their own, there is none.
///
/// # Errors
/// Where the model's values are not finite.
pub(super) fn quantize_layer(
    layer: &mut Layer,
    streams: &mut Streams,
    start: Option<&mut [f32]>,
    heads: usize,
    recipe: &Recipe,
) -> Result<Vec<Smoothed>> {
    let mut smoothed = Vec::new();
    let width = streams.exact.cols;
    let mut first = start.map(|start| start[width..].split_at_mut(width));

    let mut exact = normed(&layer.norm1, &streams.exact);
    if recipe.smooth {
        let weights =
            [&mut layer.query, &mut layer.key, &mut layer.value].map(|linear| &*linear.weight.make_f32());
        let factors = smooth::factors(&exact, &weights, recipe.compensate);
        smoothed.push(Smoothed::new("query, key, value", &exact, &factors));
        divide(&mut exact.values, &factors);
        divide(&mut layer.norm1.gain, &factors);
        divide(&mut layer.norm1.bias, &factors);
        for linear in [&mut layer.query, &mut layer.key, &mut layer.value] {
            multiply(&mut linear.weight.make_f32().values, &factors);
        }
    }
    let step = Rounded::new(normed(&layer.norm1, &streams.ours), recipe)?;
    let [q, k, v] = [&mut layer.query, &mut layer.key, &mut layer.value].map(|l| step.linear(l, &exact));
    drop(step);
    let (exact_qkv, ours_qkv) =
        (Attended { query: q.0, key: k.0, value: v.0 }, Attended { query: q.1, key: k.1, value: v.1 });
    let start = first.as_ref().map(|(keys, values)| (&**keys, &**values));
    let mix = |qkv: &Attended| attention(heads, layer.scale, qkv, start, streams.tokens);
    let (mut exact, mut ours) = (mix(&exact_qkv), mix(&ours_qkv));
    drop((exact_qkv, ours_qkv));
    // Where it is made by the values' rows, a factor per channel passes through the attention.
    let mut factors = vec![1.0; width];
    if recipe.smooth {
        factors = smooth::factors(&exact, &[layer.out.weight.make_f32()], recipe.compensate);
        smoothed.push(Smoothed::new("attention output", &exact, &factors));
        divide(&mut exact.values, &factors);
        divide(&mut ours.values, &factors);
        multiply(&mut layer.out.weight.make_f32().values, &factors);
        let value = &mut layer.value;
        divide(&mut value.bias, &factors);
        if let Some((_, values)) = &mut first {
            divide(values, &factors);
        }
        // Its rows are quantized already: their scales take the factors.
        if let Weight::Int8(weight) = &mut value.weight {
            divide(&mut weight.scales, &factors);
        }
    }
    let step = Rounded::new(ours, recipe)?;
    let (exact, ours) = step.linear(&mut layer.out, &exact);
    drop(step);
    add(&mut streams.exact, &exact);
    add(&mut streams.ours, &ours);

    let mut exact = normed(&layer.norm2, &streams.exact);
    if recipe.smooth {
        let factors = smooth::factors(&exact, &[layer.fc1.weight.make_f32()], recipe.compensate);
        smoothed.push(Smoothed::new("MLP in", &exact, &factors));
        divide(&mut exact.values, &factors);
        divide(&mut layer.norm2.gain, &factors);
        divide(&mut layer.norm2.bias, &factors);
        multiply(&mut layer.fc1.weight.make_f32().values, &factors);
    }
    let step = Rounded::new(normed(&layer.norm2, &streams.ours), recipe)?;
    let (mut exact, mut ours) = step.linear(&mut layer.fc1, &exact);
    drop(step);
    activate_all(layer, &mut exact);
    activate_all(layer, &mut ours);
    let step = Rounded::new(ours, recipe)?;
    let (exact, ours) = step.linear(&mut layer.fc2, &exact);
    add(&mut streams.exact, &exact);
    add(&mut streams.ours, &ours);
    Ok(smoothed)
}

fn activate_all(layer: &Layer, x: &mut Matrix) {
    let chunk = 64 * x.cols;
    parallel::each(x.values.chunks_mut(chunk), |rows| activate(layer.activation, rows));
}

/// Divides each row of `values` by `factors`.
fn divide(values: &mut [f32], factors: &[f32]) {
    parallel::each_row(values, factors.len(), |row| row.iter_mut().zip(factors).for_each(|(x, s)| *x /= s));
}

/// Multiplies each row of `values` by `factors`.
fn multiply(values: &mut [f32], factors: &[f32]) {
    parallel::each_row(values, factors.len(), |row| row.iter_mut().zip(factors).for_each(|(x, s)| *x *= s));
}

/// Linears that read the same inputs, being rounded.
pub(super) struct Rounded<'r> {
    recipe: &'r Recipe,
    /// The inputs as the kernels will see them.
    inputs: Matrix,
    rounding: Option<Inputs>,
}

impl<'r> Rounded<'r> {
    fn new(mut inputs: Matrix, recipe: &'r Recipe) -> Result<Self> {
        let n = inputs.cols;
        through_codes(&mut inputs.values, n);
        Self::of_codes(inputs, recipe)
    }

    /// With inputs that codes stand for exactly.
    pub(super) fn of_codes(inputs: Matrix, recipe: &'r Recipe) -> Result<Self> {
        let n = inputs.cols;
        let rounding = match recipe.compensate {
            true => {
                let mut gram = vec![0.0; n * n];
                add_gram(&mut gram, &inputs.values, n);
                let inputs = Inputs::new(&gram, n);
                Some(inputs.map_err(|_| anyhow!("the model computes values that are not finite numbers"))?)
            }
            false => None,
        };
        Ok(Self { recipe, inputs, rounding })
    }

    /// Rounds the weights of `linear`, whose inputs in the f32 model are `exact`; returns its outputs, in f32 and ours.
    pub(super) fn linear(&self, linear: &mut Linear, exact: &Matrix) -> (Matrix, Matrix) {
        let weight = linear.weight.make_f32();
        let wanted = forward::linear(weight, &linear.bias, exact);
        let quantized = match &self.rounding {
            Some(rounding) => rounding.round(weight, self.recipe.clips),
            None => quantize_rows(weight),
        };
        let ours = forward::linear(&quantized.to_f32(), &linear.bias, &self.inputs);
        linear.weight = Weight::Int8(quantized);
        (wanted, ours)
    }
}
