//! Byte-pair encoding of one word, in constant memory and one pass.
//!
//! Byte-pair encoding merges, rank by rank and from left to right, every neighbouring pair that has a merge. Doing so
//! needs the whole word. This finds the same tokens while reading the word once, by two facts.
//!
//! *Neighbours decide.* A sequence of tokens is the encoding of its bytes if and only if each token is the encoding of
//! its own bytes and each two neighbours are the encoding of theirs. For, as long as no merge has crossed a boundary between
//! tokens, each token's bytes develop as if they were alone. The first merge that crosses a boundary sees to its left
//! and right what it would see if the two neighbours stood alone, so it happens in that pair as well, and the other
//! way round. [`compatible`] decides a pair by undoing the two tokens' merges, latest first: that yields every pair of
//! tokens that ever faced each other across the boundary, and until when; if one has a merge that was due by then,
//! the boundary would have been crossed. Merges refer to lower ranks only, so a pair is never merged before it exists.
//!
//! *Each prefix has one last token.* The encoding of the prefix that ends at a position is the encoding of a shorter prefix
//! plus one token that is compatible with the last token of that one: dropping the last token of an encoding leaves an
//! encoding. Encodings are unique, so exactly one of the tokens that end at the position qualifies, and as tokens have
//! at most [`MAX_TOKEN`] bytes it is found from the last `MAX_TOKEN` positions.
//!
//! Only so many tokens fit the context. Positions within its reach keep their last token, which is what walking back needs; those
//! beyond only pass on where the last token wanted ended. Once all positions that a token can reach back to pass
//! on the same place, the rest of the word can change nothing and is not read.

use super::table::MAX_TOKEN;
use super::vocabulary::Vocabulary;

/// What is known about the prefix ending at a position.
#[derive(Clone, Copy)]
struct Prefix {
    /// The last token of its encoding.
    last: u16,
    /// How many tokens its encoding has, counted up to the limit.
    count: u16,
    /// Where the last of the counted tokens ends.
    end: u16,
}

const EMPTY: Prefix = Prefix { last: 0, count: 0, end: 0 };

/// The encoder of a word; `REACH` is `MAX_TOKEN` times the highest limit of tokens.
pub(super) struct Word<'v, const REACH: usize> {
    vocabulary: &'v Vocabulary<'v>,
    /// Tokens wanted at most.
    limit: usize,
    /// Bytes encoded so far.
    position: usize,
    /// The last byte given, which waits for the news whether it ends the word.
    pending: Option<u8>,
    /// The bytes before the last `MAX_TOKEN` positions, and their prefixes, each at its position modulo `MAX_TOKEN`.
    bytes: [u8; MAX_TOKEN],
    prefixes: [Prefix; MAX_TOKEN],
    /// The last token of the prefix ending at each position, from 1 on.
    last_tokens: [u16; REACH],
    /// How many of the latest prefixes agree on all tokens wanted.
    agreeing: usize,
}

impl<'v, const REACH: usize> Word<'v, REACH> {
    /// The highest limit that [`start`](Self::start) takes.
    const MAX_LIMIT: usize = REACH / MAX_TOKEN;

    pub(super) fn new(vocabulary: &'v Vocabulary<'v>) -> Self {
        const { assert!(REACH <= u16::MAX as usize, "positions within reach are kept as u16") };
        Word {
            vocabulary,
            limit: 0,
            position: 0,
            pending: None,
            bytes: [0; MAX_TOKEN],
            prefixes: [EMPTY; MAX_TOKEN],
            last_tokens: [0; REACH],
            agreeing: 0,
        }
    }

    /// Begins a word of which at most `limit` tokens are wanted.
    pub(super) fn start(&mut self, limit: usize) {
        self.limit = limit.min(Self::MAX_LIMIT);
        self.position = 0;
        self.pending = None;
        self.agreeing = 0;
    }

    /// Whether the tokens wanted no longer depend on what follows.
    pub(super) fn is_settled(&self) -> bool {
        self.agreeing >= MAX_TOKEN
    }

    /// Appends a byte to the word.
    pub(super) fn push(&mut self, byte: u8) {
        if let Some(inner) = self.pending.replace(byte) {
            self.advance(inner, false);
        }
    }

