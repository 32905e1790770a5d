//! Weights as AUTOMATIC1111's program reads them.
//!
//! `(…)` multiplies by 1.1, `(…:1.3)` by the number, `[…]` by 1 / 1.1; a backslash makes a bracket text. Brackets of both kinds close
//! by themselves, so that they may overlap; one that nothing closes reaches to the end, one that closes nothing is text. Neighbouring
//! parts of one weight are one text; each text is tokenized by itself.

use super::breaks::{self, BREAK, is_space};
use super::error::PromptError;
use super::number::{is_digit, number};
use super::parts::Parts;
use crate::tokenizer::{Characters, Plain};

/// Parts of different weights that an open bracket has in it at the most.
pub const MAX_SPANS: usize = 128;

/// The factors of a pair of brackets without a number: round ones and square ones.
const FACTORS: [f64; 2] = [1.1, 1.0 / 1.1];

/// A kind of brackets, as an index.
#[derive(Clone, Copy)]
enum Kind {
    Round,
    Square,
}

/// Gives the parts of `text`, as long as they are taken.
pub(super) fn read(text: &str, parts: &mut impl Parts) -> Result<(), PromptError> {
    let lexer = Lexer { text, at: 0, run: None, after: None, open: [0; 2] };
    let mut spans =
        Spans { spans: heapless::Vec::new(), opened: [0; 2], joined: false, given: lexer.clone() };
    for event in lexer {
        match event {
            Event::Part(part) => {
                if !spans.add(part.weight()) {
                    spans.join();
                    // No bracket changes what stands before the first that is open; but the last may be joined with it.
                    if !spans.give(spans.closed().saturating_sub(1), parts)? {
                        return Ok(());
                    }
                    if !spans.add(part.weight()) {
                        return Err(PromptError::Spans { limit: MAX_SPANS, at: part.place });
                    }
                }
            }
            Event::Open(kind) => spans.open(kind),
            Event::Close(kind, None) => spans.close(kind, FACTORS[kind as usize]),
            Event::Close(kind, Some((digits, at))) => {
                let factor = number(digits).ok_or(PromptError::Number { at })?;
                spans.close(kind, factor);
            }
        }
    }
    spans.close_all();
    spans.join();
    spans.give(spans.spans.len(), parts)?;
    Ok(())
}

/// What a prompt consists of.
#[derive(Clone, Copy)]
enum Event<'t> {
    Part(Part<'t>),
    /// A bracket of this kind opens.
    Open(Kind),
    /// The last of this kind closes, with a number and its place.
    Close(Kind, Option<(&'t str, usize)>),
}

/// A piece of text, `BREAK` included: the empty ones count too, since they keep others apart.
#[derive(Clone, Copy)]
struct Part<'t> {
    text: &'t str,
    place: usize,
    is_break: bool,
}

impl Part<'_> {
    /// Its weight, to be multiplied. That of `BREAK` shows by its sign what it is, until a bracket changes it.
    fn weight(&self) -> f64 {
        if self.is_break { -1.0 } else { 1.0 }
    }
}

/// Reads a text event by event.
#[derive(Clone)]
struct Lexer<'t> {
    text: &'t str,
    at: usize,
    /// The end of the open run of characters that are no markup.
    run: Option<usize>,
    /// The place of a `BREAK` in it, and of what is behind, where that comes next.
    after: Option<(usize, usize)>,
    /// Brackets of each kind that are open.
    open: [u32; 2],
}

