//! A vocabulary as its files have it: what the readers fill and `tokens` checks.

use std::collections::HashMap;

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
    /// Tokens that are cut out of the text, in the order in which those without an id get one.
    pub(super) added: Vec<AddedToken>,
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
    /// Whether an added token `X` stands for `X`, `X_1`, `X_2`… where these are added too, as diffusers expands prompts.
    pub(super) expands: bool,
    /// What the user should know of how the files were read.
    pub(super) notes: Vec<String>,
}

/// A token that is cut out of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AddedToken {
    /// Its text, not normalized.
    pub(super) text: String,
    /// Its id, where a file lists one; a token of the vocabulary has its id there.
    pub(super) id: Option<u32>,
    /// Whether it is looked for in the text after normalization.
    pub(super) normalized: bool,
}
