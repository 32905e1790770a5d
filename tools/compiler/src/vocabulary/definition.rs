//! A vocabulary as its files have it: what the readers fill and `tokens` checks.

use std::collections::{BTreeMap, HashMap};

use crate::edit::words::Word;

/// The token before every text.
pub(super) const START: &str = "<|startoftext|>";
/// The token behind every text.
pub(super) const END: &str = "<|endoftext|>";
/// What ends the last token of a word in vocabulary files.
pub(super) const WORD_END: &str = "</w>";

/// A vocabulary as its files have it.
pub(super) struct Definition {
    /// What to call the file with the merges in messages.
    pub(super) merges_name: String,
    /// What a place in that file is called.
    pub(super) merges_place: &'static str,
    /// The merges in rank order, each with its place in the file.
    pub(super) merges: Vec<(usize, String, String)>,
    /// Ids by token, and the file they come from; `None` if the order of merges implies them.
    pub(super) ids: Option<(String, HashMap<String, u32>)>,
    /// Tokens that are cut out of the text, by their text.
    pub(super) added: BTreeMap<String, AddedToken>,
    /// The token before every text.
    pub(super) start: String,
    /// The token behind every text.
    pub(super) end: String,
    /// The token that fills the context.
    pub(super) pad: Option<String>,
    /// Whether the texts of start and end token are kept whole when words are split.
    pub(super) keeps_special: bool,
    /// Words that were added to the model, with ids of their own.
    pub(super) words: Vec<Word>,
}

/// A token that is cut out of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AddedToken {
    /// Its id, if its place is not the vocabulary.
    pub(super) id: Option<u32>,
    /// Whether it is looked for in the text after normalization.
    pub(super) normalized: bool,
}
