//! f32 weights to int8, so that what the plan computes stays close to what the model does.
//!
//! `docs/quantization.md` tells what each part is worth.

mod activations;
mod forward;
mod rounding;
mod rows;
mod smooth;

use anyhow::{Result, anyhow};
use cliptext::tokenizer::Padding;

use crate::arithmetic::functions::activate;
use crate::arithmetic::gemm::{View, add_gram, product};
use crate::calibrate;
use crate::ir::{Layer, Linear, Matrix, Outputs, Pooled, TextModel};
use crate::vocabulary::VocabularyTable;
use activations::through_codes;
use forward::{Attended, add, attention, embedded, linear, normed};
use rounding::Inputs;

pub use rows::{QuantizedMatrix, quantize_rows, with_scales};

/// How much work goes into a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// Under a minute for CLIP ViT-L on two cores.
    Fast,
    /// Up to a quarter of an hour.
    Best,
}

/// How a model is quantized.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much work goes into it.
    pub quality: Quality,
    /// The prompts to calibrate on.
    pub calibration: Vec<String>,
}

impl Options {
    /// With the built-in prompts.
    pub fn new(quality: Quality) -> Self {
        Self { quality, calibration: calibrate::PROMPTS.lines().map(str::to_owned).collect() }
    }

    /// Quantizes what `outputs` needs of `model`'s layers; returns what the model computes at the first position.
    /// `layer_done` is told how many layers of how many are done.
    ///
    /// # Errors
    /// Where the vocabulary does not go with the model, or the model's values are not finite.
    pub fn quantize(
        &self,
        model: &mut TextModel,
        outputs: &Outputs,
        vocabulary: &VocabularyTable,
        padding: Padding,
        mut layer_done: impl FnMut(usize, usize),
    ) -> Result<Start> {
        let prompts: Vec<&str> = match self.quality {
            Quality::Fast => spread(&self.calibration, FAST_PROMPTS),
            Quality::Best => spread(&self.calibration, BEST_PROMPTS),
        };
        let more = match self.quality {
            Quality::Fast => 0,
            Quality::Best => BEST_PROMPTS - prompts.len(),
        };
        let recipe = Recipe::BEST;
        let prompts = calibrate::tokens(&prompts, more, vocabulary, model.context(), padding)?;
        let layers = if outputs.pooled == Pooled::None { outputs.hidden_layer } else { model.layers.len() };
        quantize(model, layers, &prompts, &recipe, |done| layer_done(done, layers))
    }
}

/// Prompts that [`Quality::Fast`] calibrates on, at most.
const FAST_PROMPTS: usize = 32;
/// Prompts that [`Quality::Best`] calibrates on, the joined ones among them.
const BEST_PROMPTS: usize = 256;

/// At most `count` of `prompts`, evenly from all of them.
fn spread(prompts: &[String], count: usize) -> Vec<&str> {
    let count = count.min(prompts.len());
    (0..count).map(|index| prompts[index * prompts.len() / count].as_str()).collect()
}

/// Which of the techniques are used, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// Whether difficulty is moved from activations into weights.
    pub smooth: bool,
    /// Whether the errors of rounding are made up for by the weights still to be rounded; else each weight goes to its
    /// nearest code.
    pub compensate: bool,
    /// λ of the rounding, as a part of the mean square input.
    pub damping: f32,
    /// Whether weights are also fitted to make up for what earlier layers' errors changed.
    pub fit: bool,
    /// Whether biases take over the mean error.
    pub correct_bias: bool,
}

impl Recipe {
    /// Each value to its nearest code.
    pub const PLAIN: Recipe =
        Recipe { smooth: false, compensate: false, damping: 0.01, fit: false, correct_bias: false };
    /// What measures best.
    pub const BEST: Recipe =
        Recipe { smooth: true, compensate: true, damping: 0.01, fit: false, correct_bias: true };
}

/// What the tower computes at the first position, which holds the start token in every prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// The start token.
    pub id: u32,
    /// For each layer queries, keys and values, `3 * width` values.
    pub qkv: Vec<Vec<f32>>,
    /// The residual stream: `[0]` is the embedded token, then what each layer leaves; `width` values each.
    pub states: Vec<Vec<f32>>,
}