    /// Ends the word and hands over its tokens with their places, the last one first. Returns how many they are, at
    /// most the limit.
    pub(super) fn finish(&mut self, mut give: impl FnMut(usize, u16)) -> usize {
        if let Some(last) = self.pending.take() {
            self.advance(last, true);
        }
        let Prefix { count, end, .. } = self.prefix(self.position);
        let mut position = usize::from(end);
        for place in (0..usize::from(count)).rev() {
            let token = self.last_tokens.get(position.wrapping_sub(1)).copied().unwrap_or(0);
            position = position.saturating_sub(self.vocabulary.length(token));
            give(place, token);
        }
        usize::from(count)
    }

    fn prefix(&self, position: usize) -> Prefix {
        if position == 0 { EMPTY } else { self.prefixes[position % MAX_TOKEN] }
    }

    fn advance(&mut self, byte: u8, ends_word: bool) {
        self.bytes[self.position % MAX_TOKEN] = byte;
        self.position += 1;
        let last = self.last_token(byte, ends_word);
        let before = self.prefix(self.position.saturating_sub(self.vocabulary.length(last)));
        let mut prefix = Prefix { last, ..before };
        if usize::from(before.count) < self.limit {
            // Every token counted has at most MAX_TOKEN bytes, so the position is within reach.
            prefix.count += 1;
            prefix.end = self.position as u16;
            if let Some(slot) = self.last_tokens.get_mut(self.position - 1) {
                *slot = last;
            }
        }
        self.agreeing = match self.prefix(self.position - 1) {
            _ if usize::from(prefix.count) < self.limit => 0,
            previous if previous.count == prefix.count && previous.end == prefix.end => self.agreeing + 1,
            _ => 1,
        };
        self.prefixes[self.position % MAX_TOKEN] = prefix;
    }

    /// The last token of the encoding of everything up to `position`.
    fn last_token(&self, byte: u8, ends_word: bool) -> u16 {
        let mut candidates = [0; MAX_TOKEN];
        let mut count = 0;
        let mut node = Vocabulary::last_byte(byte, ends_word);
        for length in 1..=MAX_TOKEN {
            if let (Some(token), Some(slot)) = (self.vocabulary.token_at(node), candidates.get_mut(count)) {
                *slot = token;
                count += 1;
            }
            if length == self.position {
                break;
            }
            let earlier = self.bytes[(self.position - length - 1) % MAX_TOKEN];
            match self.vocabulary.preceded_by(node, earlier) {
                Some(next) => node = next,
                None => break,
            }
        }
        // One candidate qualifies, so the shortest, which every trie has, needs no check when it is the only one left.
        let (&shortest, longer) = candidates[..count].split_first().unwrap_or((&0, &[]));
        let qualifies = |token: &&u16| {
            let start = self.position.saturating_sub(self.vocabulary.length(**token));
            start == 0 || compatible(self.vocabulary, self.prefix(start).last, **token)
        };
        longer.iter().rev().find(qualifies).copied().unwrap_or(shortest)
    }
}

