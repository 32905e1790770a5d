//! NumPy's `.npy` files, for tests: what can't be read is a panic.

use std::path::Path;

use cliptext_files::npy::{Values, parse};

/// An array out of an `.npy` file.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    values: Values,
}

impl Array {
    /// Reads a file.
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let array = parse(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Array { shape: array.shape, values: array.values }
    }

    /// The values, row after row.
    pub fn f32(&self) -> &[f32] {
        match &self.values {
            Values::F32(values) => values,
            Values::Integer(_) => panic!("an array of integers where f32 was expected"),
        }
    }

    /// The values as token ids.
    pub fn u32(&self) -> Vec<u32> {
        match &self.values {
            Values::Integer(values) => {
                values.iter().map(|&v| u32::try_from(v).expect("a token id")).collect()
            }
            Values::F32(_) => panic!("an array of f32 where integers were expected"),
        }
    }
}
