//! The image tower in a file or folder, or under a name on the hub.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tract_core::prelude::TypedModel;

use super::beside::IMAGE_COMPONENT;
use super::file::{is_graph, refuse_activation};
use super::{folder, hub};
use crate::colours::{self, Colours};
use crate::import::onnx;
use crate::import::safetensors::image;
use crate::import::safetensors::image_config::{self, ImageConfig};
use crate::import::safetensors::naming::{self, Naming};
use crate::ir::{Activation, ImageModel, Modality};
use crate::progress::Progress;
use crate::recognise::{RecognisedImage, recognise_image};
use crate::tensors::Tensors;
use crate::tract::run::ImageRun;

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
    /// The graph that it was recognised in, for what was understood to be held against.
    pub exported: Option<Exported>,
}

/// A graph, and how it is run.
#[derive(Debug)]
pub struct Exported {
    /// Ready to run for its embedding.
    pub run: ImageRun,
    /// How pixels are normalised for it.
    pub colours: Colours,
    /// Whether its embedding is divided by its length.
    pub normalized: bool,
}

/// Reads the image tower at `path`, a safetensors or ONNX file, a folder with one or a name on the hub; `activation` is what the user says that the layers
/// have.
///
/// # Errors
/// When there is none there that can be read; the message says what was found instead, and what to try.
pub fn open(path: &Path, activation: Option<Activation>, progress: &Progress) -> Result<ImageTower> {
    let Place { file, folder } = find(path, progress)?;
    if is_graph(&file)? {
        refuse_activation(&file, activation)?;
        return graph(&file, &folder);
    }
    let tensors = Tensors::open(&file)?;
    let location = image::locate(&tensors)?;
    let config = match location.naming {
        Naming::HuggingFace => ImageConfig::read(&folder)?,
        Naming::OpenClip => ImageConfig::read_open_clip(&folder)?,
    };
    let (model, notes) = image::load(&tensors, &location, config.as_ref(), activation)?;
    let whole = !naming::locate(tensors.names()).is_empty();
    let logit_scale = if whole { image::logit_scale(&tensors, &location)? } else { None };
    let kind = if whole { "a whole CLIP" } else { "an image encoder" };
    Ok(ImageTower {
        normalizes: whole && model.projection.is_some(),
        model,
        kind,
        logit_scale,
        notes,
        exported: None,
    })
}

/// A file with weights, and the folder of what belongs to it.
struct Place {
    file: PathBuf,
    folder: PathBuf,
}

fn find(path: &Path, progress: &Progress) -> Result<Place> {
    let fetched = hub::fetched(path, Modality::Image, progress)?;
    let path = fetched.as_deref().unwrap_or(path);
    ensure!(path.exists(), "{}: there is no such file or folder", path.display());
    Ok(match path.is_dir() {
        true => Place { file: in_folder(path)?, folder: path.to_owned() },
        false => Place { file: path.to_owned(), folder: path.parent().unwrap_or(Path::new("")).to_owned() },
    })
}

/// An image encoder as a graph, and how pixels are given to it.
#[derive(Debug)]
pub struct ImageGraph {
    /// Its one input is pixels, `[batch, 3, side, side]`.
    pub model: TypedModel,
    /// Pixels of a side of the images.
    pub side: usize,
    /// How pixels are normalised.
    pub colours: Colours,
    /// What was assumed.
    pub notes: Vec<String>,
}

/// Reads the graph of an image encoder at `path`, an ONNX file, a folder with one or a name on the hub, for images of that `side` where it leaves it open.
///
/// # Errors
/// When there is none there that can be read; the message says what was found instead, and what to try.
pub fn open_graph(path: &Path, side: Option<usize>, progress: &Progress) -> Result<ImageGraph> {
    let Place { file, folder } = find(path, progress)?;
    ensure!(
        is_graph(&file)?,
        "{}: weights without their graph: give an ONNX export, or compile a vision transformer with --image",
        file.display()
    );
    read_graph(&file, &folder, side)
}

fn read_graph(file: &Path, folder: &Path, side: Option<usize>) -> Result<ImageGraph> {
    let model = onnx::load_image(file, side)?;
    let shape = model.input_fact(0)?.shape.as_concrete().and_then(|shape| shape.last().copied());
    let side = shape.with_context(|| format!("{}: the images' size is not fixed", file.display()))?;
    let (colours, notes) = colours(file, folder, side)?;
    Ok(ImageGraph { model, side, colours, notes })
}

/// The image tower of a graph, which has to be recognised.
fn graph(file: &Path, folder: &Path) -> Result<ImageTower> {
    const OTHERWISE: &str = "not a vision transformer of CLIP's that can be compiled; `cliptext embed-images` runs any image encoder \
                             in ONNX on a workstation, for `cliptext-run similarity` to compare with";
    let named = || file.display().to_string();
    let ImageGraph { model: imported, colours, notes, .. } = read_graph(file, folder, None)?;
    let RecognisedImage { model, normalized, embedding } =
        recognise_image(&imported, colours).with_context(|| format!("{}: {OTHERWISE}", named()))?;
    let run = ImageRun::new(imported, embedding).with_context(named)?;
    let exported = Some(Exported { run, colours, normalized });
    Ok(ImageTower {
        model,
        kind: "an ONNX graph",
        normalizes: normalized,
        logit_scale: None,
        notes,
        exported,
    })
}

/// How pixels of images of that side are normalised for the graph in `file`, by what stands in `folder`, and what was assumed.
fn colours(file: &Path, folder: &Path, side: usize) -> Result<(Colours, Vec<String>)> {
    Ok(match image_config::colours(folder, side)? {
        Some(colours) => (colours, vec![]),
        None => {
            let note = format!(
                "{}: no preprocessor_config.json or open_clip_config.json beside it says how pixels are normalised: mean and \
                 deviation of OpenAI's CLIP are assumed",
                file.display()
            );
            (colours::OPENAI, vec![note])
        }
    })
}

/// The weights in a folder.
fn in_folder(path: &Path) -> Result<PathBuf> {
    match folder::weights(path, Modality::Image)? {
        Some(file) => Ok(file),
        None if path.join(IMAGE_COMPONENT).is_dir() => bail!(
            "{}: a pipeline's folder: give the image encoder's in it, {}",
            path.display(),
            path.join(IMAGE_COMPONENT).display()
        ),
        None => bail!(
            "{}: no image encoder here; expected model.safetensors, its shards' index, or open_clip_model.safetensors, with the \
             configuration beside it, or vision_model.onnx or model.onnx",
            path.display()
        ),
    }
}
