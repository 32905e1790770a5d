//! Reads the vocabulary that users hold and builds the table that the runtime tokenizes with.
//!
//! `files` finds out which files there are and reads them into a `Definition`; `tokenizer_json` reads the one that holds
//! everything; `special` the settings beside the others; `merges` is what these share. `tokens` checks a definition and
//! numbers its tokens, `added` those that are cut out of the text; `emit` writes the table. `docs/vocabulary-table.md` describes the outcome.

mod added;
mod definition;
mod emit;
mod files;
mod merges;
mod special;
mod tokenizer_json;
mod tokens;

use std::path::PathBuf;

use anyhow::{Context, Result};
use cliptext::tokenizer::Vocabulary;
use cliptext::tokenizer::table::{ADDED_RECORD, HEADER, field};

use crate::edit::words::Word;

/// Where a vocabulary comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VocabularySource {
    /// The one that OpenAI published with CLIP, which all usual models share. It comes with the compiler.
    Standard,
    /// A `merges.txt`, a `tokenizer.json`, or a folder with `vocab.json` and `merges.txt` or with one of those.
    Path(PathBuf),
}

/// A vocabulary's table and what the rest of the compiler needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VocabularyTable {
    /// The table; its length is a multiple of 64. It must start at a multiple of 64 in the plan.
    pub bytes: Vec<u8>,
    /// Every id is below this: the rows that the model's token embedding must have at least.
    pub size: usize,
    /// Id of the token before every text.
    pub start_id: u32,
    /// Id of the token behind every text.
    pub end_id: u32,
    /// Id that fills the context, if the source says so.
    pub pad_id: Option<u32>,
    /// What the user should know of how the files were read: assumptions, and what was left out.
    pub notes: Vec<String>,
}

impl VocabularyTable {
    /// Does `work` with the vocabulary as the runtime reads it.
    ///
    /// # Errors
    /// When the runtime refuses the table, which it does to none that [`build`] made.
    pub fn read<R>(&self, work: impl FnOnce(Vocabulary<'_>) -> R) -> Result<R> {
        // A table may start at any address here, while the runtime reads its numbers in place.
        let mut aligned = vec![0u32; self.bytes.len() / 4];
        bytemuck::cast_slice_mut(&mut aligned).copy_from_slice(&self.bytes);
        let loaded = Vocabulary::load(bytemuck::cast_slice(&aligned));
        Ok(work(loaded.context("the vocabulary's table does not load: a bug")?))
    }

    /// Whether both cut text without special tokens into the same ids: all but the added tokens is the same.
    pub fn same_words(&self, other: &VocabularyTable) -> bool {
        let words = |table: &VocabularyTable| {
            let added =
                table.bytes[field::ADDED..].first_chunk().map_or(0, |count| u32::from_le_bytes(*count));
            table.bytes[HEADER + added as usize * ADDED_RECORD..].to_vec()
        };
        let ids = |table: &VocabularyTable| (table.start_id, table.end_id, table.size);
        ids(self) == ids(other) && words(self) == words(other)
    }
}

/// Reads a vocabulary and builds its table, with `words` beside its own. The same source always gives the same bytes.
///
/// # Errors
/// If a file cannot be read or understood, if files contradict each other, or if the vocabulary needs what the runtime does
/// not do. The message names the file, the place and the way out.
pub fn build(source: VocabularySource, words: &[Word]) -> Result<VocabularyTable> {
    let mut definition = match source {
        VocabularySource::Standard => files::standard()?,
        VocabularySource::Path(path) => files::read(&path)?,
    };
    definition.words = words.to_vec();
    let tokens = tokens::number(&definition)?;
    let bytes = emit::table(&definition, &tokens)?;
    let table = VocabularyTable {
        bytes,
        size: tokens.size as usize,
        start_id: tokens.start_id,
        end_id: tokens.end_id,
        pad_id: tokens.pad_id,
        notes: tokens.notes,
    };
    table.read(|_| ())?;
    Ok(table)
}

#[cfg(test)]
mod tests;
