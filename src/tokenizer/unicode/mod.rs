//! Unicode properties and canonical decompositions and compositions of single characters.

mod record;
mod tables;

use tables::{BLOCK_BITS, BLOCKS, COMPOSITIONS, DECOMPOSITIONS, LOWER_CASE, PARTS, PROPERTIES, RECORDS};

pub(super) use record::{Category, Record};
pub(super) use tables::CLASSES;

/// Never needed, for the tables refer to existing rows and records; it spares the code a panic.
const UNASSIGNED: Record = Record { category: Category::Other, class: 0, decomposes: false, composes: false };

/// Looks a character's properties up.
pub(super) fn record(c: char) -> Record {
    let code = c as usize;
    let block = BLOCKS.get(code >> BLOCK_BITS).copied().unwrap_or(0);
    let record = PROPERTIES
        .get(usize::from(block))
        .and_then(|row| RECORDS.get(usize::from(row[code & ((1 << BLOCK_BITS) - 1)])));
    record.copied().unwrap_or(UNASSIGNED)
}

/// The lower case of a character: one character, in one case with a second behind it. That of Unicode 17, whatever the toolchain
/// that compiles this has.
pub(super) fn lower_case(c: char) -> (char, Option<char>) {
    if c.is_ascii() {
        return (c.to_ascii_lowercase(), None);
    }
    if c == '\u{130}' {
        return ('i', Some('\u{307}'));
    }
    let entry = LOWER_CASE.binary_search_by_key(&c, |entry| entry.0);
    (entry.ok().and_then(|entry| LOWER_CASE.get(entry)).map_or(c, |entry| entry.1), None)
}

/// The longest canonical decomposition.
pub(super) const MAX_PARTS: usize = 4;

const SYLLABLES: u32 = 0xAC00;
const LEADS: u32 = 0x1100;
const VOWELS: u32 = 0x1161;
/// One before the first final consonant: "no final" counts as the zeroth.
const FINALS: u32 = 0x11A7;
const LEAD_COUNT: u32 = 19;
const VOWEL_COUNT: u32 = 21;
const FINAL_COUNT: u32 = 28;
const SYLLABLE_COUNT: u32 = LEAD_COUNT * VOWEL_COUNT * FINAL_COUNT;

/// The full canonical decomposition of a character that has one, and its length.
pub(super) fn decompose(c: char) -> Option<([char; MAX_PARTS], usize)> {
    let mut parts = ['\0'; MAX_PARTS];
    let syllable = (c as u32).wrapping_sub(SYLLABLES);
    if syllable < SYLLABLE_COUNT {
        let vowel = syllable / FINAL_COUNT;
        let last = syllable % FINAL_COUNT;
        parts[0] = char::from_u32(LEADS + vowel / VOWEL_COUNT)?;
        parts[1] = char::from_u32(VOWELS + vowel % VOWEL_COUNT)?;
        parts[2] = char::from_u32(FINALS + last)?;
        return Some((parts, if last == 0 { 2 } else { 3 }));
    }
    let entry = DECOMPOSITIONS.binary_search_by_key(&c, |entry| entry.0).ok()?;
    let &(_, start, length) = DECOMPOSITIONS.get(entry)?;
    let (start, length) = (usize::from(start), usize::from(length));
    parts.get_mut(..length)?.copy_from_slice(PARTS.get(start..start + length)?);
    Some((parts, length))
}

/// The primary composite of two characters, if they have one.
pub(super) fn compose(first: char, second: char) -> Option<char> {
    let lead = (first as u32).wrapping_sub(LEADS);
    let vowel = (second as u32).wrapping_sub(VOWELS);
    if lead < LEAD_COUNT && vowel < VOWEL_COUNT {
        return char::from_u32(SYLLABLES + (lead * VOWEL_COUNT + vowel) * FINAL_COUNT);
    }
    let syllable = (first as u32).wrapping_sub(SYLLABLES);
    let last = (second as u32).wrapping_sub(FINALS);
    if syllable < SYLLABLE_COUNT && syllable.is_multiple_of(FINAL_COUNT) && (1..FINAL_COUNT).contains(&last) {
        return char::from_u32(first as u32 + last);
    }
    let entry = COMPOSITIONS.binary_search_by_key(&(first, second), |entry| entry.0).ok()?;
    COMPOSITIONS.get(entry).map(|entry| entry.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_normalization_alignments::char as reference;

    extern crate std;
    use std::vec::Vec;

    #[test]
    fn every_character_decomposes_as_the_reference_has_it() {
        for c in '\0'..=char::MAX {
            let mut expected = Vec::new();
            reference::decompose_canonical(c, |part| expected.push(part));
            let found = decompose(c).map_or_else(|| [c].to_vec(), |(parts, length)| parts[..length].to_vec());
            assert_eq!(found, expected, "{c:?}");
            assert_eq!(record(c).decomposes, expected != [c], "{c:?}");
        }
    }

    /// The hash is that of Unicode 17's lower case, which the reference has; the standard library of this toolchain may have a later
    /// one, which adds to it.
    #[test]
    fn lower_case_is_that_of_unicode_17() {
        let mut hash = 0xCBF2_9CE4_8422_2325_u64;
        for c in '\0'..=char::MAX {
            let (first, second) = lower_case(c);
            let lower: Vec<char> = core::iter::once(first).chain(second).collect();
            if lower != [c] {
                assert!(c.to_lowercase().eq(lower.iter().copied()), "{c:?}");
                for c in core::iter::once(c).chain(lower) {
                    hash = (hash ^ u64::from(c as u32)).wrapping_mul(0x100_0000_01B3);
                }
            }
        }
        assert_eq!(hash, 0xB1EA_558E_7D02_99AB);
    }

    #[test]
    fn classes_keep_the_reference_order() {
        let mut values = [None; CLASSES];
        for c in '\0'..=char::MAX {
            let class = reference::canonical_combining_class(c);
            assert_eq!(*values[usize::from(record(c).class)].get_or_insert(class), class, "{c:?}");
        }
        assert!(values.is_sorted(), "ranks must rise with the classes");
        assert_eq!(values[0], Some(0));
    }

    #[test]
    fn every_pair_composes_as_the_reference_has_it() {
        let seconds: Vec<char> = ('\0'..=char::MAX).filter(|&c| record(c).composes).collect();
        assert!(seconds.len() > 90, "marks, vowel signs, and Hangul vowels and finals");
        for first in '\0'..='\u{1FFFF}' {
            for &second in &seconds {
                assert_eq!(compose(first, second), reference::compose(first, second), "{first:?} {second:?}");
            }
        }
    }

    #[test]
    fn categories_agree_with_the_regular_expressions() {
        assert_eq!(record('é').category, Category::Letter);
        assert_eq!(record('ª').category, Category::Letter);
        assert_eq!(record('½').category, Category::Number);
        assert_eq!(record('Ⅷ').category, Category::Number);
        assert_eq!(record('\u{85}').category, Category::Space);
        assert_eq!(record('\u{3000}').category, Category::Space);
        assert_eq!(record('\u{200B}').category, Category::Other);
        assert_eq!(record('\u{1C}').category, Category::Other);
        assert_eq!(record('\u{301}').category, Category::Other);
        assert_eq!(record('\u{10FFFF}').category, Category::Other);
        // A letter of Unicode 16, and one of Unicode 17 that the reference does not know yet.
        assert_eq!(record('\u{1C8A}').category, Category::Letter);
        assert_eq!(record('\u{A7CE}').category, Category::Other);
    }
}
