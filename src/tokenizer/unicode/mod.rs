//! Unicode properties and canonical decompositions and compositions of single characters.

mod record;
mod tables;

use tables::{
    BEHIND, BLOCK_BITS, BLOCKS, COMPOSITES, DECOMPOSED, FIRSTS, LOWER_CASE, NINTH_BITS, PLANES, RECORDS,
    RECORDS_OF, ROW_BITS, ROWS, SECONDS,
};

pub(super) use record::{Category, Record};
pub(super) use tables::CLASSES;

/// Never needed, for the tables refer to existing rows and records; it spares the code a panic.
const UNASSIGNED: Record = Record { category: Category::Other, class: 0, decomposes: false, composes: false };

/// Looks a character's properties up.
pub(super) fn record(c: char) -> Record {
    let code = c as usize;
    let block = usize::from(BLOCKS.get(code >> (ROW_BITS + BLOCK_BITS)).copied().unwrap_or(0));
    let cell = (code >> ROW_BITS) % (1 << BLOCK_BITS);
    let find = || {
        let row = usize::from(ROWS.get(block)?[cell]) | usize::from(NINTH_BITS.get(block)? >> cell & 1) << 8;
        RECORDS.get(usize::from(RECORDS_OF.get(row)?[code % (1 << ROW_BITS)])).copied()
    };
    find().unwrap_or(UNASSIGNED)
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
    (lower_case_in_a_run(c).unwrap_or(c), None)
}

fn lower_case_in_a_run(c: char) -> Option<char> {
    let run = LOWER_CASE.partition_point(|run| run.0 <= c).checked_sub(1)?;
    let &(start, length, step, distance) = LOWER_CASE.get(run)?;
    let behind = c as u32 - start as u32;
    let step = u32::from(step).max(1);
    let is_one = behind.is_multiple_of(step) && behind / step < length.into();
    if is_one { char::from_u32((c as u32).wrapping_add_signed(distance)) } else { None }
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
    // A step at a time: what stands behind a first character does not decompose, the first may.
    let (mut first, mut second) = step(c)?;
    let mut length = 0;
    loop {
        if let Some(second) = second {
            *parts.get_mut(length)? = second;
            length += 1;
        }
        match step(first) {
            Some(next) => (first, second) = next,
            None => break,
        }
    }
    *parts.get_mut(length)? = first;
    length += 1;
    // They were found from the last to the first.
    parts.get_mut(..length)?.reverse();
    Some((parts, length))
}

/// In [`BEHIND`], the first of [`SECONDS`].
const SECOND: usize = 3;

/// What a character becomes first: one character, or two.
fn step(c: char) -> Option<(char, Option<char>)> {
    let index = index_of(c)?;
    let behind = *BEHIND.get(index)?;
    let second = SECONDS.get(usize::from(behind).wrapping_sub(SECOND)).copied();
    let plane = if second.is_some() { c as u32 >> 16 } else { behind.into() };
    Some((char::from_u32(plane << 16 | u32::from(*FIRSTS.get(index)?))?, second))
}

/// The number of a character among those that decompose.
fn index_of(c: char) -> Option<usize> {
    let run = DECOMPOSED.partition_point(|&run| first_of(run) <= c as u32).checked_sub(1)?;
    let &(first, before) = DECOMPOSED.get(run)?;
    let index = usize::from(before) + (c as u32 - first_of((first, before))) as usize;
    // It lies in the run, or behind it.
    (index < DECOMPOSED.get(run + 1).map_or(BEHIND.len(), |next| next.1.into())).then_some(index)
}

/// The character with a number among those that decompose.
fn decomposed(index: usize) -> Option<char> {
    let run = DECOMPOSED.partition_point(|run| usize::from(run.1) <= index).checked_sub(1)?;
    let &(first, before) = DECOMPOSED.get(run)?;
    char::from_u32(first_of((first, before)) + (index - usize::from(before)) as u32)
}

/// The first character of a run of [`DECOMPOSED`].
fn first_of((low, before): (u16, u16)) -> u32 {
    plane_of(before.into()) << 16 | u32::from(low)
}

/// The plane of the character with a number among those that decompose.
fn plane_of(index: usize) -> u32 {
    PLANES.iter().skip(1).take_while(|&&end| usize::from(end) <= index).count() as u32
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
    let behind = SECONDS.binary_search(&second).ok()? + SECOND;
    // As they stand in the tables: the first is of the composite's plane.
    let parts = |&index: &u16| {
        let index = usize::from(index);
        let first = FIRSTS.get(index).copied().map_or(0, u32::from);
        (plane_of(index) << 16 | first, BEHIND.get(index).copied().map_or(0, usize::from))
    };
    let found = COMPOSITES.binary_search_by_key(&(first as u32, behind), parts).ok()?;
    decomposed(usize::from(*COMPOSITES.get(found)?))
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
