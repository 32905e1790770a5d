//! Which files of a repository an encoder needs, by their names.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::ir::Modality;
use crate::source::beside::{IMAGE_COMPONENT, OPEN_CLIP_CONFIG, alone};
use crate::tensors::foreign;

/// What a tokenizer may have.
const TOKENIZER: [&str; 6] = [
    "added_tokens.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
];

const CONFIG: &str = "config.json";
const PREPROCESSING: &str = "preprocessor_config.json";
const INDEX: &str = "model_index.json";
const ENCODER: &str = "text_encoder";
const OPEN_CLIP: [&str; 2] = ["open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"];

/// The files of `listing` that an encoder needs: those of the file or folder `part`, or of the whole repository.
///
/// - A pipeline, that is a folder with folders `text_encoder*`: `model_index.json`, and of each text encoder the
///   configuration, the weights, and the folder `tokenizer*` of the same ending. Checkpoints beside them are left. An image
///   encoder in it has to be named.
/// - Any other folder: its configuration, weights, and tokenizer or preprocessing.
/// - A file: itself, what it refers to, and the configuration, and tokenizer or preprocessing, that belong to it.
///
/// Weights are `model.safetensors`, else the shards of `model.safetensors.index.json`, else OpenCLIP's with its
/// configuration, else a half-precision variant, else `model.onnx`, else `text_model.onnx` or `vision_model.onnx`. What an
/// ONNX file keeps elsewhere is not among them.
///
/// # Errors
/// When there are no such weights, with what there is and what to do.
pub fn select(listing: &[String], part: Option<&str>, modality: Modality) -> Result<Vec<String>> {
    let listing = Listing { files: listing, modality };
    let mut files = match part {
        Some(file) if listing.has(file) => listing.of_file(file)?,
        Some(folder) if listing.folder_exists(folder) => listing.of_folder(folder)?,
        Some(other) => bail!("there is no file or folder {other}; there is {}", listing.shown("")),
        None => listing.of_folder("")?,
    };
    files.sort();
    files.dedup();
    Ok(files)
}

/// The small files that tell which text encoders of the pipeline around `part` are CLIP's.
pub fn describing(listing: &[String], part: Option<&str>) -> Vec<String> {
    let listing = Listing::of_texts(listing);
    let root = listing.pipeline(part);
    let configs = listing.encoders(root).into_iter().map(|encoder| join(&join(root, &encoder), CONFIG));
    std::iter::once(join(root, INDEX)).chain(configs).filter(|file| listing.has(file)).collect()
}

/// `listing` without the text encoders that are not CLIP's, such as the T5 of Stable Diffusion 3 and Flux.
///
/// `description` gives the contents of a file that [`describing`] named. The class in `model_index.json` decides; where
/// that is a wrapper for any ONNX model, or nothing, the architecture in the encoder's `config.json`.
///
/// # Errors
/// When `part` lies in such a text encoder, when none is left, or when one is missing that `model_index.json` names.
pub fn clip_only(
    listing: &[String],
    part: Option<&str>,
    description: impl Fn(&str) -> Option<Value>,
) -> Result<Vec<String>> {
    let known = Listing::of_texts(listing);
    let root = known.pipeline(part);
    let index = description(&join(root, INDEX));
    let class = |encoder: &str| Some(index.as_ref()?.get(encoder)?.get(1)?.as_str()?.to_owned());
    let encoders = known.encoders(root);
    let mut others = Vec::new();
    for encoder in &encoders {
        let config = description(&join(&join(root, encoder), CONFIG));
        let architecture = || Some(config?.get("architectures")?.get(0)?.as_str()?.to_owned());
        let class = class(encoder).filter(|class| !wraps_any(class)).or_else(architecture);
        if let Some(class) = class.filter(|class| !class.contains("CLIP")) {
            others.push((join(root, encoder), class));
        }
    }
    if let Some(part) = part
        && let Some((other, class)) = others.iter().find(|(other, _)| inside(part, other) || part == other)
    {
        bail!("{other} is a {class}, not CLIP's text encoder");
    }
    if !encoders.is_empty() && others.len() == encoders.len() {
        let found: Vec<_> = others.iter().map(|(other, class)| format!("{other} is a {class}")).collect();
        bail!("no text encoder of CLIP's: {}", found.join(", "));
    }
    if part.unwrap_or("") == root
        && let Some(Value::Object(index)) = &index
    {
        let absent = |name: &&String| {
            name.starts_with(ENCODER)
                && class(name).is_some_and(|class| class.contains("CLIP"))
                && !encoders.contains(*name)
        };
        if let Some(name) = index.keys().find(absent) {
            bail!("{} names {name}, but there is no such folder", join(root, INDEX));
        }
    }
    Ok(listing.iter().filter(|file| !others.iter().any(|(other, _)| inside(file, other))).cloned().collect())
}

