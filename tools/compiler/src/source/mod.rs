//! What a user named, and which text towers stand there: a file, a model's folder, a pipeline's folder, or a name on the
//! hub, whose files are fetched first.
//!
//! Nothing but headers and configurations is read here, so that a model can be looked at without compiling it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use cliptext_files::Temporary;

mod contents;
mod folder;
pub mod hub;

use crate::import::onnx;
use crate::import::safetensors::config::Config;
use crate::import::safetensors::naming::{Location, Naming, locate};
use crate::import::safetensors::{self, Shape};
use crate::ir::Outputs;
use crate::preset::Preset;
use crate::progress::Progress;
use crate::tensors::{Tensors, foreign};
use crate::tract::Imported;

/// What stands at a path.
#[derive(Debug)]
pub struct Source {
    /// The path.
    pub path: PathBuf,
    /// What it is, in words.
    pub kind: String,
    /// The family of models that it belongs to, if the files say so.
    pub preset: Option<Preset>,
    /// Its CLIP text towers, the narrower first.
    pub towers: Vec<Tower>,
    /// What was seen and left aside.
    pub notes: Vec<String>,
    /// The folder of the file, where it came out of a pipe.
    _kept: Option<Temporary>,
}

/// A text tower that can be imported.
#[derive(Debug)]
pub struct Tower {
    /// What to call it: the component's folder, or what its tensors' names begin with.
    pub name: String,
    /// Where its weights are.
    pub weights: Weights,
    /// The folder of its tokenizer, if there is one beside it.
    pub tokenizer: Option<PathBuf>,
}

/// Where a tower's weights are.
#[derive(Debug)]
pub enum Weights {
    /// A graph with its weights.
    Onnx(PathBuf),
    /// Tensors by name.
    Tensors(Box<NamedTower>),
}

/// A tower as named tensors.
#[derive(Debug)]
pub struct NamedTower {
    /// The file or shards.
    pub tensors: Rc<Tensors>,
    /// Where in them.
    pub location: Location,
    /// The configuration beside them.
    pub config: Option<Config>,
    /// Sizes and kind.
    pub shape: Shape,
    /// Factor of the cosines of images and texts, `exp(logit_scale)`, if the file has one.
    pub logit_scale: Option<f32>,
}

impl Tower {
    /// The tower's graph. `choose` says which outputs are wanted, given those of the model's own class; a graph that was
    /// exported has the outputs that it has.
    ///
    /// # Errors
    /// When the weights can't be read or the choice can't be had.
    pub fn import(&self, choose: impl FnOnce(&Shape, Outputs) -> Result<Outputs>) -> Result<Imported> {
        match &self.weights {
            Weights::Onnx(path) => onnx::load(path),
            Weights::Tensors(named) => {
                let outputs = choose(&named.shape, named.shape.outputs())?;
                safetensors::load(&named.tensors, &named.location, &named.shape, &outputs)
            }
        }
    }

    /// The file with the weights.
    pub fn path(&self) -> &Path {
        match &self.weights {
            Weights::Onnx(path) => path,
            Weights::Tensors(named) => named.tensors.path(),
        }
    }

    /// Width of the hidden states, where the headers tell it.
    fn width(&self) -> Option<usize> {
        match &self.weights {
            Weights::Onnx(_) => None,
            Weights::Tensors(named) => Some(named.shape.width),
        }
    }
}

/// Looks at what `model` names: a path, or a name such as `hf:OWNER/REPO`, whose files are fetched from the hub first. A
/// file whose own name begins with `hf:` is reached as `./hf:…`.
///
/// A pipe can be read once only, so what comes out of it is kept in a temporary file as long as the source is.
///
/// # Errors
/// When the name is none, what it names cannot be fetched, or as [`Source::open`].
pub fn open(model: &Path, progress: &Progress) -> Result<Source> {
    if let Some(text) = model.to_str().filter(|text| hub::HubName::is_one(text)) {
        return Source::open(&hub::fetch(
            &hub::HubName::parse(text)?,
            &hub::Settings::from_env()?,
            progress,
        )?);
    }
    if !std::fs::metadata(model).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return Source::open(model);
    }
    let named = || model.display().to_string();
    let folder = cliptext_files::temporary_folder().with_context(named)?;
    let path = folder.path().join(file_name(model));
    let copied = File::open(model).and_then(|mut pipe| std::io::copy(&mut pipe, &mut File::create(&path)?));
    let bytes = copied.with_context(named)?;
    progress.note(&format!(
        "{} is no regular file: its {bytes} bytes are kept in {}",
        named(),
        path.display()
    ));
    Ok(Source { _kept: Some(folder), ..Source::open(&path).with_context(named)? })
}

impl Source {
    /// Looks at what stands at `path`.
    ///
    /// # Errors
    /// When there is no CLIP text tower: the message says what was found instead, and what to try.
    pub fn open(path: &Path) -> Result<Self> {
        ensure!(path.exists(), "{}: there is no such file or folder", path.display());
        let mut source = if path.is_dir() { folder::open(path)? } else { open_file(path)? };
        // A stable sort: towers of unknown width keep the order that their names gave them.
        source.towers.sort_by_key(|tower| tower.width().unwrap_or(0));
        Ok(source)
    }
}

fn open_file(path: &Path) -> Result<Source> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let (towers, preset, kind) = open_weights(path, folder)?;
    Ok(Source { path: path.to_owned(), kind: kind.into(), preset, towers, notes: vec![], _kept: None })
}

/// The towers in a file of any format; `folder` is the component's, with its configuration and tokenizer.
fn open_weights(path: &Path, folder: &Path) -> Result<(Vec<Tower>, Option<Preset>, &'static str)> {
    let is_index = path.extension().is_some_and(|extension| extension == "json");
    if !is_index && !is_safetensors(path)? {
        let name = file_name(path);
        let tower =
            Tower { name, weights: Weights::Onnx(path.to_owned()), tokenizer: folder::tokenizer(folder) };
        return Ok((vec![tower], None, "an ONNX graph"));
    }
    let tensors = Rc::new(Tensors::open(path)?);
    let locations = locate(tensors.names());
    if locations.is_empty() {
        bail!("{}: {}", path.display(), contents::explain(&tensors));
    }
    // In a folder of many checkpoints a configuration would speak of one of them at most.
    let config = match locations.as_slice() {
        [only] if contents::is_component(only) => config(folder, only.naming)?,
        _ => None,
    };
    let mut towers = Vec::new();
    for location in locations {
        let shape = safetensors::shape(&tensors, &location, config.as_ref())?;
        let logit_scale = logit_scale(&tensors, &location)?;
        let name = location.prefix.trim_end_matches('.');
        let name = if name.is_empty() { file_name(path) } else { name.to_owned() };
        let named =
            NamedTower { tensors: tensors.clone(), location, config: config.clone(), shape, logit_scale };
        let weights = Weights::Tensors(Box::new(named));
        towers.push(Tower { name, weights, tokenizer: folder::tokenizer(folder) });
    }
    let (preset, kind) = contents::family(&tensors, &towers);
    Ok((towers, preset, kind))
}

/// The configuration in a component's folder, of weights that are named so.
fn config(folder: &Path, naming: Naming) -> Result<Option<Config>> {
    let (own, open_clip) = (folder.join("config.json"), folder.join(folder::OPEN_CLIP_CONFIG));
    if naming == Naming::OpenClip && open_clip.is_file() {
        return Config::read_open_clip(&open_clip).map(Some);
    }
    own.is_file().then(|| Config::read(&own)).transpose()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
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
    if let Some(what) = foreign::identify(&head) {
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
