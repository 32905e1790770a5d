//! The image tower in a file or folder.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

use super::folder;
use super::hub::HubName;
use crate::import::safetensors::image;
use crate::import::safetensors::image_config::ImageConfig;
use crate::import::safetensors::naming::{self, Naming};
use crate::ir::{Activation, ImageModel};
use crate::tensors::Tensors;

/// An image tower, read.
#[derive(Debug)]
pub struct ImageTower {
    /// The weights, f32.
    pub model: ImageModel,
    /// What the file is, in words.
    pub kind: &'static str,
    /// Whether the model's own class gives out embeddings of length 1: that of a whole CLIP does.
    pub normalizes: bool,
    /// Factor of the cosines of images and texts, `exp(logit_scale)`, if the file has one.
    pub logit_scale: Option<f32>,
    /// What was assumed.
    pub notes: Vec<String>,
}

/// The folder of a pipeline's image encoder.
const COMPONENT: &str = "image_encoder";

/// Reads the image tower at `path`, a safetensors file or a folder with one; `activation` is what the user says that the layers have.
///
/// # Errors
/// When there is none there that can be read; the message says what was found instead, and what to try.
pub fn open(path: &Path, activation: Option<Activation>) -> Result<ImageTower> {
    ensure!(
        !path.to_str().is_some_and(HubName::is_one),
        "{}: image encoders are not fetched from the hub: give a folder or file of this machine",
        path.display()
    );
    ensure!(path.exists(), "{}: there is no such file or folder", path.display());
    let (file, folder) = match path.is_dir() {
        true => (in_folder(path)?, path),
        false => (path.to_owned(), path.parent().unwrap_or(Path::new(""))),
    };
    ensure!(
        file.extension().is_none_or(|extension| extension != "onnx"),
        "{}: image encoders are read from safetensors, not yet from ONNX: give the model's own folder",
        file.display()
    );
    let tensors = Tensors::open(&file)?;
    let location = image::locate(&tensors)?;
    let config = match location.naming {
        Naming::HuggingFace => ImageConfig::read(folder)?,
        Naming::OpenClip => ImageConfig::read_open_clip(folder)?,
    };
    let (model, notes) = image::load(&tensors, &location, config.as_ref(), activation)?;
    let whole = !naming::locate(tensors.names()).is_empty();
    let logit_scale = if whole { image::logit_scale(&tensors, &location)? } else { None };
    let kind = if whole { "a whole CLIP" } else { "an image encoder" };
    Ok(ImageTower { normalizes: whole && model.projection.is_some(), model, kind, logit_scale, notes })
}

/// The weights in a folder.
fn in_folder(path: &Path) -> Result<PathBuf> {
    match folder::weights(path)? {
        Some(file) => Ok(file),
        None if path.join(COMPONENT).is_dir() => bail!(
            "{}: a pipeline's folder: give the image encoder's in it, {}",
            path.display(),
            path.join(COMPONENT).display()
        ),
        None => bail!(
            "{}: no image encoder here; expected model.safetensors, its shards' index, or open_clip_model.safetensors, with the \
             configuration beside it",
            path.display()
        ),
    }
}
