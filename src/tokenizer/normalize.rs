//! The normalizer: NFC, then white space runs to one space, then lower case character by character.
//!
//! Nothing is buffered, whatever the text: a run of combining marks is put in order by reading it once per
//! combining class that occurs in it (there are 55), so any length takes constant memory and linear time.

use super::characters::Characters;
use super::unicode::{CLASSES, Category, MAX_PARTS, Record, compose, decompose, lower_case, record};

/// The characters of a text after full canonical decomposition, not yet in canonical order.
#[derive(Clone)]
struct Decomposed<C> {
    rest: C,
    parts: [char; MAX_PARTS],
    /// The parts not yet given out are `parts[next..end]`.
    next: usize,
    end: usize,
}

impl<C: Characters> Decomposed<C> {
    fn new(text: C) -> Self {
        Decomposed { rest: text, parts: ['\0'; MAX_PARTS], next: 0, end: 0 }
    }

    fn next(&mut self) -> Option<(char, Record)> {
        if self.next < self.end {
            let part = *self.parts.get(self.next)?;
            self.next += 1;
            return Some((part, record(part)));
        }
        let c = self.rest.next()?;
        let properties = record(c);
        if properties.decomposes
            && let Some((parts, end)) = decompose(c)
        {
            (self.parts, self.next, self.end) = (parts, 1, end);
            return Some((parts[0], record(parts[0])));
        }
        Some((c, properties))
    }

    /// The next character if it is ASCII and so is the one behind it: nothing there to compose.
    fn next_plain(&mut self) -> Option<char> {
        if self.next == self.end { self.rest.next_plain() } else { None }
    }

    fn peek(&self) -> Option<(char, Record)> {
        self.clone().next()
    }
}

/// Marks that composed with their starter: the classes of all of them, one entry each. A composite never has more
/// parts than `MAX_PARTS`, so there are fewer than that.
#[derive(Clone, Copy)]
struct Consumed {
    classes: [u8; MAX_PARTS],
    count: usize,
}

impl Consumed {
    const NONE: Consumed = Consumed { classes: [0; MAX_PARTS], count: 0 };

    fn of_class(&self, class: u8) -> usize {
        self.classes.iter().take(self.count).filter(|&&c| c == class).count()
    }

    /// Notes one mark; false when there is no room (which real data never asks for).
    fn add(&mut self, class: u8) -> bool {
        let Some(slot) = self.classes.get_mut(self.count) else { return false };
        *slot = class;
        self.count += 1;
        true
    }
}

/// A run of marks (characters of non-zero class): where it starts and which classes occur in it.
#[derive(Clone)]
struct Run<C> {
    start: Decomposed<C>,
    /// One bit per class.
    classes: u64,
    length: usize,
}

const _: () = assert!(CLASSES <= u64::BITS as usize, "a run notes its classes in the bits of a u64");

impl<C: Characters> Run<C> {
    /// Reads the run at `cursor` and leaves the cursor behind it.
    fn read(cursor: &mut Decomposed<C>) -> Self {
        let mut run = Run { start: cursor.clone(), classes: 0, length: 0 };
        let mut ahead = cursor.clone();
        while let Some((_, properties)) = ahead.next()
            && properties.class != 0
        {
            run.classes |= 1 << properties.class;
            run.length += 1;
            *cursor = ahead.clone();
        }
        run
    }

    fn lowest_class(&self) -> Option<u8> {
        (self.classes != 0).then(|| self.classes.trailing_zeros() as u8)
    }

    fn without(&self, class: u8) -> u64 {
        self.classes & !(1 << class)
    }

    /// Composes the starter with the run's marks in canonical order. A mark that stays blocks the later marks of its
    /// class, hence what is consumed of a class is always its beginning.
    fn compose_into(&self, starter: &mut char) -> Consumed {
        let mut consumed = Consumed::NONE;
        let mut classes = self.clone();
        while let Some(class) = classes.lowest_class() {
            classes.classes = classes.without(class);
            let mut marks = self.start.clone();
            while let Some((mark, properties)) = marks.next()
                && properties.class != 0
            {
                if properties.class != class {
                    continue;
                }
                match compose(*starter, mark) {
                    Some(composed) if consumed.add(class) => *starter = composed,
                    _ => break,
                }
            }
        }
        consumed
    }
}

/// The NFC form of a text, character by character.
#[derive(Clone)]
struct Nfc<C> {
    /// Behind everything given out and behind `run`.
    cursor: Decomposed<C>,
    /// Marks still to give out: those of the lowest class in `run.classes`, read at `marks`, then the other classes.
    run: Run<C>,
    marks: Decomposed<C>,
    /// How many marks of the current class composed and are left out.
    skip: usize,
    consumed: Consumed,
}

impl<C: Characters> Nfc<C> {
    fn new(text: C) -> Self {
        let cursor = Decomposed::new(text);
        let run = Run { start: cursor.clone(), classes: 0, length: 0 };
        Nfc { marks: cursor.clone(), cursor, run, skip: 0, consumed: Consumed::NONE }
    }

    fn give_out(&mut self, run: Run<C>, consumed: Consumed) {
        self.consumed = consumed;
        self.run = run;
        self.start_class();
    }

    fn start_class(&mut self) {
        if let Some(class) = self.run.lowest_class() {
            self.marks = self.run.start.clone();
            self.skip = self.consumed.of_class(class);
        }
    }

