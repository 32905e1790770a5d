//! Where the tokenizer's characters come from.

use core::str::Chars;

/// A text, read character by character: a string, or what is left of one without its markup.
pub(crate) trait Characters: Iterator<Item = char> + Clone {
    /// The next character if it is ASCII and so is the one behind it, if any.
    fn next_plain(&mut self) -> Option<char>;

    /// Bytes of the string behind which the next character stands.
    fn place(&self) -> usize;

    /// The text from here to where `end`, a later state of it, stands.
    fn up_to(&self, end: &Self) -> Self;
}

/// A string as it is.
#[derive(Clone)]
pub(crate) struct Plain<'t> {
    rest: Chars<'t>,
    /// Where it ends in the string that places are told of.
    end: usize,
}

impl<'t> Plain<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self::part(text, 0)
    }

    /// Whether nothing is left of it.
    #[cfg(feature = "weights")]
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.as_str().is_empty()
    }

    /// A part of a longer string, in which it begins at byte `start`.
    pub(crate) fn part(text: &'t str, start: usize) -> Self {
        Plain { rest: text.chars(), end: start + text.len() }
    }
}

impl Iterator for Plain<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        self.rest.next()
    }
}

impl Characters for Plain<'_> {
    fn next_plain(&mut self) -> Option<char> {
        let plain = match self.rest.as_str().as_bytes() {
            [c] => c.is_ascii(),
            [c, next, ..] => c.is_ascii() && next.is_ascii(),
            [] => false,
        };
        if plain { self.rest.next() } else { None }
    }

    fn place(&self) -> usize {
        self.end - self.rest.as_str().len()
    }

    fn up_to(&self, end: &Self) -> Self {
        let length = end.place().saturating_sub(self.place());
        let text = self.rest.as_str();
        let part = text.get(..length).unwrap_or(text);
        Self::part(part, self.place())
    }
}
