//! Numbers the tokens that are cut out of the text, and says which of them stand for several ids.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use cliptext::tokenizer::table::{MAX_ADDED, MAX_ADDED_TEXT};

use super::definition::{AddedToken, Definition, END, START};

/// A token that is cut out of the text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Added {
    pub(super) text: String,
    /// Its first id.
    pub(super) id: u32,
    /// How many more ids follow.
    pub(super) more: u8,
    /// Whether it is looked for in normalized text.
    pub(super) normalized: bool,
    /// Whether it counts only where it is not part of a longer word.
    pub(super) whole_word: bool,
}

/// What [`number`] finds.
pub(super) struct Numbered {
    /// The tokens, ascending by text.
    pub(super) tokens: Vec<Added>,
    /// Ids of the definition's added tokens by their text before normalization.
    pub(super) ids: HashMap<String, u32>,
    /// What the user should know.
    pub(super) notes: Vec<String>,
}

/// Numbers the added tokens of `definition`, and its words. `vocabulary` has the ids of all others; `source` is its file.
pub(super) fn number(
    definition: &Definition,
    source: &str,
    vocabulary: &HashMap<String, u32>,
) -> Result<Numbered> {
    let mut notes = Vec::new();
    let ids = ids(&definition.added, source, vocabulary, &mut notes)?;
    let mut tokens = Vec::new();
    for token in &definition.added {
        let text = if token.normalized { normalized(source, &token.text)? } else { token.text.clone() };
        let (id, vectors) = (ids[&token.text], vectors(&token.text, &ids));
        let more = expanded(definition.expands, source, &token.text, &vectors, &mut notes)?;
        tokens.push(Added { text, id, more, normalized: token.normalized, whole_word: false });
    }
    for word in &definition.words {
        // What can't be looked for in normalized text is looked for as it is written.
        let text = normalized(source, &word.name);
        let (text, normalized) = text.map_or((word.name.clone(), false), |text| (text, true));
        let more = u8::try_from(word.count - 1).context("a word with more than 256 vectors")?;
        word.first_id.checked_add(word.count).with_context(|| format!("{source}: an id is too large"))?;
        tokens.push(Added { text, id: word.first_id, more, normalized, whole_word: true });
    }
    for Added { text, .. } in &tokens {
        ensure!(
            (1..=MAX_ADDED_TEXT).contains(&text.len()),
            "{source}: the added token {text:?} has {} bytes; a table takes 1 to {MAX_ADDED_TEXT}",
            text.len()
        );
    }
    tokens.sort();
    if let Some(pair) = tokens.windows(2).find(|pair| pair[0].text == pair[1].text) {
        bail!("{source}: two added tokens are {:?} once normalized; remove one", pair[0].text);
    }
    ensure!(
        tokens.len() <= MAX_ADDED,
        "{source}: {} added tokens; a table holds {MAX_ADDED} at most",
        tokens.len()
    );
    Ok(Numbered { tokens, ids, notes })
}

/// Ids of added tokens: those of the vocabulary, else as listed, else the next that is free, as transformers gives them.
fn ids(
    added: &[AddedToken],
    source: &str,
    vocabulary: &HashMap<String, u32>,
    notes: &mut Vec<String>,
) -> Result<HashMap<String, u32>> {
    // What transformers takes for the next free one: behind the number of words, and behind all added tokens so far.
    let mut next = u32::try_from(vocabulary.len()).context("more words than ids")?;
    let mut ids = HashMap::with_capacity(added.len());
    let (mut new, mut elsewhere) = (Vec::new(), Vec::new());
    for AddedToken { text, id: listed, .. } in added {
        let id = match (vocabulary.get(text), *listed) {
            (Some(&id), Some(listed)) if id != listed => bail!(
                "{source}: {text:?} has the id {id}, the list of added tokens gives it {listed}; make the two agree"
            ),
            (Some(&id), _) => id,
            (None, Some(id)) => {
                if id != next {
                    elsewhere.push(format!("{text:?} ({id}, not {next})"));
                }
                id
            }
            (None, None) if [START, END].contains(&text.as_str()) => {
                bail!("{source}: no id for the special token {text:?}; add it to the vocabulary")
            }
            (None, None) => {
                new.push(format!("{text:?} ({next})"));
                next
            }
        };
        let behind = id.checked_add(1).with_context(|| format!("{source}: an id is too large"))?;
        next = next.max(behind);
        ids.insert(text.clone(), id);
    }
    if !new.is_empty() {
        let new = new.join(", ");
        notes.push(format!(
            "{source}: no file gives these tokens an id, so they get the next free ones: {new}"
        ));
    }
    if !elsewhere.is_empty() {
        notes.push(format!(
            "{source}: added tokens have the ids that their files list, where transformers 5 would number them on: {}",
            elsewhere.join(", ")
        ));
    }
    Ok(ids)
}

/// Ids of the added tokens `text`, `text_1`, `text_2`…: the vectors of one word, as diffusers names them.
fn vectors(text: &str, ids: &HashMap<String, u32>) -> Vec<u32> {
    let further = (1..).map_while(|index: u32| ids.get(&format!("{text}_{index}")));
    ids.get(text).into_iter().chain(further).copied().collect()
}

/// How many further ids `text` stands for, given those of its vectors: all, where prompts are `expands`ed as diffusers does.
fn expanded(expands: bool, source: &str, text: &str, vectors: &[u32], notes: &mut Vec<String>) -> Result<u8> {
    let (count, last) = (vectors.len(), vectors.len().saturating_sub(1));
    if last == 0 {
        return Ok(0);
    }
    if !expands {
        notes.push(format!(
            "{source}: {text:?} is one token, though {count} look like the vectors of one word: a pipeline of diffusers takes \
             them all for it, a tokenizer alone does not; write \"{text} {text}_1\"… in prompts, or give the pipeline's folder"
        ));
        return Ok(0);
    }
    ensure!(
        vectors.windows(2).all(|pair| pair[0].checked_add(1) == Some(pair[1])),
        "{source}: {text:?} stands for the tokens up to \"{text}_{last}\", whose ids {vectors:?} do not follow each other, as \
         cliptext needs them to"
    );
    notes.push(format!("{source}: {text:?} stands for {count} vectors, as diffusers expands it"));
    u8::try_from(last).with_context(|| format!("{source}: {text:?} has more than 256 vectors"))
}

/// An added token as it looks in normalized text.
fn normalized(source: &str, text: &str) -> Result<String> {
    if !text.is_ascii() {
        bail!(
            "{source}: the added token {text:?} is not ASCII and looked for in normalized text, which cliptext does \
             not support; set its \"normalized\" to false"
        );
    }
    let mut out = String::new();
    for c in text.chars() {
        // The white space of regular expressions, of which ASCII has one more than `is_ascii_whitespace`.
        let c = if c.is_ascii_whitespace() || c == '\u{B}' { ' ' } else { c.to_ascii_lowercase() };
        if c != ' ' || !out.ends_with(' ') {
            out.push(c);
        }
    }
    Ok(out)
}
