//! The built-in demonstration plan: a small synthetic tower with the full vocabulary, made from a seed; and plans for the
//! tests: of two text towers, of a long context, of two towers whose rows are kept from one text to the next.
//!
//! Their embeddings mean nothing to a UNet; they show, and test, every step of the way from a prompt to hidden states.

use anyhow::Result;
use cliptext::tokenizer::Padding;
use cliptext_compiler::backend::emit::{self, Emitted, Precision};
use cliptext_compiler::backend::lower::Tower;
use cliptext_compiler::backend::target::Target;
use cliptext_compiler::ir::{Outputs, Pooled, TextModel};
use cliptext_compiler::quantize::{self, Quality};
use cliptext_compiler::vocabulary::{self, VocabularySource, VocabularyTable};
use cliptext_synthetic::{Activation, Options};

mod convert;
pub mod sizes;

pub use convert::model;

/// The demonstration plan's bytes.
///
/// # Errors
/// As [`compile`].
pub fn plan() -> Result<Vec<u8>> {
    let options = Options { width: 32, layers: 2, heads: 4, mlp: 128, seed: 77, ..Options::default() };
    Ok(compile(&options, format!("synthetic tower, seed {}", options.seed))?.bytes)
}

/// An int8 plan of a synthetic tower, with the standard vocabulary and what Stable Diffusion 1 takes of it: the last
/// hidden states with the final norm, and the pooled row.
///
/// # Errors
/// When a part of the tower or the vocabulary is missing: a mistake in the tools.
pub fn compile(tower: &Options, source: String) -> Result<Emitted> {
    let mut model = model(cliptext_synthetic::generate(tower))?;
    let vocabulary = vocabulary::build(VocabularySource::Standard, &[])?;
    let outputs = Outputs {
        hidden_layer: model.layers.len(),
        hidden_norm: true,
        pooled: Pooled::EndToken,
        normalized: false,
        end_token: vocabulary.end_id,
    };
    let quantize = quantize::Options::new(Quality::Fast);
    let quantized = quantize.quantize(&mut model, &outputs, &vocabulary, Padding::End, |_, _| {})?;
    let tower = Tower { model: &model, outputs, padding: Padding::End, quantized: Some(&quantized) };
    emit::emit(&[tower], &vocabulary.bytes, &options(source))
}

/// How plans are made here: int8, for CPUs with dot products.
fn options(source: String) -> emit::Options {
    emit::Options {
        precision: Precision::Int8,
        target: Target::default(),
        logit_scale: None,
        prefix_cache: false,
        source,
    }
}

/// The bytes of `tests/fixtures/two-towers.plan`: two small towers as Stable Diffusion XL has two large ones, with the
/// vocabulary of [`small_vocabulary`].
///
/// # Errors
/// As [`compile`].
pub fn two_towers() -> Result<Vec<u8>> {
    let vocabulary = small_vocabulary()?;
    let small = Options { vocab: vocabulary.size, layers: 3, heads: 2, ..Options::default() };
    let first = Options { width: 16, mlp: 64, seed: 78, ..small.clone() };
    let second = Options {
        width: 24,
        heads: 3,
        mlp: 96,
        activation: Activation::Gelu,
        projection: Some(20),
        seed: 79,
        ..small
    };
    let models =
        [model(cliptext_synthetic::generate(&first))?, model(cliptext_synthetic::generate(&second))?];
    let options = emit::Options {
        logit_scale: Some(100.0),
        ..options(format!("two synthetic towers, seeds {} and {}", first.seed, second.seed))
    };
    Ok(emit::emit(&xl(&models, &vocabulary), &vocabulary.bytes, &options)?.bytes)
}

