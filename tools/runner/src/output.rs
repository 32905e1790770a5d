//! Arrays to files.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cliptext_files::{WholeFile, npy};

use crate::{Failure, Outcome, work};

/// An array file while it is written.
pub(crate) struct ArrayFile {
    path: PathBuf,
    file: WholeFile,
}

impl ArrayFile {
    /// Starts the file at `path` for f32 values of `shape`; the name's ending says the format.
    pub(crate) fn create(path: &Path, shape: &[usize]) -> Outcome<Self> {
        let header = header(path, shape)?;
        let create = || -> io::Result<WholeFile> {
            let mut file = WholeFile::create(path)?;
            file.write_all(&header)?;
            Ok(file)
        };
        let file = create().map_err(|error| work(path.display(), error))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends values, little-endian.
    pub(crate) fn write(&mut self, values: &[f32]) -> Outcome {
        let mut written = values.iter().map(|value| self.file.write_all(&value.to_le_bytes()));
        written.try_for_each(|result| result).map_err(|error| work(self.path.display(), error))
    }

    /// Gives the file its name.
    pub(crate) fn finish(self) -> Outcome {
        self.file.finish().map_err(|error| work(self.path.display(), error))
    }
}

/// What stands before the values.
fn header(path: &Path, shape: &[usize]) -> Outcome<Vec<u8>> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("npy") => Ok(npy::header(shape)),
        Some("f32") => Ok(Vec::new()),
        _ => {
            Err(Failure::Usage(format!("{}: the name must end in .npy or .f32 (raw values)", path.display())))
        }
    }
}
