//! Textual inversion: words whose embeddings were trained, in the layouts of A1111 and diffusers.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::ir::{Matrix, TextModel};
use crate::tensors::Tensors;

/// A new word of the vocabulary: its text stands for the ids `first_id..first_id + count`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// What the user writes in a prompt.
    pub name: String,
    /// Id of its first vector.
    pub first_id: u32,
    /// How many vectors it has.
    pub count: u32,
}

/// The vectors in a textual inversion's file: a matrix for each text encoder that it was trained for.
#[derive(Debug)]
pub struct Inversion {
    /// What the user writes in a prompt.
    pub name: String,
    file: String,
    matrices: Vec<(String, Matrix)>,
}

/// Names of tensors that hold vectors, of which a file has one per tower: A1111's, then those for two encoders.
const NAMES: [&str; 5] = ["emb_params", "clip_l", "clip_g", "text_encoders_0", "text_encoders_1"];

/// The most vectors that one word may have: A1111 trains up to 75.
const MOST_VECTORS: usize = 75;

impl Inversion {
    /// Reads `path` for the word `name`.
    ///
    /// # Errors
    /// When it can't be read, or holds no vectors, or more than a prompt has room for.
    pub fn read(name: &str, path: &Path) -> Result<Self> {
        let file = path.display().to_string();
        let tensors = Tensors::open(path)?;
        let names: Vec<String> = tensors.names().map(str::to_owned).collect();
        let known = names.iter().any(|name| NAMES.contains(&name.as_str()));
        let mut matrices = Vec::new();
        for tensor in &names {
            // diffusers names the only tensor after the word.
            if known && !NAMES.contains(&tensor.as_str()) || !known && names.len() > 1 {
                continue;
            }
            let shape = tensors.shape(tensor).unwrap_or_default().to_vec();
            let (rows, cols) = match shape.as_slice() {
                &[cols] => (1, cols),
                &[rows, cols] => (rows, cols),
                other => bail!("{file}: {tensor}: expected [vectors, width], found {other:?}"),
            };
            ensure!(
                (1..=MOST_VECTORS).contains(&rows) && cols > 0,
                "{file}: {tensor}: expected 1 to {MOST_VECTORS} vectors, found the shape {shape:?}"
            );
            matrices.push((tensor.clone(), Matrix { rows, cols, values: tensors.floats(tensor)? }));
        }
        ensure!(
            !matrices.is_empty(),
            "{file}: not a textual inversion: expected one tensor, or {}; found {}",
            NAMES.join(", "),
            names.join(", ")
        );
        Ok(Inversion { name: name.to_owned(), file, matrices })
    }

    /// Appends the vectors to the token embedding.
    ///
    /// # Errors
    /// When there are no vectors of the embedding's width.
    pub fn append(&self, model: &mut TextModel) -> Result<Word> {
        let table = &mut model.token_embedding;
        let fitting = self.matrices.iter().find(|(_, matrix)| matrix.cols == table.cols);
        let (_, vectors) = fitting.with_context(|| {
            let widths: Vec<usize> = self.matrices.iter().map(|(_, matrix)| matrix.cols).collect();
            format!(
                "{}: the vectors have widths {widths:?}, the text encoder has {}: it was trained for another model",
                self.file, table.cols
            )
        })?;
        let word = Word { name: self.name.clone(), first_id: table.rows as u32, count: vectors.rows as u32 };
        table.values.extend_from_slice(&vectors.values);
        table.rows += vectors.rows;
        Ok(word)
    }
}