/// The path of a file with external data, which the ONNX file `model` names `location`.
///
/// # Errors
/// When the repository has no such file.
pub fn beside(listing: &[String], model: &str, location: &str) -> Result<String> {
    let steps: Vec<&str> = location.split('/').filter(|step| !matches!(*step, "" | ".")).collect();
    let path = join(parent(model), &steps.join("/"));
    let listing = Listing::of_texts(listing);
    ensure!(
        listing.has(&path),
        "{model} keeps its weights in {location:?}, which is not there; there is {}",
        listing.shown(parent(model))
    );
    Ok(path)
}

/// Classes that say only that the model is ONNX: diffusers' and optimum's.
fn wraps_any(class: &str) -> bool {
    class.contains("Onnx") || class.starts_with("ORT")
}

/// `folder/name`; the root's name is empty.
fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn last(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn inside(path: &str, folder: &str) -> bool {
    below(path, folder).is_some()
}

/// The path from `folder` to `path`.
fn below<'p>(path: &'p str, folder: &str) -> Option<&'p str> {
    if folder.is_empty() { Some(path) } else { path.strip_prefix(folder)?.strip_prefix('/') }
}

fn is_pickle(name: &str) -> bool {
    // OpenVINO's weights end in .bin too, and are no pickle.
    [".bin", ".ckpt", ".pt", ".pth", ".pkl"].iter().any(|end| name.ends_with(end))
        && !name.starts_with("openvino")
}

/// Every path of a repository's files, and which encoder is looked for among them.
#[derive(Clone, Copy)]
struct Listing<'a> {
    files: &'a [String],
    modality: Modality,
}

impl<'a> Listing<'a> {
    fn of_texts(files: &'a [String]) -> Self {
        Self { files, modality: Modality::Text }
    }

    fn has(self, file: &str) -> bool {
        self.files.iter().any(|known| known == file)
    }

    fn folder_exists(self, folder: &str) -> bool {
        self.files.iter().any(|file| inside(file, folder))
    }

