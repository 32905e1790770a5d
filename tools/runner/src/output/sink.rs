//! One file, whatever its format.

use std::path::Path;

use super::array::ArrayFile;
use super::encoded::{About, Encoded};
use super::format::Format;
use super::json::JsonFile;
use super::safetensors::SafetensorsFile;
use crate::failure::Outcome;

/// What of an embedding an array holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Hidden,
    Pooled,
}

/// A file while it is written.
pub(super) enum Sink {
    Array(ArrayFile, What),
    Safetensors(Box<SafetensorsFile>),
    Json(JsonFile),
}

impl Sink {
    /// Starts the file at `path`, for `total` prompts, the negative one counted, where it is known.
    pub(super) fn create(
        path: &Path,
        format: Format,
        what: What,
        about: &About,
        total: Option<usize>,
    ) -> Outcome<Self> {
        Ok(match format {
            Format::Npy(float) => Sink::Array(ArrayFile::create(path, true, float, total)?, what),
            Format::Raw(float) => Sink::Array(ArrayFile::create(path, false, float, total)?, what),
            Format::Safetensors(float) => {
                Sink::Safetensors(Box::new(SafetensorsFile::create(path, float, about)?))
            }
            Format::Json => Sink::Json(JsonFile::create(path, about)?),
        })
    }

    /// Appends a prompt.
    pub(super) fn write(&mut self, encoded: &Encoded<'_>) -> Outcome {
        match self {
            Sink::Array(file, What::Hidden) => {
                file.write(encoded.text, &[encoded.tokens(), encoded.width], encoded.hidden)
            }
            Sink::Array(file, What::Pooled) => {
                let pooled = encoded.pooled.unwrap_or_default();
                file.write(encoded.text, &[pooled.len()], pooled)
            }
            Sink::Safetensors(file) => file.write(encoded),
            Sink::Json(file) => file.write(encoded),
        }
    }

    /// Writes all bytes that are left.
    pub(super) fn complete(&mut self) -> Outcome {
        match self {
            Sink::Array(file, _) => file.complete(),
            Sink::Safetensors(file) => file.complete(),
            Sink::Json(file) => file.complete(),
        }
    }

    /// Gives the file its name.
    pub(super) fn finish(self) -> Outcome {
        match self {
            Sink::Array(file, _) => file.finish(),
            Sink::Safetensors(file) => file.finish(),
            Sink::Json(file) => file.finish(),
        }
    }
}
