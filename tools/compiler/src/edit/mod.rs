//! Changes to a model between its import and its quantization: words of textual inversions, LoRAs.

use anyhow::Result;

use crate::ir::TextModel;

pub mod lora;
pub mod words;

use lora::Lora;
use words::Word;

/// What to change in one tower.
#[derive(Debug, Default)]
pub struct Edits {
    /// New rows of the token embedding, in order.
    pub words: Vec<Word>,
    /// Merged one after the other.
    pub loras: Vec<Lora>,
}

impl Edits {
    /// Changes `model`; whether there was something to change.
    ///
    /// # Errors
    /// When a change does not fit the model.
    pub fn apply(&self, model: &mut TextModel) -> Result<bool> {
        for lora in &self.loras {
            lora.merge(model)?;
        }
        for word in &self.words {
            word.append(model)?;
        }
        Ok(!self.loras.is_empty() || !self.words.is_empty())
    }
}
