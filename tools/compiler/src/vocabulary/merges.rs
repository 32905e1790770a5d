//! What the readers of a vocabulary share: a file's text, the merges of `merges.txt`, an added token's object.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::definition::AddedToken;

/// A text file of the user's.
pub(super) fn text(path: &Path) -> Result<String> {
    let bytes =
        cliptext_files::read_whole(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let text = String::from_utf8(bytes).with_context(|| format!("{}: not UTF-8 text", path.display()))?;
    // Editors on Windows put a byte order mark in front.
    Ok(match text.strip_prefix('\u{FEFF}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

/// One merge a line: two tokens with a space between. A first line `#version` is skipped.
pub(super) fn merges(name: &str, text: &str) -> Result<Vec<(usize, String, String)>> {
    let mut merges = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.is_empty() || (index == 0 && line.starts_with("#version")) {
            continue;
        }
        let (left, right) = split_pair(line).with_context(|| {
            let number = index + 1;
            format!(
                "{name}, line {number}: expected two tokens with one space between, found {line:?}{}",
                remedy(line)
            )
        })?;
        merges.push((index + 1, left, right));
    }
    if merges.is_empty() {
        bail!(
            "{name}: no merges in it; expected one pair of tokens a line, as in OpenAI's merges.txt{}",
            remedy(text)
        );
    }
    Ok(merges)
}

/// What to do about a merge that holds a carriage return.
pub(super) fn remedy(merge: &str) -> &'static str {
    if merge.contains('\r') {
        "; the file's line ends were converted (to those of Windows, perhaps twice): run `dos2unix` on merges.txt, or \
         download it again"
    } else {
        ""
    }
}

/// "a b" as ("a", "b").
pub(super) fn split_pair(text: &str) -> Option<(String, String)> {
    let (left, right) = text.split_once(' ')?;
    let valid = !left.is_empty() && !right.is_empty() && !right.contains(char::is_whitespace);
    valid.then(|| (left.to_owned(), right.to_owned()))
}

/// A token's object, if it asks for nothing that the runtime does not do. As in transformers, a token is looked for in
/// normalized text unless it is special or says otherwise; `special` holds where the object does not say.
pub(super) fn added_token(
    name: &str,
    place: &str,
    token: &Map<String, Value>,
    special: bool,
) -> Result<AddedToken> {
    let text = token.get("content").and_then(Value::as_str);
    let text = text.with_context(|| format!("{name}: {place}: no \"content\""))?;
    for key in ["single_word", "lstrip", "rstrip"] {
        if token.get(key).is_some_and(|value| value != &Value::Bool(false)) {
            bail!(
                "{name}: {place}: {text:?} has {key} set, which cliptext does not support; set it to false"
            );
        }
    }
    let flag = |key: &str| token.get(key).and_then(Value::as_bool);
    let normalized = flag("normalized").unwrap_or(!flag("special").unwrap_or(special));
    Ok(AddedToken { text: text.to_owned(), id: None, normalized })
}
