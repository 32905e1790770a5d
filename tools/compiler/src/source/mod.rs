//! What a user named, and which text towers it holds: a file, a model's folder, a pipeline's folder, or a name on the
//! hub, whose files are fetched first.
//!
//! Nothing but headers and configurations is read here, so that a model can be looked at without compiling it.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, ensure};

mod beside;
mod contents;
mod file;
mod folder;
pub mod hub;
pub mod image;
mod tower;

use crate::ir::{Activation, Modality};
use crate::progress::Progress;
use file::{Opened, file_name};
pub use tower::{NamedTower, Source, SourceTower, Weights};

/// Looks at what `model` names: a path, or a name such as `hf:OWNER/REPO`, whose files are fetched from the hub first. A
/// file whose own name begins with `hf:` is reached as `./hf:…`.
///
/// `activation` is what the user says that its layers have, for files that don't tell.
///
/// A pipe can be read once only, so what comes out of it is kept in a temporary file as long as the source is.
///
/// # Errors
/// When the name is none, what it names cannot be fetched, or as [`Source::open`].
pub fn open(model: &Path, activation: Option<Activation>, progress: &Progress) -> Result<Source> {
    if let Some(fetched) = hub::fetched(model, Modality::Text, progress)? {
        return Source::open_as(&fetched, activation);
    }
    if !std::fs::metadata(model).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return Source::open_as(model, activation);
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
    Ok(Source { _kept: Some(folder), ..Source::open_as(&path, activation).with_context(named)? })
}

impl Source {
    /// Looks at the file or folder at `path`.
    ///
    /// # Errors
    /// When there is no CLIP text tower: the message says what was found instead, and what to try.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_as(path, None)
    }

    /// The same, of a model whose layers have that activation, where the user says so.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when it is a graph, which has its own.
    pub fn open_as(path: &Path, activation: Option<Activation>) -> Result<Self> {
        ensure!(path.exists(), "{}: there is no such file or folder", path.display());
        let mut source =
            if path.is_dir() { folder::open(path, activation)? } else { open_file(path, activation)? };
        // A stable sort: towers of unknown width keep the order that their names gave them.
        source.towers.sort_by_key(|tower| tower.width().unwrap_or(0));
        Ok(source)
    }
}

fn open_file(path: &Path, activation: Option<Activation>) -> Result<Source> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let Opened { towers, preset, kind, notes } = file::open(path, folder, activation)?;
    Ok(Source { path: path.to_owned(), kind: kind.into(), preset, towers, notes, _kept: None })
}
