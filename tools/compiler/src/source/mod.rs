//! Where a model comes from: a path, or a name on the hub.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::progress::Progress;

pub mod hub;

/// The path of `model` on this machine: the path itself, or, for a name such as `hf:OWNER/REPO`, where the hub's files
/// were put. A file whose own name begins with `hf:` is reached as `./hf:…`.
///
/// # Errors
/// When the name is none, or what it names cannot be fetched.
pub fn local(model: &Path, progress: &Progress) -> Result<PathBuf> {
    match model.to_str().filter(|text| hub::HubName::is_one(text)) {
        Some(text) => hub::fetch(&hub::HubName::parse(text)?, &hub::Settings::from_env()?, progress),
        None => Ok(model.to_owned()),
    }
}
