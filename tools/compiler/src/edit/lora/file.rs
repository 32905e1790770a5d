//! A LoRA's file, read: its tensors become changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::change::{Change, Delta};
use super::keys::{Found, Keys};
use super::layout::{AlphaIn, Encoder, Module, Part, Slot};
use super::settings::{ADAPTER_CONFIG, Settings};
use crate::edit::names::some;
use crate::edit::words::Inversion;
use crate::ir::{Matrix, TextModel};
use crate::preset::BIG_G;
use crate::tensors::Tensors;

/// A LoRA's file, read.
#[derive(Debug)]
pub struct LoraFile {
    /// Its path.
    pub file: String,
    /// Words of textual inversion that it carries.
    pub words: Vec<Inversion>,
    /// What the user should know about it.
    pub notes: Vec<String>,
    changes: BTreeMap<Slot, Vec<Change>>,
}

/// Files with the weights in a folder, the first that is there counts: PEFT's, then diffusers'.
const IN_FOLDER: [&str; 4] = [
    "adapter_model.safetensors",
    "pytorch_lora_weights.safetensors",
    "adapter_model.bin",
    "pytorch_lora_weights.bin",
];

impl LoraFile {
    /// Reads the LoRA at `path`, a file or an adapter's folder, which is to count `weight` times.
    ///
    /// # Errors
    /// When it can't be read, adapts text encoders in another way, is incomplete, has a key of a text encoder that is not
    /// understood, or changes no text encoder.
    pub fn read(path: &Path, weight: f32) -> Result<Self> {
        let path = weights(path)?;
        let tensors = Tensors::open(&path)?;
        let file = path.display().to_string();
        Reader { tensors, weight }.read(&file).with_context(|| file.clone())
    }

    /// Adds the changes for a tower of `model`'s width to it; returns the names of those that it has no module for.
    ///
    /// # Errors
    /// When a change has other sizes than its module, or a sum is no finite number.
    pub fn merge(&self, model: &mut TextModel) -> Result<Vec<&str>> {
        let mut left_out = Vec::new();
        for change in self.changes.get(&Slot::of(model.width())).into_iter().flatten() {
            let merged = change.add(model).with_context(|| format!("{}: {}", self.file, change.name))?;
            if !merged {
                left_out.push(change.name.as_str());
            }
        }
        Ok(left_out)
    }

    /// The slots that it changes.
    pub fn slots(&self) -> Vec<Slot> {
        self.changes.keys().copied().collect()
    }
}

/// The file with the weights at `path`: the file itself, or the adapter's in a folder.
fn weights(path: &Path) -> Result<PathBuf> {
    let is_config = path.file_name().is_some_and(|name| name == ADAPTER_CONFIG);
    let folder = if is_config { path.parent().unwrap_or(Path::new("")) } else { path };
    if !is_config && !path.is_dir() {
        return Ok(path.to_owned());
    }
    if let Some(found) = IN_FOLDER.iter().map(|name| folder.join(name)).find(|file| file.is_file()) {
        return Ok(found);
    }
    let below = folder.join("text_encoder");
    let hint = if below.is_dir() { format!("; give {}", below.display()) } else { String::new() };
    bail!(
        "{}: no LoRA is in this folder: expected {} or {}{hint}",
        folder.display(),
        IN_FOLDER[0],
        IN_FOLDER[1]
    )
}

struct Reader {
    tensors: Tensors,
    weight: f32,
}

impl Reader {
    fn read(&self, file: &str) -> Result<LoraFile> {
        let keys = Keys::of(&self.tensors)?;
        let mut settings = BTreeMap::new();
        for &alpha_in in &keys.alphas {
            settings.insert(alpha_in, self.settings(alpha_in)?);
        }
        ensure!(
            keys.unread.is_empty(),
            "{} of its keys are a text encoder's, but cliptext does not know what they change, and without them the result would \
             be another model: {}",
            keys.unread.len(),
            some(&keys.unread)
        );
        let others: Vec<String> =
            keys.others.iter().map(|(network, count)| format!("{count} keys of {network}")).collect();
        ensure!(
            !keys.modules.is_empty() || !keys.words.is_empty(),
            "no LoRA of a CLIP text encoder is in it, nothing to merge here: {}",
            if others.is_empty() {
                "it has no tensors".into()
            } else {
                format!("it has {}", others.join(", "))
            }
        );
        let mut notes = Vec::new();
        if !others.is_empty() {
            notes.push(format!("left out, to be merged where these run: {}", others.join(", ")));
        }
        if !keys.nameless.is_empty() {
            notes.push(format!(
                "it holds the vectors of a word too ({}): add the word by giving this file with --embedding NAME=FILE",
                some(&keys.nameless)
            ));
        }
        let mut found: BTreeMap<Encoder, Vec<Change>> = BTreeMap::new();
        for ((encoder, module), parts) in &keys.modules {
            let settings = settings.get(&parts.alpha_in).and_then(Option::as_ref);
            found.entry(*encoder).or_default().extend(self.changes(*module, parts, settings)?);
        }
        notes.extend(settings.into_values().flatten().flat_map(|settings| settings.notes));
        let changes = by_slot(found, &mut notes)?;
        let mut words = Vec::new();
        for (word, vectors) in keys.words {
            let inversion = Inversion::of(&word, file, &self.tensors, &vectors)
                .with_context(|| format!("the word {word:?} in it"))?;
            notes.push(format!("the word {word:?} comes with it and is added, as --embedding does"));
            words.push(inversion);
        }
        Ok(LoraFile { file: file.to_owned(), words, notes, changes })
    }

