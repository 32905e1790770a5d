//! f32 weights to int8, so that what the plan computes stays close to what the model does.
//!
//! `docs/quantization.md` tells what each part is worth.

mod activations;
pub mod calibrate;
mod forward;
mod image;
mod layer;
mod recipe;
mod rounding;
mod rows;
mod smooth;
mod start;

use anyhow::Result;
use cliptext::tokenizer::Padding;

use crate::ir::{Layer, Outputs, QuantizedMatrix, TextModel};
use crate::vocabulary::VocabularyTable;
use forward::embedded;
use layer::{Streams, quantize_layer};

pub use image::quantize_image;
pub use layer::Smoothed;
pub use recipe::{Quality, Recipe};
pub use rows::quantize_rows;
pub use start::Start;

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
        let f16_rows = f16_tokens(model, layers, &prompts, budget);
        quantize(model, layers, &prompts, f16_rows, &self.recipe, |done| layer_done(done, layers))
    }
}

/// At most `count` of `prompts`, evenly from all of them.
fn evenly(prompts: &[String], count: usize) -> Vec<&str> {
    let count = count.min(prompts.len());
    (0..count).map(|index| prompts[index * prompts.len() / count].as_str()).collect()
}

/// The tokens whose embeddings are kept in f16, in ascending order: as many as `budget` has room for, those that are met most
/// often in `prompts` and the padding behind them, then those of the lowest ids, which vocabularies give to what is common.
fn f16_tokens(model: &TextModel, layers: usize, prompts: &[Vec<u32>], budget: f64) -> Vec<u32> {
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

/// What quantizing found out about a tower, besides its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized {
    /// The first position.
    pub start: Start,
    /// Tokens whose embedding is kept in f16, in ascending order.
    pub f16_rows: Vec<u32>,
    /// What smoothing did, layer after layer.
    pub smoothed: Vec<Smoothed>,
}

/// A token's embedding as the plan has it.
fn embedding(model: &TextModel, table: &QuantizedMatrix, f16_rows: &[u32], id: usize, row: &mut [f32]) {
    if f16_rows.binary_search(&(id as u32)).is_ok() {
        let values = model.token_embedding.row(id).iter();
        row.iter_mut().zip(values).for_each(|(x, &value)| *x = half::f16::from_f32(value).to_f32());
    } else {
        let codes = &table.codes[id * row.len()..][..row.len()];
        row.iter_mut().zip(codes).for_each(|(x, &code)| *x = f32::from(code) * table.scales[id]);
    }
}

/// Quantizes the first `layers` layers, one after the other: each is fitted to what the layers before it, already
/// quantized, give out. `f16_rows` are the tokens whose embeddings are kept in f16.
///
/// `prompts` hold the start token first, and all as many tokens.
///
/// # Errors
/// Where the model's values are not finite.
fn quantize(
    model: &mut TextModel,
    layers: usize,
    prompts: &[Vec<u32>],
    f16_rows: Vec<u32>,
    recipe: &Recipe,
    mut layer_done: impl FnMut(usize),
) -> Result<Quantized> {
    let mut start = Start::of(model, prompts[0][0]);
    let table = quantize_rows(&model.token_embedding);
    let mut streams = Streams {
        exact: embedded(model, prompts, |id, row| row.copy_from_slice(model.token_embedding.row(id))),
        ours: embedded(model, prompts, |id, row| embedding(model, &table, &f16_rows, id, row)),
        tokens: prompts[0].len() - 1,
    };
    let mut smoothed = Vec::new();
    for (index, layer) in model.layers[..layers].iter_mut().enumerate() {
        let found = quantize_layer(layer, &mut streams, Some(&mut start.qkv[index]), model.heads, recipe)?;
        smoothed.extend(found.into_iter().map(|found| Smoothed { layer: index + 1, ..found }));
        layer_done(index + 1);
    }
    Ok(Quantized { start, f16_rows, smoothed })
}
