//! Files of prompts.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Error, Read, Result, Seek};
use std::path::Path;

use crate::destination::DASH;

/// White space at the beginning of a file before it is taken for lines.
const LONGEST_BEGINNING: usize = 1 << 16;

/// The prompts of a file, one after the other: a JSON array of strings whatever its name, else one a line, an empty line
/// being an empty prompt.
///
/// An array is read whole; of lines one is in memory at a time. A file of lines is read through once beforehand, so that
/// nothing is begun that a fault in it would end.
pub struct Prompts {
    kind: Kind,
    /// How many there are, where that can be known.
    total: Option<usize>,
    given: usize,
    is_over: bool,
}

enum Kind {
    /// A pipe of which nothing was read yet: work may be prepared before its first byte comes.
    Unread(Box<dyn BufRead>),
    Array(std::vec::IntoIter<String>),
    Lines(Lines<Box<dyn BufRead>>),
}

impl Prompts {
    /// Opens the file at `path`; `-` is standard input. Pipes are read as they come.
    ///
    /// # Errors
    /// When the file can't be read, is empty or an empty array, is not UTF-8, holds a NUL, or is JSON by its name or its
    /// beginning (`["` or `{"`) and no array of strings. They do not name the file. What is wrong with what comes out of a
    /// pipe is found where it stands, by [`next`](Self::next).
    pub fn open(path: &Path) -> Result<Self> {
        let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        if path == Path::new(DASH) {
            return Ok(Self::piped(std::io::stdin().lock()));
        }
        let mut file = File::open(path)?;
        let found = file.metadata()?;
        if found.is_dir() {
            return Err(Error::other("it is a folder: give a file of prompts"));
        }
        if !found.is_file() {
            return Ok(Self::piped(BufReader::new(file)));
        }
        let mut prompts = Self::of(BufReader::new(file.try_clone()?), is_json)?;
        if let Kind::Lines(lines) = &mut prompts.kind {
            let mut count = 0;
            while lines.read()?.is_some() {
                count += 1;
            }
            if count == 0 {
                return Err(no_prompt());
            }
            file.rewind()?;
            prompts = Self::of(BufReader::new(file), is_json)?;
            prompts.total = Some(count);
        }
        Ok(prompts)
    }

    fn piped(from: impl BufRead + 'static) -> Self {
        Self { kind: Kind::Unread(Box::new(from)), total: None, given: 0, is_over: false }
    }

    /// Of `from`, which is read until it is known what it is.
    fn of(mut from: impl BufRead + 'static, is_json: bool) -> Result<Self> {
        let head = beginning(&mut from)?;
        if !is_json && !begins_as_json(&head) {
            let kind = Kind::Lines(Lines::new(Box::new(Cursor::new(head).chain(from))));
            return Ok(Self { kind, total: None, given: 0, is_over: false });
        }
        let mut bytes = head;
        from.read_to_end(&mut bytes)?;
        let text = text(&bytes, 0).map_err(|wrong| wrong.error(None))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let array: Vec<String> = serde_json::from_str(text)
            .map_err(|error| Error::other(format!("not a JSON array of strings: {error}")))?;
        if array.is_empty() {
            return Err(no_prompt());
        }
        Ok(Self { total: Some(array.len()), kind: Kind::Array(array.into_iter()), given: 0, is_over: false })
    }

    /// How many prompts there are: known but of a pipe.
    pub fn total(&self) -> Option<usize> {
        self.total
    }

    fn read(&mut self) -> Result<Option<String>> {
        if let Kind::Unread(pipe) = &mut self.kind {
            let pipe = std::mem::replace(pipe, Box::new(std::io::empty()));
            self.kind = Self::of(pipe, false)?.kind;
        }
        let prompt = match &mut self.kind {
            Kind::Unread(_) => None,
            Kind::Array(array) => array.next(),
            Kind::Lines(lines) => lines.read()?.map(str::to_owned),
        };
        match (&prompt, self.total) {
            (None, None) if self.given == 0 => return Err(no_prompt()),
            (None, Some(count)) if self.given < count => return Err(changed()),
            (Some(_), Some(count)) if self.given == count => return Err(changed()),
            _ => {}
        }
        self.given += 1;
        Ok(prompt)
    }
}

impl Iterator for Prompts {
    type Item = Result<String>;

    /// The next prompt. Behind an error there is none.
    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let prompt = self.read().transpose();
        self.is_over = !matches!(prompt, Some(Ok(_)));
        prompt
    }
}

/// All prompts in a file, as [`Prompts`] reads them.
///
/// # Errors
/// Those of [`Prompts`].
pub fn read(path: &Path) -> Result<Vec<String>> {
    Prompts::open(path)?.collect()
}

