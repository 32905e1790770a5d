//! Image embeddings in files: NumPy arrays and safetensors files.

use std::path::Path;

use cliptext_files::npy;
use half::f16;
use safetensors::{Dtype, SafeTensors};

use crate::failure::{Outcome, work};

/// What transformers and others call image embeddings.
const USUAL_NAME: &str = "image_embeds";

/// Directions of images in the space that they share with texts: rows of unit length.
pub(crate) struct Images {
    pub(crate) rows: Vec<Vec<f64>>,
}

/// An array of `shape`.
struct Array {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Images {
    /// The embeddings in the file at `path`, `[n, width]` or `[width]`, each brought to unit length.
    pub(crate) fn read(path: &Path, width: usize) -> Outcome<Self> {
        let failure = |error: &dyn std::fmt::Display| work(path.display(), error);
        let bytes = std::fs::read(path).map_err(|error| failure(&error))?;
        array(&bytes).and_then(|array| Self::of(array, width)).map_err(|error| failure(&error))
    }

    /// Whether the file at `path` holds embeddings, or something else. What can be read once only is taken for embeddings.
    #[cfg(feature = "pictures")]
    pub(crate) fn are_in(path: &Path) -> Outcome<bool> {
        use std::io::Read as _;
        /// Enough to tell them from pictures.
        const HEAD: u64 = 16;
        let begins = || {
            let file = std::fs::File::open(path)?;
            if !file.metadata()?.is_file() {
                return Ok(true);
            }
            let mut head = Vec::new();
            file.take(HEAD).read_to_end(&mut head)?;
            Ok(npy::is_npy(&head) || head.get(8) == Some(&b'{'))
        };
        begins().map_err(|error: std::io::Error| work(path.display(), error))
    }

    fn of(Array { shape, values }: Array, width: usize) -> Result<Self, String> {
        let columns = match shape[..] {
            [columns] | [_, columns] => columns,
            _ => return Err(format!("an array of shape {shape:?} instead of [n, {width}] or [{width}]")),
        };
        if columns != width {
            return Err(format!(
                "embeddings of {columns} values, the plan's have {width}: use the image encoder of the same model"
            ));
        }
        if values.is_empty() {
            return Err(format!("an array of shape {shape:?}: no embedding in it"));
        }
        let rows = values
            .chunks_exact(width)
            .enumerate()
            .map(|(index, row)| direction(row).map_err(|why| format!("row {index} {why}")));
        Ok(Self { rows: rows.collect::<Result<_, _>>()? })
    }
}

/// A vector brought to unit length.
pub(crate) fn direction(vector: &[f32]) -> Result<Vec<f64>, &'static str> {
    if vector.iter().any(|value| !value.is_finite()) {
        return Err("has a value that is not finite (NaN or infinity)");
    }
    let length = vector.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    if length == 0.0 {
        return Err("is all zeros: it has no direction");
    }
    Ok(vector.iter().map(|&value| f64::from(value) / length).collect())
}

fn array(bytes: &[u8]) -> Result<Array, String> {
    if !npy::is_npy(bytes) {
        return tensor(bytes);
    }
    let npy::Array { shape, values } = npy::parse(bytes).map_err(|error| error.to_string())?;
    match values {
        npy::Values::F32(values) => Ok(Array { shape, values }),
        npy::Values::Integer(_) => Err("values of an integer type instead of float32 or float16".into()),
    }
}

/// The only tensor of a safetensors file, or the one with the usual name.
fn tensor(bytes: &[u8]) -> Result<Array, String> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| format!("neither an .npy nor a safetensors file that can be read ({error})"))?;
    let names = file.names();
    let name = match names[..] {
        [only] => only,
        _ if names.contains(&USUAL_NAME) => {
            cliptext_files::to_stderr!(
                "cliptext-run: of the images' {} tensors {USUAL_NAME} is taken",
                names.len()
            );
            USUAL_NAME
        }
        [] => return Err("no tensor in the file".into()),
        _ => {
            return Err(format!(
                "{} tensors, none of them called {USUAL_NAME}: {}",
                names.len(),
                some(&names)
            ));
        }
    };
    let tensor = file.tensor(name).map_err(|error| error.to_string())?;
    let values = match tensor.dtype() {
        Dtype::F32 => numbers(tensor.data()).map(f32::from_le_bytes).collect(),
        Dtype::F16 => numbers(tensor.data()).map(|bytes| f16::from_le_bytes(bytes).to_f32()).collect(),
        other => return Err(format!("{name} has values of type {other:?} instead of F32 or F16")),
    };
    Ok(Array { shape: tensor.shape().to_vec(), values })
}

/// The first few names.
fn some(names: &[&str]) -> String {
    let mut names = names.to_vec();
    names.sort_unstable();
    let more = if names.len() > 5 { ", …" } else { "" };
    names.truncate(5);
    names.join(", ") + more
}

fn numbers<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> {
    data.as_chunks::<N>().0.iter().copied()
}
