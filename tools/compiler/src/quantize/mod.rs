//! f32 weights to int8, so that what the plan computes stays close to what the model does.
//!
//! `docs/quantization.md` tells what each part is worth.

mod activations;
pub mod calibrate;
mod forward;
mod rounding;
mod rows;
mod smooth;

use anyhow::{Result, anyhow};
use cliptext::tokenizer::Padding;

use crate::arithmetic::extremes::larger;
use crate::arithmetic::functions::activate;
use crate::arithmetic::gemm::add_gram;
use crate::ir::{Layer, Linear, Matrix, Outputs, QuantizedMatrix, TextModel, Weight};
use crate::vocabulary::VocabularyTable;
use activations::through_codes;
use forward::{Attended, add, attention, embedded, normed};
use rounding::Inputs;

pub use rows::quantize_rows;

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
    /// What is done.
    pub recipe: Recipe,
    /// The prompts to calibrate on.
    pub calibration: Vec<String>,
}

impl Options {
    /// With the built-in prompts.
    pub fn new(quality: Quality) -> Self {
        let calibration = calibrate::PROMPTS.lines().map(str::to_owned).collect();
        Self { recipe: Recipe::of(quality), calibration }
    }

    /// Quantizes what `outputs` needs of `model`'s layers; returns what the plan is to know besides. `layer_done` is told how
    /// many layers of how many are done.
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
    ) -> Result<Quantized> {
        let Recipe { prompts, joined, budget, .. } = self.recipe;
        let prompts = evenly(&self.calibration, prompts);
        let prompts = calibrate::tokens(&prompts, joined, vocabulary, model.context(), padding)?;
        let layers = outputs.layers(model.layers.len());
        let fine = fine_tokens(model, layers, &prompts, budget);
        quantize(model, layers, &prompts, fine, &self.recipe, |done| layer_done(done, layers))
    }
}

/// At most `count` of `prompts`, evenly from all of them.
fn evenly(prompts: &[String], count: usize) -> Vec<&str> {
    let count = count.min(prompts.len());
    (0..count).map(|index| prompts[index * prompts.len() / count].as_str()).collect()
}

/// The tokens to keep fine embeddings of, in ascending order: as many as `budget` has room for, those that are met most
/// often in `prompts` and the padding behind them, then those of the lowest ids, which vocabularies give to what is common.
fn fine_tokens(model: &TextModel, layers: usize, prompts: &[Vec<u32>], budget: f64) -> Vec<u32> {
    let table = &model.token_embedding;
    let weights = |layer: &Layer| {
        let linears = [&layer.query, &layer.key, &layer.value, &layer.out, &layer.fc1, &layer.fc2];
        linears.map(|linear| linear.weight.rows() * linear.weight.cols()).iter().sum::<usize>()
    };
    let bytes = table.values.len() + model.layers[..layers].iter().map(weights).sum::<usize>();
    let room = (budget * bytes as f64 / (2 * table.cols + 4) as f64) as usize;
    let mut met = vec![0usize; table.rows];
    // The first token is known exactly anyway.
    prompts.iter().flat_map(|ids| &ids[1..]).for_each(|&id| met[id as usize] += 1);
    let mut ids: Vec<u32> = (0..table.rows as u32).collect();
    ids.sort_by_key(|&id| std::cmp::Reverse(met[id as usize]));
    // Rows beyond f16's range stay int8, which has a scale.
    ids.retain(|&id| table.row(id as usize).iter().all(|&value| half::f16::from_f32(value).is_finite()));
    ids.truncate(room);
    ids.sort_unstable();
    ids
}

/// Which of the techniques are used, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// Prompts of the calibration that are used, at most.
    pub prompts: usize,
    /// Further ones that are made by joining some of them.
    pub joined: usize,
    /// Whether difficulty is moved from activations into weights.
    pub smooth: bool,
    /// Whether the errors of rounding are made up for by the weights still to be rounded; else each weight goes to its
    /// nearest code.
    pub compensate: bool,
    /// Parts of the full scale that are tried for each row where errors are made up for.
    pub clips: &'static [f32],
    /// By what part of itself a plan may grow for the sake of precision, 0 to 1.
    pub budget: f64,
}

impl Recipe {
    /// Each weight to its nearest code.
    pub const PLAIN: Recipe =
        Recipe { prompts: 32, joined: 0, smooth: false, compensate: false, clips: &[1.0], budget: 0.0 };

    /// What measures best in the time that there is.
    pub const fn of(quality: Quality) -> Self {
        let fast = Recipe {
            prompts: 32,
            joined: 0,
            smooth: true,
            compensate: true,
            clips: &[1.0, 0.9, 0.8, 0.7],
            budget: 0.01,
        };
        match quality {
            Quality::Fast => fast,
            Quality::Best => Recipe {
                prompts: 256,
                joined: 256,
                clips: &[1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65],
                ..fast
            },
        }
    }
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

/// What quantizing found out about a tower, besides its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized {
    /// The first position.
    pub start: Start,
    /// Tokens whose embedding is kept in f16, in ascending order.
    pub fine: Vec<u32>,
    /// What smoothing did, layer after layer.
    pub smoothed: Vec<Smoothed>,
}

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

