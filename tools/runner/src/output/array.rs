//! Arrays: NumPy's and raw ones.

use std::io::Write;
use std::path::{Path, PathBuf};

use cliptext_files::floats::Float;
use cliptext_files::{Output, Spool, npy};

use super::name::shown as shown_path;
use crate::failure::{Failure, Outcome, work};
use crate::prompts::shown;

/// An array while it is written: `[prompts, …]`, one prompt after the other.
pub(crate) struct ArrayFile {
    path: PathBuf,
    file: Output,
    float: Float,
    is_npy: bool,
    /// How many prompts there will be, where it is known.
    total: Option<usize>,
    /// The shape of what a prompt has; of all the same.
    shape: Option<Vec<usize>>,
    written: usize,
    /// The values, where the header stands before them and can't be written yet.
    waiting: Option<Spool>,
    bytes: Vec<u8>,
}

impl ArrayFile {
    /// Starts the file at `path`.
    pub(crate) fn create(path: &Path, is_npy: bool, float: Float, total: Option<usize>) -> Outcome<Self> {
        let file = Output::create(path).map_err(|error| work(shown_path(path), error))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            float,
            is_npy,
            total,
            shape: None,
            written: 0,
            waiting: None,
            bytes: Vec::new(),
        })
    }

    /// Appends what a prompt has, `values` of `shape`.
    pub(crate) fn write(&mut self, prompt: &str, shape: &[usize], values: &[f32]) -> Outcome {
        match &self.shape {
            None => self.begin(shape)?,
            Some(first) if first != shape => return Err(Failure::Work(self.other_shape(first, shape))),
            _ => {}
        }
        self.bytes.clear();
        to_bytes(self.float, values, prompt, shape, &mut self.bytes)
            .map_err(|error| work(shown_path(&self.path), error))?;
        self.written += 1;
        let result = match &mut self.waiting {
            Some(spool) => {
                let was_in_file = spool.is_in_file();
                let result = spool.write_all(&self.bytes);
                if spool.is_in_file() && !was_in_file {
                    cliptext_files::to_stderr!(
                        "cliptext-run: {}: how many prompts will come is not known, and .npy says it first: the array is kept in \
                         a temporary file until the last one (--format f32 needs no waiting)",
                        shown_path(&self.path)
                    );
                }
                result
            }
            // A program at the other end of a pipe waits for the prompt's last byte.
            None if !self.file.is_regular() => {
                self.file.write_all(&self.bytes).and_then(|()| self.file.flush())
            }
            None => self.file.write_all(&self.bytes),
        };
        result.map_err(|error| work(shown_path(&self.path), error))
    }

    /// The header, or room for it; without a place for that, the values have to wait.
    fn begin(&mut self, shape: &[usize]) -> Outcome {
        self.shape = Some(shape.to_vec());
        if !self.is_npy {
            return Ok(());
        }
        if self.total.is_none() && !self.file.is_regular() {
            self.waiting = Some(Spool::before(&self.file));
            return Ok(());
        }
        let header = self.header(self.total.unwrap_or(0));
        self.file.write_all(&header).map_err(|error| work(shown_path(&self.path), error))
    }

    fn header(&self, prompts: usize) -> Vec<u8> {
        let shape: Vec<usize> =
            std::iter::once(prompts).chain(self.shape.iter().flatten().copied()).collect();
        npy::header(self.float, &shape)
    }

    fn other_shape(&self, first: &[usize], shape: &[usize]) -> String {
        format!(
            "{}: prompts of {} and of {} tokens don't fit one array: write a file for each (-o 'x{{n}}.npy') or JSON, or pad them",
            shown_path(&self.path),
            first.first().unwrap_or(&0),
            shape.first().unwrap_or(&0)
        )
    }

    /// Writes out all that is in memory: a full disk is found before any of several files gets its name.
    pub(crate) fn complete(&mut self) -> Outcome {
        let header = self.header(self.written);
        let complete = || {
            if let Some(spool) = &mut self.waiting {
                self.file.write_all(&header)?;
                spool.pour(&mut self.file)?;
            } else if self.is_npy && self.total != Some(self.written) {
                self.file.rewrite_start(&header)?;
            }
            self.file.flush()
        };
        let mut complete = complete;
        complete().map_err(|error| work(shown_path(&self.path), error))
    }

    /// Gives the file its name.
    pub(crate) fn finish(self) -> Outcome {
        self.file.finish().map_err(|error| work(shown_path(&self.path), error))
    }
}

/// Appends `values`, of `shape`, to `out`.
///
/// # Errors
/// Where f16 has no number for one: its place, and what to do.
pub(super) fn to_bytes(
    float: Float,
    values: &[f32],
    prompt: &str,
    shape: &[usize],
    out: &mut Vec<u8>,
) -> Result<(), String> {
    float.append(values, out).map_err(|error| {
        let columns = shape.last().copied().unwrap_or(1).max(1);
        let (row, column) = (error.index / columns, error.index % columns);
        format!(
            "{}: {} in row {row}, column {column} is beyond f16, whose largest value is {}: write f32",
            shown(prompt),
            error.value,
            Float::LARGEST
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_f16_can_not_hold_is_told_by_its_place_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.npy");
        let mut file = ArrayFile::create(&path, true, Float::F16, None).unwrap();
        file.write("a cat", &[2, 2], &[0.0, 65504.0, f32::NEG_INFINITY, f32::NAN]).unwrap();
        let Err(Failure::Work(error)) = file.write("a dog", &[2, 2], &[0.0, 1.0, 2.0, -70000.0]) else {
            panic!("it has to be refused");
        };
        assert!(
            error.ends_with(
                "x.npy: \"a dog\": -70000 in row 1, column 1 is beyond f16, whose largest value is 65504: write f32"
            ),
            "{error}"
        );
        drop(file);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