impl Start {
    /// The first row of the hidden states that `outputs` wants.
    pub fn hidden(&self, model: &TextModel, outputs: &Outputs) -> Vec<f32> {
        let state = &self.states[outputs.hidden_layer];
        let state = Matrix { rows: 1, cols: state.len(), values: state.clone() };
        if outputs.hidden_norm { normed(&model.final_norm, &state).values } else { state.values }
    }
}

/// The first position of every prompt.
pub fn start(model: &TextModel, id: u32) -> Start {
    let mut x =
        Matrix { rows: 1, cols: model.width(), values: model.token_embedding.row(id as usize).to_vec() };
    x.values.iter_mut().zip(model.position_embedding.row(0)).for_each(|(x, p)| *x += p);
    let mut start = Start { id, qkv: vec![], states: vec![x.values.clone()] };
    for layer in &model.layers {
        let h = normed(&layer.norm1, &x);
        let [query, key, value] = [&layer.query, &layer.key, &layer.value].map(|l| linear(l, &h));
        start.qkv.push([&query.values[..], &key.values, &value.values].concat());
        // Attention has one key to look at.
        add(&mut x, &linear(&layer.out, &value));
        let mut inner = linear(&layer.fc1, &normed(&layer.norm2, &x));
        activate(layer.activation, &mut inner.values);
        add(&mut x, &linear(&layer.fc2, &inner));
        start.states.push(x.values.clone());
    }
    start
}

/// The residual stream of the calibration's prompts: as the model has it, and as the plan will.
struct Streams {
    exact: Matrix,
    ours: Matrix,
    /// Rows of a prompt.
    tokens: usize,
}

/// Quantizes the first `layers` layers, one after the other: each is fitted to what the layers before it, already
/// quantized, give out. Returns what the f32 model computes at the first position, in terms of the quantized one.
///
/// `prompts` hold the start token first, and all as many tokens.
///
/// # Errors
/// Where the model's values are not finite.
pub fn quantize(
    model: &mut TextModel,
    layers: usize,
    prompts: &[Vec<u32>],
    recipe: &Recipe,
    mut layer_done: impl FnMut(usize),
) -> Result<Start> {
    let mut start = start(model, prompts[0][0]);
    let table = quantize_rows(&model.token_embedding);
    let mut streams = Streams {
        exact: embedded(model, prompts, |id, row| row.copy_from_slice(model.token_embedding.row(id))),
        ours: embedded(model, prompts, |id, row| {
            let codes = &table.codes[id * row.len()..][..row.len()];
            row.iter_mut().zip(codes).for_each(|(x, &code)| *x = f32::from(code) * table.scales[id]);
        }),
        tokens: prompts[0].len() - 1,
    };
    for (index, layer) in model.layers[..layers].iter_mut().enumerate() {
        quantize_layer(layer, &mut streams, &mut start.qkv[index], model.heads, recipe)?;
        layer_done(index + 1);
    }
    Ok(start)
}

