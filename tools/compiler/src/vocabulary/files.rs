//! Finds out which files a vocabulary has, and reads them into one definition.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::definition::{AddedToken, Definition, END, START};
use super::merges::{merges, text};
use super::{special, tokenizer_json};

const STANDARD_MERGES: &str = include_str!("../../../../models/vocabulary/merges.txt");

/// The vocabulary that comes with the compiler.
pub(super) fn standard() -> Result<Definition> {
    with_merges("the standard merges.txt".into(), STANDARD_MERGES)
}

/// Files that hold settings of a vocabulary, or tokens that were added to it.
const SETTINGS: [&str; 3] = ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"];

/// The vocabulary at a path that the user gave.
pub(super) fn read(path: &Path) -> Result<Definition> {
    if path.is_dir() {
        return folder(path);
    }
    let mut definition = match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") if path.file_name().is_some_and(|name| name == "vocab.json") => bail!(
            "{}: a vocab.json alone does not say how words are merged; give its folder, with merges.txt beside it",
            path.display()
        ),
        Some("json") => tokenizer_json::read(&path.display().to_string(), &text(path)?)?,
        _ => with_merges(path.display().to_string(), &text(path)?)?,
    };
    let beside = |name: &&&str| path.with_file_name(name).is_file();
    let unread: Vec<&str> = SETTINGS.iter().filter(beside).copied().collect();
    if !unread.is_empty() {
        definition.notes.push(format!(
            "{}: the file alone is read, not {} beside it; give the folder to have all",
            path.display(),
            unread.join(", ")
        ));
    }
    Ok(definition)
}

fn folder(path: &Path) -> Result<Definition> {
    let (merges, vocab, tokenizer) =
        (path.join("merges.txt"), path.join("vocab.json"), path.join("tokenizer.json"));
    let tokenizer_name = tokenizer.display().to_string();
    let mut definition = if merges.is_file() && (vocab.is_file() || !tokenizer.is_file()) {
        let mut definition = with_merges(merges.display().to_string(), &text(&merges)?)?;
        if vocab.is_file() {
            let name = vocab.display().to_string();
            let ids: HashMap<String, u32> = serde_json::from_str(&text(&vocab)?)
                .with_context(|| format!("{name}: expected one object of tokens and their ids"))?;
            definition.ids = Some((name, ids));
        }
        definition.added = if tokenizer.is_file() {
            tokenizer_json::beside(&tokenizer_name, &text(&tokenizer)?, &definition)?
        } else {
            vec![]
        };
        definition
    } else if tokenizer.is_file() {
        tokenizer_json::read(&tokenizer_name, &text(&tokenizer)?)?
    } else {
        bail!(
            "{}: no vocabulary here; expected vocab.json and merges.txt, or tokenizer.json (in a Stable Diffusion \
             model they are in the folder \"tokenizer\")",
            path.display()
        );
    };
    special::read(path, &mut definition)?;
    definition.expands = in_pipeline(path);
    Ok(definition)
}

/// Whether a tokenizer's folder belongs to a pipeline of diffusers, which expands words of several vectors.
fn in_pipeline(folder: &Path) -> bool {
    // A folder such as `.` has its parent by the way that leads to it only.
    let folder = folder.canonicalize();
    folder.is_ok_and(|folder| folder.parent().is_some_and(|above| above.join("model_index.json").is_file()))
}

/// A definition with these merges and otherwise what `CLIPTokenizer` takes for granted.
fn with_merges(name: String, text: &str) -> Result<Definition> {
    let plain = |text: &str| AddedToken { text: text.into(), id: None, normalized: false };
    Ok(Definition {
        merges: merges(&name, text)?,
        merges_name: name,
        merges_place: "line",
        ids: None,
        added: vec![plain(START), plain(END)],
        start: START.into(),
        end: END.into(),
        pad: None,
        keeps_special: true,
        words: vec![],
        expands: false,
        notes: vec![],
    })
}
