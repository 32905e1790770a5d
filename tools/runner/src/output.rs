//! Arrays to files.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::{Failure, Outcome, work};

/// An array file while it is written: under a temporary name, so that nothing half-written is ever left.
pub(crate) struct ArrayFile {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    done: bool,
}

impl ArrayFile {
    /// Starts the file at `path` for f32 values of `shape`; the name's ending says the format.
    pub(crate) fn create(path: &Path, shape: &[usize]) -> Outcome<Self> {
        let header = header(path, shape)?;
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".tmp{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let file = File::create(&temporary).map_err(|error| work(path.display(), error))?;
        let mut out = Self { path: path.to_owned(), temporary, file: BufWriter::new(file), done: false };
        out.file.write_all(&header).map_err(|error| work(path.display(), error))?;
        Ok(out)
    }

    /// Appends values, little-endian.
    pub(crate) fn write(&mut self, values: &[f32]) -> Outcome {
        let write = |file: &mut BufWriter<File>| -> io::Result<()> {
            values.iter().try_for_each(|value| file.write_all(&value.to_le_bytes()))
        };
        write(&mut self.file).map_err(|error| work(self.path.display(), error))
    }

    /// Gives the file its name.
    pub(crate) fn finish(mut self) -> Outcome {
        let finished = self.file.flush().and_then(|()| std::fs::rename(&self.temporary, &self.path));
        self.done = finished.is_ok();
        finished.map_err(|error| work(self.path.display(), error))
    }
}

impl Drop for ArrayFile {
    fn drop(&mut self) {
        if !self.done {
            // Already failing: whether the rest can be removed changes nothing.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// What stands before the values.
fn header(path: &Path, shape: &[usize]) -> Outcome<Vec<u8>> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("npy") => Ok(npy_header(shape)),
        Some("f32") => Ok(Vec::new()),
        _ => {
            Err(Failure::Usage(format!("{}: the name must end in .npy or .f32 (raw values)", path.display())))
        }
    }
}

/// NumPy's format 1.0: magic, version, length, a Python dictionary, padded so that values start at a multiple of 64.
fn npy_header(shape: &[usize]) -> Vec<u8> {
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({},), }}", sizes.join(", "));
    let padding = (10 + text.len() + 1).next_multiple_of(64) - (10 + text.len() + 1);
    text.push_str(&" ".repeat(padding));
    text.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((text.len() as u16).to_le_bytes());
    out.extend(text.as_bytes());
    out
}
