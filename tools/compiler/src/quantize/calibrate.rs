//! Prompts on which quantization is calibrated.

use anyhow::{Context, Result};
use cliptext::tokenizer::{Padding, Tokenizer};

use crate::vocabulary::VocabularyTable;

/// The built-in prompts, a line each: varied in length, style, subject and language; those that the tests and reports
/// measure on are not among them.
pub const PROMPTS: &str = include_str!("calibration.txt");

/// The token ids of `prompts`, `context` each, then `more` further ones made by joining several of them: real prompts
/// are short, and what stands behind them is padding, which a model soon has nothing more to learn from.
///
/// # Errors
/// When the vocabulary and the context don't go together.
pub fn tokens(
    prompts: &[impl AsRef<str>],
    more: usize,
    vocabulary: &VocabularyTable,
    context: usize,
    padding: Padding,
) -> Result<Vec<Vec<u32>>> {
    let joined = (0..more).map(|index| {
        let part = |factor: usize, offset: usize| prompts[(index * factor + offset) % prompts.len()].as_ref();
        // Each turn through the list joins others.
        let turn = index / prompts.len();
        [part(1, turn), part(7, 5 + 3 * turn), part(5, 11 + 7 * turn)].join(", ")
    });
    let all = prompts.iter().map(|prompt| prompt.as_ref().to_owned()).chain(joined);
    vocabulary.read(|table| {
        let tokenizer =
            Tokenizer::new(table, context, padding).context("the padding is not in the vocabulary")?;
        Ok(all.map(|prompt| tokenizer.encode(&prompt).ids().to_vec()).collect())
    })?
}
