//! A synthetic tower as the compiler sees models.

use anyhow::{Context, Result};
use cliptext_compiler::ir::{Activation, Layer, LayerNorm, Linear, Matrix, TextModel, Weight};
use cliptext_synthetic::{Tensor, Tower};

/// A synthetic tower as the compiler sees models. Takes the tower, whose values move: the largest one has 2.8 GB of them.
///
/// # Errors
/// When the tower lacks a tensor.
pub fn model(mut tower: Tower) -> Result<TextModel> {
    let options = tower.options.clone();
    let projection = options.projection.map(|_| Part::of(&mut tower, "").matrix("text_projection.weight"));
    let mut part = Part::of(&mut tower, "text_model.");
    let activation = match options.activation {
        cliptext_synthetic::Activation::QuickGelu => Activation::QuickGelu,
        cliptext_synthetic::Activation::Gelu => Activation::Gelu,
    };
    let scale = ((options.width / options.heads) as f32).sqrt().recip();
    let mut layers = Vec::new();
    for index in 0..options.layers {
        layers.push(layer(&mut part.part(&format!("encoder.layers.{index}")), activation, scale)?);
    }
    let mut embedding = part.part("embeddings");
    Ok(TextModel {
        token_embedding: embedding.matrix("token_embedding.weight")?,
        position_embedding: embedding.matrix("position_embedding.weight")?,
        heads: options.heads,
        layers,
        final_norm: part.norm("final_layer_norm")?,
        projection: projection.transpose()?,
    })
}

fn layer(part: &mut Part<'_>, activation: Activation, scale: f32) -> Result<Layer> {
    let mut attention = part.part("self_attn");
    Ok(Layer {
        query: attention.linear("q_proj")?,
        key: attention.linear("k_proj")?,
        value: attention.linear("v_proj")?,
        scale,
        out: attention.linear("out_proj")?,
        norm1: part.norm("layer_norm1")?,
        norm2: part.norm("layer_norm2")?,
        fc1: part.linear("mlp.fc1")?,
        activation,
        fc2: part.linear("mlp.fc2")?,
    })
}

/// Tensors whose names begin alike.
struct Part<'t> {
    tensors: &'t mut Vec<Tensor>,
    prefix: String,
}

impl<'t> Part<'t> {
    fn of(tower: &'t mut Tower, prefix: &str) -> Self {
        Self { tensors: &mut tower.tensors, prefix: prefix.to_owned() }
    }

    fn part(&mut self, name: &str) -> Part<'_> {
        Part { tensors: self.tensors, prefix: format!("{}{name}.", self.prefix) }
    }

    /// Takes a tensor out.
    fn matrix(&mut self, name: &str) -> Result<Matrix> {
        let name = format!("{}{name}", self.prefix);
        let place = self.tensors.iter().position(|tensor| tensor.name == name);
        let Tensor { shape, values, .. } =
            self.tensors.swap_remove(place.with_context(|| format!("the tower lacks {name}"))?);
        let rows = if shape.len() == 2 { shape[0] } else { 1 };
        Ok(Matrix { rows, cols: values.len() / rows, values })
    }

    fn linear(&mut self, name: &str) -> Result<Linear> {
        let mut part = self.part(name);
        Ok(Linear { weight: Weight::F32(part.matrix("weight")?), bias: part.matrix("bias")?.values })
    }

    fn norm(&mut self, name: &str) -> Result<LayerNorm> {
        let mut part = self.part(name);
        Ok(LayerNorm {
            gain: part.matrix("weight")?.values,
            bias: part.matrix("bias")?.values,
            epsilon: 1e-5,
        })
    }
}