/// The bytes of `tests/fixtures/typing.plan`: two towers as in [`two_towers`], quantized, so that their first rows are known,
/// and with an arena that keeps rows from one text to the next.
///
/// # Errors
/// As [`compile`].
pub fn typing() -> Result<Vec<u8>> {
    let vocabulary = small_vocabulary()?;
    let small = Options { vocab: vocabulary.size, layers: 2, heads: 2, ..Options::default() };
    let first = Options { width: 16, mlp: 32, seed: 81, ..small.clone() };
    let second = Options { width: 24, heads: 3, mlp: 48, projection: Some(20), seed: 82, ..small };
    let source = format!("two synthetic towers for typing, seeds {} and {}", first.seed, second.seed);
    let mut models =
        [model(cliptext_synthetic::generate(&first))?, model(cliptext_synthetic::generate(&second))?];
    let quantize = quantize::Options::new(Quality::Fast);
    let conventions = xl(&models, &vocabulary).map(|tower| (tower.outputs, tower.padding));
    let mut quantized = Vec::new();
    for (model, (outputs, padding)) in models.iter_mut().zip(&conventions) {
        quantized.push(quantize.quantize(model, outputs, &vocabulary, *padding, |_, _| {})?);
    }
    let mut towers = xl(&models, &vocabulary);
    for (tower, quantized) in towers.iter_mut().zip(&quantized) {
        tower.quantized = Some(quantized);
    }
    let options = emit::Options { prefix_cache: true, ..options(source) };
    Ok(emit::emit(&towers, &vocabulary.bytes, &options)?.bytes)
}

/// The bytes of `tests/fixtures/long.plan`: a small tower of 248 tokens, as Long-CLIP has, with the vocabulary of
/// [`small_vocabulary`].
///
/// # Errors
/// As [`compile`].
pub fn long() -> Result<Vec<u8>> {
    let vocabulary = small_vocabulary()?;
    let long = Options {
        width: 16,
        layers: 2,
        heads: 2,
        mlp: 64,
        vocab: vocabulary.size,
        projection: Some(16),
        seed: 80,
        ..sizes::long_clip()
    };
    let model = model(cliptext_synthetic::generate(&long))?;
    let tower = zero_shot(&model, &vocabulary);
    let source = format!("synthetic tower of 248 tokens, seed {}", long.seed);
    Ok(emit::emit(&[tower], &vocabulary.bytes, &options(source))?.bytes)
}

/// A model as zero-shot classification takes it: the last hidden states with the final norm, and the projection of the end
/// token, normalised.
pub fn zero_shot<'m>(model: &'m TextModel, vocabulary: &VocabularyTable) -> Tower<'m> {
    let outputs = Outputs {
        hidden_layer: model.layers.len(),
        hidden_norm: true,
        pooled: Pooled::Projected,
        normalized: true,
        end_token: vocabulary.end_id,
    };
    Tower { model, outputs, padding: Padding::End, quantized: None }
}

/// Two models as Stable Diffusion XL takes them: the penultimate hidden states of both without the final norm, the second
/// one's projection of the end token; the first padded with the end token, the second with zeros.
pub fn xl<'m>([first, second]: &'m [TextModel; 2], vocabulary: &VocabularyTable) -> [Tower<'m>; 2] {
    let tower = |model: &'m TextModel, pooled, padding| {
        let outputs = Outputs {
            hidden_layer: model.layers.len() - 1,
            hidden_norm: false,
            pooled,
            normalized: false,
            end_token: vocabulary.end_id,
        };
        Tower { model, outputs, padding, quantized: None }
    };
    [tower(first, Pooled::None, Padding::End), tower(second, Pooled::Projected, Padding::Id(0))]
}

/// A vocabulary of 600 ids: the standard one's bytes and its first 86 merges.
///
/// # Errors
/// When its file is missing.
pub fn small_vocabulary() -> Result<VocabularyTable> {
    let merges = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/tokenizer/merges-86.txt");
    vocabulary::build(VocabularySource::Path(merges.into()), &[])
}

#[cfg(test)]
mod tests {
    fn is_kept(path: &str, made: &[u8]) {
        let kept = std::fs::read(format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(made == kept, "{path} is out of date: run `cargo run --release -p cliptext-demo`");
    }

    #[test]
    fn the_plans_in_the_repository_are_those_that_are_made() {
        let made = super::plan().unwrap();
        assert!(made.len() <= 4 << 20, "{} bytes", made.len());
        is_kept("models/demo.plan", &made);
        is_kept("tests/fixtures/two-towers.plan", &super::two_towers().unwrap());
        is_kept("tests/fixtures/long.plan", &super::long().unwrap());
        is_kept("tests/fixtures/typing.plan", &super::typing().unwrap());
    }
}
