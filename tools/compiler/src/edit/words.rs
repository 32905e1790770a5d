//! Textual inversion: words whose embeddings were trained, in the layouts of A1111, diffusers and OneTrainer.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::names::some;
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
    /// What the user should know about the file.
    pub notes: Vec<String>,
    file: String,
    matrices: Vec<Matrix>,
}

/// Names of tensors that hold vectors, of which a file has one per tower: A1111's, also as it nests them in its `.pt` files, then
/// those for two encoders.
const NAMES: [&str; 6] =
    ["emb_params", "string_to_param.*", "clip_l", "clip_g", "text_encoders_0", "text_encoders_1"];

/// OneTrainer's vectors that take the place of the text encoder's output at the word, where a plan has no way in.
const OUTPUTS: [&str; 2] = ["clip_l_out", "clip_g_out"];

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
        let keys: Vec<(String, String)> =
            tensors.names().map(|name| (name.to_owned(), name.to_owned())).collect();
        Self::of(name, &file, &tensors, &keys).with_context(|| file.clone())
    }

    /// The word `name` of the vectors in some of a file's tensors, given by their names in a file of the word alone and their keys.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn of(name: &str, file: &str, tensors: &Tensors, keys: &[(String, String)]) -> Result<Self> {
        let is_known = |tensor: &str| NAMES.contains(&tensor);
        let known = keys.iter().any(|(tensor, _)| is_known(tensor));
        let (mut matrices, mut left_out) = (Vec::<Matrix>::new(), Vec::new());
        for (tensor, key) in keys {
            ensure!(
                !OUTPUTS.contains(&tensor.as_str()),
                "{key}: it takes the place of the text encoder's output at the word, which a plan can't do; train the word without \
                 output embedding"
            );
            // diffusers names the only tensor after the word.
            if known && !is_known(tensor) || !known && keys.len() > 1 {
                left_out.push(key.as_str());
                continue;
            }
            let matrix = vectors(tensors, key)?;
            ensure!(
                matrices.iter().all(|other| other.cols != matrix.cols),
                "{key}: it has the width of another tensor, {}: the file is two words in one",
                matrix.cols
            );
            matrices.push(matrix);
        }
        ensure!(
            !matrices.is_empty(),
            "not a textual inversion: expected one tensor, or {}; found {}",
            NAMES.join(", "),
            if left_out.is_empty() { "none".into() } else { some(&left_out) }
        );
        let notes = match left_out.as_slice() {
            [] => vec![],
            names => vec![format!("{file}: tensors that are not the word's are left out: {}", some(names))],
        };
        Ok(Inversion { name: name.to_owned(), notes, file: file.to_owned(), matrices })
    }

    /// Appends the vectors to the token embedding.
    ///
    /// # Errors
    /// When there are no vectors of the embedding's width.
    pub fn append(&self, model: &mut TextModel) -> Result<Word> {
        let table = &mut model.token_embedding;
        let fitting = self.matrices.iter().find(|matrix| matrix.cols == table.cols);
        let vectors = fitting.with_context(|| {
            let widths: Vec<usize> = self.matrices.iter().map(|matrix| matrix.cols).collect();
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

/// A tensor's vectors: `[width]` or `[vectors, width]`.
fn vectors(tensors: &Tensors, key: &str) -> Result<Matrix> {
    let shape = tensors.shape(key).unwrap_or_default().to_vec();
    let (rows, cols) = match shape.as_slice() {
        &[cols] => (1, cols),
        &[rows, cols] => (rows, cols),
        other => bail!("{key}: expected [vectors, width], found {other:?}"),
    };
    ensure!(
        (1..=MOST_VECTORS).contains(&rows) && cols > 0,
        "{key}: expected 1 to {MOST_VECTORS} vectors, found the shape {shape:?}"
    );
    Ok(Matrix { rows, cols, values: tensors.floats(key)? })
}

/// Splits `NAME=FILE`. Words and files may hold `=` themselves, as in `a=b` and `step=500.safetensors`: where there are several,
/// the one counts behind which a file is.
///
/// # Errors
/// When there is no word or no file in it, or no or several files are meant.
pub fn name_and_file(text: &str) -> Result<(String, PathBuf)> {
    let splits: Vec<(&str, &str)> = text
        .match_indices('=')
        .map(|(at, _)| (text[..at].trim(), &text[at + 1..]))
        .filter(|(name, file)| !name.is_empty() && !file.is_empty())
        .collect();
    let readings = |splits: &[(&str, &str)]| {
        let each = splits.iter().map(|(name, file)| format!("the word {name:?} in {file:?}"));
        each.collect::<Vec<_>>().join(", or ")
    };
    let there: Vec<(&str, &str)> =
        splits.iter().copied().filter(|(_, file)| Path::new(file).exists()).collect();
    match (splits.as_slice(), there.as_slice()) {
        ([], _) => bail!("expected NAME=FILE, as in cat-toy=learned_embeds.safetensors"),
        ([(name, file)], _) | (_, [(name, file)]) => Ok(((*name).to_owned(), PathBuf::from(file))),
        (all, []) => bail!("it may mean {}, but none of these files is there", readings(all)),
        (_, several) => {
            bail!("it may mean {}, and all of these files are there: rename one", readings(several))
        }
    }
}
