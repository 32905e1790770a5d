//! Reads a `tokenizer.json`, which holds vocabulary, merges and the steps around them.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::definition::{AddedToken, Definition, END, START, WORD_END};
use super::merges::{added_token, remedy, split_pair};

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Map<String, Value>>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    padding: Value,
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
    #[serde(flatten)]
    settings: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair(String, String),
}

/// Words of the regular expression that every CLIP tokenizer splits by.
const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

pub(super) fn read(name: &str, text: &str) -> Result<Definition> {
    let file = parse(name, text)?;
    let keeps_special = check_steps(name, &file)?;
    let added = added(name, &file.added_tokens)?;
    let (start, end) = post_processor(name, &file.post_processor)?;
    let pad = file.padding.get("pad_token").and_then(Value::as_str).map(str::to_owned);
    Ok(Definition {
        merges_name: name.to_owned(),
        merges_place: "merge",
        merges: merges(name, file.model.merges)?,
        ids: Some((name.to_owned(), file.model.vocab)),
        added,
        start,
        end,
        pad,
        keeps_special,
        words: vec![],
        expands: false,
        notes: vec![],
    })
}

/// The added tokens of a `tokenizer.json` beside the `vocab.json` and `merges.txt` of `definition`. Only they are taken of
/// it: `CLIPTokenizer` of transformers makes the steps anew.
pub(super) fn beside(name: &str, text: &str, definition: &Definition) -> Result<Vec<AddedToken>> {
    let file = parse(name, text)?;
    let words = |merges: &[(usize, String, String)]| -> Vec<(String, String)> {
        merges.iter().map(|(_, left, right)| (left.clone(), right.clone())).collect()
    };
    let same_ids = definition.ids.as_ref().is_none_or(|(_, ids)| *ids == file.model.vocab);
    ensure!(
        same_ids && words(&merges(name, file.model.merges)?) == words(&definition.merges),
        "{name}: its vocabulary is another than that of {} beside it; remove the one that is not the model's",
        definition.merges_name
    );
    added(name, &file.added_tokens)
}

fn parse(name: &str, text: &str) -> Result<File> {
    serde_json::from_str(text).with_context(|| format!("{name}: not a tokenizer.json with a byte-pair model"))
}

fn merges(name: &str, merges: Vec<Merge>) -> Result<Vec<(usize, String, String)>> {
    let pair = |(index, merge): (usize, Merge)| {
        let (text, pair) = match merge {
            Merge::Text(text) => (text.clone(), split_pair(&text)),
            Merge::Pair(left, right) => {
                let text = format!("{left} {right}");
                (text, (remedy(&right).is_empty()).then_some((left, right)))
            }
        };
        let (left, right) = pair.with_context(|| {
            format!("{name}: model.merges[{index}]: expected two tokens, found {text:?}{}", remedy(&text))
        })?;
        Ok((index, left, right))
    };
    merges.into_iter().enumerate().map(pair).collect()
}

fn added(name: &str, objects: &[Map<String, Value>]) -> Result<Vec<AddedToken>> {
    let mut added: Vec<AddedToken> = Vec::new();
    let mut texts = HashSet::new();
    for object in objects {
        let token = added_token(name, "added_tokens", object, false)?;
        let id = object.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
        let id = id.with_context(|| format!("{name}: added_tokens: {:?} has no id", token.text))?;
        ensure!(
            texts.insert(token.text.clone()),
            "{name}: added_tokens: {:?} is listed twice; remove one",
            token.text
        );
        added.push(AddedToken { id: Some(id), ..token });
    }
    Ok(added)
}

/// Refuses what is not a CLIP tokenizer; says whether the expression lists the special tokens.
fn check_steps(name: &str, file: &File) -> Result<bool> {
    let model = &file.model.settings;
    let setting = |key: &str| model.get(key).unwrap_or(&Value::Null);
    let expected: [(&str, &[Value]); 6] = [
        ("type", &[json!("BPE"), Value::Null]),
        ("end_of_word_suffix", &[json!(WORD_END)]),
        ("continuing_subword_prefix", &[json!(""), Value::Null]),
        ("dropout", &[Value::Null]),
        ("byte_fallback", &[json!(false), Value::Null]),
        ("ignore_merges", &[json!(false), Value::Null]),
    ];
    for (key, allowed) in expected {
        if !allowed.contains(setting(key)) {
            bail!(
                "{name}: model.{key} is {}, CLIP's tokenizer has {}; is this file another model's?",
                setting(key),
                allowed[0]
            );
        }
    }
    let normalizer = json!({"type": "Sequence", "normalizers": [
        {"type": "NFC"},
        {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
        {"type": "Lowercase"},
    ]});
    if file.normalizer != normalizer {
        bail!(
            "{name}: the normalizer is not CLIP's (NFC, one space for white space, lower case); is this file another \
             model's?"
        );
    }
    let byte_level = [
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}),
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true}),
    ];
    let splits = |expression: String, byte_level: &Value| {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Removed", "invert": true},
            byte_level,
        ]})
    };
    let special = format!(r"<\|startoftext\|>|<\|endoftext\|>|{WORDS}");
    if byte_level.iter().any(|byte_level| file.pre_tokenizer == splits(special.clone(), byte_level)) {
        return Ok(true);
    }
    if byte_level.iter().any(|byte_level| file.pre_tokenizer == splits(WORDS.into(), byte_level)) {
        return Ok(false);
    }
    bail!("{name}: the pre-tokenizer does not split words as CLIP's does; is this file another model's?")
}

/// The tokens before and behind every text.
fn post_processor(name: &str, step: &Value) -> Result<(String, String)> {
    if step.is_null() {
        return Ok((START.into(), END.into()));
    }
    let token =
        |key: &str| step.get(key).and_then(|pair| pair.get(0)).and_then(Value::as_str).map(str::to_owned);
    match (step.get("type").and_then(Value::as_str), token("cls"), token("sep")) {
        (Some("RobertaProcessing" | "BertProcessing"), Some(start), Some(end)) => Ok((start, end)),
        _ => bail!(
            "{name}: the post-processor does not put one token before and one behind the text as CLIP's does"
        ),
    }
}
