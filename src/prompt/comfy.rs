//! Weights as ComfyUI reads them.
//!
//! `(…)` multiplies what is around it by 1.1; `(…:1.3)` is 1.3, whatever is around it. A backslash makes a bracket text, square brackets are
//! text. What lies between brackets is tokenized by itself; where it has fewer than eight tokens they are kept in one chunk.

use core::ops::Range;

use super::breaks::{is_space, places};
use super::error::PromptError;
use super::number::number;
use super::parts::Parts;
use crate::tokenizer::{Characters, Plain};

/// Brackets within each other at the most.
pub const MAX_DEPTH: usize = 128;

/// What a word begins with that names an embedding: a piece of text of its own begins there.
const EMBEDDING: &str = "embedding:";

/// A text in brackets, or all of it.
#[derive(Clone, Copy)]
struct Group {
    /// Where its content ends, and where it ends itself.
    content: usize,
    end: usize,
    weight: f64,
}

/// Gives the parts of `text`, as long as they are taken.
pub(super) fn read(text: &str, parts: &mut impl Parts) -> Result<(), PromptError> {
    let markup = Markup { text };
    let mut around = heapless::Vec::<Group, MAX_DEPTH>::new();
    let mut group = Group { content: text.len(), end: text.len(), weight: 1.0 };
    let mut at = 0;
    loop {
        if at >= group.content {
            at = group.end;
            let Some(outer) = around.pop() else { return Ok(()) };
            group = outer;
            continue;
        }
        let rest = at..group.content;
        if markup.bracket(at) != Some(b'(') {
            let plain = at..markup.plain_end(rest);
            at = plain.end;
            if !pieces(text, plain, group.weight, parts)? {
                return Ok(());
            }
            continue;
        }
        // What nothing closes counts as closed where it ends as if it were.
        let closed = markup.closed_end(rest.clone());
        let closes = |end: usize| end - at >= 2 && markup.bracket(end - 1) == Some(b')');
        match closed.or(Some(rest.end).filter(|&end| closes(end))) {
            Some(end) => {
                let (content, weight) = markup.weighted(at + 1..end - 1, group.weight);
                around.push(group).map_err(|_| PromptError::Depth { limit: MAX_DEPTH, at })?;
                group = Group { content: content.end, end, weight };
                at = content.start;
            }
            None => {
                at = rest.end;
                if !pieces(text, rest, group.weight, parts)? {
                    return Ok(());
                }
            }
        }
    }
}

/// Finds the brackets of a text.
#[derive(Clone, Copy)]
struct Markup<'t> {
    text: &'t str,
}

impl Markup<'_> {
    /// The round bracket at byte `at` that is not made text.
    fn bracket(&self, at: usize) -> Option<u8> {
        let bytes = self.text.as_bytes();
        let byte = *bytes.get(at).filter(|byte| matches!(byte, b'(' | b')'))?;
        let escaped = at.checked_sub(1).and_then(|before| bytes.get(before)) == Some(&b'\\');
        (!escaped).then_some(byte)
    }

    /// The brackets of a range with their places.
    fn brackets(&self, range: Range<usize>) -> impl DoubleEndedIterator<Item = (usize, u8)> {
        range.filter_map(|at| Some((at, self.bracket(at)?)))
    }

    /// Where the text at the front of a range ends that is in no brackets: before the first that opens when none is closed too many.
    fn plain_end(&self, range: Range<usize>) -> usize {
        let mut too_many = 0u64;
        for (at, bracket) in self.brackets(range.clone()) {
            match bracket {
                b'(' if too_many == 0 => return at,
                b'(' => too_many -= 1,
                _ => too_many += 1,
            }
        }
        range.end
    }

    /// The end of the brackets that open at the front of a range, where they close in it.
    fn closed_end(&self, range: Range<usize>) -> Option<usize> {
        let mut open = 0u64;
        for (at, bracket) in self.brackets(range) {
            if bracket == b'(' {
                open += 1;
            } else if open == 1 {
                return Some(at + 1);
            } else {
                open -= 1;
            }
        }
        None
    }

    /// The text and the weight of what brackets hold.
    fn weighted(&self, content: Range<usize>, around: f64) -> (Range<usize>, f64) {
        let text = self.text.get(content.clone()).unwrap_or("");
        // The last colon; a number has no brackets, so it need not be looked for before any.
        let colon =
            text.rfind([':', '(', ')']).filter(|&at| at > 0 && text.as_bytes().get(at) == Some(&b':'));
        let weight = colon.and_then(|at| number(text.get(at + 1..)?));
        match (colon, weight) {
            (Some(at), Some(weight)) => (content.start..content.start + at, weight),
            _ => (content, around * 1.1),
        }
    }
}

/// Gives the pieces of a text without weights of its own. False where there is no room for more.
fn pieces(text: &str, range: Range<usize>, weight: f64, parts: &mut impl Parts) -> Result<bool, PromptError> {
    let mut rest = range;
    while !rest.is_empty() {
        let piece = text.get(rest.clone()).unwrap_or("");
        let names = places(piece, EMBEDDING);
        let mut cut = names.filter(|&at| piece.get(..at).is_some_and(|before| before.ends_with(is_space)));
        let end = cut.next().map_or(rest.end, |at| rest.start + at);
        let piece = text.get(rest.start..end).unwrap_or("");
        if !parts.text(Unescaped(Plain::part(piece, rest.start)), weight)? {
            return Ok(false);
        }
        rest.start = end;
    }
    Ok(true)
}

/// A text whose brackets have lost their backslashes. ComfyUI writes such a bracket as two control characters for a while, which
/// are brackets where they stand in the text as well.
#[derive(Clone)]
struct Unescaped<'t>(Plain<'t>);

impl Iterator for Unescaped<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let next = self.0.next()?;
        let mut behind = self.0.clone();
        let bracket = match (next, behind.next()) {
            ('\\', Some(bracket @ ('(' | ')'))) => bracket,
            ('\0', Some('\u{1}')) => ')',
            ('\0', Some('\u{2}')) => '(',
            _ => return Some(next),
        };
        self.0 = behind;
        Some(bracket)
    }
}

impl Characters for Unescaped<'_> {
    fn next_plain(&mut self) -> Option<char> {
        let mut behind = self.0.clone();
        match behind.next_plain()? {
            '\\' | '\0' => None,
            next => {
                self.0 = behind;
                Some(next)
            }
        }
    }

    fn place(&self) -> usize {
        self.0.place()
    }

    fn up_to(&self, end: &Self) -> Self {
        Self(self.0.up_to(&end.0))
    }
}
