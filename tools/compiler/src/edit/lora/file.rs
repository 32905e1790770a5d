//! A LoRA's file, read whole: every key is merged, told, or refused.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::change::{Change, Delta};
use super::layout::{AlphaIn, Encoder, Key, Module, Network, Part, Slot, TextKey};
use super::settings::{ADAPTER_CONFIG, Settings};
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

/// Some of many names, for a message.
pub fn some(names: &[impl AsRef<str>]) -> String {
    const MOST: usize = 5;
    let first: Vec<&str> = names.iter().take(MOST).map(AsRef::as_ref).collect();
    let more = names.len().saturating_sub(MOST);
    if more == 0 { first.join(", ") } else { format!("{} and {more} more", first.join(", ")) }
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

/// The tensors of one module's change.
struct Found {
    /// The module as the file calls it.
    name: String,
    alpha_in: AlphaIn,
    parts: BTreeMap<Part, String>,
}

/// All keys of a file, by what they are.
#[derive(Default)]
struct Keys {
    modules: BTreeMap<(Encoder, Module), Found>,
    /// Of each word: the tensors' names in the word's own file, and their keys.
    words: BTreeMap<String, Vec<(String, String)>>,
    /// How many keys other networks have.
    others: BTreeMap<Network, usize>,
    /// Keys of a text encoder that are not understood.
    unread: Vec<String>,
}

struct Reader {
    tensors: Tensors,
    weight: f32,
}

impl Reader {
    fn read(&self, file: &str) -> Result<LoraFile> {
        let keys = self.sort_keys()?;
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
        let mut found: BTreeMap<Encoder, Vec<Change>> = BTreeMap::new();
        let mut settings = AllSettings::default();
        for ((encoder, module), parts) in &keys.modules {
            let changes = self.changes(*module, parts, &mut settings)?;
            found.entry(*encoder).or_default().extend(changes);
        }
        notes.extend(settings.notes());
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

    fn sort_keys(&self) -> Result<Keys> {
        let mut keys = Keys::default();
        for name in self.tensors.names() {
            match Key::of(name) {
                Key::Text(key) => self.sort_text_key(name, key, &mut keys)?,
                Key::Word(word, tensor) => {
                    keys.words.entry(word.to_owned()).or_default().push((tensor.to_owned(), name.to_owned()));
                }
                Key::Other(network) => *keys.others.entry(network).or_default() += 1,
                Key::Unknown => keys.unread.push(name.to_owned()),
            }
        }
        Ok(keys)
    }

    fn sort_text_key(&self, name: &str, key: TextKey<'_>, keys: &mut Keys) -> Result<()> {
        if let Some(method) = key.other_method() {
            bail!(
                "{name}: the layer is adapted by {method}, which cliptext does not merge; merge it into the text encoder with the \
                 program that made it, or extract a LoRA from it"
            );
        }
        let split = key.split().and_then(|(module, part)| Some((module, Module::of(module)?, part)));
        let Some((module_name, module, part)) = split else {
            keys.unread.push(name.to_owned());
            return Ok(());
        };
        let found = keys.modules.entry((key.encoder, module)).or_insert_with(|| Found {
            name: module_name.to_owned(),
            alpha_in: key.alpha_in,
            parts: BTreeMap::new(),
        });
        match found.parts.entry(part) {
            Entry::Vacant(entry) => {
                entry.insert(name.to_owned());
                Ok(())
            }
            Entry::Occupied(other) => {
                bail!("{} and {name} are of the same layer: the file is two LoRAs in one", other.get())
            }
        }
    }

    /// The changes of one module.
    fn changes(&self, module: Module, found: &Found, settings: &mut AllSettings) -> Result<Vec<Change>> {
        let get = |part| found.parts.get(&part);
        let mut changes = Vec::new();
        let product = match (get(Part::Up), get(Part::Down)) {
            (Some(up), Some(down)) => Some((up, self.matrix(up)?, self.matrix(down)?)),
            (None, None) => match (get(Part::EmbeddingA), get(Part::EmbeddingB)) {
                (Some(a), Some(b)) => Some((a, transposed(&self.matrix(a)?), transposed(&self.matrix(b)?))),
                (None, None) => None,
                (Some(only), None) | (None, Some(only)) => {
                    bail!("{only} stands alone: A and B must both be there")
                }
            },
            (Some(only), None) | (None, Some(only)) => {
                bail!("{only} stands alone: up and down must both be there")
            }
        };
        let Some((up_name, up, down)) = product else {
            if let Some(scale) = get(Part::UpBias).or(get(Part::Alpha))
                && get(Part::Weight).or(get(Part::Bias)).is_none()
            {
                bail!("{scale} stands alone: up and down must both be there");
            }
            return self.differences(module, found, changes);
        };
        let rank = down.rows;
        ensure!(rank > 0 && up.cols == rank, "{up_name}: {} columns, its down has {rank} rows", up.cols);
        let (alpha, divisor) = match get(Part::Alpha) {
            Some(alpha) => (self.tensors.number(alpha)?, rank as f32),
            None => settings.of(found.alpha_in, &self.tensors)?.scale(&found.name, rank)?,
        };
        let factor = self.weight * alpha / divisor;
        changes.push(Change { name: up_name.clone(), module, delta: Delta::Product { up, down }, factor });
        if let Some(name) = get(Part::UpBias) {
            changes.push(Change { name: name.clone(), module, delta: self.bias(name)?, factor });
        }
        self.differences(module, found, changes)
    }

    /// Adds the whole differences of a module to its changes. LyCORIS, A1111 and ComfyUI give an alpha beside them no meaning.
    fn differences(&self, module: Module, found: &Found, mut changes: Vec<Change>) -> Result<Vec<Change>> {
        let factor = self.weight;
        if let Some(name) = found.parts.get(&Part::Weight) {
            let delta = Delta::Weight(self.matrix(name)?);
            changes.push(Change { name: name.clone(), module, delta, factor });
        }
        if let Some(name) = found.parts.get(&Part::Bias) {
            changes.push(Change { name: name.clone(), module, delta: self.bias(name)?, factor });
        }
        Ok(changes)
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

/// The settings that a file's layouts point to, each read once.
#[derive(Default)]
struct AllSettings(BTreeMap<AlphaIn, Settings>);

impl AllSettings {
    fn of(&mut self, alpha_in: AlphaIn, tensors: &Tensors) -> Result<&Settings> {
        Ok(match self.0.entry(alpha_in) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(match alpha_in {
                AlphaIn::Nothing => Settings::default(),
                AlphaIn::Header(component) => Settings::in_header(tensors, component)?.unwrap_or_default(),
                AlphaIn::AdapterConfig => {
                    let folder = tensors.path().parent().unwrap_or(Path::new(""));
                    Settings::beside(folder)?.with_context(|| {
                        format!(
                            "a PEFT adapter, whose strength is in its {ADAPTER_CONFIG} (lora_alpha, r): put that beside the file, as \
                             PEFT saved it"
                        )
                    })?
                }
            }),
        })
    }

    fn notes(self) -> impl Iterator<Item = String> {
        self.0.into_values().flat_map(|settings| settings.notes)
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