/// Whether two tokens that are the encodings of their bytes are, side by side, the encoding of both.
///
/// Token indexes rise with rank, so they tell which merge came later. Undone from a left token, a merge leaves its right part at the
/// boundary, and the other way round. A merge across the boundary with the very rank of the undone one comes first only if
/// it stands further to the left: that is so when the undone merge is on the right side.
fn compatible(vocabulary: &Vocabulary<'_>, mut left: u16, mut right: u16) -> bool {
    // Merges that make tokens from this index on came after the pair had gone.
    let mut until = u16::MAX;
    loop {
        if vocabulary.merged(left, right).is_some_and(|token| token < until) {
            return false;
        }
        if left > right {
            let Some(parts) = vocabulary.parts(left) else { return true };
            until = left;
            left = parts[1];
        } else {
            let Some(parts) = vocabulary.parts(right) else { return true };
            until = right + 1;
            right = parts[0];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::tests::{Random, table};

    extern crate std;
    use std::vec::Vec;

    /// Byte-pair encoding as it is defined: the lowest rank first, from left to right, over and over.
    fn naive(vocabulary: &Vocabulary<'_>, word: &[u8]) -> Vec<u16> {
        let base = |(i, &byte): (usize, &u8)| {
            vocabulary
                .token_at(Vocabulary::last_byte(byte, i + 1 == word.len()))
                .expect("every byte has a token")
        };
        let mut tokens: Vec<u16> = word.iter().enumerate().map(base).collect();
        loop {
            let lowest = tokens.windows(2).filter_map(|pair| vocabulary.merged(pair[0], pair[1])).min();
            let Some(lowest) = lowest else { return tokens };
            let mut next = Vec::with_capacity(tokens.len());
            let mut rest = &tokens[..];
            while let [first, others @ ..] = rest {
                match others {
                    [second, behind @ ..] if vocabulary.merged(*first, *second) == Some(lowest) => {
                        next.push(lowest);
                        rest = behind;
                    }
                    _ => {
                        next.push(*first);
                        rest = others;
                    }
                }
            }
            tokens = next;
        }
    }

    const LIMIT: usize = 76;

    fn encode(vocabulary: &Vocabulary<'_>, word: &[u8], limit: usize) -> Vec<u16> {
        let mut encoder = Word::<{ LIMIT * MAX_TOKEN }>::new(vocabulary);
        // A used encoder must do as well as a new one.
        encoder.start(limit);
        b"leftover".iter().for_each(|&byte| encoder.push(byte));
        encoder.start(limit);
        for &byte in word {
            if encoder.is_settled() {
                break;
            }
            encoder.push(byte);
        }
        let mut tokens = Vec::new();
        let count = encoder.finish(|place, token| tokens.push((place, token)));
        assert!(tokens.iter().map(|&(place, _)| place).eq((0..count).rev()));
        tokens.into_iter().rev().map(|(_, token)| token).collect()
    }

    fn check(vocabulary: &Vocabulary<'_>, word: &[u8], limit: usize) {
        let mut expected = naive(vocabulary, word);
        expected.truncate(limit);
        assert_eq!(encode(vocabulary, word, limit), expected, "{}", word.escape_ascii());
    }

    #[test]
    fn random_words_encode_as_defined() {
        let table = table();
        let vocabulary = Vocabulary::load(table).expect("the table is valid");
        let mut random = Random::new(1);
        let alphabets: [&[u8]; 8] = [
            b"a",
            b"ab",
            b"aeht",
            b"abcdefghijklmnopqrstuvwxyz",
            b"-=_.~",
            b"lo",
            b"!?.'\"",
            b"\xf0\x9f\x98\x82\xef\xb8\x8f\x8d",
        ];
        for round in 0..60_000 {
            let alphabet = alphabets[random.below(alphabets.len())];
            let length = 1 + random.below(if round % 100 == 0 { 1500 } else { 60 });
            let word: Vec<u8> = (0..length).map(|_| alphabet[random.below(alphabet.len())]).collect();
            check(&vocabulary, &word, 1 + random.below(LIMIT));
        }
        for _ in 0..20_000 {
            let word: Vec<u8> = (0..1 + random.below(24)).map(|_| random.below(256) as u8).collect();
            check(&vocabulary, &word, LIMIT);
        }
    }

    #[test]
    fn words_made_of_tokens_encode_as_defined() {
        let table = table();
        let vocabulary = Vocabulary::load(table).expect("the table is valid");
        let mut random = Random::new(2);
        let spell = |token: u16| {
            let mut bytes = Vec::new();
            let mut stack = [token].to_vec();
            while let Some(token) = stack.pop() {
                match vocabulary.parts(token) {
                    Some([left, right]) => stack.extend([right, left]),
                    None => bytes.extend(
                        (0..512_usize).find(|&n| vocabulary.token_at(n) == Some(token)).map(|n| n as u8),
                    ),
                }
            }
            bytes
        };
        for _ in 0..30_000 {
            let word: Vec<u8> =
                (0..1 + random.below(6)).flat_map(|_| spell(random.below(49_406) as u16)).collect();
            check(&vocabulary, &word, LIMIT);
        }
    }

    #[test]
    fn repeated_pieces_encode_as_defined() {
        let table = table();
        let vocabulary = Vocabulary::load(table).expect("the table is valid");
        for piece in
            ["a", "o", "h", "ha", "lo", "!", ".", "=", "-", "_", "aab", "the", "xo", "😂", "❤️", "zz", "0"]
        {
            for times in (1..200).chain([1000]) {
                check(&vocabulary, piece.repeat(times).as_bytes(), LIMIT);
            }
        }
    }

    /// The beginning of the encoding of 100 KB is compared with that of a part long enough not to matter.
    #[test]
    fn words_of_100_kb_encode_as_defined() {
        let table = table();
        let vocabulary = Vocabulary::load(table).expect("the table is valid");
        for piece in ["a", "!", "ha", "the", "qwertyuiop", "ॐ"] {
            let word = piece.repeat(100_000 / piece.len());
            let mut expected = naive(&vocabulary, &word.as_bytes()[..8000]);
            expected.truncate(LIMIT);
            assert_eq!(encode(&vocabulary, word.as_bytes(), LIMIT), expected, "{piece}");
        }
    }
}
