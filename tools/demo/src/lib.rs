//! The built-in demonstration plan: a small synthetic tower with the full vocabulary, made from a seed.
//!
//! Its embeddings mean nothing to a UNet; it shows, and tests, every step of the way from a prompt to hidden states.

use anyhow::{Context, Result};
use cliptext::tokenizer::Padding;
use cliptext_compiler::emit::{self, Emitted, Precision};
use cliptext_compiler::ir::{Activation, Layer, LayerNorm, Linear, Matrix, Outputs, Pooled, TextModel};
use cliptext_compiler::target::Target;
use cliptext_compiler::vocabulary::{self, VocabularySource};
use cliptext_synthetic::{Options, Tower};

/// The plan's bytes.
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
    let model = model(&cliptext_synthetic::generate(tower))?;
    let vocabulary = vocabulary::build(VocabularySource::Standard)?;
    let outputs = Outputs {
        hidden_layer: model.layers.len(),
        hidden_norm: true,
        pooled: Pooled::EndToken,
        normalized: false,
        end_token: vocabulary.end_id,
    };
    let options = emit::Options {
        precision: Precision::Int8,
        target: Target::default(),
        padding: Padding::End,
        source,
    };
    emit::emit(&model, &outputs, &vocabulary.bytes, &options)
}

/// A synthetic tower as the compiler sees models.
///
/// # Errors
/// When the tower lacks a tensor.
pub fn model(tower: &Tower) -> Result<TextModel> {
    let part = Part { tower, prefix: "text_model.".into() };
    let embedding = part.part("embeddings");
    let layers =
        (0..tower.options.layers).map(|index| layer(&part.part(&format!("encoder.layers.{index}")), tower));
    Ok(TextModel {
        token_embedding: embedding.matrix("token_embedding.weight")?,
        position_embedding: embedding.matrix("position_embedding.weight")?,
        heads: tower.options.heads,
        layers: layers.collect::<Result<_>>()?,
        final_norm: part.norm("final_layer_norm")?,
        projection: None,
    })
}

fn layer(part: &Part<'_>, tower: &Tower) -> Result<Layer> {
    let attention = part.part("self_attn");
    let head_dim = tower.options.width / tower.options.heads;
    Ok(Layer {
        norm1: part.norm("layer_norm1")?,
        query: attention.linear("q_proj")?,
        key: attention.linear("k_proj")?,
        value: attention.linear("v_proj")?,
        scale: (head_dim as f32).sqrt().recip(),
        out: attention.linear("out_proj")?,
        norm2: part.norm("layer_norm2")?,
        fc1: part.linear("mlp.fc1")?,
        activation: Activation::QuickGelu,
        fc2: part.linear("mlp.fc2")?,
    })
}

/// Tensors whose names begin alike.
struct Part<'t> {
    tower: &'t Tower,
    prefix: String,
}

impl Part<'_> {
    fn part(&self, name: &str) -> Part<'_> {
        Part { tower: self.tower, prefix: format!("{}{name}.", self.prefix) }
    }

    fn matrix(&self, name: &str) -> Result<Matrix> {
        let name = format!("{}{name}", self.prefix);
        let tensor = self.tower.tensor(&name).with_context(|| format!("the tower lacks {name}"))?;
        let rows = if tensor.shape.len() == 2 { tensor.shape[0] } else { 1 };
        Ok(Matrix { rows, cols: tensor.values.len() / rows, values: tensor.values.clone() })
    }

    fn linear(&self, name: &str) -> Result<Linear> {
        let part = self.part(name);
        Ok(Linear { weight: part.matrix("weight")?, bias: part.matrix("bias")?.values, steps: None })
    }

    fn norm(&self, name: &str) -> Result<LayerNorm> {
        let part = self.part(name);
        Ok(LayerNorm {
            gain: part.matrix("weight")?.values,
            bias: part.matrix("bias")?.values,
            epsilon: 1e-5,
        })
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_plan_in_the_repository_is_the_one_that_is_made() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/demo.plan");
        let made = super::plan().unwrap();
        assert!(made.len() <= 4 << 20, "{} bytes", made.len());
        let kept = std::fs::read(path).unwrap();
        assert!(made == kept, "models/demo.plan is out of date: run `cargo run --release -p cliptext-demo`");
    }
}
