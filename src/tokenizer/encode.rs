//! The pass from text to token ids.

use super::bpe::Word;
use super::characters::{Characters, Plain};
use super::context::MAX_CONTEXT;
use super::error::TokenizerError;
use super::padding::Padding;
use super::pretokenize::{Piece, Words};
use super::table::MAX_TOKEN;
use super::tokens::Tokens;
use super::vocabulary::{AddedIds, Neighbours, Vocabulary, is_word};

/// Tokens of a word that are found at a time. A longer word is read on from where they end: what is left of an encoding
/// without its first tokens is the encoding of its bytes (see [`bpe`](super::bpe)).
const WINDOW: usize = 32;

/// Takes the ids of a text one by one.
pub(crate) trait Ids {
    /// How many more are taken: only that many are looked for.
    fn left(&self) -> usize;

    /// Takes the next id, of a word, or an added token, that begins behind `place` bytes of the text and white space. False
    /// where there is no room for it: nothing more is given.
    fn push(&mut self, id: u32, place: usize) -> bool;

    /// So many ids come that belong together: those of one added token.
    fn keep_together(&mut self, count: usize) {
        let _ = count;
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
    /// Takes up to 10 KB of stack, whatever the text.
    pub fn encode(&self, text: &str) -> Tokens {
        let mut tokens = self.unpadded(text);
        self.pad(&mut tokens);
        tokens
    }

    /// The ids that a text has whose own tokens are `ids`: between start and end token, and padded. What does not fit is cut off.
    pub fn around(&self, ids: &[u32]) -> Tokens {
        let mut tokens = self.unpadded_around(ids);
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
        self.framed(|within| within.tokens.truncated = !self.read(Plain::new(text), within))
    }

    /// The ids between start and end token, before any padding, as of [`unpadded`](Self::unpadded).
    pub(crate) fn unpadded_around(&self, ids: &[u32]) -> Tokens {
        self.framed(|within| within.tokens.truncated = !ids.iter().all(|&id| within.push(id, 0)))
    }

    /// Tokens that `fill` puts between a start and an end token.
    fn framed(&self, fill: impl FnOnce(&mut Within<'_>)) -> Tokens {
        let mut tokens = Tokens {
            ids: [0; MAX_CONTEXT],
            context: self.context,
            len: 0,
            end_position: 0,
            truncated: false,
        };
        let mut within = Within { tokens: &mut tokens, room: self.context() - 1 };
        within.push(self.vocabulary.start_id(), 0);
        fill(&mut within);
        let end_id = self.vocabulary.end_id();
        within.room += 1;
        within.push(end_id, 0);
        let first_end = tokens.unpadded().iter().position(|&id| id == end_id);
        tokens.end_position = first_end.unwrap_or(0) as u16;
        tokens
    }

    /// Gives the ids of `text`, without start and end token. False where `ids` had no room for all.
    #[inline(never)] // so that its stack is given back before anything is computed
    pub(crate) fn read<C: Characters>(&self, text: C, ids: &mut dyn Ids) -> bool {
        let mut word = Word::<{ WINDOW * MAX_TOKEN }>::new(&self.vocabulary);
        let mut rest = text;
        loop {
            let (before, added) = self.cut(&rest);
            if !self.encode_section(before, &mut word, ids) {
                return false;
            }
            let Some((added, place, behind)) = added else { return true };
            if !push_all(ids, added, place) {
                return false;
            }
            rest = behind;
        }
    }

    /// The text before the first added token, and the token's ids and place with the text behind it.
    fn cut<C: Characters>(&self, text: &C) -> (C, Option<(AddedIds, usize, C)>) {
        let added = &self.vocabulary.added;
        let mut here = text.clone();
        let mut before = None;
        loop {
            let mut behind = here.clone();
            let Some(c) = behind.next() else { return (text.clone(), None) };
            let first = c.encode_utf8(&mut [0; 4]).bytes().next().unwrap_or(0);
            if added.starts_with(first, false)
                && let Some(token) = added.find(false, |text| {
                    let mut behind = here.clone();
                    text.chars().all(|c| behind.next() == Some(c)).then(|| Neighbours {
                        word_before: before.is_some_and(is_word),
                        word_behind: behind.next().is_some_and(is_word),
                    })
                })
            {
                token.text.chars().skip(1).for_each(|_| _ = behind.next());
                return (text.up_to(&here), Some((token.ids, here.place(), behind)));
            }
            before = Some(c);
            here = behind;
        }
    }

    /// Gives the ids of a text without added tokens that are looked for in raw text; false if they are not all taken.
    fn encode_section<C: Characters>(
        &self,
        text: C,
        word: &mut Word<'_, { WINDOW * MAX_TOKEN }>,
        ids: &mut dyn Ids,
    ) -> bool {
        let mut words = Words::new(text, &self.vocabulary);
        loop {
            let place = words.place();
            let taken = match words.next() {
                None => return true,
                Some(Piece::End) => true,
                Some(Piece::Added(added)) => push_all(ids, added, place),
                Some(Piece::Char(first)) => self.encode_word((first, place), &mut words, word, ids),
            };
            if !taken {
                return false;
            }
        }
    }

    /// Gives the ids of the word that begins with `first` and goes on in `words`; false if they are not all taken.
    fn encode_word<C: Characters>(
        &self,
        (first, place): (char, usize),
        words: &mut Words<'a, C>,
        word: &mut Word<'_, { WINDOW * MAX_TOKEN }>,
        ids: &mut dyn Ids,
    ) -> bool {
        // Bytes of a character that `words` has given and that are not encoded.
        let mut held = Held::of(first, 0);
        loop {
            word.start(ids.left() + 1);
            held.bytes().iter().for_each(|&byte| word.push(byte));
            let mut read = held.bytes().len();
            let mut ahead = words.clone();
            let is_whole = loop {
                // Settled: there are more tokens than are looked for, so there is no need to go on.
                if word.is_settled() {
                    break false;
                }
                let Some(Piece::Char(c)) = ahead.next() else { break true };
                c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| word.push(byte));
                read += c.len_utf8();
            };
            let mut tokens = [0; WINDOW];
            let count = word.finish(|place, token| {
                if let Some(slot) = tokens.get_mut(place) {
                    *slot = token;
                }
            });
            let mut encoded = 0;
            for &token in tokens.iter().take(count) {
                if !ids.push(self.vocabulary.id(token), place) {
                    return false;
                }
                encoded += self.vocabulary.length(token);
            }
            if is_whole && encoded == read {
                *words = ahead;
                return true;
            }
            held.skip(encoded, words);
        }
    }
}

/// The end of a character's bytes.
struct Held {
    utf8: [u8; 4],
    start: usize,
    end: usize,
}

impl Held {
    /// The bytes of `c` behind the first `start`.
    fn of(c: char, start: usize) -> Self {
        let mut utf8 = [0; 4];
        let end = c.encode_utf8(&mut utf8).len();
        Held { utf8, start, end }
    }

