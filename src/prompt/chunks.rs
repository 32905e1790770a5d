//! What a prompt is read into.

use core::fmt;
use core::ops::Range;

use super::error::PromptError;
use super::options::Weighting;

/// The most chunks that a prompt has, where a chunk is no longer than the usual 75 tokens.
pub const MAX_CHUNKS: usize = 8;

/// The most tokens that a prompt has, in all its chunks and without their start and end tokens.
pub const MAX_TOKENS: usize = MAX_CHUNKS * 75;

/// A prompt, read: chunks of token ids, each with its weight, in 5 KB that the caller keeps.
///
/// A chunk stands for as many rows as the context has: the start token, its own tokens, the end token, and the padding, all but
/// its own of weight 1.
#[derive(Clone)]
pub struct Prompt {
    ids: [u32; MAX_TOKENS],
    weights: [f32; MAX_TOKENS],
    /// Where each chunk ends in them.
    ends: [u16; MAX_CHUNKS],
    pub(super) chunks: u8,
    pub(super) context: u16,
    pub(super) weighting: Weighting,
    pub(super) dropped: Option<Range<usize>>,
}

impl Prompt {
    /// One without chunks, to be read into.
    pub const fn new() -> Self {
        Self {
            ids: [0; MAX_TOKENS],
            weights: [0.0; MAX_TOKENS],
            ends: [0; MAX_CHUNKS],
            chunks: 0,
            context: 0,
            weighting: Weighting::None,
            dropped: None,
        }
    }

    /// The most chunks that a prompt has where a text has `context` ids: [`MAX_CHUNKS`], fewer of longer contexts.
    pub const fn max_chunks(context: usize) -> usize {
        let of_tokens = MAX_TOKENS / if context > 2 { context - 2 } else { 1 };
        if of_tokens < MAX_CHUNKS { of_tokens } else { MAX_CHUNKS }
    }

    /// Adds empty chunks up to so many: to a negative prompt, which has as many as the prompt that it goes with.
    ///
    /// # Errors
    /// [`PromptError::Chunks`] where they are more than there [can be](Self::max_chunks).
    pub fn fill(&mut self, chunks: usize) -> Result<(), PromptError> {
        let limit = Self::max_chunks(self.context.into());
        if chunks > limit {
            return Err(PromptError::Chunks { asked: chunks, limit });
        }
        while self.chunks() < chunks {
            self.close(self.end());
        }
        Ok(())
    }

    /// How many chunks it has: at least one once it was read.
    pub fn chunks(&self) -> usize {
        self.chunks.into()
    }

    /// The ids that a text has where it was read: each chunk's rows.
    pub fn context(&self) -> usize {
        self.context.into()
    }

    /// The weights that it was read for.
    pub fn weighting(&self) -> Weighting {
        self.weighting
    }

    /// The ids of a chunk, without start and end token and padding: up to two less than the context. None of a chunk that there is
    /// not.
    pub fn ids(&self, chunk: usize) -> &[u32] {
        self.ids.get(self.range(chunk)).unwrap_or(&[])
    }

    /// The weights of a chunk's ids.
    pub fn weights(&self, chunk: usize) -> &[f32] {
        self.weights.get(self.range(chunk)).unwrap_or(&[])
    }

    /// Whether any weight is not 1.
    pub fn is_weighted(&self) -> bool {
        self.weights.iter().take(self.end()).any(|&weight| weight != 1.0)
    }

    /// The bytes of the text that fell off, from the first word, or part of one, for which there was no room; without the white space
    /// at the ends.
    pub fn dropped(&self) -> Option<Range<usize>> {
        self.dropped.clone()
    }

    fn range(&self, chunk: usize) -> Range<usize> {
        let ends = self.ends.get(..self.chunks()).unwrap_or(&[]);
        let end = ends.get(chunk).copied().unwrap_or(0);
        let start = chunk.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
        start.into()..end.max(start).into()
    }

    /// Where the last chunk ends.
    fn end(&self) -> usize {
        self.chunks().checked_sub(1).map_or(0, |last| self.range(last).end)
    }

    /// Sets token `place`.
    pub(super) fn put(&mut self, place: usize, id: u32, weight: f32) {
        if let (Some(to), Some(weight_to)) = (self.ids.get_mut(place), self.weights.get_mut(place)) {
            (*to, *weight_to) = (id, weight);
        }
    }

    /// Ends a chunk before token `end`.
    pub(super) fn close(&mut self, end: usize) {
        if let Some(slot) = self.ends.get_mut(usize::from(self.chunks)) {
            *slot = end as u16;
            self.chunks += 1;
        }
    }
}

impl Default for Prompt {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prompt")
            .field("chunks", &self.chunks)
            .field("tokens", &self.end())
            .field("weighting", &self.weighting)
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}