impl<'t> Lexer<'t> {
    /// The text between two places, as a part; it goes on behind.
    fn part(&mut self, start: usize, end: usize) -> Event<'t> {
        self.at = end;
        let text = self.text.get(start..end).unwrap_or("");
        Event::Part(Part { text, place: start, is_break: false })
    }

    /// The next part of a run that ends at `end`: what comes before a `BREAK`, or all of it.
    fn part_of_run(&mut self, end: usize) -> Event<'t> {
        let start = self.at;
        match breaks::find(self.text.get(start..end).unwrap_or("")) {
            Some(found) => {
                self.after = Some((start + found.start, start + found.end));
                self.part(start, start + found.start)
            }
            None => {
                self.run = None;
                self.part(start, end)
            }
        }
    }

    /// A bracket that opens.
    fn opens(&mut self, kind: Kind) -> Event<'t> {
        self.at += 1;
        self.open[kind as usize] = self.open[kind as usize].saturating_add(1);
        Event::Open(kind)
    }

    /// What closes a bracket of this kind, up to `end`; text where none is open.
    fn closes(&mut self, kind: Kind, end: usize, number: Option<(&'t str, usize)>) -> Event<'t> {
        if self.open[kind as usize] == 0 {
            return self.part(self.at, end);
        }
        self.at = end;
        self.open[kind as usize] -= 1;
        Event::Close(kind, number)
    }

    /// The number in `:1.3)`, which stands at the front of `rest`, its place in it, and the length of all.
    fn number(rest: &str) -> Option<(&str, usize, usize)> {
        let behind = rest.strip_prefix(':')?.trim_start_matches(is_space);
        let start = rest.len() - behind.len();
        let digits = behind.strip_prefix(['+', '-']).unwrap_or(behind);
        let tail = digits.trim_start_matches(|c| c == '.' || is_digit(c));
        if tail.len() == digits.len() {
            return None;
        }
        let close = tail.trim_start_matches(is_space).strip_prefix(')')?;
        Some((rest.get(start..rest.len() - tail.len())?, start, rest.len() - close.len()))
    }
}

impl<'t> Iterator for Lexer<'t> {
    type Item = Event<'t>;

    fn next(&mut self) -> Option<Event<'t>> {
        if let Some((start, end)) = self.after.take() {
            self.at = end;
            let text = self.text.get(start..end).unwrap_or("");
            let spaces = text.len() - text.trim_start_matches(is_space).len();
            let word = text.get(spaces..spaces + BREAK.len()).unwrap_or("");
            return Some(Event::Part(Part { text: word, place: start + spaces, is_break: true }));
        }
        if let Some(end) = self.run {
            return Some(self.part_of_run(end));
        }
        let at = self.at;
        let rest = self.text.get(at..)?;
        Some(match rest.as_bytes().first()? {
            b'\\' => {
                let escaped = rest.as_bytes().get(1).is_some_and(|next| b"()[]\\".contains(next));
                self.part(at + 1, at + 1 + usize::from(escaped))
            }
            b'(' => self.opens(Kind::Round),
            b'[' => self.opens(Kind::Square),
            b')' => self.closes(Kind::Round, at + 1, None),
            b']' => self.closes(Kind::Square, at + 1, None),
            b':' => match Self::number(rest) {
                Some((number, start, length)) => {
                    self.closes(Kind::Round, at + length, Some((number, at + start)))
                }
                None => self.part(at, at + 1),
            },
            _ => {
                let length = rest.find(['\\', '(', ')', '[', ']', ':']).unwrap_or(rest.len());
                self.run = Some(at + length);
                self.part_of_run(at + length)
            }
        })
    }
}

/// Parts that follow each other and have the same brackets around them, or the same weight.
#[derive(Clone, Copy)]
struct Span {
    weight: f64,
    parts: u32,
    /// Brackets of each kind that opened before it and are open.
    opened: [u32; 2],
}

/// The parts that are not given yet.
struct Spans<'t> {
    spans: heapless::Vec<Span, MAX_SPANS>,
    /// Brackets of each kind that opened since the last part.
    opened: [u32; 2],
    /// Whether a part that comes next has the same brackets around it as the last.
    joined: bool,
    /// Reads on from the first of them.
    given: Lexer<'t>,
}

impl<'t> Spans<'t> {
    /// Adds a part; false where there is no room.
    fn add(&mut self, weight: f64) -> bool {
        if self.joined
            && let Some(last) = self.spans.last_mut()
            && last.weight == weight
        {
            last.parts += 1;
            return true;
        }
        let added = self.spans.push(Span { weight, parts: 1, opened: self.opened }).is_ok();
        if added {
            (self.opened, self.joined) = ([0; 2], true);
        }
        added
    }

    fn open(&mut self, kind: Kind) {
        self.opened[kind as usize] = self.opened[kind as usize].saturating_add(1);
        self.joined = false;
    }

    /// Closes the last bracket of a kind, which multiplies what is in it.
    fn close(&mut self, kind: Kind, factor: f64) {
        self.joined = false;
        if self.opened[kind as usize] > 0 {
            self.opened[kind as usize] -= 1;
        } else if let Some(first) = self.spans.iter().rposition(|span| span.opened[kind as usize] > 0) {
            for (index, span) in self.spans.iter_mut().enumerate().skip(first) {
                span.weight *= factor;
                span.opened[kind as usize] -= u32::from(index == first);
            }
        }
    }

