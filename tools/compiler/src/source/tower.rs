//! A source of text towers, and a tower in it.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use cliptext_files::Temporary;

use crate::import::safetensors::Shape;
use crate::import::safetensors::config::Config;
use crate::import::safetensors::naming::Location;
use crate::preset::Preset;
use crate::tensors::Tensors;

/// A file or folder with text towers.
#[derive(Debug)]
pub struct Source {
    /// The path.
    pub path: PathBuf,
    /// What it is, in words.
    pub kind: String,
    /// The family of models that it belongs to, if the files say so.
    pub preset: Option<Preset>,
    /// Its CLIP text towers, the narrower first.
    pub towers: Vec<SourceTower>,
    /// What was seen and left aside.
    pub notes: Vec<String>,
    /// The folder of the file, where it came out of a pipe.
    pub(super) _kept: Option<Temporary>,
}

/// A text tower that can be imported.
#[derive(Debug)]
pub struct SourceTower {
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

impl SourceTower {
    /// The file with the weights.
    pub fn path(&self) -> &Path {
        match &self.weights {
            Weights::Onnx(path) => path,
            Weights::Tensors(named) => named.tensors.path(),
        }
    }

    /// Width of the hidden states, where the headers tell it.
    pub(super) fn width(&self) -> Option<usize> {
        match &self.weights {
            Weights::Onnx(_) => None,
            Weights::Tensors(named) => Some(named.shape.width),
        }
    }
}
