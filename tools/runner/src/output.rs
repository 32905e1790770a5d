//! Arrays to files.

use std::io::Write;
use std::path::{Path, PathBuf};

use cliptext_files::{Output, npy};

use crate::failure::{Failure, Outcome, work};

/// An array file while it is written.
pub(crate) struct ArrayFile {
    path: PathBuf,
    file: Output,
}

impl ArrayFile {
    /// Starts the file at `path` for f32 values of `shape`; the name's ending says the format, but of a pipe or a device.
    pub(crate) fn create(path: &Path, shape: &[usize]) -> Outcome<Self> {
        let header = header(path, shape)?;
        let create = || {
            let mut file = Output::create(path)?;
            file.write_all(&header)?;
            Ok(file)
        };
        let file = create().map_err(|error: std::io::Error| work(path.display(), error))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// The path that was given.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends values, little-endian.
    pub(crate) fn write(&mut self, values: &[f32]) -> Outcome {
        let mut written = values.iter().map(|value| self.file.write_all(&value.to_le_bytes()));
        written.try_for_each(|result| result).map_err(|error| work(self.path.display(), error))
    }

    /// Writes out what is in memory: a full disk is found before any of several files gets its name.
    pub(crate) fn flush(&mut self) -> Outcome {
        self.file.flush().map_err(|error| work(self.path.display(), error))
    }

    /// Gives the file its name.
    pub(crate) fn finish(self) -> Outcome {
        self.file.finish().map_err(|error| work(self.path.display(), error))
    }
}

/// The bytes before the values.
fn header(path: &Path, shape: &[usize]) -> Outcome<Vec<u8>> {
    let is_special = std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir());
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("f32") => Ok(Vec::new()),
        Some("npy") => Ok(npy::header(shape)),
        _ if is_special || cliptext_files::is_stdout(path) => Ok(npy::header(shape)),
        _ => {
            Err(Failure::Usage(format!("{}: the name must end in .npy or .f32 (raw values)", path.display())))
        }
    }
}
