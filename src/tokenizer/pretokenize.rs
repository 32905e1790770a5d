//! The pre-tokenizer: splits a text into the words that byte-pair encoding takes one by one.
//!
//! It does what two regular expressions do one after the other. The first cuts the normalized text into
//! `<|startoftext|>`, `<|endoftext|>`, `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll`, `'d`, runs of letters, single numbers and runs of what is
//! neither letter, number nor space. The second one, of byte-level pre-tokenizing, leaves these as they are but for
//! the two special texts, which it takes apart: they only get here in spellings that are not looked for,
//! such as `<|EndOfText|>`. Older vocabularies lack them in the first expression.

use super::characters::Characters;
use super::normalize::Normalized;
use super::table::MAX_ADDED_TEXT;
use super::unicode::{Category, record};
use super::vocabulary::{AddedIds, AddedTokens, Neighbours, Vocabulary, is_word};

/// What a text consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// The next character of a word, its first if no word is open.
    Char(char),
    /// The end of a word.
    End,
    /// A token found in the normalized text, by its ids.
    Added(AddedIds),
}

/// Texts that the first expression keeps whole and the second one splits: the lengths of the three words.
const SPLIT: [(&str, [usize; 3]); 2] = [("<|startoftext|>", [2, 11, 2]), ("<|endoftext|>", [2, 9, 2])];

const CONTRACTIONS: [&str; 7] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];

/// Room for the longest added token within the longest text of `SPLIT`, and what is behind it; a power of two, so that the ring's indexes
/// wrap for free.
const AHEAD: usize = 128;
const _: () = assert!(AHEAD > MAX_ADDED_TEXT + SPLIT[0].0.len());

/// The normalized text with a view of what comes.
#[derive(Clone)]
struct Ahead<C> {
    text: Normalized<C>,
    ring: [char; AHEAD],
    /// Where each character comes from, in bytes of the text.
    places: [u32; AHEAD],
    start: usize,
    length: usize,
    /// The character before this place.
    before: Option<char>,
}

impl<C: Characters> Ahead<C> {
    /// The character `distance` from here.
    fn peek(&mut self, distance: usize) -> Option<char> {
        while self.length <= distance {
            let place = self.text.place();
            let c = self.text.next()?;
            let slot = (self.start + self.length) % AHEAD;
            *self.ring.get_mut(slot)? = c;
            *self.places.get_mut(slot)? = u32::try_from(place).unwrap_or(u32::MAX);
            self.length += 1;
        }
        self.ring.get((self.start + distance) % AHEAD).copied()
    }

    fn skip(&mut self, count: usize) {
        let count = count.min(self.length);
        if let Some(last) = count.checked_sub(1) {
            self.before = self.ring.get((self.start + last) % AHEAD).copied();
        }
        self.start = (self.start + count) % AHEAD;
        self.length -= count;
    }

    fn has(&mut self, text: &str, distance: usize) -> bool {
        text.chars().enumerate().all(|(i, c)| self.peek(distance + i) == Some(c))
    }
}

/// Which word is open.
#[derive(Clone, Copy)]
enum State {
    Between,
    Letters,
    Others,
    /// A word of this many more characters.
    Counted(usize),
}

/// The words of a text.
#[derive(Clone)]
pub(super) struct Words<'v, C> {
    ahead: Ahead<C>,
    added: AddedTokens<'v>,
    keeps_special: bool,
    state: State,
    /// Lengths of the words that follow the open one without any look at the text.
    then: [usize; 2],
}

impl<'v, C: Characters> Words<'v, C> {
    pub(super) fn new(text: C, vocabulary: &Vocabulary<'v>) -> Self {
        // In one expression, so that nothing of it stands on the stack twice.
        Words {
            ahead: Ahead {
                text: Normalized::new(text),
                ring: ['\0'; AHEAD],
                places: [0; AHEAD],
                start: 0,
                length: 0,
                before: None,
            },
            added: vocabulary.added,
            keeps_special: vocabulary.keeps_special,
            state: State::Between,
            then: [0; 2],
        }
    }

    /// Bytes of the text behind which what is not given out yet begins, but for white space.
    pub(super) fn place(&mut self) -> usize {
        match self.ahead.peek(0) {
            Some(_) => self.ahead.places[self.ahead.start % AHEAD] as usize,
            None => self.ahead.text.place(),
        }
    }

    /// The added token that starts `distance` from here, and its length in characters.
    fn added(&mut self, distance: usize) -> Option<(AddedIds, usize)> {
        let mut utf8 = [0; 4];
        let first = *self.ahead.peek(distance)?.encode_utf8(&mut utf8).as_bytes().first()?;
        if !self.added.starts_with(first, true) {
            return None;
        }
        let (added, ahead) = (self.added, &mut self.ahead);
        let before = match distance.checked_sub(1) {
            Some(before) => ahead.peek(before),
            None => ahead.before,
        };
        let found = added.find(true, |text| {
            ahead.has(text, distance).then(|| Neighbours {
                word_before: before.is_some_and(is_word),
                word_behind: ahead.peek(distance + text.chars().count()).is_some_and(is_word),
            })
        });
        found.map(|token| (token.ids, token.text.chars().count()))
    }

