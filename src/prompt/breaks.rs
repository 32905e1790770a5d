//! `BREAK`, which ends a chunk.

use core::ops::Range;

use crate::tokenizer::is_word;

/// The word.
pub(super) const BREAK: &str = "BREAK";

/// The first `BREAK` of `text` that is a word of its own, with the white space around it.
pub(super) fn find(text: &str) -> Option<Range<usize>> {
    places(text, BREAK).find_map(|start| {
        let (before, behind) = (text.get(..start)?, text.get(start + BREAK.len()..)?);
        let joined = before.ends_with(is_word) || behind.starts_with(is_word);
        let spaces = behind.len() - behind.trim_start_matches(is_space).len();
        let range = before.trim_end_matches(is_space).len()..start + BREAK.len() + spaces;
        (!joined).then_some(range)
    })
}

/// Where `text` has `word`, which does not overlap itself: as `match_indices` finds it, whose search has panic paths.
pub(super) fn places<'t>(text: &'t str, word: &'t str) -> impl Iterator<Item = usize> + 't {
    let bytes = text.as_bytes();
    (0..bytes.len()).filter(move |&at| bytes.get(at..).is_some_and(|rest| rest.starts_with(word.as_bytes())))
}

/// White space as Python's regular expressions have it.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1C}'..='\u{1F}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_words_are_found_with_the_space_around_them() {
        for (text, found) in [
            ("", None),
            ("a break, BREAKS, _BREAK BREAK9 éBREAK BREAKBREAK", None),
            ("BREAK", Some(0..5)),
            ("a\u{3000}\n BREAK\u{1F}\tb", Some(1..13)),
            ("a,BREAK.", Some(2..7)),
            ("BREAKFAST BREAK", Some(9..15)),
        ] {
            assert_eq!(find(text), found, "{text:?}");
        }
    }
}