fn no_prompt() -> Error {
    Error::other("holds no prompt: give a JSON array of strings, or one prompt a line")
}

fn changed() -> Error {
    Error::other("the file was changed while it was read")
}

/// Lines that end as Unix, Windows or old Macs end them; an end of line at the end begins no further one.
struct Lines<R> {
    from: R,
    line: Vec<u8>,
    /// Lines before the one that is read.
    number: usize,
    /// Where the next line begins.
    at: u64,
    /// Whether the last line ended in a carriage return, which a line feed may belong to.
    after_return: bool,
}

impl<R: BufRead> Lines<R> {
    fn new(from: R) -> Self {
        Self { from, line: Vec::new(), number: 0, at: 0, after_return: false }
    }

    fn read(&mut self) -> Result<Option<&str>> {
        if std::mem::take(&mut self.after_return) && self.from.fill_buf()?.first() == Some(&b'\n') {
            self.from.consume(1);
            self.at += 1;
        }
        self.line.clear();
        let mut end = None;
        while end.is_none() {
            let bytes = self.from.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            let ends = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
            end = ends.map(|at| bytes[at]);
            self.line.extend(&bytes[..ends.unwrap_or(bytes.len())]);
            let taken = ends.map_or(bytes.len(), |at| at + 1);
            self.from.consume(taken);
        }
        self.after_return = end == Some(b'\r');
        let begin = self.at;
        self.at += self.line.len() as u64 + u64::from(end.is_some());
        let line = text(&self.line, begin).map_err(|wrong| wrong.error(Some(self.number + 1)))?;
        let line = if self.number == 0 { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line };
        if line.is_empty() && end.is_none() {
            return Ok(None);
        }
        self.number += 1;
        Ok(Some(line))
    }
}

/// What is wrong with bytes as text, and at which byte of the file.
enum Wrong {
    Utf8(u64),
    Nul(u64),
}

impl Wrong {
    fn error(self, line: Option<usize>) -> Error {
        let place = line.map_or_else(String::new, |line| format!(" (line {line})"));
        Error::other(match self {
            Wrong::Utf8(at) => format!("not UTF-8 from byte {at}{place}: save the prompts as UTF-8"),
            Wrong::Nul(at) => {
                format!("a NUL at byte {at}{place}, as UTF-16 has them: save the prompts as UTF-8")
            }
        })
    }
}

/// The text of bytes that begin at byte `begin` of a file.
fn text(bytes: &[u8], begin: u64) -> std::result::Result<&str, Wrong> {
    let text = std::str::from_utf8(bytes).map_err(|error| Wrong::Utf8(begin + error.valid_up_to() as u64))?;
    text.find('\0').map_or(Ok(text), |at| Err(Wrong::Nul(begin + at as u64)))
}

/// As many bytes from the front as it takes to tell an array from lines.
fn beginning(from: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    while !is_told_apart(&head) {
        let more = from.fill_buf()?;
        if more.is_empty() {
            break;
        }
        head.extend(more);
        let taken = more.len();
        from.consume(taken);
    }
    Ok(head)
}

/// The first two characters of a text that are no white space.
fn first_two(head: &[u8]) -> (Option<u8>, Option<u8>) {
    let rest = head.strip_prefix("\u{feff}".as_bytes()).unwrap_or(head);
    let mut characters = rest.iter().copied().filter(|byte| !byte.is_ascii_whitespace());
    (characters.next(), characters.next())
}

fn is_told_apart(head: &[u8]) -> bool {
    head.len() > LONGEST_BEGINNING
        || match first_two(head) {
            (Some(b'[' | b'{'), second) => second.is_some(),
            // Half of a byte order mark says nothing yet.
            (first, _) => first.is_some() && !(head.len() < 3 && "\u{feff}".as_bytes().starts_with(head)),
        }
}