    fn next_mark(&mut self) -> Option<char> {
        while let Some(class) = self.run.lowest_class() {
            while let Some((mark, properties)) = self.marks.next()
                && properties.class != 0
            {
                if properties.class == class {
                    if self.skip == 0 {
                        return Some(mark);
                    }
                    self.skip -= 1;
                }
            }
            self.run.classes = self.run.without(class);
            self.start_class();
        }
        None
    }
}

impl<C: Characters> Iterator for Nfc<C> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        if self.run.classes != 0
            && let Some(mark) = self.next_mark()
        {
            return Some(mark);
        }
        if let Some(c) = self.cursor.next_plain() {
            return Some(c);
        }
        let before = self.cursor.clone();
        let (mut starter, properties) = self.cursor.next()?;
        if properties.class != 0 {
            // Marks at the very beginning have nothing to compose with.
            self.cursor = before;
            let run = Run::read(&mut self.cursor);
            self.give_out(run, Consumed::NONE);
            return self.next_mark();
        }
        loop {
            let run = Run::read(&mut self.cursor);
            if run.length > 0 {
                let consumed = run.compose_into(&mut starter);
                if consumed.count < run.length {
                    self.give_out(run, consumed);
                    return Some(starter);
                }
            }
            // No mark stands between: the next starter may compose as well (Hangul, some vowel signs).
            let composed = match self.cursor.peek() {
                Some((second, properties)) if properties.composes => compose(starter, second),
                _ => None,
            };
            let Some(composed) = composed else { return Some(starter) };
            starter = composed;
            self.cursor.next();
        }
    }
}

/// A text as the pre-tokenizer sees it.
#[derive(Clone)]
pub(super) struct Normalized<C> {
    nfc: Nfc<C>,
    /// The second character of the last one's lower case.
    second: Option<char>,
    after_space: bool,
}

impl<C: Characters> Normalized<C> {
    pub(super) fn new(text: C) -> Self {
        Normalized { nfc: Nfc::new(text), second: None, after_space: false }
    }

    /// Bytes of the text behind which what is not given out yet begins; white space that goes may come first.
    pub(super) fn place(&self) -> usize {
        self.nfc.cursor.rest.place()
    }
}

impl<C: Characters> Iterator for Normalized<C> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        if let Some(second) = self.second.take() {
            return Some(second);
        }
        loop {
            let c = self.nfc.next()?;
            if record(c).category == Category::Space {
                if !self.after_space {
                    self.after_space = true;
                    return Some(' ');
                }
                continue;
            }
            self.after_space = false;
            let (first, second) = lower_case(c);
            self.second = second;
            return Some(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::characters::Plain;
    use crate::tokenizer::tests::Random;
    use unicode_normalization_alignments::UnicodeNormalization;

    extern crate std;
    use std::string::String;
    use std::vec::Vec;

    fn reference(text: &str) -> String {
        text.nfc().map(|(c, _)| c).collect()
    }

    fn check(text: &str) {
        assert_eq!(
            Nfc::new(Plain::new(text)).collect::<String>(),
            reference(text),
            "{:?}",
            text.escape_unicode()
        );
    }

    #[test]
    fn every_character_alone_and_after_a_letter() {
        for c in '\0'..=char::MAX {
            check(&String::from_iter([c]));
            check(&String::from_iter(['a', c, '\u{323}']));
        }
    }

    #[test]
    fn random_strings_of_what_normalization_moves() {
        let lively: Vec<char> = ('\0'..=char::MAX)
            .filter(|&c| {
                let properties = record(c);
                properties.class != 0 || properties.composes || decompose(c).is_some_and(|d| d.1 > 1)
            })
            .filter(|c| !('\u{AC10}'..'\u{D700}').contains(c))
            .collect();
        let latin: Vec<char> = "aeiouAEOUǗ\u{300}\u{301}\u{302}\u{304}\u{307}\u{308}\u{30C}\u{31B}\u{323}\u{327}\u{328}\
             \u{345}\u{344}αωΩ\u{313}\u{314}\u{342}\u{1100}\u{1161}\u{11A8}가각\u{9C7}\u{9BE}\u{DD9}\u{DCF}\u{DCA}"
            .chars()
            .collect();
        let mut random = Random::new(1);
        for _ in 0..200_000 {
            let length = 1 + random.below(12);
            let alphabet = if random.below(2) == 0 { &lively } else { &latin };
            let text: String = (0..length).map(|_| alphabet[random.below(alphabet.len())]).collect();
            check(&text);
        }
    }

    #[test]
    fn long_runs_of_marks() {
        let marks: Vec<char> = ('\0'..=char::MAX).filter(|&c| record(c).class != 0).collect();
        let mut random = Random::new(7);
        let mut text = String::from("e");
        text.extend((0..5000).map(|_| marks[random.below(marks.len())]));
        check(&text);
        text.insert(0, '\u{301}');
        text.push('x');
        check(&text);
    }

    #[test]
    fn white_space_collapses_and_case_goes() {
        let normalized = |text: &str| Normalized::new(Plain::new(text)).collect::<String>();
        assert_eq!(normalized(" \t\u{3000}A\u{85}\n B"), " a b");
        assert_eq!(normalized("ΑΣ ΑΣ"), "ας ας".replace('ς', "σ"));
        assert_eq!(normalized("İ"), "i\u{307}");
        assert_eq!(normalized("A\u{30A}"), "å");
        assert_eq!(normalized("\u{212A}"), "k");
        assert_eq!(normalized("\u{1C}\u{200B}"), "\u{1C}\u{200B}");
    }
}
