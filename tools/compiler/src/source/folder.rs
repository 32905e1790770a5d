//! Folders as Hugging Face lays them out: a pipeline's, a component's, a whole model's.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::beside::{COMPONENT, OPEN_CLIP_CONFIG, alone};
use super::file::{self, Opened, file_name};
use super::tower::{Source, SourceTower};
use crate::import::safetensors::config::Config;
use crate::ir::{Activation, Modality};
use crate::preset::Preset;
use crate::tensors::foreign;

/// Weights by the names that files have, the first that is there counts: full precision before half, safetensors before
/// ONNX. Behind them comes the graph of one encoder alone.
const WEIGHTS: [&str; 8] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "model.fp16.safetensors",
    "model.safetensors.index.fp16.json",
    "model.bf16.safetensors",
    "model.onnx",
];

/// Looks at a folder; `activation` is what the user says that the layers have.
pub fn open(path: &Path, activation: Option<Activation>) -> Result<Source> {
    let index = path.join("model_index.json");
    if index.is_file() {
        return pipeline(path, Some(&index), activation);
    }
    if weights(path, Modality::Text)?.is_none() && path.join(COMPONENT).is_dir() {
        return pipeline(path, None, activation);
    }
    let Opened { towers, preset, kind, notes } = component(path, activation)?;
    Ok(Source {
        path: path.to_owned(),
        kind: format!("a folder with {kind}"),
        preset,
        towers,
        notes,
        _kept: None,
    })
}

/// The towers of a pipeline. Without a `model_index.json` every folder that is named so counts.
fn pipeline(path: &Path, index: Option<&Path>, activation: Option<Activation>) -> Result<Source> {
    let mut notes = Vec::new();
    let mut components = Vec::new();
    let mut class = String::from("pipeline");
    if let Some(index) = index {
        let named = || index.display().to_string();
        let text = cliptext_files::read_whole_text(index).with_context(named)?;
        let index: Value =
            serde_json::from_str(&text).with_context(|| format!("{}: expected a JSON object", named()))?;
        class = index.get("_class_name").and_then(Value::as_str).unwrap_or("pipeline").to_owned();
        let listed = index.as_object().with_context(|| format!("{}: expected an object", named()))?;
        for (name, component) in listed.iter().filter(|(name, _)| name.starts_with(COMPONENT)) {
            match component.get(1).and_then(Value::as_str) {
                Some(
                    "CLIPTextModel"
                    | "CLIPTextModelWithProjection"
                    | "ORTModelTextEncoder"
                    | "OnnxRuntimeModel",
                ) => {
                    components.push(name.clone());
                }
                Some(other) => {
                    notes.push(format!("{name} is a {other}, not a CLIP text encoder: left aside"))
                }
                None => {}
            }
        }
    } else {
        for ending in ["", "_2"] {
            let name = format!("{COMPONENT}{ending}");
            if path.join(&name).is_dir() {
                components.push(name);
            }
        }
    }
    components.sort();
    ensure!(
        !components.is_empty(),
        "{}: a {class} without CLIP text encoder{}",
        path.display(),
        if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) }
    );
    let mut towers = Vec::new();
    for name in components {
        let found = component(&path.join(&name), activation)?;
        notes.extend(found.notes);
        towers.extend(found.towers.into_iter().map(|tower| SourceTower { name: name.clone(), ..tower }));
    }
    let preset = family(&class, &towers);
    Ok(Source {
        path: path.to_owned(),
        kind: format!("a {class}'s folder"),
        preset,
        towers,
        notes,
        _kept: None,
    })
}

/// The family that a pipeline's class belongs to.
fn family(class: &str, towers: &[SourceTower]) -> Option<Preset> {
    if class.contains("XL") {
        return Some(Preset::Sdxl);
    }
    if class.contains("StableDiffusion3") {
        return Some(Preset::Sd3);
    }
    if class.contains("Flux") {
        return Some(Preset::Flux);
    }
    match towers {
        [only] => match only.width() {
            Some(1024) => Some(Preset::Sd2),
            Some(768) => Some(Preset::Sd1),
            _ => None,
        },
        _ => None,
    }
}

/// The file with the weights of such an encoder in a component's folder.
pub(super) fn weights(path: &Path, modality: Modality) -> Result<Option<PathBuf>> {
    let names = WEIGHTS.into_iter().chain([alone(modality)]);
    if let Some(known) = names.map(|name| path.join(name)).find(|file| file.is_file()) {
        return Ok(Some(known));
    }
    // A folder with one model under another name.
    let mut models = Vec::new();
    let entries = std::fs::read_dir(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    for entry in entries {
        let file = entry.with_context(|| path.display().to_string())?.path();
        if file.extension().is_some_and(|extension| extension == "safetensors" || extension == "onnx") {
            models.push(file);
        }
    }
    models.sort();
    match models.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only.clone())),
        [first, second, ..] => bail!(
            "{}: several models are in this folder ({}, {}…): give the file",
            path.display(),
            file_name(first),
            file_name(second)
        ),
    }
}

fn component(path: &Path, activation: Option<Activation>) -> Result<Opened> {
    ensure!(
        path.is_dir(),
        "{}: there is no such folder, though the pipeline's index names it",
        path.display()
    );
    let config = path.join("config.json");
    if let Some(file) = weights(path, Modality::Text)? {
        // The configuration of something else says so more clearly than its tensors do.
        if config.is_file() && !path.join(OPEN_CLIP_CONFIG).is_file() {
            Config::read(&config)?;
        }
        return file::open(&file, path, activation);
    }
    for pickle in ["pytorch_model.bin", "open_clip_pytorch_model.bin", "model.ckpt"] {
        let file = path.join(pickle);
        ensure!(
            !file.is_file(),
            "{}: only a pickle is here, {pickle}: {}",
            path.display(),
            foreign::convert(&file)
        );
    }
    if config.is_file() {
        Config::read(&config)?;
    }
    bail!(
        "{}: no text encoder here; expected model.safetensors, its shards' index, or model.onnx, with config.json, or a \
         pipeline's folder with model_index.json",
        path.display()
    )
}