/// Whether a text begins as an array of strings or an object does, and as no prompt: `[cat|dog]` and `{a|b}` do otherwise.
fn begins_as_json(head: &[u8]) -> bool {
    matches!(first_two(head), (Some(b'['), Some(b'"' | b']')) | (Some(b'{'), Some(b'"')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(name: &str, bytes: &[u8]) -> std::result::Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let read = read(&path).map_err(|error| error.to_string());
        // A pipe gives the same, however its bytes come.
        if !name.ends_with("json") {
            for size in [1, 2, 3, 7] {
                let piped = Prompts::piped(BufReader::with_capacity(size, Cursor::new(bytes.to_vec())));
                let piped = piped.collect::<Result<Vec<_>>>();
                assert_eq!(piped.map_err(|error| error.to_string()), read, "{size} bytes at a time");
            }
        }
        read
    }

    #[test]
    fn arrays_and_lines_are_told_apart() {
        let two = Ok(vec!["a cat".to_owned(), "ein Hündchen".to_owned()]);
        assert_eq!(read_as("a.json", "[\"a cat\", \"ein Hündchen\"]".as_bytes()), two);
        assert_eq!(read_as("b.txt", "[\"a cat\", \"ein Hündchen\"]".as_bytes()), two);
        assert_eq!(read_as("b.txt", "\u{feff} [\n\"a cat\", \"ein Hündchen\"]".as_bytes()), two);
        assert_eq!(read_as("c.txt", "a cat\r\nein Hündchen\n".as_bytes()), two);
        assert_eq!(read_as("d.txt", "\u{feff}a cat\nein Hündchen".as_bytes()), two);
        assert_eq!(read_as("e.txt", b"a\n\n[b\n"), Ok(vec!["a".into(), String::new(), "[b".into()]));
        let three = Ok(vec!["a".to_owned(), String::new(), "b".into()]);
        for ends in ["a\n\nb\n", "a\r\rb\r", "a\r\n\r\nb\r\n", "a\n\nb"] {
            assert_eq!(read_as("ends.txt", ends.as_bytes()), three, "{ends:?}");
        }
        assert_eq!(read_as("f.txt", b"\n"), Ok(vec![String::new()]));
        assert_eq!(read_as("f.txt", "\u{feff}\n".as_bytes()), Ok(vec![String::new()]));
        assert_eq!(read_as("f.txt", b"["), Ok(vec!["[".into()]));
        assert_eq!(read_as("g.txt", b"[cat|dog]\n{a|b}"), Ok(vec!["[cat|dog]".into(), "{a|b}".into()]));
        let blank = vec![b'\n'; LONGEST_BEGINNING + 1];
        assert_eq!(read_as("h.txt", &blank).unwrap().len(), LONGEST_BEGINNING + 1);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let error = read_as("g.json", b"a cat").unwrap_err();
        assert!(error.starts_with("not a JSON array of strings: "), "{error}");
        let error = read_as("h.txt", b"a cat \xff").unwrap_err();
        assert_eq!(error, "not UTF-8 from byte 6 (line 1): save the prompts as UTF-8");
        let error = read_as("h.txt", "\u{feff}ä\r\n\na\n\n\u{e9}\0".as_bytes()).unwrap_err();
        assert_eq!(error, "a NUL at byte 13 (line 5), as UTF-16 has them: save the prompts as UTF-8");
        // A slip in an array is no reason to take its brackets for a prompt.
        for (name, text) in [("i.txt", "[\"a\", \"b\",]"), ("j.txt", "\u{feff}{\"prompts\": [\"a\"]}")] {
            let error = read_as(name, text.as_bytes()).unwrap_err();
            assert!(error.starts_with("not a JSON array of strings: "), "{error}");
        }
        for (name, text) in [("k.txt", ""), ("l.txt", "\u{feff}"), ("m.json", "[]"), ("n.txt", " [ ]\n")] {
            assert!(read_as(name, text.as_bytes()).unwrap_err().starts_with("holds no prompt"));
        }
        let utf16: Vec<u8> = "a cat".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(read_as("n.txt", &utf16).unwrap_err().starts_with("a NUL at byte 1 "));
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().starts_with("it is a folder"));
    }

    #[test]
    fn a_file_of_lines_is_checked_and_counted_and_not_held() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines.txt");
        std::fs::write(&path, b"a\nb\nc").unwrap();
        let mut prompts = Prompts::open(&path).unwrap();
        assert_eq!(prompts.total(), Some(3));
        assert_eq!(prompts.next().unwrap().unwrap(), "a");
        // The last line is wrong: nothing is given.
        std::fs::write(&path, b"a\nb\n\xff").unwrap();
        assert!(Prompts::open(&path).is_err());
        let piped = Prompts::piped(Cursor::new(b"a\nb\n\xff"));
        assert_eq!(piped.total(), None);
        assert_eq!(piped.map(|line| line.is_ok()).collect::<Vec<_>>(), [true, true, false]);
    }

    #[test]
    fn a_file_that_grows_or_shrinks_meanwhile_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines.txt");
        for (before, after) in [(1, 2), (2, 1)] {
            let lines = |count: usize| "line\n".repeat(count * 10_000);
            std::fs::write(&path, lines(before)).unwrap();
            let prompts = Prompts::open(&path).unwrap();
            std::fs::write(&path, lines(after)).unwrap();
            let error = prompts.collect::<Result<Vec<_>>>().unwrap_err();
            assert!(error.to_string().contains("changed while it was read"), "{error}");
        }
    }
}
