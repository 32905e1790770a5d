//! Named tensors in safetensors files: one file, or shards that an index lists. Headers are checked before anything else
//! is read; the values stay in the mapped file until they are asked for.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::Deserialize;

use crate::ir::Matrix;

pub mod foreign;

/// The longest header that is read. A checkpoint with two thousand tensors has one of 250 KB.
const MOST_HEADER: u64 = 16 << 20;

/// Tensors by name.
#[derive(Debug)]
pub struct Tensors {
    path: PathBuf,
    shards: Vec<Shard>,
    entries: BTreeMap<String, Entry>,
    /// Notes that the headers hold, which some programs keep settings in.
    notes: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    bytes: Mmap,
}

/// What a header says of a tensor.
#[derive(Clone, Debug)]
struct Entry {
    shard: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    range: std::ops::Range<usize>,
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Tensors {
    /// Opens a `.safetensors` file, or the shards of a `.safetensors.index.json`.
    ///
    /// # Errors
    /// When a file can't be read, is something else, is cut off, or has a header that lies. The message names the file.
    pub fn open(path: &Path) -> Result<Self> {
        let mut tensors = Tensors {
            path: path.to_owned(),
            shards: vec![],
            entries: BTreeMap::new(),
            notes: BTreeMap::new(),
        };
        if path.extension().is_some_and(|extension| extension == "json") {
            tensors.add_shards(path)?;
        } else {
            tensors.add(path)?;
        }
        Ok(tensors)
    }

    fn add_shards(&mut self, path: &Path) -> Result<()> {
        let named = || path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(named)?;
        let index: Index = serde_json::from_str(&text)
            .with_context(|| format!("{}: expected an object with \"weight_map\"", named()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut files: Vec<&String> = index.weight_map.values().collect();
        files.sort();
        files.dedup();
        for file in files {
            // A shard lies beside its index: anything else reaches into other people's files.
            let plain = Path::new(file).file_name().is_some_and(|name| name == file.as_str());
            ensure!(plain, "{}: the shard {file:?} is not a file beside the index", named());
            self.add(&folder.join(file)).with_context(|| format!("{}: a shard of it", named()))?;
        }
        for (name, file) in &index.weight_map {
            let there =
                self.entries.get(name).is_some_and(|entry| self.shards[entry.shard].path.ends_with(file));
            ensure!(there, "{}: the tensor {name:?} is not in {file}, where the index says it is", named());
        }
        Ok(())
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let named = || path.display().to_string();
        let file = File::open(path).with_context(|| format!("{}: cannot be opened", named()))?;
        ensure!(file.metadata().with_context(named)?.is_file(), "{}: not a file", named());
        // SAFETY: the mapping is private and read-only. Should somebody cut the file off while it is read, the system ends the
        // process; nothing is written by then but a temporary file.
        let bytes = unsafe { Mmap::map(&file) }.with_context(|| format!("{}: cannot be mapped", named()))?;
        if let Some(what) = foreign::identify(&bytes) {
            bail!("{}: {what}", named());
        }
        let header = header_bytes(&bytes).with_context(named)?;
        let (length, metadata) = SafeTensors::read_metadata(&bytes)
            .map_err(|error| explain(&error, &bytes))
            .with_context(named)?;
        debug_assert_eq!(length as u64, header);
        self.notes.extend(metadata.metadata().clone().into_iter().flatten());
        let base = 8 + length;
        let shard = self.shards.len();
        for (name, info) in metadata.tensors() {
            let range = base + info.data_offsets.0..base + info.data_offsets.1;
            let entry = Entry { shard, dtype: info.dtype, shape: info.shape.clone(), range };
            ensure!(
                self.entries.insert(name.clone(), entry).is_none(),
                "{}: the tensor {name:?} is in another shard too",
                named()
            );
        }
        self.shards.push(Shard { path: path.to_owned(), bytes });
        Ok(())
    }

    /// The file that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the header's `__metadata__` says under `key`.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.notes.get(key).map(String::as_str)
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Whether there is a tensor of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// The type that a tensor's values are stored as, as files call it: `F32`, `F16`, `BF16`…
    pub fn stored_as(&self, name: &str) -> Option<String> {
        self.entries.get(name).map(|entry| format!("{:?}", entry.dtype))
    }

    /// The values of a tensor, made f32, which is exact for 16-bit floats.
    ///
    /// # Errors
    /// When there is none of that name, it does not hold floats of 16, 32 or 64 bits, or one of them is no number.
    pub fn floats(&self, name: &str) -> Result<Vec<f32>> {
        let place = || format!("{}: {name}", self.path.display());
        let entry = self.entries.get(name).with_context(|| format!("{}: no such tensor", place()))?;
        let bytes = &self.shards[entry.shard].bytes[entry.range.clone()];
        let values: Vec<f32> = match entry.dtype {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F16 => bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::BF16 => {
                bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect()
            }
            Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            other => bail!(
                "{}: it is stored as {other:?}; cliptext reads F32, F16, BF16 and F64: take the file in one of these",
                place()
            ),
        };
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            bail!(
                "{}: value {at} is {}; the file is damaged or was saved from a broken run",
                place(),
                values[at]
            );
        }
        Ok(values)
    }

    /// The one number in a tensor of any type, integers included.
    ///
    /// # Errors
    /// When there is no tensor of that name, it has another number of values, or its value is no number.
    pub fn number(&self, name: &str) -> Result<f32> {
        let place = || format!("{}: {name}", self.path.display());
        let entry = self.entries.get(name).with_context(|| format!("{}: no such tensor", place()))?;
        let bytes = &self.shards[entry.shard].bytes[entry.range.clone()];
        let integer = match entry.dtype {
            Dtype::I8 => bytes.try_into().ok().map(|b| f32::from(i8::from_le_bytes(b))),
            Dtype::U8 => bytes.try_into().ok().map(|b| f32::from(u8::from_le_bytes(b))),
            Dtype::I16 => bytes.try_into().ok().map(|b| f32::from(i16::from_le_bytes(b))),
            Dtype::U16 => bytes.try_into().ok().map(|b| f32::from(u16::from_le_bytes(b))),
            Dtype::I32 => bytes.try_into().ok().map(|b| i32::from_le_bytes(b) as f32),
            Dtype::U32 => bytes.try_into().ok().map(|b| u32::from_le_bytes(b) as f32),
            Dtype::I64 => bytes.try_into().ok().map(|b| i64::from_le_bytes(b) as f32),
            Dtype::U64 => bytes.try_into().ok().map(|b| u64::from_le_bytes(b) as f32),
            _ => match self.floats(name)?.as_slice() {
                [number] => Some(*number),
                _ => None,
            },
        };
        let count: usize = entry.shape.iter().product();
        integer.with_context(|| format!("{}: expected one number, found {count}", place()))
    }

    /// A tensor of the shape `[rows, columns]`.
    ///
    /// # Errors
    /// As [`floats`](Self::floats), and when it has another number of axes.
    pub fn matrix(&self, name: &str) -> Result<Matrix> {
        match self.shape(name) {
            Some(&[rows, cols]) => Ok(Matrix { rows, cols, values: self.floats(name)? }),
            Some(shape) => {
                bail!("{}: {name}: expected a matrix, found the shape {shape:?}", self.path.display())
            }
            None => bail!("{}: {name}: no such tensor", self.path.display()),
        }
    }
}

/// The length of the header, if it can be one.
fn header_bytes(bytes: &[u8]) -> Result<u64> {
    let Some(length) = bytes.first_chunk().map(|length| u64::from_le_bytes(*length)) else {
        bail!("not a safetensors file: it has {} bytes; copy or download it again", bytes.len());
    };
    ensure!(
        bytes.get(8) == Some(&b'{'),
        "not a safetensors file: no header at its beginning; give a .safetensors or .onnx file, or a model's folder"
    );
    ensure!(
        length <= MOST_HEADER,
        "the header is said to have {length} bytes, which no model's has; the file is damaged"
    );
    ensure!(
        length < bytes.len() as u64,
        "cut off: the header has {length} bytes, the file {}; copy or download it again",
        bytes.len()
    );
    Ok(length)
}

fn explain(error: &SafeTensorError, bytes: &[u8]) -> anyhow::Error {
    use SafeTensorError as E;
    match error {
        E::MetadataIncompleteBuffer => anyhow::anyhow!(
            "the header speaks of other bytes than the file's {}: it is cut off, or something is appended; \
             copy or download it again",
            bytes.len()
        ),
        E::InvalidOffset(name) => anyhow::anyhow!(
            "the header lies: the tensor {name:?} overlaps another one, leaves a hole before it, or ends before it begins"
        ),
        E::TensorInvalidInfo => {
            anyhow::anyhow!("the header lies: a tensor's shape needs other bytes than it has")
        }
        E::ValidationOverflow => anyhow::anyhow!("the header lies: a tensor's shape overflows"),
        other => anyhow::anyhow!("not a sound safetensors header ({other})"),
    }
}

#[cfg(test)]
mod tests;
