//! One file, or the shards of one: which text towers are in it.

use std::fs::File;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};

use super::tower::{NamedTower, SourceTower, Weights};
use super::{beside, contents};
use crate::import::safetensors::naming::{Location, locate};
use crate::import::safetensors::{self, Known};
use crate::ir::Activation;
use crate::preset::Preset;
use crate::tensors::{Tensors, foreign};

/// What users of OpenCLIP should know.
const OPEN_CLIP_TEXTS: &str = "OpenCLIP's own tokenizer first mends a prompt (ftfy: mojibake, curly quotes, ligatures, \
     full-width letters) and decodes HTML entities such as &amp;; cliptext takes prompts as transformers' CLIPTokenizer does, as \
     they are";

/// What a file with weights holds.
pub struct Opened {
    /// The text towers.
    pub towers: Vec<SourceTower>,
    /// The family that it belongs to.
    pub preset: Option<Preset>,
    /// What to call such a file.
    pub kind: &'static str,
    /// What was assumed or left aside.
    pub notes: Vec<String>,
}

/// The towers in a file of any format; `folder` is the component's, with its configuration and tokenizer.
pub fn open(path: &Path, folder: &Path, activation: Option<Activation>) -> Result<Opened> {
    if is_graph(path)? {
        refuse_activation(path, activation)?;
        let name = file_name(path);
        let tower = SourceTower {
            name,
            weights: Weights::Onnx(path.to_owned()),
            tokenizer: beside::tokenizer(folder),
        };
        return Ok(Opened { towers: vec![tower], preset: None, kind: "an ONNX graph", notes: vec![] });
    }
    let tensors = Rc::new(Tensors::open(path)?);
    let locations = locate(tensors.names());
    if locations.is_empty() {
        bail!("{}: {}", path.display(), contents::explain(&tensors));
    }
    // A folder may hold many checkpoints; a configuration in it describes one of them at most.
    let found = beside::configuration(folder, locations[0].naming);
    let config = match (locations.as_slice(), &found) {
        ([only], Some(found)) if contents::is_component(&tensors, only) => Some(found.read()?),
        _ => None,
    };
    let mut notes = Vec::new();
    if let Some(part) = beside::tokenizer_without_vocabulary(folder) {
        notes.push(format!(
            "{}: a tokenizer's file without its vocabulary (vocab.json and merges.txt, or tokenizer.json): CLIP's own tokenizer \
             is taken unless --vocab gives another",
            part.display()
        ));
    }
    if let (Some(found), None) = (&found, &config) {
        notes.push(format!(
            "{} is not read: {} is no text encoder's file but a larger one",
            found.path.display(),
            path.display()
        ));
    }
    if config.as_ref().is_some_and(|config| config.is_open_clip) {
        notes.push(OPEN_CLIP_TEXTS.into());
    }
    let mut towers = Vec::new();
    for location in locations {
        let known = Known { config: config.as_ref(), activation };
        let (shape, told) = safetensors::shape(&tensors, &location, known)?;
        notes.extend(told);
        let logit_scale = logit_scale(&tensors, &location)?;
        let name = location.prefix.trim_end_matches('.');
        let name = if name.is_empty() { file_name(path) } else { name.to_owned() };
        let named =
            NamedTower { tensors: tensors.clone(), location, config: config.clone(), shape, logit_scale };
        let weights = Weights::Tensors(Box::new(named));
        towers.push(SourceTower { name, weights, tokenizer: beside::tokenizer(folder) });
    }
    let (preset, kind) = contents::family(&tensors, &towers);
    Ok(Opened { towers, preset, kind, notes })
}

/// The last part of a path.
pub fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether a file is taken for a graph, since it is no safetensors and no index of shards.
pub fn is_graph(path: &Path) -> Result<bool> {
    let is_index = path.extension().is_some_and(|extension| extension == "json");
    Ok(!is_index && !is_safetensors(path)?)
}

/// Refuses what a user says of a graph's activation.
pub fn refuse_activation(path: &Path, activation: Option<Activation>) -> Result<()> {
    ensure!(
        activation.is_none(),
        "{}: --act says which activation weights have that are without a configuration; a graph has its own",
        path.display()
    );
    Ok(())
}

/// Whether a file begins as safetensors do; an error when it is something that users give in place of a model.
fn is_safetensors(path: &Path) -> Result<bool> {
    use std::io::Read;
    /// Enough to tell every kind apart.
    const HEAD: u64 = 64;
    let named = || format!("{}: cannot be read", path.display());
    let file = File::open(path).with_context(named)?;
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head).with_context(named)?;
    if let Some(what) = foreign::identify(&head, path) {
        bail!("{}: {what}", path.display());
    }
    let named_so = path.extension().is_some_and(|extension| extension == "safetensors");
    Ok(named_so || head.get(8) == Some(&b'{'))
}

/// `exp` of the logit scale in the file, which CLIP stores as a logarithm.
fn logit_scale(tensors: &Tensors, location: &Location) -> Result<Option<f32>> {
    for name in location.logit_scales() {
        if tensors.contains(&name) {
            let values = tensors.floats(&name)?;
            ensure!(values.len() == 1, "{}: {name}: expected one number", tensors.path().display());
            return Ok(Some(f64::from(values[0]).exp() as f32));
        }
    }
    Ok(None)
}
