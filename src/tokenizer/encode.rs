//! The pass from text to token ids.

use super::bpe::Word;
use super::context::{MAX_CONTEXT, USUAL_CONTEXT};
use super::error::TokenizerError;
use super::padding::Padding;
use super::pretokenize::{Piece, Words};
use super::table::MAX_TOKEN;
use super::tokens::Tokens;
use super::vocabulary::{AddedIds, Neighbours, Vocabulary, is_word};

/// Turns texts into token ids.
#[derive(Clone, Copy, Debug)]
pub struct Tokenizer<'a> {
    vocabulary: Vocabulary<'a>,
    context: u16,
    padding: Padding,
}

impl<'a> Tokenizer<'a> {
    /// A tokenizer whose texts have `context` ids.
    ///
    /// # Errors
    /// [`TokenizerError::Context`] unless 2 ≤ `context` ≤ [`MAX_CONTEXT`]; [`TokenizerError::Padding`] if the padding's id is
    /// not below the vocabulary's size.
    pub fn new(vocabulary: Vocabulary<'a>, context: usize, padding: Padding) -> Result<Self, TokenizerError> {
        if !(2..=MAX_CONTEXT).contains(&context) {
            return Err(TokenizerError::Context { context });
        }
        padding.check(vocabulary.size())?;
        Ok(Tokenizer { vocabulary, context: context as u16, padding })
    }

    /// The vocabulary given to [`new`](Self::new).
    pub fn vocabulary(&self) -> &Vocabulary<'a> {
        &self.vocabulary
    }

    /// How many ids a text gets, start and end token and padding included.
    pub fn context(&self) -> usize {
        usize::from(self.context)
    }

    /// What fills the context behind the text.
    pub fn padding(&self) -> Padding {
        self.padding
    }

    /// The ids of a text, the empty one included.
    ///
    /// Takes up to 10 KB of stack for a context of up to 77 and up to 22 KB for longer ones, whatever the text.
    pub fn encode(&self, text: &str) -> Tokens {
        let mut tokens = self.unpadded(text);
        self.pad(&mut tokens);
        tokens
    }

    /// Puts the padding into tokens that have none.
    fn pad(&self, tokens: &mut Tokens) {
        let (from, with) =
            self.padding.replaces(tokens.len(), tokens.end_position(), self.vocabulary.end_id());
        let context = usize::from(tokens.context);
        if let Some(rest) = tokens.ids.get_mut(from..context) {
            rest.fill(with);
        }
    }

    /// The ids of a text before any padding replaces some: those from [`Tokens::len`] on mean nothing.
    pub(crate) fn unpadded(&self, text: &str) -> Tokens {
        let mut tokens = Tokens {
            ids: [0; MAX_CONTEXT],
            context: self.context,
            len: 0,
            end_position: 0,
            truncated: false,
        };
        // One token more than fits shows that the text is truncated, and one that fits takes the end token.
        if self.context() <= USUAL_CONTEXT {
            self.fill::<{ (USUAL_CONTEXT - 1) * MAX_TOKEN }>(text, &mut tokens);
        } else {
            self.fill::<{ (MAX_CONTEXT - 1) * MAX_TOKEN }>(text, &mut tokens);
        }
        tokens
    }

    #[inline(never)] // so that a short context does not reserve the stack of a long one
    fn fill<const REACH: usize>(&self, text: &str, tokens: &mut Tokens) {
        let mut output = Output { tokens, room: self.context() - 1 };
        output.push(self.vocabulary.start_id());
        let mut word = Word::<REACH>::new(&self.vocabulary);
        let mut rest = text;
        loop {
            let (before, added) = self.cut(rest);
            if !self.encode_section(before, &mut word, &mut output) {
                break;
            }
            let Some((ids, behind)) = added else { break };
            if !output.push_all(ids) {
                break;
            }
            rest = behind;
        }
        output.room += 1;
        let end_id = self.vocabulary.end_id();
        output.push(end_id);
        let first_end = tokens.unpadded().iter().position(|&id| id == end_id);
        tokens.end_position = first_end.unwrap_or(0) as u16;
    }

    /// The text before the first added token, and the token's ids with the text behind it.
    fn cut<'t>(&self, text: &'t str) -> (&'t str, Option<(AddedIds, &'t str)>) {
        let added = &self.vocabulary.added;
        for (position, &byte) in text.as_bytes().iter().enumerate() {
            if added.starts_with(byte, false)
                && let Some((before, here)) = text.split_at_checked(position)
                && let Some(token) = added.find(false, |text| {
                    let behind = here.strip_prefix(text)?;
                    let [word_before, word_behind] =
                        [before.chars().next_back(), behind.chars().next()].map(|c| c.is_some_and(is_word));
                    Some(Neighbours { word_before, word_behind })
                })
            {
                return (before, Some((token.ids, here.get(token.text.len()..).unwrap_or(""))));
            }
        }
        (text, None)
    }

    /// Appends the ids of a text without added tokens; false if they do not all fit.
    fn encode_section<const REACH: usize>(
        &self,
        text: &str,
        word: &mut Word<'_, REACH>,
        output: &mut Output<'_>,
    ) -> bool {
        let mut open = false;
        for piece in Words::new(text, &self.vocabulary) {
            let fits = match piece {
                Piece::Char(c) => {
                    if !open {
                        open = true;
                        word.start(output.left() + 1);
                    }
                    c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| word.push(byte));
                    // Settled means that there are more tokens than fit, so there is no need to go on.
                    !word.is_settled() || output.take(word, &self.vocabulary)
                }
                Piece::End => {
                    open = false;
                    output.take(word, &self.vocabulary)
                }
                Piece::Added(ids) => output.push_all(ids),
            };
            if !fits {
                return false;
            }
        }
        true
    }
}

/// The ids so far, as long as there is room.
struct Output<'a> {
    tokens: &'a mut Tokens,
    room: usize,
}

impl Output<'_> {
    fn left(&self) -> usize {
        self.room.saturating_sub(self.tokens.len())
    }

    /// Appends an id; false (and the text is truncated) if there is no room.
    fn push(&mut self, id: u32) -> bool {
        self.truncate_unless(self.left() > 0) && {
            let place = self.tokens.len();
            if let Some(slot) = self.tokens.ids.get_mut(place) {
                *slot = id;
            }
            self.tokens.len += 1;
            true
        }
    }

    /// Appends the ids of an added token; false (and the text is truncated) if there is no room for all.
    fn push_all(&mut self, ids: AddedIds) -> bool {
        (0..ids.count).all(|place| self.push(ids.first.saturating_add(place)))
    }

    /// Appends the tokens of a word; false (and the text is truncated) if there is no room for all.
    fn take<const REACH: usize>(&mut self, word: &mut Word<'_, REACH>, vocabulary: &Vocabulary<'_>) -> bool {
        let (start, left) = (self.tokens.len(), self.left());
        let ids = &mut self.tokens.ids;
        let count = word.finish(|place, token| {
            if place < left
                && let Some(slot) = ids.get_mut(start + place)
            {
                *slot = vocabulary.id(token);
            }
        });
        self.tokens.len += count.min(left) as u16;
        self.truncate_unless(count <= left)
    }

    fn truncate_unless(&mut self, fits: bool) -> bool {
        self.tokens.truncated |= !fits;
        fits
    }
}
