//! Text to token ids, exactly as Hugging Face's tokenizer for CLIP does it.
//!
//! The text flows through in one pass, character by character, and nothing of it is kept:
//!
//! 1. added tokens such as `<|endoftext|>` are cut out of the text as it stands,
//! 2. `normalize`: NFC, white space runs to one space, lower case,
//! 3. `pretokenize`: the normalized text falls into words (and added tokens that are looked for in normalized text),
//! 4. `bpe`: each word becomes tokens,
//! 5. start token in front, end token behind, cut at the context's length, padded up to it.
//!
//! ```
//! use cliptext::tokenizer::{Padding, Tokenizer, Vocabulary};
//!
//! #[repr(align(64))]
//! struct Aligned<T: ?Sized>(T);
//! static TABLE: &Aligned<[u8]> =
//!     &Aligned(*include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/clip.vocab")));
//!
//! let vocabulary = Vocabulary::load(&TABLE.0)?;
//! let tokenizer = Tokenizer::new(vocabulary, 77, Padding::End)?;
//! assert_eq!(tokenizer.encode("a running dog").unpadded(), [49406, 320, 2761, 1929, 49407]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A text of any length takes the same memory (on the stack: see `Tokenizer::encode`) and time linear in its length;
//! text behind the last token that fits is not even read, but for the search for added tokens.

mod bpe;
mod normalize;
mod pretokenize;
pub mod table;
mod unicode;
mod vocabulary;

use core::fmt;
use core::str::FromStr;

use bpe::Word;
use pretokenize::{Piece, Words};
use table::MAX_TOKEN;
use vocabulary::{AddedIds, Neighbours, is_word};
pub use vocabulary::{Vocabulary, VocabularyError};

/// The longest context, start and end token included.
pub const MAX_CONTEXT: usize = 256;

/// The context of nearly every CLIP model, which takes less stack than longer ones.
const USUAL_CONTEXT: usize = 77;

/// What fills the context behind the end token.
///
/// As text it is `eot`, `zero`, a token id, or `zero-after-eos`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// The end token, as Stable Diffusion 1 and OpenAI's models have it.
    End,
    /// This id: 0 for Stable Diffusion 2 and the second text encoder of SDXL.
    Id(u32),
    /// 0 instead of everything behind the *first* end token: differs from `Id(0)` where the text itself holds an end
    /// token, or where ids from elsewhere are padded already.
    ZeroAfterEnd,
}

impl Padding {
    /// Whether it is made of ids of a vocabulary of `size` ids.
    ///
    /// # Errors
    /// [`TokenizerError::Padding`] if not.
    pub(crate) fn check(self, size: u32) -> Result<(), TokenizerError> {
        match self {
            Padding::Id(id) if id >= size => Err(TokenizerError::Padding { id, size }),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Padding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Padding::End => f.write_str("eot"),
            Padding::Id(0) => f.write_str("zero"),
            Padding::Id(id) => id.fmt(f),
            Padding::ZeroAfterEnd => f.write_str("zero-after-eos"),
        }
    }
}

impl FromStr for Padding {
    type Err = UnknownPadding;

    fn from_str(text: &str) -> Result<Self, UnknownPadding> {
        match text {
            "eot" => Ok(Padding::End),
            "zero" => Ok(Padding::Id(0)),
            "zero-after-eos" => Ok(Padding::ZeroAfterEnd),
            id => id.parse().map(Padding::Id).map_err(|_| UnknownPadding),
        }
    }
}

/// A text that names no [`Padding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownPadding;

impl fmt::Display for UnknownPadding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected `eot`, `zero`, `zero-after-eos` or a token id")
    }
}

impl core::error::Error for UnknownPadding {}

/// Why a tokenizer cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The context has no room for start and end token, or more room than [`MAX_CONTEXT`].
    Context {
        /// The context asked for.
        context: usize,
    },
    /// The padding's id is none of the vocabulary's.
    Padding {
        /// The padding's id.
        id: u32,
        /// The vocabulary's size.
        size: u32,
    },
}

impl fmt::Display for TokenizerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Context { context } => {
                write!(f, "a context of {context} tokens is not supported: it takes 2 to {MAX_CONTEXT}")
            }
            Self::Padding { id, size } => {
                write!(f, "the padding id {id} is not in the vocabulary, which has {size} ids")
            }
        }
    }
}

impl core::error::Error for TokenizerError {}

/// The token ids of one text.
#[derive(Clone, Copy)]
pub struct Tokens {
    ids: [u32; MAX_CONTEXT],
    context: u16,
    len: u16,
    end_position: u16,
    truncated: bool,
}

impl Tokens {
    /// Ids from elsewhere, none of them padding; `None` if there are none, or more than [`MAX_CONTEXT`].
    pub(crate) fn from_ids(given: &[u32], end_id: u32) -> Option<Self> {
        let mut ids = [end_id; MAX_CONTEXT];
        ids.get_mut(..given.len())?.copy_from_slice(given);
        let last = given.len().checked_sub(1)?;
        let end = given.iter().position(|&id| id == end_id).unwrap_or(last);
        let len = given.len() as u16;
        Some(Tokens { ids, context: len, len, end_position: end as u16, truncated: false })
    }

    /// All ids, padded: `[context]`.
    pub fn ids(&self) -> &[u32] {
        self.ids.get(..usize::from(self.context)).unwrap_or(&self.ids)
    }

    /// The ids without padding, start and end token included: `[len]`.
    pub fn unpadded(&self) -> &[u32] {
        self.ids.get(..self.len()).unwrap_or(&self.ids)
    }

    /// How many ids there are without padding, start and end token included: at least 2.
    #[allow(clippy::len_without_is_empty)] // there is always a start and an end
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// From which place on `padding` replaces the ids, and by what.
    fn replaced(&self, padding: Padding, end_id: u32) -> (usize, u32) {
        match padding {
            Padding::End => (self.len(), end_id),
            Padding::Id(id) => (self.len(), id),
            Padding::ZeroAfterEnd => (self.end_position() + 1, 0),
        }
    }

    /// The ids as a text tower with `padding` takes them, of tokens that are [not padded](Tokenizer::unpadded).
    pub(crate) fn padded(&self, padding: Padding, end_id: u32) -> impl Iterator<Item = u32> {
        let (from, with) = self.replaced(padding, end_id);
        self.ids().iter().enumerate().map(move |(place, &id)| if place < from { id } else { with })
    }

    /// Whether the text had more tokens than fit.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// The index of the first end token: the row that the model pools. It is before the last of
    /// [`unpadded`](Self::unpadded) if the text itself contains an end token.
    pub fn end_position(&self) -> usize {
        usize::from(self.end_position)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("unpadded", &self.unpadded())
            .field("context", &self.context)
            .field("truncated", &self.truncated)
            .finish_non_exhaustive()
    }
}

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
    pub(crate) fn pad(&self, tokens: &mut Tokens) {
        let (from, with) = tokens.replaced(self.padding, self.vocabulary.end_id());
        let context = usize::from(tokens.context);
        if let Some(rest) = tokens.ids.get_mut(from..context) {
            rest.fill(with);
        }
    }

    /// The ids of a text before any padding replaces some: what stands behind [`Tokens::len`] means nothing.
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

#[cfg(test)]
mod tests;
