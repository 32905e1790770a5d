//! What belongs to weights in the same folder: their configuration and their tokenizer.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::import::safetensors::config::Config;
use crate::import::safetensors::naming::Naming;

/// What every text encoder's folder in a pipeline begins with; the tokenizer's has the same ending.
pub const COMPONENT: &str = "text_encoder";

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
    let holds = |folder: &Path| {
        folder.join("tokenizer.json").is_file()
            || folder.join("merges.txt").is_file() && folder.join("vocab.json").is_file()
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if holds(folder) {
        return Some(folder.to_owned());
    }
    // A folder such as `.` has its name by the way that leads to it only.
    let folder = folder.canonicalize().ok()?;
    let name = folder.file_name()?.to_str()?;
    let beside = folder.parent()?.join(format!("tokenizer{}", name.strip_prefix(COMPONENT)?));
    holds(&beside).then_some(beside)
}