impl Start {
    /// The first row of the hidden states after so many layers, behind the final norm or not.
    pub fn hidden(&self, model: &TextModel, layers: usize, with_norm: bool) -> Vec<f32> {
        let state = &self.states[layers];
        let state = Matrix { rows: 1, cols: state.len(), values: state.clone() };
        if with_norm { normed(&model.final_norm, &state).values } else { state.values }
    }
}

/// `x · weightᵀ + bias` of an f32 linear.
fn product(linear: &Linear, x: &Matrix) -> Matrix {
    forward::linear(&linear.weight.to_f32(), &linear.bias, x)
}

/// The first position of every prompt.
fn start(model: &TextModel, id: u32) -> Start {
    let mut x =
        Matrix { rows: 1, cols: model.width(), values: model.token_embedding.row(id as usize).to_vec() };
    x.values.iter_mut().zip(model.position_embedding.row(0)).for_each(|(x, p)| *x += p);
    let mut start = Start { id, qkv: vec![], states: vec![x.values.clone()] };
    for layer in &model.layers {
        let h = normed(&layer.norm1, &x);
        let [query, key, value] = [&layer.query, &layer.key, &layer.value].map(|linear| product(linear, &h));
        start.qkv.push([&query.values[..], &key.values, &value.values].concat());
        // Attention has one key to look at.
        add(&mut x, &product(&layer.out, &value));
        let mut inner = product(&layer.fc1, &normed(&layer.norm2, &x));
        activate(layer.activation, &mut inner.values);
        add(&mut x, &product(&layer.fc2, &inner));
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

/// A token's embedding as the plan has it.
fn embedding(model: &TextModel, table: &QuantizedMatrix, fine: &[u32], id: usize, row: &mut [f32]) {
    if fine.binary_search(&(id as u32)).is_ok() {
        let values = model.token_embedding.row(id).iter();
        row.iter_mut().zip(values).for_each(|(x, &value)| *x = half::f16::from_f32(value).to_f32());
    } else {
        let codes = &table.codes[id * row.len()..][..row.len()];
        row.iter_mut().zip(codes).for_each(|(x, &code)| *x = f32::from(code) * table.scales[id]);
    }
}

/// Quantizes the first `layers` layers, one after the other: each is fitted to what the layers before it, already
/// quantized, give out. `fine` are the tokens whose embeddings stay fine.
///
/// `prompts` hold the start token first, and all as many tokens.
///
/// # Errors
/// Where the model's values are not finite.
fn quantize(
    model: &mut TextModel,
    layers: usize,
    prompts: &[Vec<u32>],
    fine: Vec<u32>,
    recipe: &Recipe,
    mut layer_done: impl FnMut(usize),
) -> Result<Quantized> {
    let mut start = start(model, prompts[0][0]);
    let table = quantize_rows(&model.token_embedding);
    let mut streams = Streams {
        exact: embedded(model, prompts, |id, row| row.copy_from_slice(model.token_embedding.row(id))),
        ours: embedded(model, prompts, |id, row| embedding(model, &table, &fine, id, row)),
        tokens: prompts[0].len() - 1,
    };
    let mut smoothed = Vec::new();
    for (index, layer) in model.layers[..layers].iter_mut().enumerate() {
        let found = quantize_layer(layer, &mut streams, &mut start.qkv[index], model.heads, recipe)?;
        smoothed.extend(found.into_iter().map(|found| Smoothed { layer: index + 1, ..found }));
        layer_done(index + 1);
    }
    Ok(Quantized { start, fine, smoothed })
}

fn quantize_layer(
    layer: &mut Layer,
    streams: &mut Streams,
    start: &mut [f32],
    heads: usize,
    recipe: &Recipe,
) -> Result<Vec<Smoothed>> {
    let mut smoothed = Vec::new();
    let width = streams.exact.cols;
    let (keys, values) = start[width..].split_at_mut(width);

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
    let mix = |qkv: &Attended| attention(heads, layer.scale, qkv, (&*keys, &*values), streams.tokens);
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
        divide(values, &factors);
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
    rounding: Option<Inputs>,
}

impl<'r> Rounded<'r> {
    fn new(mut inputs: Matrix, recipe: &'r Recipe) -> Result<Self> {
        let n = inputs.cols;
        through_codes(&mut inputs.values, n);
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
    fn linear(&self, linear: &mut Linear, exact: &Matrix) -> (Matrix, Matrix) {
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
