//! What the readers of a vocabulary share: a file's text, the merges of `merges.txt`, an added token's object.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// A text file of the user's.
pub(super) fn text(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    String::from_utf8(bytes).with_context(|| format!("{}: not UTF-8 text", path.display()))
}

/// One merge a line, two tokens between which stands a space; a first line `#version` says nothing we need.
pub(super) fn merges(name: &str, text: &str) -> Result<Vec<(usize, String, String)>> {
    let mut merges = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.is_empty() || (index == 0 && line.starts_with("#version")) {
            continue;
        }
        let (left, right) = split_pair(line).with_context(|| {
            format!("{name}, line {}: expected two tokens with one space between, found {line:?}", index + 1)
        })?;
        merges.push((index + 1, left, right));
    }
    if merges.is_empty() {
        bail!("{name}: no merges in it; expected one pair of tokens a line, as in OpenAI's merges.txt");
    }
    Ok(merges)
}

/// "a b" as ("a", "b").
pub(super) fn split_pair(text: &str) -> Option<(String, String)> {
    let (left, right) = text.split_once(' ')?;
    let valid = !left.is_empty() && !right.is_empty() && !right.contains(char::is_whitespace);
    valid.then(|| (left.to_owned(), right.to_owned()))
}

/// Text and `normalized` of a token's object, if it asks for nothing that the runtime does not do.
pub(super) fn checked(name: &str, place: &str, token: &Map<String, Value>) -> Result<(String, bool)> {
    let text = token.get("content").and_then(Value::as_str);
    let text = text.with_context(|| format!("{name}: {place}: no \"content\""))?;
    for key in ["single_word", "lstrip", "rstrip"] {
        if token.get(key).is_some_and(|value| value != &Value::Bool(false)) {
            bail!(
                "{name}: {place}: {text:?} has {key} set, which cliptext does not support; set it to false"
            );
        }
    }
    let normalized = token.get("normalized").and_then(Value::as_bool).unwrap_or(false);
    Ok((text.to_owned(), normalized))
}
