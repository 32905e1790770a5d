//! The files that the compiler writes.

use std::path::Path;

use anyhow::{Context, Result};

/// Whether `path` can be written to: asked before a compile, which takes minutes.
///
/// # Errors
/// When its folder is missing or can't be written to, or it is a folder itself; the error names the file.
pub fn check(path: &Path) -> Result<()> {
    cliptext_files::Output::check(path).with_context(|| cannot(path))
}

/// Writes `bytes` to `path`: a file is replaced at once or not at all, a pipe or a device gets them directly.
///
/// # Errors
/// When that can't be done; the error names the file.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    cliptext_files::write(path, bytes).with_context(|| cannot(path))
}

fn cannot(path: &Path) -> String {
    format!("{}: cannot be written", path.display())
}
