//! Tokens into chunks, one behind the other.

use super::chunks::Prompt;
#[cfg(feature = "weights")]
use super::error::PromptError;
use crate::tokenizer::Ids;

/// Puts the tokens that it is given into the chunks of a prompt.
pub(super) struct Chunker<'p> {
    prompt: &'p mut Prompt,
    /// Tokens of a chunk, and chunks, at the most.
    room: usize,
    limit: usize,
    /// The comma's id where a full chunk ends behind one, and how far from its end.
    comma: Option<u32>,
    reach: usize,
    /// The weight of what is given.
    pub(super) weight: f32,
    /// Tokens so far, and those before the open chunk.
    length: usize,
    start: usize,
    /// The last comma of the open chunk, counted from its start, and the place of the token behind it.
    last_comma: Option<usize>,
    behind_comma: usize,
    /// Whether what belongs together goes into one chunk.
    keeps_together: bool,
    lost: Option<usize>,
    /// The place of a token whose weight is no number.
    unweighable: Option<usize>,
}

impl<'p> Chunker<'p> {
    /// `limit` chunks of `room` tokens fit the prompt.
    pub(super) fn new(prompt: &'p mut Prompt, room: usize, limit: usize) -> Self {
        Self {
            prompt,
            room,
            limit,
            comma: None,
            reach: 0,
            weight: 1.0,
            length: 0,
            start: 0,
            last_comma: None,
            behind_comma: 0,
            keeps_together: false,
            lost: None,
            unweighable: None,
        }
    }

    /// Keeps what belongs together in one chunk.
    pub(super) fn keeping_together(mut self) -> Self {
        self.keeps_together = true;
        self
    }

    /// Ends full chunks behind a comma that has at most `reach` tokens behind it.
    pub(super) fn at_commas(mut self, comma: Option<u32>, reach: u8) -> Self {
        (self.comma, self.reach) = (comma.filter(|_| reach > 0), reach.into());
        self
    }

    /// Ends the open chunk, as a `BREAK` at byte `place` of the text does. False where there is no room for it.
    pub(super) fn end_chunk(&mut self, place: usize) -> bool {
        if self.is_full() {
            self.lost.get_or_insert(place);
            return false;
        }
        self.close(self.length);
        true
    }

    /// Whether all weights so far were numbers.
    ///
    /// # Errors
    /// [`PromptError::Weight`] if not.
    #[cfg(feature = "weights")]
    pub(super) fn check(&self) -> Result<(), PromptError> {
        self.unweighable.map_or(Ok(()), |at| Err(PromptError::Weight { at }))
    }

    /// Tokens that the open chunk has.
    fn open(&self) -> usize {
        self.length - self.start
    }

    fn is_full(&self) -> bool {
        self.prompt.chunks() == self.limit
    }

    /// Ends the open chunk before token `end`; those behind it begin the next.
    fn close(&mut self, end: usize) {
        self.prompt.close(end);
        self.start = end;
        self.last_comma = None;
    }

    /// The place of the first token for which there was no room.
    pub(super) fn finish(mut self) -> Option<usize> {
        if !self.is_full() && (self.open() > 0 || self.prompt.chunks() == 0) {
            self.close(self.length);
        }
        self.lost
    }
}

impl Ids for Chunker<'_> {
    fn left(&self) -> usize {
        ((self.limit - self.prompt.chunks()) * self.room).saturating_sub(self.open())
    }

    fn push(&mut self, id: u32, place: usize) -> bool {
        if !self.weight.is_finite() {
            self.unweighable = Some(place);
            return false;
        }
        let mut lost = place;
        if self.comma == Some(id) {
            self.last_comma = Some(self.open());
        } else if self.open() == self.room
            && let Some(comma) = self.last_comma
            && self.open() - comma <= self.reach
        {
            if comma + 1 < self.room {
                lost = self.behind_comma;
            }
            self.close(self.start + comma + 1);
        }
        if self.open() == self.room {
            self.close(self.length);
        }
        if self.is_full() {
            self.lost = Some(lost);
            return false;
        }
        if self.last_comma.is_some_and(|comma| comma + 1 == self.open()) {
            self.behind_comma = place;
        }
        self.prompt.put(self.length, id, self.weight);
        self.length += 1;
        true
    }

    fn keep_together(&mut self, count: usize) {
        if self.keeps_together && count <= self.room && self.open() + count > self.room && !self.is_full() {
            self.close(self.length);
        }
    }
}
