//! Tensors under the names that diffusers gives them.
//!
//! Format: <https://github.com/huggingface/safetensors#format>. The names stand first and the tensors one after the other,
//! so that the values of several prompts wait in a spool until the last is there.

use std::io::Write;
use std::path::{Path, PathBuf};

use cliptext_files::floats::Float;
use cliptext_files::{Output, Spool};
use serde_json::{Map, Value, json};

use super::array::to_bytes;
use super::encoded::{About, Encoded};
use super::name::shown as shown_path;
use crate::failure::{Failure, Outcome, work};

/// The longest header that the readers of the format accept is 100 MB; some of it is left for all but the prompts.
const LONGEST_PROMPTS: usize = 99_000_000;

/// Values start at a multiple of this: readers map the file.
const ALIGN: usize = 64;

/// A safetensors file while it is written.
pub(super) struct SafetensorsFile {
    path: PathBuf,
    file: Output,
    float: Float,
    about: About,
    hidden: Batch,
    pooled: Batch,
    /// The prompts as a JSON array that is not closed.
    prompts: String,
    /// What they take in the header, where they are a string.
    prompts_length: usize,
    first: Option<String>,
    negative: Option<Negative>,
    written: usize,
}

/// A tensor `[prompts, …]`.
struct Batch {
    /// The shape of what a prompt has; of all the same.
    shape: Vec<usize>,
    bytes: Spool,
}

struct Negative {
    text: String,
    hidden: Tensor,
    pooled: Option<Tensor>,
}

struct Tensor {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl SafetensorsFile {
    pub(super) fn create(path: &Path, float: Float, about: &About) -> Outcome<Self> {
        let file = Output::create(path).map_err(|error| work(shown_path(path), error))?;
        let batch = || Batch { shape: Vec::new(), bytes: Spool::before(&file) };
        Ok(Self {
            path: path.to_owned(),
            float,
            about: about.clone(),
            hidden: batch(),
            pooled: batch(),
            prompts: "[".into(),
            prompts_length: 0,
            first: None,
            negative: None,
            written: 0,
            file,
        })
    }

    /// Takes a prompt, or the negative one.
    pub(super) fn write(&mut self, encoded: &Encoded<'_>) -> Outcome {
        let failure = |error: &dyn std::fmt::Display| work(shown_path(&self.path), error);
        let tensor = |shape: &[usize], values: &[f32]| {
            let mut bytes = Vec::new();
            to_bytes(self.float, values, encoded.text, shape, &mut bytes).map_err(|error| failure(&error))?;
            Ok(Tensor { shape: shape.to_vec(), bytes })
        };
        let hidden = tensor(&[encoded.tokens(), encoded.width], encoded.hidden)?;
        let pooled = encoded.pooled.map(|values| tensor(&[values.len()], values)).transpose()?;
        if encoded.is_negative {
            self.negative = Some(Negative { text: encoded.text.to_owned(), hidden, pooled });
            return Ok(());
        }
        if self.written > 0 && self.hidden.shape != hidden.shape {
            let tokens = |shape: &[usize]| shape.first().copied().unwrap_or(0);
            return Err(failure(&format_args!(
                "prompts of {} and of {} tokens don't fit one tensor: write a file for each (-o 'x{{n}}.safetensors') or JSON, or \
                 pad them",
                tokens(&self.hidden.shape),
                tokens(&hidden.shape)
            )));
        }
        self.remember(encoded.text)?;
        for (batch, tensor) in [(&mut self.hidden, Some(hidden)), (&mut self.pooled, pooled)] {
            if let Some(Tensor { shape, bytes }) = tensor {
                batch.shape = shape;
                batch.bytes.write_all(&bytes).map_err(|error| work(shown_path(&self.path), error))?;
            }
        }
        self.written += 1;
        Ok(())
    }

    /// Keeps a prompt's text for the header.
    fn remember(&mut self, text: &str) -> Outcome {
        let quoted = Value::from(text).to_string();
        self.prompts_length += Value::from(quoted.as_str()).to_string().len();
        if self.prompts_length > LONGEST_PROMPTS {
            return Err(Failure::Work(format!(
                "{}: the prompts are too long for a safetensors header, which holds 100 MB: write a file for each \
                 (-o 'x{{n}}.safetensors')",
                shown_path(&self.path)
            )));
        }
        if self.written == 0 {
            self.first = Some(text.to_owned());
        } else {
            self.prompts.push(',');
        }
        self.prompts.push_str(&quoted);
        Ok(())
    }

    /// Writes all: header, prompts' tensors, negative ones.
    pub(super) fn complete(&mut self) -> Outcome {
        let header = self.header();
        let mut complete = || {
            self.file.write_all(&header)?;
            for (batch, negative) in [
                (&mut self.hidden, self.negative.as_ref().map(|negative| &negative.hidden)),
                (&mut self.pooled, self.negative.as_ref().and_then(|negative| negative.pooled.as_ref())),
            ] {
                batch.bytes.pour(&mut self.file)?;
                // A negative for each prompt, as diffusers wants them.
                for _ in 0..self.written {
                    self.file.write_all(negative.map_or(&[], |negative| &negative.bytes))?;
                }
            }
            self.file.flush()
        };
        complete().map_err(|error| work(shown_path(&self.path), error))
    }

    /// The bytes before the values.
    fn header(&mut self) -> Vec<u8> {
        let mut metadata = Map::new();
        metadata.insert("cliptext_version".into(), About::VERSION.into());
        metadata.insert("plan_hash".into(), self.about.plan.to_string().into());
        match (self.written, self.first.take()) {
            (1, Some(prompt)) => metadata.insert("prompt".into(), prompt.into()),
            _ => metadata.insert("prompts".into(), (std::mem::take(&mut self.prompts) + "]").into()),
        };
        if let Some(negative) = &self.negative {
            metadata.insert("negative_prompt".into(), negative.text.as_str().into());
        }
        for (name, value) in &self.about.options.0 {
            metadata.insert(name.clone(), value.as_str().into());
        }
        let negative = self.negative.as_ref();
        let shapes = [
            ("prompt_embeds", Some(&self.hidden.shape)),
            ("negative_prompt_embeds", negative.map(|negative| &negative.hidden.shape)),
            ("pooled_prompt_embeds", Some(&self.pooled.shape).filter(|shape| !shape.is_empty())),
            (
                "negative_pooled_prompt_embeds",
                negative.and_then(|it| it.pooled.as_ref()).map(|pooled| &pooled.shape),
            ),
        ];
        let mut entries = Map::new();
        entries.insert("__metadata__".into(), Value::Object(metadata));
        let mut offset = 0;
        for (name, shape) in shapes {
            let Some(shape) = shape else { continue };
            let shape: Vec<usize> = std::iter::once(self.written).chain(shape.iter().copied()).collect();
            let end = offset + shape.iter().product::<usize>() * self.float.size();
            let kind = match self.float {
                Float::F32 => "F32",
                Float::F16 => "F16",
            };
            entries
                .insert(name.into(), json!({ "dtype": kind, "shape": shape, "data_offsets": [offset, end] }));
            offset = end;
        }
        let mut text = Value::Object(entries).to_string().into_bytes();
        text.resize((8 + text.len()).next_multiple_of(ALIGN) - 8, b' ');
        [&(text.len() as u64).to_le_bytes()[..], &text].concat()
    }

    /// Gives the file its name.
    pub(super) fn finish(self) -> Outcome {
        self.file.finish().map_err(|error| work(shown_path(&self.path), error))
    }
}