    /// Closes what nothing closes: the round brackets, then the square ones.
    fn close_all(&mut self) {
        let mut open = [0u64; 2];
        for span in &mut self.spans {
            for kind in [Kind::Round, Kind::Square] {
                open[kind as usize] += u64::from(span.opened[kind as usize]);
                for _ in 0..open[kind as usize] {
                    let next = span.weight * FACTORS[kind as usize];
                    // Infinite, or as small as can be: so it stays.
                    if next == span.weight {
                        break;
                    }
                    span.weight = next;
                }
            }
        }
        self.spans.iter_mut().for_each(|span| span.opened = [0; 2]);
    }

    /// Makes one of neighbours of one weight, which no bracket that is still open can make differ.
    fn join(&mut self) {
        let mut kept = 0usize;
        for index in 0..self.spans.len() {
            let Some(span) = self.spans.get(index).copied() else { break };
            match kept.checked_sub(1).and_then(|last| self.spans.get_mut(last)) {
                Some(last) if last.weight == span.weight && span.opened == [0; 2] => last.parts += span.parts,
                _ => {
                    self.spans.get_mut(kept).into_iter().for_each(|place| *place = span);
                    kept += 1;
                }
            }
        }
        self.spans.truncate(kept);
    }

    /// Spans before the first open bracket.
    fn closed(&self) -> usize {
        self.spans.iter().position(|span| span.opened != [0; 2]).unwrap_or(self.spans.len())
    }

    /// Gives the texts of the first `given` spans. False where there is no room for more.
    fn give(&mut self, given: usize, parts: &mut impl Parts) -> Result<bool, PromptError> {
        for span in self.spans.iter().take(given) {
            let text = Spliced::new(self.given.clone(), span.parts);
            let is_taken = if span.weight == -1.0 && text.clone().eq(BREAK.chars()) {
                parts.end_chunk(text.place())
            } else {
                parts.text(text, span.weight)?
            };
            if !is_taken {
                return Ok(false);
            }
            let mut parts = span.parts;
            while parts > 0
                && let Some(event) = self.given.next()
            {
                parts -= u32::from(matches!(event, Event::Part(_)));
            }
        }
        let kept = self.spans.len().saturating_sub(given);
        for index in 0..kept {
            let span = self.spans.get(index + given).copied();
            if let (Some(span), Some(place)) = (span, self.spans.get_mut(index)) {
                *place = span;
            }
        }
        self.spans.truncate(kept);
        Ok(true)
    }
}

/// The characters of some parts.
#[derive(Clone)]
struct Spliced<'t> {
    lexer: Lexer<'t>,
    /// Parts that are not begun.
    parts: u32,
    /// The part that is read: not at its end, but at that of all.
    part: Plain<'t>,
    /// Where all of it ends.
    end: usize,
}

impl<'t> Spliced<'t> {
    fn new(lexer: Lexer<'t>, parts: u32) -> Self {
        let mut new = Self { lexer, parts, part: Plain::new(""), end: usize::MAX };
        new.begin_part();
        new
    }

    /// Goes on with the next part that is not empty, if the one that is read is at its end.
    fn begin_part(&mut self) {
        while self.parts > 0
            && self.part.is_empty()
            && let Some(event) = self.lexer.next()
        {
            if let Event::Part(part) = event {
                self.part = Plain::part(part.text, part.place);
                self.parts -= 1;
            }
        }
    }
}

impl Iterator for Spliced<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        if self.place() >= self.end {
            return None;
        }
        let next = self.part.next();
        self.begin_part();
        next
    }
}

impl Characters for Spliced<'_> {
    fn next_plain(&mut self) -> Option<char> {
        let mut behind = self.clone();
        let next = behind.next().filter(char::is_ascii)?;
        if behind.clone().next().is_some_and(|c| !c.is_ascii()) {
            return None;
        }
        *self = behind;
        Some(next)
    }

    fn place(&self) -> usize {
        self.part.place()
    }

    fn up_to(&self, end: &Self) -> Self {
        Self { end: end.place(), ..self.clone() }
    }
}
