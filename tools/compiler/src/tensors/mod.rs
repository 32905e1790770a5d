//! Named tensors in safetensors files: one file, or shards that an index lists. Headers are checked before anything else
//! is read; the values stay in the file until they are asked for, one tensor at a time.
//!
//! Files are read and never mapped: when somebody changes one meanwhile, or a disk fails, that is an error with the file's name
//! in it, where a mapped file would end the process with a bus error or change under a check that it has passed. It costs a copy
//! of one tensor, and nothing of the rest of a checkpoint is touched.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError};
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
    /// Reading moves the file's place, which is why one reads at a time.
    file: Mutex<File>,
}

impl Shard {
    /// The bytes in `range` of the file.
    fn read(&self, range: &std::ops::Range<usize>) -> std::io::Result<Vec<u8>> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(range.start as u64))?;
        let mut bytes = vec![0; range.len()];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
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
    /// When a file can't be read, is something else, is cut off, or has a header that contradicts itself or the
    /// file's length. The message names the file.
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
        let text = cliptext_files::read_whole_text(path).with_context(named)?;
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
        let mut file = File::open(path).with_context(|| format!("{}: cannot be opened", named()))?;
        let found = file.metadata().with_context(named)?;
        ensure!(found.is_file(), "{}: not a file", named());
        let length = usize::try_from(found.len())
            .with_context(|| format!("{}: too long for this machine's addresses", named()))?;
        let mut head = Vec::new();
        file.by_ref().take(HEAD).read_to_end(&mut head).with_context(named)?;
        if let Some(what) = foreign::identify(&head, path) {
            bail!("{}: {what}", named());
        }
        let header = header_length(&head, length).with_context(named)?;
        let shard = self.shards.len();
        let this = Shard { path: path.to_owned(), file: Mutex::new(file) };
        let base = HEADER_AT + header;
        let header = this.read(&(HEADER_AT..base)).with_context(|| format!("{}: cannot be read", named()))?;
        let metadata =
            metadata(&header, length - base).map_err(|error| explain(&error, length)).with_context(named)?;
        self.notes.extend(metadata.metadata().clone().into_iter().flatten());
        for (name, info) in metadata.tensors() {
            let range = base + info.data_offsets.0..base + info.data_offsets.1;
            let entry = Entry { shard, dtype: info.dtype, shape: info.shape.clone(), range };
            ensure!(
                self.entries.insert(name.clone(), entry).is_none(),
                "{}: the tensor {name:?} is in another shard too",
                named()
            );
        }
        self.shards.push(this);
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

    /// Whether a tensor holds numbers with fractions, as weights do; indices, masks and sizes are whole numbers.
    pub fn holds_floats(&self, name: &str) -> bool {
        use Dtype::{BOOL, I8, I16, I32, I64, U8, U16, U32, U64};
        let whole = [BOOL, U8, I8, U16, I16, U32, I32, U64, I64];
        self.entries.get(name).is_some_and(|entry| !whole.contains(&entry.dtype))
    }

    /// What all names begin with, up to and with a dot; empty if nothing is shared.
    pub fn shared_prefix(&self) -> &str {
        let (Some((first, _)), Some((last, _))) =
            (self.entries.first_key_value(), self.entries.last_key_value())
        else {
            return "";
        };
        // Of sorted names the first and the last differ most.
        let shared = first.bytes().zip(last.bytes()).take_while(|(a, b)| a == b).count();
        first.as_bytes()[..shared].iter().rposition(|byte| *byte == b'.').map_or("", |dot| &first[..=dot])
    }

    /// The values of a tensor, made f32, which is exact for 16-bit floats.
    ///
    /// # Errors
    /// When there is none of that name, it does not hold floats of 16, 32 or 64 bits, or one of them is no number.
    pub fn floats(&self, name: &str) -> Result<Vec<f32>> {
        let place = || format!("{}: {name}", self.path.display());
        let entry = self.entry(name)?;
        let bytes = self.bytes(name, entry)?;
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
        let entry = self.entry(name)?;
        let count: usize = entry.shape.iter().product();
        let place = || format!("{}: {name}: expected one number, found {count}", self.path.display());
        ensure!(count == 1, "{}", place());
        let bytes = self.bytes(name, entry)?;
        let bytes = bytes.as_slice();
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
        integer.with_context(place)
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries.get(name).with_context(|| format!("{}: {name}: no such tensor", self.path.display()))
    }

    fn bytes(&self, name: &str, entry: &Entry) -> Result<Vec<u8>> {
        let shard = &self.shards[entry.shard];
        shard.read(&entry.range).with_context(|| {
            format!(
                "{}: {name}: cannot be read any more; was the file changed meanwhile?",
                shard.path.display()
            )
        })
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

/// A header as JSON.
#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    notes: Option<HashMap<String, String>>,
    #[serde(flatten)]
    tensors: HashMap<String, TensorInfo>,
}

/// Where the header begins, behind its length.
const HEADER_AT: usize = 8;

/// How much of a file tells what it is.
const HEAD: u64 = 64;

/// The length of the header of a file of `length` bytes, whose first are `head`.
fn header_length(head: &[u8], length: usize) -> Result<usize> {
    let Some(header) = head.first_chunk().map(|header| u64::from_le_bytes(*header)) else {
        bail!("not a safetensors file: it has {length} bytes; copy or download it again");
    };
    ensure!(
        head.get(HEADER_AT) == Some(&b'{'),
        "not a safetensors file: no header at its beginning; give a .safetensors or .onnx file, or a model's folder"
    );
    ensure!(
        header <= MOST_HEADER,
        "the header is said to have {header} bytes, which no model's has; the file is damaged"
    );
    ensure!(
        header <= (length - HEADER_AT) as u64,
        "cut off: the header has {header} bytes, the file {length}; copy or download it again"
    );
    Ok(header as usize)
}

/// The header, if its tensors fill `data` bytes without a hole.
fn metadata(header: &[u8], data: usize) -> Result<Metadata, SafeTensorError> {
    let header = std::str::from_utf8(header).map_err(SafeTensorError::InvalidHeader)?;
    let Header { notes, tensors } =
        serde_json::from_str(header).map_err(SafeTensorError::InvalidHeaderDeserialization)?;
    let mut tensors: Vec<(String, TensorInfo)> = tensors.into_iter().collect();
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    // It looks for holes and overlaps, and whether shapes and bytes agree.
    let metadata = Metadata::new(notes, tensors)?;
    if metadata.data_len() != data {
        return Err(SafeTensorError::MetadataIncompleteBuffer);
    }
    Ok(metadata)
}

fn explain(error: &SafeTensorError, length: usize) -> anyhow::Error {
    use SafeTensorError as E;
    match error {
        E::MetadataIncompleteBuffer => anyhow::anyhow!(
            "the header describes another number of bytes than the file's {}: it is cut off, or something is appended; \
             copy or download it again",
            length
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
