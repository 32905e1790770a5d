//! Files of prompts.

use std::io::{Error, Result};
use std::path::Path;

/// The prompts in a file: a JSON array of strings whatever its name, else one a line, an empty line being an empty prompt.
///
/// # Errors
/// When the file can't be read, is empty or an empty array, is not UTF-8, holds a NUL, or is JSON by its name or its
/// beginning (`["` or `{"`) and no array of strings. They do not name the file.
pub fn read(path: &Path) -> Result<Vec<String>> {
    let text = String::from_utf8(std::fs::read(path)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::other(format!("not UTF-8 from byte {at}: save the prompts as UTF-8"))
    })?;
    if let Some(at) = text.find('\0') {
        return Err(Error::other(format!(
            "a NUL at byte {at}, as UTF-16 has them: save the prompts as UTF-8"
        )));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let prompts: Vec<String> = match serde_json::from_str(text) {
        Ok(prompts) => prompts,
        Err(error) if is_json || begins_as_json(text) => {
            return Err(Error::other(format!("not a JSON array of strings: {error}")));
        }
        Err(_) => lines(text).map(str::to_owned).collect(),
    };
    if prompts.is_empty() {
        return Err(Error::other("holds no prompt: give a JSON array of strings, or one prompt a line"));
    }
    Ok(prompts)
}

/// Lines that end as Unix, Windows or old Macs end them; an end of line at the end begins no further one.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (line, end) = rest.find(['\r', '\n']).map_or((rest, ""), |at| rest.split_at(at));
        rest = end.strip_prefix("\r\n").or(end.get(1..)).unwrap_or("");
        Some(line)
    })
}

/// Whether a text begins as an array of strings or an object does, and as no prompt: `[cat|dog]` and `{a|b}` do otherwise.
fn begins_as_json(text: &str) -> bool {
    text.trim_start().strip_prefix(['[', '{']).is_some_and(|inside| inside.trim_start().starts_with('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(name: &str, bytes: &[u8]) -> std::result::Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn arrays_and_lines_are_told_apart() {
        let two = Ok(vec!["a cat".to_owned(), "ein Hündchen".to_owned()]);
        assert_eq!(read_as("a.json", "[\"a cat\", \"ein Hündchen\"]".as_bytes()), two);
        assert_eq!(read_as("b.txt", "[\"a cat\", \"ein Hündchen\"]".as_bytes()), two);
        assert_eq!(read_as("c.txt", "a cat\r\nein Hündchen\n".as_bytes()), two);
        assert_eq!(read_as("d.txt", "\u{feff}a cat\nein Hündchen".as_bytes()), two);
        assert_eq!(read_as("e.txt", b"a\n\n[b\n"), Ok(vec!["a".into(), String::new(), "[b".into()]));
        let three = Ok(vec!["a".to_owned(), String::new(), "b".into()]);
        for ends in ["a\n\nb\n", "a\r\rb\r", "a\r\n\r\nb\r\n", "a\n\nb"] {
            assert_eq!(read_as("ends.txt", ends.as_bytes()), three, "{ends:?}");
        }
        assert_eq!(read_as("f.txt", b"\n"), Ok(vec![String::new()]));
        assert_eq!(read_as("g.txt", b"[cat|dog]\n{a|b}"), Ok(vec!["[cat|dog]".into(), "{a|b}".into()]));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let error = read_as("g.json", b"a cat").unwrap_err();
        assert!(error.starts_with("not a JSON array of strings: "), "{error}");
        let error = read_as("h.txt", b"a cat \xff").unwrap_err();
        assert_eq!(error, "not UTF-8 from byte 6: save the prompts as UTF-8");
        // A slip in an array is no reason to take its brackets for a prompt.
        for (name, text) in [("i.txt", "[\"a\", \"b\",]"), ("j.txt", "\u{feff}{\"prompts\": [\"a\"]}")] {
            let error = read_as(name, text.as_bytes()).unwrap_err();
            assert!(error.starts_with("not a JSON array of strings: "), "{error}");
        }
        for (name, text) in [("k.txt", ""), ("l.txt", "\u{feff}"), ("m.json", "[]")] {
            assert!(read_as(name, text.as_bytes()).unwrap_err().starts_with("holds no prompt"));
        }
        let utf16: Vec<u8> = "a cat".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(read_as("n.txt", &utf16).unwrap_err().starts_with("a NUL at byte 1"));
    }
}
