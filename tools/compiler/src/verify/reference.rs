//! What the f32 model computes: what plans are measured against.

use anyhow::{Result, ensure};

use crate::ir::{Outputs, TextModel};
use crate::tract::run::Computed;

/// Sizes of a text tower, by which a plan's tower is known to be of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TowerSize {
    /// Layers that the outputs need.
    pub layers: usize,
    /// Width of the hidden states.
    pub width: usize,
    /// Columns of the pooled output, 0 where there is none.
    pub pooled: usize,
}

impl TowerSize {
    /// Of a model, so far as `outputs` need it.
    pub fn of(model: &TextModel, outputs: &Outputs) -> Self {
        TowerSize {
            layers: outputs.layers(model.layers.len()),
            width: model.width(),
            pooled: model.pooled_columns(outputs).unwrap_or(0),
        }
    }
}

/// What a tower of the f32 model computes of some prompts.
#[derive(Clone, Debug)]
pub struct Reference {
    /// The tower's.
    pub size: TowerSize,
    /// Of each prompt its ids and what comes of them.
    pub answers: Vec<(Vec<u32>, Computed)>,
}

impl Reference {
    /// That `model`'s oracle gave these `answers` on `prompts`.
    ///
    /// # Errors
    /// When hidden states are missing.
    pub fn new(
        model: &TextModel,
        outputs: &Outputs,
        prompts: Vec<Vec<u32>>,
        answers: Vec<Computed>,
    ) -> Result<Self> {
        let whole = answers.iter().all(|computed| computed.hidden.is_some());
        ensure!(whole, "the graph has no hidden states to compare with");
        Ok(Reference {
            size: TowerSize::of(model, outputs),
            answers: prompts.into_iter().zip(answers).collect(),
        })
    }
}