    /// Names of the files directly in a folder.
    fn directly_in(self, folder: &str) -> impl Iterator<Item = &'a str> {
        self.files.iter().filter_map(move |file| below(file, folder)).filter(|name| !name.contains('/'))
    }

    /// Names of the text encoders' folders directly in a folder.
    fn encoders(self, folder: &str) -> BTreeSet<String> {
        let steps = self.files.iter().filter_map(|file| below(file, folder)?.split_once('/'));
        steps.map(|(name, _)| name).filter(|name| name.starts_with(ENCODER)).map(str::to_owned).collect()
    }

    /// The pipeline's folder, if `part` is that folder, one of its text encoders, or a file of either.
    fn pipeline(self, part: Option<&str>) -> &str {
        let part = part.unwrap_or("");
        let folder = if self.has(part) { parent(part) } else { part };
        if last(folder).starts_with(ENCODER) { parent(folder) } else { folder }
    }

    fn of_folder(self, folder: &str) -> Result<Vec<String>> {
        let encoders = match self.modality {
            Modality::Text => self.encoders(folder),
            Modality::Image => BTreeSet::new(),
        };
        let image_encoder = join(folder, IMAGE_COMPONENT);
        ensure!(
            self.modality == Modality::Text || !self.folder_exists(&image_encoder),
            "a pipeline: name the image encoder's folder in it, hf:OWNER/REPO/{image_encoder}"
        );
        if encoders.is_empty() {
            let mut files = self.weights(folder)?;
            files.extend(self.beside(folder));
            return Ok(files);
        }
        let mut files = vec![];
        for encoder in &encoders {
            let encoder = join(folder, encoder);
            files.extend(self.weights(&encoder)?);
            files.extend(self.beside(&encoder));
        }
        Ok(files)
    }

    fn of_file(self, file: &str) -> Result<Vec<String>> {
        let folder = parent(file);
        let mut files = match last(file) {
            name if is_pickle(name) => bail!("{}", pickle(file)),
            name if name.ends_with(".safetensors.index.json") => self.shards(folder, name)?,
            name if OPEN_CLIP.contains(&name) => self.open_clip(folder, name),
            name if name.ends_with(".safetensors") || name.ends_with(".onnx") => vec![file.to_owned()],
            _ => bail!("{file} is no model: name a .safetensors or .onnx file, or a folder"),
        };
        files.extend(self.beside(folder));
        Ok(files)
    }

    /// Configuration, and tokenizer or preprocessing, of the model in `folder`, as far as they are there.
    fn beside(self, folder: &str) -> Vec<String> {
        let mut wanted = vec![join(folder, CONFIG)];
        match self.modality {
            Modality::Text => wanted.extend(TOKENIZER.map(|name| join(folder, name))),
            Modality::Image => wanted.push(join(folder, PREPROCESSING)),
        }
        if let Some(ending) = last(folder).strip_prefix(ENCODER) {
            let pipeline = parent(folder);
            let tokenizer = join(pipeline, &format!("tokenizer{ending}"));
            wanted.push(join(pipeline, INDEX));
            wanted.extend(TOKENIZER.map(|name| join(&tokenizer, name)));
        }
        wanted.retain(|file| self.has(file));
        wanted
    }

    fn weights(self, folder: &str) -> Result<Vec<String>> {
        let there = |name: &&str| self.has(&join(folder, name));
        if there(&"model.safetensors") {
            return Ok(vec![join(folder, "model.safetensors")]);
        }
        let shards = "model.safetensors.index.json";
        if there(&shards) {
            return self.shards(folder, shards);
        }
        if let Some(name) = OPEN_CLIP.iter().find(|name| there(name)) {
            return Ok(self.open_clip(folder, name));
        }
        if let Some(half) =
            ["model.fp16.safetensors", "model.bf16.safetensors"].iter().find(|name| there(name))
        {
            return Ok(vec![join(folder, half)]);
        }
        if let Some(graph) = ["model.onnx", alone(self.modality)].iter().find(|name| there(name)) {
            return Ok(vec![join(folder, graph)]);
        }
        let named: Vec<_> = self
            .files
            .iter()
            .filter(|file| [folder, join(folder, "onnx").as_str()].contains(&parent(file)))
            .filter(|file| file.ends_with(".safetensors") || file.ends_with(".onnx"))
            .map(String::as_str)
            .collect();
        if !named.is_empty() {
            bail!(
                "there is no {} among the files; to compile one of {}, name it: hf:OWNER/REPO/FILE",
                join(folder, "model.safetensors"),
                some(&named)
            );
        }
        if let Some(name) = self.directly_in(folder).find(|name| is_pickle(name)) {
            bail!("{}", pickle(&join(folder, name)));
        }
        let place = if folder.is_empty() { "the repository" } else { folder };
        let pipeline = match self.modality {
            Modality::Text => format!("a folder {} or ", join(folder, ENCODER)),
            Modality::Image => String::new(),
        };
        bail!(
            "no {} in {place}: expected {pipeline}{}, found {}",
            self.modality,
            join(folder, "model.safetensors"),
            self.shown(folder)
        )
    }

    /// OpenCLIP's weights and the configuration that it writes beside them.
    fn open_clip(self, folder: &str, name: &str) -> Vec<String> {
        let files = [name, OPEN_CLIP_CONFIG].map(|name| join(folder, name));
        files.into_iter().filter(|file| self.has(file)).collect()
    }

    /// An index and all of its shards, `…-00001-of-00003.safetensors` and so on.
    fn shards(self, folder: &str, index: &str) -> Result<Vec<String>> {
        let stem = index.trim_end_matches(".safetensors.index.json");
        let numbers = |name: &str| -> Option<(usize, usize)> {
            let middle = name.strip_prefix(stem)?.strip_prefix('-')?.strip_suffix(".safetensors")?;
            let (number, count) = middle.split_once("-of-")?;
            Some((number.parse().ok()?, count.parse().ok()?))
        };
        let found: Vec<_> =
            self.directly_in(folder).filter_map(|name| Some((numbers(name)?, name))).collect();
        let count = found.first().map_or(0, |((_, count), _)| *count);
        let there: BTreeSet<_> =
            found.iter().filter(|((_, of), _)| *of == count).map(|((number, _), _)| *number).collect();
        ensure!(
            count > 0 && there.len() == found.len() && there.iter().copied().eq(1..=count),
            "{}: {} of {count} shards are there",
            join(folder, index),
            there.len()
        );
        let shards = found.iter().map(|(_, name)| join(folder, name));
        Ok(shards.chain([join(folder, index)]).collect())
    }

    /// The files and folders directly in a folder, for an error.
    fn shown(self, folder: &str) -> String {
        let names: BTreeSet<_> = self
            .files
            .iter()
            .filter_map(|file| below(file, folder))
            .filter(|name| !name.starts_with('.'))
            .map(|name| name.split_inclusive('/').next().unwrap_or(name))
            .collect();
        if names.is_empty() { "nothing".into() } else { some(&names.into_iter().collect::<Vec<_>>()) }
    }
}

/// Names in a row, the first dozen of them.
fn some(names: &[&str]) -> String {
    let first = names.iter().take(12).copied().collect::<Vec<_>>().join(", ");
    if names.len() > 12 { format!("{first} and {} more", names.len() - 12) } else { first }
}

/// Why a pickle is not fetched, and what to do.
fn pickle(file: &str) -> String {
    format!(
        "{file} is a pickle, which can run any program as it is read, and there are no safetensors beside it; look for a \
         converted copy among the repository's pull requests (hf:OWNER/REPO@refs/pr/N), or download it, and give what this \
         makes of it (pip install torch safetensors numpy): {}",
        foreign::conversion(Path::new(last(file)))
    )
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
