//! Checks a definition and numbers its tokens: single bytes, single bytes at a word's end, then merges by rank.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use anyhow::{Context, Result, bail};
use cliptext::tokenizer::table::{BASE_TOKENS, MAX_MERGES, MAX_TOKEN};

use super::added::{self, Added};
use super::definition::{Definition, WORD_END};

/// The tokens of a vocabulary. A token's place in the lists is its index in the table.
pub(super) struct Tokens {
    /// The bytes of each, and whether it ends a word.
    pub(super) bytes: Vec<(Vec<u8>, bool)>,
    /// The parts of each from [`BASE_TOKENS`] on.
    pub(super) merges: Vec<[u16; 2]>,
    /// Whether the encoding of a token's bytes is the token. Others never come out of any word.
    pub(super) reachable: Vec<bool>,
    /// Ids of all tokens if they differ from the indexes.
    pub(super) ids: Option<Vec<u32>>,
    /// The tokens cut out of the text, ascending by text.
    pub(super) added: Vec<Added>,
    pub(super) start_id: u32,
    pub(super) end_id: u32,
    pub(super) pad_id: Option<u32>,
    pub(super) size: u32,
    /// What the user should know of how the files were read.
    pub(super) notes: Vec<String>,
}

/// The bytes in CLIP's order, each with the character that stands for it in vocabulary files.
pub(super) fn byte_characters() -> Vec<(u8, char)> {
    let printable = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let others = (0..=255).filter(|byte| !printable(byte)).zip('\u{100}'..);
    (0..=255).filter(printable).map(|byte| (byte, char::from(byte))).chain(others).collect()
}

pub(super) fn number(definition: &Definition) -> Result<Tokens> {
    let name = &definition.merges_name;
    if definition.merges.len() > MAX_MERGES {
        bail!("{name}: {} merges; a table holds {MAX_MERGES} at most", definition.merges.len());
    }
    let mut texts: Vec<String> = Vec::with_capacity(BASE_TOKENS + definition.merges.len());
    let mut bytes: Vec<(Vec<u8>, bool)> = Vec::with_capacity(texts.capacity());
    for ends_word in [false, true] {
        for (byte, character) in byte_characters() {
            texts.push(format!("{character}{}", if ends_word { WORD_END } else { "" }));
            bytes.push((vec![byte], ends_word));
        }
    }
    let mut indexes: HashMap<String, u16> = texts.iter().cloned().zip(0..).collect();
    let mut merges = Vec::with_capacity(definition.merges.len());
    for (place, left, right) in &definition.merges {
        let at = || format!("{name}, {} {place}", definition.merges_place);
        let index = |part: &String| {
            indexes.get(part).copied().with_context(|| {
                format!(
                    "{}: {part:?} is neither a byte nor made by a merge before; is the file complete?",
                    at()
                )
            })
        };
        let (left_index, right_index) = (index(left)?, index(right)?);
        let (head, tail) = (&bytes[usize::from(left_index)], &bytes[usize::from(right_index)]);
        if head.1 {
            bail!("{}: {left:?} ends a word, so nothing can be merged behind it", at());
        }
        let joined = ([&head.0[..], &tail.0[..]].concat(), tail.1);
        if joined.0.len() > MAX_TOKEN {
            bail!("{}: the token has {} bytes; a table takes {MAX_TOKEN} at most", at(), joined.0.len());
        }
        let text = format!("{left}{right}");
        match indexes.entry(text.clone()) {
            Entry::Occupied(_) => bail!("{}: {text:?} is made by an earlier merge already; remove one", at()),
            Entry::Vacant(entry) => entry.insert(texts.len() as u16),
        };
        merges.push([left_index, right_index]);
        texts.push(text);
        bytes.push(joined);
    }
    let reachable = reachable(&bytes, &merges);
    let mut tokens = Tokens {
        bytes,
        merges,
        reachable,
        ids: None,
        added: Vec::new(),
        start_id: 0,
        end_id: 0,
        pad_id: None,
        size: 0,
        notes: definition.notes.clone(),
    };
    assign_ids(definition, &texts, &mut tokens)?;
    Ok(tokens)
}

/// Encodes every token's bytes by the definition of byte-pair encoding.
fn reachable(bytes: &[(Vec<u8>, bool)], merges: &[[u16; 2]]) -> Vec<bool> {
    let base: HashMap<(u8, bool), u16> = bytes
        .iter()
        .take(BASE_TOKENS)
        .zip(0..)
        .map(|((bytes, end), index)| ((bytes[0], *end), index))
        .collect();
    let merged: HashMap<[u16; 2], u16> = merges.iter().copied().zip(BASE_TOKENS as u16..).collect();
    let reaches = |(index, (bytes, ends_word)): (usize, &(Vec<u8>, bool))| {
        let last = bytes.len() - 1;
        let mut word: Vec<u16> =
            bytes.iter().enumerate().map(|(i, &byte)| base[&(byte, *ends_word && i == last)]).collect();
        while let Some(lowest) =
            word.windows(2).filter_map(|pair| merged.get(&[pair[0], pair[1]]).copied()).min()
        {
            let pair = merges[usize::from(lowest) - BASE_TOKENS];
            let mut at = 0;
            while at + 1 < word.len() {
                if word[at..at + 2] == pair {
                    word.splice(at..at + 2, [lowest]);
                }
                at += 1;
            }
        }
        word == [index as u16]
    };
    bytes.iter().enumerate().map(reaches).collect()
}

/// Ids of tokens, and of start, end and padding.
fn assign_ids(definition: &Definition, texts: &[String], tokens: &mut Tokens) -> Result<()> {
    // Without a vocab.json, start and end follow the merges, as in OpenAI's own tokenizer.
    let implied: HashMap<String, u32>;
    let (source, all) = match &definition.ids {
        Some((name, ids)) => (name, ids),
        None => {
            let special = [&definition.start, &definition.end];
            implied = texts.iter().chain(special).cloned().zip(0..).collect();
            (&definition.merges_name, &implied)
        }
    };
    let mut owners: HashMap<u32, &str> = HashMap::new();
    let mut ids = Vec::with_capacity(texts.len());
    for text in texts {
        let id = all.get(text).copied().with_context(|| {
            format!(
                "{source}: no id for {text:?}, which {} needs; the two files are not of the same vocabulary",
                definition.merges_name
            )
        })?;
        if let Some(other) = owners.insert(id, text) {
            bail!("{source}: {other:?} and {text:?} have the same id {id}; the file is damaged");
        }
        ids.push(id);
    }
    let mut top = all.values().copied().max().unwrap_or(0);
    tokens.ids = ids.iter().zip(0..).any(|(&id, index)| id != index).then_some(ids);

    let added = added::number(definition, source, all)?;
    top = added.tokens.iter().map(|token| token.id + u32::from(token.more)).fold(top, u32::max);
    let special = |text: &str| {
        let id = added.ids.get(text).or_else(|| all.get(text)).copied();
        id.with_context(|| {
            format!("{source}: no id for the special token {text:?}; add it to the vocabulary")
        })
    };
    tokens.start_id = special(&definition.start)?;
    tokens.end_id = special(&definition.end)?;
    tokens.pad_id = definition.pad.as_deref().map(special).transpose()?;
    tokens.added = added.tokens;
    tokens.notes.extend(added.notes);
    tokens.size = top.checked_add(1).with_context(|| format!("{source}: an id is too large"))?;
    Ok(())
}
