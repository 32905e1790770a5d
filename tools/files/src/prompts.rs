//! Files of prompts.

use std::io::{Error, Result};
use std::path::Path;

/// The prompts in a file: a JSON array of strings whatever its name, else one a line, an empty line being an empty prompt.
///
/// # Errors
/// When the file can't be read, is not UTF-8, or is named `.json` and no JSON array of strings. They do not name the file.
pub fn read(path: &Path) -> Result<Vec<String>> {
    let text = String::from_utf8(std::fs::read(path)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::other(format!("not UTF-8 from byte {at}: save the prompts as UTF-8"))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    match serde_json::from_str(text) {
        Ok(prompts) => Ok(prompts),
        Err(error) if is_json => Err(Error::other(format!("not a JSON array of strings: {error}"))),
        Err(_) => Ok(text.lines().map(str::to_owned).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(name: &str, bytes: &[u8]) -> std::result::Result<Vec<String>, String> {
        let folder = std::env::temp_dir().join(format!("cliptext-prompts-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        let prompts = read(&path).map_err(|error| error.to_string());
        std::fs::remove_dir_all(folder).unwrap();
        prompts
    }

    #[test]
    fn arrays_and_lines_are_told_apart() {
        let two = Ok(vec!["a cat".to_owned(), "ein Hündchen".to_owned()]);
        assert_eq!(read_as("a.json", "[\"a cat\", \"ein Hündchen\"]".as_bytes()), two);
        assert_eq!(read_as("b.txt", "[\"a cat\", \"ein Hündchen\"]".as_bytes()), two);
        assert_eq!(read_as("c.txt", "a cat\r\nein Hündchen\n".as_bytes()), two);
        assert_eq!(read_as("d.txt", "\u{feff}a cat\nein Hündchen".as_bytes()), two);
        assert_eq!(read_as("e.txt", b"a\n\n[b\n"), Ok(vec!["a".into(), String::new(), "[b".into()]));
        assert_eq!(read_as("f.txt", b""), Ok(vec![]));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let error = read_as("g.json", b"a cat").unwrap_err();
        assert!(error.starts_with("not a JSON array of strings: "), "{error}");
        let error = read_as("h.txt", b"a cat \xff").unwrap_err();
        assert_eq!(error, "not UTF-8 from byte 6: save the prompts as UTF-8");
    }
}
