//! How folders and files are named, and what belongs to weights in the same folder: their configuration and their tokenizer.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::import::safetensors::config::Config;
use crate::import::safetensors::naming::Naming;
use crate::ir::Modality;

/// What every text encoder's folder in a pipeline begins with; the tokenizer's has the same ending.
pub const COMPONENT: &str = "text_encoder";

/// The folder of a pipeline's image encoder.
pub const IMAGE_COMPONENT: &str = "image_encoder";

/// The graph of one encoder alone, as optimum names it.
pub const fn alone(modality: Modality) -> &'static str {
    match modality {
        Modality::Text => "text_model.onnx",
        Modality::Image => "vision_model.onnx",
    }
}

/// The configuration that OpenCLIP writes; a `config.json` beside it is of other programs.
pub const OPEN_CLIP_CONFIG: &str = "open_clip_config.json";

/// A configuration's file.
pub struct Configuration {
    /// Where it is.
    pub path: PathBuf,
    is_open_clip: bool,
}

impl Configuration {
    /// Reads it.
    pub fn read(&self) -> Result<Config> {
        if self.is_open_clip { Config::read_open_clip(&self.path) } else { Config::read(&self.path) }
    }
}

/// The configuration in a component's folder, of weights that are named so.
pub fn configuration(folder: &Path, naming: Naming) -> Option<Configuration> {
    let file = |name: &str, is_open_clip| {
        let path = folder.join(name);
        path.is_file().then_some(Configuration { path, is_open_clip })
    };
    let open_clip = (naming == Naming::OpenClip).then(|| file(OPEN_CLIP_CONFIG, true)).flatten();
    open_clip.or_else(|| file("config.json", false))
}

/// The tokenizer's folder for the text encoder in `folder`: the folder itself, or, of a pipeline's component, `tokenizer`
/// beside it.
pub fn tokenizer(folder: &Path) -> Option<PathBuf> {
    tokenizer_folders(folder).into_iter().find(|folder| {
        folder.join("tokenizer.json").is_file()
            || folder.join("merges.txt").is_file() && folder.join("vocab.json").is_file()
    })
}

/// A file of a tokenizer whose vocabulary is missing.
pub fn tokenizer_without_vocabulary(folder: &Path) -> Option<PathBuf> {
    const PARTS: [&str; 5] =
        ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt"];
    if tokenizer(folder).is_some() {
        return None;
    }
    let folders = tokenizer_folders(folder);
    folders.iter().flat_map(|folder| PARTS.map(|part| folder.join(part))).find(|file| file.is_file())
}

/// Where the tokenizer of the text encoder in `folder` may be.
fn tokenizer_folders(folder: &Path) -> Vec<PathBuf> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let beside = || {
        // A folder such as `.` has its name by the way that leads to it only.
        let folder = folder.canonicalize().ok()?;
        let ending = folder.file_name()?.to_str()?.strip_prefix(COMPONENT)?.to_owned();
        Some(folder.parent()?.join(format!("tokenizer{ending}")))
    };
    std::iter::once(folder.to_owned()).chain(beside()).collect()
}