    /// The settings that a layout points to; `None` where it has none, or they are not there.
    fn settings(&self, alpha_in: AlphaIn) -> Result<Option<Settings>> {
        match alpha_in {
            AlphaIn::Nothing => Ok(None),
            AlphaIn::Header(component) => Settings::in_header(&self.tensors, component),
            AlphaIn::AdapterConfig => Settings::beside(self.tensors.path().parent().unwrap_or(Path::new(""))),
        }
    }

    /// The changes of one module.
    fn changes(&self, module: Module, found: &Found, settings: Option<&Settings>) -> Result<Vec<Change>> {
        let get = |part| found.parts.get(&part);
        let change = |name: &str, delta, factor| Change { name: name.to_owned(), module, delta, factor };
        let mut changes = Vec::new();
        if let Some((name, up, down)) = self.product(found)? {
            let rank = down.rows;
            ensure!(rank > 0 && up.cols == rank, "{name}: {} columns, its down has {rank} rows", up.cols);
            let factor = self.factor(name, rank, found, settings)?;
            changes.push(change(name, Delta::Product { up, down }, factor));
            if let Some(name) = get(Part::UpBias) {
                changes.push(change(name, self.bias(name)?, factor));
            }
        } else if let Some(only) = get(Part::UpBias) {
            bail!("{only} stands alone: up and down must both be there");
        }
        // LyCORIS, A1111 and ComfyUI give an alpha beside a whole difference no meaning.
        if let Some(name) = get(Part::Weight) {
            changes.push(change(name, Delta::Weight(self.matrix(name)?), self.weight));
        }
        if let Some(name) = get(Part::Bias) {
            changes.push(change(name, self.bias(name)?, self.weight));
        }
        if let (true, Some(only)) = (changes.is_empty(), get(Part::Alpha)) {
            bail!("{only} stands alone: up and down must both be there");
        }
        Ok(changes)
    }

    /// The name of a product, and its `up` and `down`.
    fn product<'f>(&self, found: &'f Found) -> Result<Option<(&'f str, Matrix, Matrix)>> {
        let get = |part| found.parts.get(&part).map(String::as_str);
        match (get(Part::Up), get(Part::Down), get(Part::EmbeddingA), get(Part::EmbeddingB)) {
            (None, None, None, None) => Ok(None),
            (Some(up), Some(down), None, None) => Ok(Some((up, self.matrix(up)?, self.matrix(down)?))),
            (None, None, Some(a), Some(b)) => {
                Ok(Some((a, transposed(&self.matrix(a)?), transposed(&self.matrix(b)?))))
            }
            (up, down, a, b) => bail!(
                "{} stands alone: up and down must both be there",
                up.or(down).or(a).or(b).unwrap_or(&found.name)
            ),
        }
    }

    /// `weight · alpha / rank` of a product, or `weight · alpha / √rank`.
    fn factor(&self, name: &str, rank: usize, found: &Found, settings: Option<&Settings>) -> Result<f32> {
        if let Some(alpha) = found.parts.get(&Part::Alpha) {
            return Ok(self.weight * self.tensors.number(alpha)? / rank as f32);
        }
        match settings {
            Some(settings) => settings.factor(self.weight, &found.name, rank),
            None => {
                ensure!(
                    found.alpha_in != AlphaIn::AdapterConfig,
                    "{name}: a PEFT adapter, whose strength is in its {ADAPTER_CONFIG} (lora_alpha, r): put that beside the file, \
                     as PEFT saved it"
                );
                Ok(self.weight)
            }
        }
    }

    fn bias(&self, name: &str) -> Result<Delta> {
        let matrix = self.matrix(name)?;
        ensure!(matrix.rows == 1, "{name}: expected one row of values, found {}", matrix.rows);
        Ok(Delta::Bias(matrix.values))
    }

    /// A tensor as a matrix: `[n]` is one row, and linear layers may be written as convolutions, `[outputs, inputs, 1, 1]`.
    fn matrix(&self, name: &str) -> Result<Matrix> {
        let shape = self.tensors.shape(name).unwrap_or_default();
        let (rows, cols) = match *shape {
            [cols] => (1, cols),
            [rows, cols] | [rows, cols, 1] | [rows, cols, 1, 1] => (rows, cols),
            _ => bail!("{name}: expected a matrix, found the shape {shape:?}"),
        };
        Ok(Matrix { rows, cols, values: self.tensors.floats(name)? })
    }
}

/// Changes by the text encoder that they are for.
fn by_slot(
    found: BTreeMap<Encoder, Vec<Change>>,
    notes: &mut Vec<String>,
) -> Result<BTreeMap<Slot, Vec<Change>>> {
    let mut slots: BTreeMap<Slot, Vec<Change>> = BTreeMap::new();
    for (encoder, changes) in found {
        let slot = match encoder {
            Encoder::In(slot) => slot,
            Encoder::Unnumbered => Slot::of(changes.iter().find_map(Change::width).unwrap_or_default()),
        };
        if encoder == Encoder::Unnumbered && slot == Slot::Second {
            notes.push(format!(
                "its keys name no encoder; with a width of {BIG_G} it is taken to be for {slot}, bigG"
            ));
        }
        let others = slots.entry(slot).or_default();
        let modules: BTreeMap<Module, &str> =
            others.iter().map(|change| (change.module, change.name.as_str())).collect();
        for change in &changes {
            if let Some(other) = modules.get(&change.module) {
                bail!("{other} and {} are of the same layer: the file is two LoRAs in one", change.name);
            }
        }
        others.extend(changes);
    }
    Ok(slots)
}

fn transposed(matrix: &Matrix) -> Matrix {
    let (rows, cols) = (matrix.cols, matrix.rows);
    let values = (0..rows * cols).map(|at| matrix.values[at % cols * rows + at / cols]).collect();
    Matrix { rows, cols, values }
}
