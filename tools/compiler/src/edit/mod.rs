//! Changes to a model between its import and its quantization: words of textual inversions, LoRAs.

use anyhow::{Result, bail};

use crate::ir::TextModel;

pub mod lora;
pub(crate) mod names;
pub mod words;

use lora::LoraFile;
use lora::layout::Slot;
use names::some;
use words::{Inversion, Word};

/// What to change.
#[derive(Debug, Default)]
pub struct Edits {
    /// New words, in the order of their ids. The words that LoRAs carry come behind them.
    pub inversions: Vec<Inversion>,
    /// Merged one after the other.
    pub loras: Vec<LoraFile>,
}

impl Edits {
    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.inversions.is_empty() && self.loras.is_empty()
    }

    /// Changes `model`; returns the words that it has now, and tells what of the LoRAs it has no module for.
    ///
    /// # Errors
    /// When a change does not fit the model.
    pub fn apply(&self, model: &mut TextModel, mut note: impl FnMut(&str)) -> Result<Vec<Word>> {
        for lora in &self.loras {
            let left_out = lora.merge(model)?;
            if !left_out.is_empty() {
                note(&format!(
                    "{}: {} changes are of layers that the model does not have, or that its outputs don't need: {}",
                    lora.file,
                    left_out.len(),
                    some(&left_out)
                ));
            }
        }
        self.words().map(|inversion| inversion.append(model)).collect()
    }

    fn words(&self) -> impl Iterator<Item = &Inversion> {
        self.inversions.iter().chain(self.loras.iter().flat_map(|lora| &lora.words))
    }

    /// Tells what in the files went into none of `models`.
    ///
    /// # Errors
    /// When a LoRA changes none of them.
    pub fn leftovers<'m>(
        &self,
        models: impl Iterator<Item = &'m TextModel>,
        mut note: impl FnMut(&str),
    ) -> Result<()> {
        self.words().flat_map(|inversion| &inversion.notes).for_each(|said| note(said));
        let slots: Vec<Slot> = models.map(|model| Slot::of(model.width())).collect();
        for lora in &self.loras {
            let file = &lora.file;
            let (merged, other): (Vec<Slot>, Vec<Slot>) =
                lora.slots().into_iter().partition(|slot| slots.contains(slot));
            if let (true, Some(slot)) = (merged.is_empty(), other.first()) {
                bail!("{file}: it changes {slot} only, which is not compiled");
            }
            for slot in other {
                note(&format!("{file}: its changes to {slot} are left out: it is not compiled"));
            }
            lora.notes.iter().for_each(|said| note(&format!("{file}: {said}")));
        }
        Ok(())
    }
}