fn quantize_layer(
    layer: &mut Layer,
    streams: &mut Streams,
    start: &mut [f32],
    heads: usize,
    recipe: &Recipe,
) -> Result<()> {
    let width = streams.exact.cols;
    let (keys, values) = start[width..].split_at_mut(width);

    let mut exact = normed(&layer.norm1, &streams.exact);
    if recipe.smooth {
        let factors = smooth::factors(&exact, &[&layer.query, &layer.key, &layer.value], recipe.compensate);
        divide(&mut exact.values, &factors);
        divide(&mut layer.norm1.gain, &factors);
        divide(&mut layer.norm1.bias, &factors);
        for linear in [&mut layer.query, &mut layer.key, &mut layer.value] {
            multiply(&mut linear.weight.values, &factors);
        }
    }
    let mut step = Rounded::new(normed(&layer.norm1, &streams.ours), recipe)?;
    let [q, k, v] =
        [&mut layer.query, &mut layer.key, &mut layer.value].map(|l| step.linear(l, &exact, None));
    drop(step);
    let (exact_qkv, ours_qkv) =
        (Attended { query: q.0, key: k.0, value: v.0 }, Attended { query: q.1, key: k.1, value: v.1 });
    let mix = |qkv: &Attended| attention(heads, layer.scale, qkv, (&*keys, &*values), streams.tokens);
    let (mut exact, mut ours) = (mix(&exact_qkv), mix(&ours_qkv));
    drop((exact_qkv, ours_qkv));
    // Where it is made by the values' rows, a factor per channel passes through the attention.
    let mut factors = vec![1.0; width];
    if recipe.smooth {
        factors = smooth::factors(&exact, &[&layer.out], recipe.compensate);
        divide(&mut exact.values, &factors);
        divide(&mut ours.values, &factors);
        multiply(&mut layer.out.weight.values, &factors);
        let value = &mut layer.value;
        divide(&mut value.bias, &factors);
        divide(values, &factors);
        value.weight.values.chunks_exact_mut(width).zip(&factors).for_each(|(row, s)| divide(row, &[*s]));
        if let Some(steps) = &mut value.steps {
            divide(steps, &factors);
        }
    }
    let mut step = Rounded::new(ours, recipe)?;
    let (exact, ours) = step.linear(&mut layer.out, &exact, Some((&streams.exact, &streams.ours)));
    drop(step);
    add(&mut streams.exact, &exact);
    add(&mut streams.ours, &ours);

    let mut exact = normed(&layer.norm2, &streams.exact);
    if recipe.smooth {
        let factors = smooth::factors(&exact, &[&layer.fc1], recipe.compensate);
        divide(&mut exact.values, &factors);
        divide(&mut layer.norm2.gain, &factors);
        divide(&mut layer.norm2.bias, &factors);
        multiply(&mut layer.fc1.weight.values, &factors);
    }
    let mut step = Rounded::new(normed(&layer.norm2, &streams.ours), recipe)?;
    let (mut exact, mut ours) = step.linear(&mut layer.fc1, &exact, None);
    drop(step);
    activate_all(layer, &mut exact);
    activate_all(layer, &mut ours);
    let mut step = Rounded::new(ours, recipe)?;
    let (exact, ours) = step.linear(&mut layer.fc2, &exact, Some((&streams.exact, &streams.ours)));
    add(&mut streams.exact, &exact);
    add(&mut streams.ours, &ours);
    Ok(())
}

fn activate_all(layer: &Layer, x: &mut Matrix) {
    let chunk = 64 * x.cols;
    crate::arithmetic::parallel::each(x.values.chunks_mut(chunk), |rows| activate(layer.activation, rows));
}

/// Divides each row of `values` by `factors`.
fn divide(values: &mut [f32], factors: &[f32]) {
    for row in values.chunks_exact_mut(factors.len()) {
        row.iter_mut().zip(factors).for_each(|(x, s)| *x /= s);
    }
}

/// Multiplies each row of `values` by `factors`.
fn multiply(values: &mut [f32], factors: &[f32]) {
    for row in values.chunks_exact_mut(factors.len()) {
        row.iter_mut().zip(factors).for_each(|(x, s)| *x *= s);
    }
}

/// Linears that read the same inputs, being rounded.
struct Rounded<'r> {
    recipe: &'r Recipe,
    /// The inputs as the kernels will see them.
    inputs: Matrix,
    mean: Vec<f32>,
    rounding: Option<Inputs>,
}

impl<'r> Rounded<'r> {
    fn new(mut inputs: Matrix, recipe: &'r Recipe) -> Result<Self> {
        let n = inputs.cols;
        through_codes(&mut inputs.values, n);
        let mean = if recipe.correct_bias { column_means(&inputs) } else { vec![0.0; n] };
        let rounding = match recipe.compensate {
            true => {
                let mut gram = vec![0.0; n * n];
                add_gram(&mut gram, &inputs.values, n);
                subtract_outer(&mut gram, &mean, &mean, inputs.rows);
                let inputs = Inputs::new(&gram, n, recipe.damping);
                Some(inputs.map_err(|_| anyhow!("the model computes values that are not finite numbers"))?)
            }
            false => None,
        };
        Ok(Self { recipe, inputs, mean, rounding })
    }

