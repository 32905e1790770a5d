//! Embeddings as text.

use std::io::Write;
use std::path::{Path, PathBuf};

use cliptext_files::Output;
use serde_json::{Map, Value, json};

use super::encoded::{About, Encoded};
use super::name::shown as shown_path;
use crate::failure::{Outcome, work};
use crate::prompts::shown;

/// A JSON file while it is written: an object whose `embeddings` are a list, one prompt after the other.
pub(super) struct JsonFile {
    path: PathBuf,
    file: Output,
    about: About,
    written: usize,
}

impl JsonFile {
    pub(super) fn create(path: &Path, about: &About) -> Outcome<Self> {
        let file = Output::create(path).map_err(|error| work(shown_path(path), error))?;
        Ok(Self { path: path.to_owned(), file, about: about.clone(), written: 0 })
    }

    /// Appends a prompt.
    pub(super) fn write(&mut self, encoded: &Encoded<'_>) -> Outcome {
        let rows = encoded.hidden.chunks(encoded.width);
        if !encoded.hidden.iter().chain(encoded.pooled.unwrap_or_default()).all(|value| value.is_finite()) {
            let why = "a value is not finite (NaN or infinity), which JSON has no number for: write .npy";
            return Err(work(shown_path(&self.path), format_args!("{}: {why}", shown(encoded.text))));
        }
        let mut text = if self.written == 0 { self.beginning() } else { ",".into() };
        text.push_str("\n{\"prompt\": ");
        text.push_str(&Value::from(encoded.text).to_string());
        text.push_str(if encoded.is_negative { ", \"negative\": true" } else { ", \"negative\": false" });
        text.push_str(&format!(",\n \"ids\": {}", json!(encoded.ids)));
        text.push_str(&format!(
            ",\n \"shape\": {},\n \"hidden\": [",
            json!([encoded.tokens(), encoded.width])
        ));
        for (index, row) in rows.enumerate() {
            text.push_str(if index == 0 { "\n  " } else { ",\n  " });
            text.push_str(&numbers(row));
        }
        text.push(']');
        if let Some(pooled) = encoded.pooled {
            text.push_str(",\n \"pooled\": ");
            text.push_str(&numbers(pooled));
        }
        text.push('}');
        self.written += 1;
        let written = self.file.write_all(text.as_bytes()).and_then(|()| match self.file.is_regular() {
            true => Ok(()),
            false => self.file.flush(),
        });
        written.map_err(|error| work(shown_path(&self.path), error))
    }

    fn beginning(&self) -> String {
        let options = self.about.options.0.iter().map(|(name, value)| (name.clone(), value.as_str().into()));
        format!(
            "{{\"cliptext_version\": \"{}\",\n\"plan_hash\": \"{}\",\n\"options\": {},\n\"embeddings\": [",
            About::VERSION,
            self.about.plan,
            Value::Object(options.collect::<Map<_, _>>())
        )
    }

    /// Writes the end.
    pub(super) fn complete(&mut self) -> Outcome {
        let complete = self.file.write_all(b"]}\n").and_then(|()| self.file.flush());
        complete.map_err(|error| work(shown_path(&self.path), error))
    }

    /// Gives the file its name.
    pub(super) fn finish(self) -> Outcome {
        self.file.finish().map_err(|error| work(shown_path(&self.path), error))
    }
}

/// Numbers with as many digits as it takes to read the same f32.
fn numbers(values: &[f32]) -> String {
    serde_json::to_string(values).unwrap_or_default()
}