    fn bytes(&self) -> &[u8] {
        self.utf8.get(self.start..self.end).unwrap_or(&[])
    }

    /// Leaves out `count` bytes: its own, then those that `words` gives next.
    fn skip<C: Characters>(&mut self, mut count: usize, words: &mut Words<'_, C>) {
        while count >= self.bytes().len() {
            count -= self.bytes().len();
            let Some(Piece::Char(c)) = words.next() else { break };
            *self = Held::of(c, 0);
        }
        self.start += count;
    }
}

/// Gives the ids of an added token; false if they are not all taken.
fn push_all(ids: &mut dyn Ids, added: AddedIds, place: usize) -> bool {
    ids.keep_together(added.count as usize);
    (0..added.count).all(|more| ids.push(added.first.saturating_add(more), place))
}

/// The ids so far, as long as there is room.
struct Within<'a> {
    tokens: &'a mut Tokens,
    room: usize,
}

impl Ids for Within<'_> {
    fn left(&self) -> usize {
        self.room.saturating_sub(self.tokens.len())
    }

    fn push(&mut self, id: u32, _place: usize) -> bool {
        let place = self.tokens.len();
        let Some(slot) = self.tokens.ids.get_mut(place).filter(|_| place < self.room) else { return false };
        *slot = id;
        self.tokens.len += 1;
        true
    }
}
