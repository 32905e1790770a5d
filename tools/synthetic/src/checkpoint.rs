//! A tower as Hugging Face writes it: `config.json` and `model.safetensors`.

use crate::files;
use crate::options::{Activation, Dtype, Options};
use crate::{Error, Tensor, Tower};
use safetensors::{SafeTensorError, View};
use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::path::Path;

/// Writes both files into `folder`, which is made if it is not there.
///
/// # Errors
/// [`Error::Write`] names the file or folder that could not be written.
pub fn write(tower: &Tower, folder: &Path) -> Result<(), Error> {
    let failed = |path: &Path, cause: io::Error| Error::Write { path: path.to_owned(), cause };
    std::fs::create_dir_all(folder).map_err(|cause| failed(folder, cause))?;
    let path = folder.join("model.safetensors");
    // Value by value, since a model may be large; it writes beside the path and renames, as `files::write` does.
    safetensors::serialize_to_file(views(tower), metadata(), &path)
        .map_err(|error| failed(&path, plain(error)))?;
    files::share(&path).map_err(|cause| failed(&path, cause))?;
    files::write(&folder.join("config.json"), config(&tower.options).as_bytes())
}

/// The bytes of `model.safetensors`.
pub fn safetensors(tower: &Tower) -> Vec<u8> {
    safetensors::serialize(views(tower), metadata()).expect("names are unique and shapes cover the values")
}

/// The text of `config.json`.
pub fn config(options: &Options) -> String {
    let Options { width, layers, heads, mlp, vocab, positions, bos_token_id, eos_token_id, .. } = options;
    let architecture = match options.projection {
        Some(_) => "CLIPTextModelWithProjection",
        None => "CLIPTextModel",
    };
    let projection = options.projection.unwrap_or(*width);
    let activation = match options.activation {
        Activation::QuickGelu => "quick_gelu",
        Activation::Gelu => "gelu",
    };
    let dtype = match options.dtype {
        Dtype::F32 => "float32",
        Dtype::F16 => "float16",
    };
    format!(
        r#"{{
  "architectures": [
    "{architecture}"
  ],
  "attention_dropout": 0.0,
  "bos_token_id": {bos_token_id},
  "dropout": 0.0,
  "eos_token_id": {eos_token_id},
  "hidden_act": "{activation}",
  "hidden_size": {width},
  "initializer_factor": 1.0,
  "initializer_range": 0.02,
  "intermediate_size": {mlp},
  "layer_norm_eps": 1e-05,
  "max_position_embeddings": {positions},
  "model_type": "clip_text_model",
  "num_attention_heads": {heads},
  "num_hidden_layers": {layers},
  "pad_token_id": 1,
  "projection_dim": {projection},
  "torch_dtype": "{dtype}",
  "vocab_size": {vocab}
}}
"#
    )
}

/// What every published checkpoint says about itself.
fn metadata() -> Option<HashMap<String, String>> {
    Some(HashMap::from([("format".to_owned(), "pt".to_owned())]))
}

/// All that the file holds, by name.
fn views(tower: &Tower) -> Vec<(&str, Stored<'_>)> {
    let dtype = tower.options.dtype;
    let mut views: Vec<_> =
        tower.tensors.iter().map(|tensor| (tensor.name.as_str(), Stored::Float(tensor, dtype))).collect();
    if tower.options.position_ids {
        let positions = tower.options.positions;
        views.push(("text_model.embeddings.position_ids", Stored::PositionIds([1, positions])));
    }
    views
}

/// A tensor of the file.
enum Stored<'a> {
    Float(&'a Tensor, Dtype),
    /// `0, 1, 2, …` of this shape, int64.
    PositionIds([usize; 2]),
}

impl View for Stored<'_> {
    fn dtype(&self) -> safetensors::Dtype {
        match self {
            Self::Float(_, Dtype::F32) => safetensors::Dtype::F32,
            Self::Float(_, Dtype::F16) => safetensors::Dtype::F16,
            Self::PositionIds(_) => safetensors::Dtype::I64,
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Self::Float(tensor, _) => &tensor.shape,
            Self::PositionIds(shape) => shape,
        }
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Float(tensor, Dtype::F32) => little_endian(&tensor.values),
            Self::Float(tensor, Dtype::F16) => {
                tensor.values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect()
            }
            Self::PositionIds([_, positions]) => (0..*positions as i64).flat_map(i64::to_le_bytes).collect(),
        }
    }

    fn data_len(&self) -> usize {
        self.shape().iter().product::<usize>() * self.dtype().bitsize() / 8
    }
}

/// The bytes of single-precision values; no copy on the machines that everybody has.
pub(crate) fn little_endian(values: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(bytemuck::cast_slice(values))
    } else {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }
}

/// The cause alone, where there is one: the caller names the file.
fn plain(error: SafeTensorError) -> io::Error {
    match error {
        SafeTensorError::IoError(cause) => cause,
        other => io::Error::other(other),
    }
}
