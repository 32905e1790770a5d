//! Changes to a model between its import and its quantization: words of textual inversions, LoRAs.

use anyhow::{Result, bail};

use crate::ir::TextModel;

pub mod lora;
pub mod words;

use lora::{LoraFile, Slot};
use words::{Inversion, Word};

/// What to change.
#[derive(Debug, Default)]
pub struct Edits {
    /// New words, in the order of their ids.
    pub inversions: Vec<Inversion>,
    /// Merged one after the other.
    pub loras: Vec<LoraFile>,
}

impl Edits {
    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.inversions.is_empty() && self.loras.is_empty()
    }

    /// Changes `model`; returns the words that it has now, and tells what of the LoRAs it has no place for.
    ///
    /// # Errors
    /// When a change does not fit the model.
    pub fn apply(&self, model: &mut TextModel, mut note: impl FnMut(&str)) -> Result<Vec<Word>> {
        let slot = Slot::of(model.width());
        for file in &self.loras {
            let Some(lora) = file.of(slot) else { continue };
            let left_out = lora.merge(model)?;
            if !left_out.is_empty() {
                let (name, count, names) = (&file.file, left_out.len(), left_out.join(", "));
                note(&format!(
                    "{name}: {count} changes are of layers that the model has not, or its outputs don't need: {names}"
                ));
            }
        }
        self.inversions.iter().map(|inversion| inversion.append(model)).collect()
    }

    /// Tells what in the LoRAs' files went into none of `models`.
    ///
    /// # Errors
    /// When a file changes none of them.
    pub fn leftovers<'m>(
        &self,
        models: impl Iterator<Item = &'m TextModel>,
        mut note: impl FnMut(&str),
    ) -> Result<()> {
        let slots: Vec<Slot> = models.map(|model| Slot::of(model.width())).collect();
        for lora in &self.loras {
            let file = &lora.file;
            let (merged, other): (Vec<Slot>, Vec<Slot>) =
                lora.slots().into_iter().partition(|slot| slots.contains(slot));
            if merged.is_empty() {
                bail!("{file}: it changes {} only, which is not compiled", other[0]);
            }
            for slot in other {
                note(&format!("{file}: its changes to {slot} are left out: it is not compiled"));
            }
            if !lora.unmatched.is_empty() {
                let (count, names) = (lora.unmatched.len(), lora.unmatched.join(", "));
                note(&format!("{file}: {count} keys match no layer and are left out: {names}"));
            }
            if lora.others > 0 {
                note(&format!(
                    "{file}: {} keys are other networks', the UNet's mostly: merge them there",
                    lora.others
                ));
            }
        }
        Ok(())
    }
}
