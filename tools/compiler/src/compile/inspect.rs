//! `cliptext inspect-model`: what a path holds and what would be compiled of it.

use std::fmt;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::import::onnx;
use crate::ir::Activation;
use crate::progress::Progress;
use crate::recognise::recognise;
use crate::source::{self, SourceTower, Weights};

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// The path.
    pub path: String,
    /// What it is, in words.
    pub kind: String,
    /// The family whose conventions a compile would follow.
    pub preset: Option<String>,
    /// The text towers.
    pub towers: Vec<FoundTower>,
    /// What was left aside.
    pub notes: Vec<String>,
}

/// A text tower that was found.
#[derive(Clone, Debug, Serialize)]
pub struct FoundTower {
    /// What `--tower` calls it.
    pub name: String,
    /// The file with its weights.
    pub file: String,
    /// Number of layers.
    pub layers: usize,
    /// Width of the hidden states.
    pub width: usize,
    /// Attention heads in each layer.
    pub heads: usize,
    /// Rows of the position embedding.
    pub context: usize,
    /// Rows of the token embedding.
    pub vocabulary: usize,
    /// Rows of the projection.
    pub projection: Option<usize>,
    /// The MLP's activation.
    pub activation: String,
    /// How the weights are stored, where the file's header tells it.
    pub stored_as: Option<String>,
    /// The tokenizer beside it.
    pub tokenizer: Option<String>,
}

/// Looks at `path`; `activation` is what the user says that the layers have. Of safetensors only headers are read; an ONNX graph has to be imported to be understood.
///
/// # Errors
/// When nothing is there that could be compiled.
pub fn inspect(path: &Path, activation: Option<Activation>, progress: &Progress) -> Result<Found> {
    let source = source::open(path, activation, progress)?;
    Ok(Found {
        path: path.display().to_string(),
        kind: source.kind.clone(),
        preset: source.preset.map(|preset| preset.to_string()),
        towers: source.towers.iter().map(tower).collect::<Result<_>>()?,
        notes: source.notes,
    })
}

fn tower(tower: &SourceTower) -> Result<FoundTower> {
    let of = |sizes: [usize; 5], projection, kind: Option<Activation>, stored_as| FoundTower {
        name: tower.name.clone(),
        file: tower.path().display().to_string(),
        layers: sizes[0],
        width: sizes[1],
        heads: sizes[2],
        context: sizes[3],
        vocabulary: sizes[4],
        projection,
        activation: kind.map_or("none".into(), |kind| kind.to_string()),
        stored_as,
        tokenizer: tower.tokenizer.as_ref().map(|folder| folder.display().to_string()),
    };
    match &tower.weights {
        Weights::Tensors(named) => {
            let shape = &named.shape;
            let sizes = [shape.layers, shape.width, shape.heads, shape.context, shape.vocabulary];
            Ok(of(sizes, shape.projected, Some(shape.activation), Some(shape.stored_as.clone())))
        }
        Weights::Onnx(path) => {
            let imported = onnx::load(path)?;
            let model = recognise(&imported.model)?.model;
            let sizes =
                [model.layers.len(), model.width(), model.heads, model.context(), model.token_embedding.rows];
            let projection = model.projection.as_ref().map(|projection| projection.rows);
            Ok(of(sizes, projection, model.layers.first().map(|layer| layer.activation), None))
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.kind)?;
        match &self.preset {
            Some(preset) => write!(f, "\n  preset      {preset}")?,
            None => write!(f, "\n  preset      none found: the outputs of the model's own class")?,
        }
        for tower in &self.towers {
            let FoundTower { name, layers, width, heads, context, vocabulary, activation, .. } = tower;
            write!(f, "\n  tower       {name}")?;
            write!(f, "\n    sizes     {layers} layers, width {width}, {heads} heads, {activation}")?;
            write!(f, "\n    context   {context} tokens of {vocabulary}")?;
            if let Some(projection) = tower.projection {
                write!(f, "\n    projects  to {projection}")?;
            }
            if let Some(stored_as) = &tower.stored_as {
                write!(f, "\n    weights   {stored_as}")?;
            }
            write!(f, "\n    file      {}", tower.file)?;
            if let Some(tokenizer) = &tower.tokenizer {
                write!(f, "\n    tokenizer {tokenizer}")?;
            }
        }
        for note in &self.notes {
            write!(f, "\n  note        {note}")?;
        }
        Ok(())
    }
}
