//! The parts of a prompt, and who takes them.

use super::chunker::Chunker;
use super::error::PromptError;
use crate::tokenizer::{Characters, Ids, Tokenizer};

/// Takes the parts of a prompt in their order.
pub(super) trait Parts {
    /// Takes a text that is tokenized by itself, of a weight. False where there is no room for more.
    ///
    /// # Errors
    /// [`PromptError::Weight`] where something has a weight that is no number.
    fn text(&mut self, text: impl Characters, weight: f64) -> Result<bool, PromptError>;

    /// Takes the end of a chunk, at byte `place` of the prompt. False where there is no room for more.
    fn end_chunk(&mut self, place: usize) -> bool;
}

/// Puts the tokens of parts into chunks.
pub(super) struct Tokenized<'c, 'p> {
    pub(super) tokenizer: &'c Tokenizer<'c>,
    pub(super) chunker: &'c mut Chunker<'p>,
    /// Whether the tokens of a text go into one chunk where they are few.
    pub(super) together: bool,
}

impl Parts for Tokenized<'_, '_> {
    fn text(&mut self, text: impl Characters, weight: f64) -> Result<bool, PromptError> {
        self.chunker.weight = weight as f32;
        let taken = if self.together {
            let mut few = Together { chunker: self.chunker, ids: heapless::Vec::new(), is_large: false };
            self.tokenizer.read(text, &mut few) && few.finish()
        } else {
            self.tokenizer.read(text, self.chunker)
        };
        self.chunker.check().map(|()| taken)
    }

    fn end_chunk(&mut self, place: usize) -> bool {
        self.chunker.end_chunk(place)
    }
}

/// Tokens from which on those of a text are not kept together.
const LARGE: usize = 8;

/// Keeps the tokens of a text together as long as they are few.
struct Together<'c, 'p> {
    chunker: &'c mut Chunker<'p>,
    ids: heapless::Vec<(u32, usize), LARGE>,
    is_large: bool,
}

impl Together<'_, '_> {
    fn finish(mut self) -> bool {
        self.chunker.keep_together(self.ids.len());
        self.give()
    }

    fn give(&mut self) -> bool {
        let taken = self.ids.iter().all(|&(id, place)| self.chunker.push(id, place));
        self.ids.clear();
        taken
    }
}

impl Ids for Together<'_, '_> {
    fn left(&self) -> usize {
        self.chunker.left().saturating_sub(self.ids.len())
    }

    fn push(&mut self, id: u32, place: usize) -> bool {
        if self.is_large {
            return self.chunker.push(id, place);
        }
        let _ = self.ids.push((id, place));
        self.is_large = self.ids.len() == LARGE;
        !self.is_large || self.give()
    }
}