    /// Rounds the weights of `linear`, whose inputs in the f32 model are `exact`. Its outputs are added to `streams`, where
    /// there are some: what has come to differ between them is made up for. Returns the linear's outputs, in f32 and ours.
    fn linear(
        &mut self,
        linear: &mut Linear,
        exact: &Matrix,
        streams: Option<(&Matrix, &Matrix)>,
    ) -> (Matrix, Matrix) {
        let (n, outputs) = (self.inputs.cols, linear.weight.rows);
        let wanted = forward::linear(linear, exact);
        let scales = linear.weight.values.chunks_exact(n).map(rows::row_scale).collect();
        let fit = self.recipe.fit && self.rounding.is_some();
        // What the outputs lack, with the weights as they are.
        let lack = |linear: &Linear| {
            let mut lack = forward::linear(linear, &self.inputs);
            lack.values.iter_mut().zip(&wanted.values).for_each(|(ours, wanted)| *ours = wanted - *ours);
            if let (Some((exact, ours)), true) = (streams, fit) {
                let streams = exact.values.iter().zip(&ours.values);
                lack.values.iter_mut().zip(streams).for_each(|(lack, (exact, ours))| *lack += exact - ours);
            }
            lack
        };
        let quantized = match &self.rounding {
            Some(rounding) if fit => {
                let lack = lack(linear);
                let mut cross =
                    product(View::new(&lack.values, outputs).transposed(), View::new(&self.inputs.values, n));
                subtract_outer(&mut cross, &column_means(&lack), &self.mean, lack.rows);
                rounding.round(&linear.weight, scales, Some(&cross))
            }
            Some(rounding) => rounding.round(&linear.weight, scales, None),
            None => with_scales(&linear.weight, scales),
        };
        linear.weight.values = quantized.values();
        linear.steps = Some(quantized.scales);
        if self.recipe.correct_bias {
            let mean = column_means(&lack(linear));
            linear.bias.iter_mut().zip(mean).for_each(|(bias, lack)| *bias += lack);
        }
        let ours = forward::linear(linear, &self.inputs);
        (wanted, ours)
    }
}

fn column_means(x: &Matrix) -> Vec<f32> {
    let mut sums = vec![0f64; x.cols];
    for row in x.values.chunks_exact(x.cols) {
        row.iter().zip(&mut sums).for_each(|(x, sum)| *sum += f64::from(*x));
    }
    sums.into_iter().map(|sum| (sum / x.rows as f64) as f32).collect()
}

/// `m -= rows · a · bᵀ`.
fn subtract_outer(m: &mut [f32], a: &[f32], b: &[f32], rows: usize) {
    for (row, a) in m.chunks_exact_mut(b.len()).zip(a) {
        let factor = rows as f32 * a;
        row.iter_mut().zip(b).for_each(|(m, b)| *m -= factor * b);
    }
}

/// Hidden states with the final norm of all rows but the first of each prompt.
pub fn simulate(model: &TextModel, start: &Start, prompts: &[Vec<u32>], int8: bool) -> Matrix {
    let table = quantize_rows(&model.token_embedding);
    let mut x = embedded(model, prompts, |id, row| {
        if int8 {
            let codes = &table.codes[id * row.len()..][..row.len()];
            row.iter_mut().zip(codes).for_each(|(x, &code)| *x = f32::from(code) * table.scales[id]);
        } else {
            row.copy_from_slice(model.token_embedding.row(id))
        }
    });
    let width = x.cols;
    let seen = |mut x: Matrix| {
        if int8 {
            let n = x.cols;
            through_codes(&mut x.values, n);
        }
        x
    };
    for (layer, start) in model.layers.iter().zip(&start.qkv) {
        let h = seen(normed(&layer.norm1, &x));
        let [query, key, value] = [&layer.query, &layer.key, &layer.value].map(|l| linear(l, &h));
        // The start's value is what the f32 model's is, in the scales of ours.
        let qkv = Attended { query, key, value };
        let mixed = attention(
            model.heads,
            layer.scale,
            &qkv,
            (&start[width..2 * width], &start[2 * width..]),
            prompts[0].len() - 1,
        );
        add(&mut x, &linear(&layer.out, &seen(mixed)));
        let mut inner = linear(&layer.fc1, &seen(normed(&layer.norm2, &x)));
        activate_all(layer, &mut inner);
        add(&mut x, &linear(&layer.fc2, &seen(inner)));
    }
    normed(&model.final_norm, &x)
}