    /// Whether this text comes next. Added tokens are cut out before the expressions see anything, so it does not if
    /// one starts within.
    fn comes(&mut self, text: &str) -> bool {
        self.ahead.has(text, 0) && (1..text.len()).all(|distance| self.added(distance).is_none())
    }

    fn take(&mut self, c: char) -> Option<Piece> {
        self.ahead.skip(1);
        Some(Piece::Char(c))
    }

    fn end(&mut self) -> Option<Piece> {
        let [next, last] = self.then;
        self.then = [last, 0];
        self.state = if next > 0 { State::Counted(next) } else { State::Between };
        Some(Piece::End)
    }
}

impl<C: Characters> Iterator for Words<'_, C> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        loop {
            let c = self.ahead.peek(0);
            let open = match (self.state, c) {
                (State::Counted(0), _) => return self.end(),
                (State::Counted(rest), Some(c)) => {
                    self.state = State::Counted(rest - 1);
                    return self.take(c);
                }
                (State::Counted(_), None) => return self.end(),
                (State::Between, None) => return None,
                (State::Between, _) => None,
                (State::Letters, _) => Some(Category::Letter),
                (State::Others, _) => Some(Category::Other),
            };
            let Some(c) = c else { return self.end() };
            let added = self.added(0);
            let category = record(c).category;
            if let Some(open) = open {
                if added.is_none() && category == open {
                    return self.take(c);
                }
                return self.end();
            }
            if let Some((ids, length)) = added {
                self.ahead.skip(length);
                return Some(Piece::Added(ids));
            }
            self.state = match category {
                Category::Letter => State::Letters,
                Category::Number => State::Counted(1),
                Category::Other => self.begin_other(c),
                Category::Space => {
                    self.ahead.skip(1);
                    State::Between
                }
            };
        }
    }
}

impl<C: Characters> Words<'_, C> {
    /// The word that starts with a character which is neither letter, number nor space.
    fn begin_other(&mut self, c: char) -> State {
        if c == '\'' {
            let found = CONTRACTIONS.iter().find(|text| self.comes(text));
            if let Some(text) = found {
                return State::Counted(text.len());
            }
        }
        if c == '<' && self.keeps_special {
            for (text, [first, second, third]) in SPLIT {
                if self.comes(text) {
                    self.then = [second, third];
                    return State::Counted(first);
                }
            }
        }
        State::Others
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::characters::Plain;
    use crate::tokenizer::tests::table;

    extern crate std;
    use std::string::String;
    use std::vec::Vec;

    fn words(text: &str) -> Vec<String> {
        let vocabulary = Vocabulary::load(table()).expect("the checked-in table is valid");
        let mut words = Vec::new();
        let mut open = String::new();
        for piece in Words::new(Plain::new(text), &vocabulary) {
            match piece {
                Piece::Char(c) => open.push(c),
                Piece::End => words.push(core::mem::take(&mut open)),
                Piece::Added(ids) => panic!("the standard vocabulary looks for {ids:?} in raw text only"),
            }
        }
        assert!(open.is_empty(), "the last word has no end");
        words
    }

    #[test]
    fn texts_fall_into_words() {
        assert_eq!(words(""), [""; 0]);
        assert_eq!(words(" \t\u{3000}"), [""; 0]);
        assert_eq!(words("A  cat, 2 dogs..."), ["a", "cat", ",", "2", "dogs", "..."]);
        assert_eq!(words("2023½Ⅷ٣"), ["2", "0", "2", "3", "½", "ⅷ", "٣"]);
        assert_eq!(words("x\u{200B}y"), ["x", "\u{200B}", "y"]);
    }

    #[test]
    fn contractions_stand_alone_only_where_a_word_starts() {
        assert_eq!(words("It's WE'LL i'd've"), ["it", "'s", "we", "'ll", "i", "'d", "'ve"]);
        assert_eq!(words("it'sx 'tis"), ["it", "'s", "x", "'t", "is"]);
        assert_eq!(words("''s !'s ' s 'r"), ["''", "s", "!'", "s", "'", "s", "'", "r"]);
        assert_eq!(words("'\u{17F}"), ["'", "\u{17F}"]);
    }

    #[test]
    fn special_spellings_are_taken_apart() {
        assert_eq!(words("<|EndOfText|>!!"), ["<|", "endoftext", "|>", "!!"]);
        assert_eq!(words("<|StartOfText|>s"), ["<|", "startoftext", "|>", "s"]);
        assert_eq!(words("!<|EndOfText|>!!"), ["!<|", "endoftext", "|>!!"]);
        assert_eq!(words("<|EndOfText|"), ["<|", "endoftext", "|"]);
        // The mark composes with the last character: it is no longer that text.
        assert_eq!(words("<|EndOfText|>\u{338}!"), ["<|", "endoftext", "|\u{226F}!"]);
    }
}
