//! The tokens that are cut out of the text, as the files beside a vocabulary name them.
//!
//! It matters: where the padding token is `!` (Stable Diffusion 2, the second text encoder of SDXL), the reference cuts every
//! `!` out of the prompt and gives it the padding's id.
//!
//! The order is that of transformers 5.24 (`PreTrainedTokenizerBase._from_pretrained`, `TokenizersBackend.__init__`):
//!
//! 1. `added_tokens_decoder` in `tokenizer_config.json` lists tokens by id. Where it is there, it counts alone. Else
//!    `special_tokens_map.json` overrides the named tokens of `tokenizer_config.json`, `added_tokens.json` lists tokens (in
//!    normalized text, unless a special token has the name), and the list in `tokenizer.json` overrides that.
//! 2. Listed tokens are added by rising id.
//! 3. Then the named special tokens, and those without a name of CLIP's, as far as they are not listed: a bare text does not
//!    change the flags of a listed token, and otherwise is looked for in the text before normalization. Of several names for one token the last
//!    counts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::definition::{AddedToken, Definition, END, START};
use super::merges::{added_token, text};
use crate::edit::names::some;

/// Special tokens that have a name, in the order in which they are added, with what `CLIPTokenizer` takes where no file says
/// otherwise.
const NAMED: [(&str, Option<&str>); 7] = [
    ("bos_token", Some(START)),
    ("eos_token", Some(END)),
    ("unk_token", Some(END)),
    ("sep_token", None),
    ("pad_token", Some(END)),
    ("cls_token", None),
    ("mask_token", None),
];

/// A JSON object and its file's name.
struct Settings {
    name: String,
    values: Map<String, Value>,
}

/// Replaces the added tokens of `definition`, which are those of its `tokenizer.json` if it has one, by all that the files in
/// `folder` name.
pub(super) fn read(folder: &Path, definition: &mut Definition) -> Result<()> {
    let config = settings(folder, "tokenizer_config.json")?;
    let map = settings(folder, "special_tokens_map.json")?;
    let plain = settings(folder, "added_tokens.json")?;
    let decoder = match config.values.get("added_tokens_decoder") {
        Some(listed) => Some(decoder(&config.name, listed)?),
        None => None,
    };
    let overriding = decoder.is_none().then_some(&map);
    let named = Named::read(&config, overriding)?;
    let further = Further::read(&config, overriding)?;
    let tokenizers = std::mem::take(&mut definition.added);

    let mut left_out: Vec<String> = extra_texts(&map);
    let listed = match decoder {
        Some(listed) => {
            left_out.extend(plain.values.keys().cloned());
            left_out.extend(tokenizers.into_iter().map(|token| token.text));
            listed
        }
        None => {
            let said = |text: &str| named.said.iter().any(|said| said == text);
            let further: HashSet<&str> = further.list.iter().map(|token| token.text.as_str()).collect();
            let special = |text: &str| said(text) || further.contains(text);
            let mut listed = listed_plainly(&plain, special)?;
            listed.extend(tokenizers.into_iter().map(|token| (token.id.unwrap_or_default(), token)));
            listed
        }
    };
    let mut added: Vec<AddedToken> = listed.into_values().collect();
    let listed = added.len();
    // Two ids may have the same text: the first is meant.
    let mut places = HashMap::new();
    for (token, place) in added.iter().zip(0..) {
        places.entry(token.text.clone()).or_insert(place);
    }
    for token in named.tokens.into_iter().chain(further.own).chain(further.list) {
        match places.get(&token.text) {
            Some(&place) if place < listed => {}
            Some(&place) => added[place] = token,
            None => {
                places.insert(token.text.clone(), added.len());
                added.push(token);
            }
        }
    }
    left_out.retain(|text| !places.contains_key(text));
    left_out.sort();
    left_out.dedup();
    if !left_out.is_empty() {
        definition.notes.push(format!(
            "{}: tokens that transformers leaves out, and so does cliptext: {}; list them in the added_tokens_decoder of \
             tokenizer_config.json if they are the model's",
            folder.display(),
            some(&left_out)
        ));
    }
    definition.added = added;
    definition.start = named.start;
    definition.end = named.end;
    // Without settings the model's family has the say.
    if !(config.values.is_empty() && map.values.is_empty()) {
        definition.pad = named.pad;
    }
    Ok(())
}

/// The special tokens with a name.
struct Named {
    tokens: Vec<AddedToken>,
    /// The texts of those that a file names.
    said: Vec<String>,
    start: String,
    end: String,
    pad: Option<String>,
}

impl Named {
    /// Those of `config`, overridden by `map`.
    fn read(config: &Settings, map: Option<&Settings>) -> Result<Named> {
        let (start, end) = (String::new(), String::new());
        let mut named = Named { tokens: vec![], said: vec![], start, end, pad: None };
        for (key, default) in NAMED {
            let overriding = map.and_then(|map| Some((map, map.values.get(key)?)));
            let found = overriding.or_else(|| Some((config, config.values.get(key)?)));
            let token = match (found, default) {
                (Some((_, Value::Null)), _) if !matches!(key, "bos_token" | "eos_token") => continue,
                (Some((file, value)), _) => {
                    // The map's file holds special tokens only, and does not say so of each.
                    let special = map.is_some_and(|map| std::ptr::eq(map, file));
                    special_token(&file.name, key, value, special)?
                }
                (None, Some(text)) => AddedToken { text: text.to_owned(), id: None, normalized: false },
                (None, None) => continue,
            };
            match key {
                "bos_token" => named.start.clone_from(&token.text),
                "eos_token" => named.end.clone_from(&token.text),
                "pad_token" => named.pad = Some(token.text.clone()),
                _ => {}
            }
            if found.is_some() {
                named.said.push(token.text.clone());
            }
            named.tokens.push(token);
        }
        Ok(named)
    }
}

/// A special token, as a bare text or an object.
fn special_token(name: &str, place: &str, value: &Value, special: bool) -> Result<AddedToken> {
    match value {
        Value::String(text) => Ok(AddedToken { text: text.clone(), id: None, normalized: false }),
        Value::Object(token) => added_token(name, place, token, special),
        other => bail!("{name}: {place} is {other}; expected a text or an object with \"content\""),
    }
}

/// Special tokens without a name of CLIP's.
struct Further {
    /// A model's own, such as `image_token`.
    own: Vec<AddedToken>,
    /// Those in the list `extra_special_tokens`, which was called `additional_special_tokens`.
    list: Vec<AddedToken>,
}

impl Further {
    /// Those of `config`, and those that `map` adds.
    fn read(config: &Settings, map: Option<&Settings>) -> Result<Further> {
        const LIST: &str = "extra_special_tokens";
        let is_own = |key: &str| key.ends_with("_token") && NAMED.iter().all(|(named, _)| key != *named);
        let mut further = Further { own: vec![], list: vec![] };
        for (key, value) in config.values.iter().filter(|(key, value)| is_own(key) && value.is_string()) {
            further.own.push(special_token(&config.name, key, value, true)?);
        }
        let is_filled = |value: &&Value| match value {
            Value::Array(list) => !list.is_empty(),
            Value::Object(object) => !object.is_empty(),
            other => !other.is_null(),
        };
        let list = config.values.get(LIST).filter(is_filled);
        let lists = [
            list.or(config.values.get("additional_special_tokens")).map(|list| (config, list, false)),
            map.and_then(|map| Some((map, map.values.get(LIST)?, true))),
        ];
        for (file, list, special) in lists.into_iter().flatten() {
            match list {
                Value::Null => {}
                Value::Array(list) => {
                    for token in list {
                        further.list.push(special_token(&file.name, LIST, token, special)?);
                    }
                }
                Value::Object(object) => {
                    for (key, token) in object {
                        further.own.push(special_token(&file.name, key, token, special)?);
                    }
                }
                other => bail!("{}: {LIST} is {other}; expected a list of tokens", file.name),
            }
        }
        Ok(further)
    }
}

/// Texts in the lists of further special tokens.
fn extra_texts(map: &Settings) -> Vec<String> {
    let lists = ["additional_special_tokens", "extra_special_tokens"].map(|key| map.values.get(key));
    let tokens = lists.into_iter().flatten().filter_map(Value::as_array).flatten();
    let text = |token: &Value| Some(token.as_str().or_else(|| token.get("content")?.as_str())?.to_owned());
    tokens.filter_map(text).collect()
}

/// `added_tokens_decoder`: tokens by id.
fn decoder(name: &str, listed: &Value) -> Result<BTreeMap<u32, AddedToken>> {
    let listed = listed
        .as_object()
        .with_context(|| format!("{name}: added_tokens_decoder is not an object of ids and tokens"))?;
    let mut tokens = BTreeMap::new();
    for (id, token) in listed {
        let place = format!("added_tokens_decoder, {id:?}");
        let id = id.parse().with_context(|| format!("{name}: {place}: the key is not an id"))?;
        let token = token.as_object().with_context(|| format!("{name}: {place}: not an object"))?;
        tokens.insert(id, AddedToken { id: Some(id), ..added_token(name, &place, token, false)? });
    }
    Ok(tokens)
}

/// `added_tokens.json`: ids by text.
fn listed_plainly(file: &Settings, special: impl Fn(&str) -> bool) -> Result<BTreeMap<u32, AddedToken>> {
    let name = &file.name;
    let mut tokens: BTreeMap<u32, AddedToken> = BTreeMap::new();
    for (text, id) in &file.values {
        let number = id.as_u64().and_then(|id| u32::try_from(id).ok());
        let id =
            number.with_context(|| format!("{name}: {text:?} has the id {id}; expected a whole number"))?;
        let token = AddedToken { text: text.clone(), id: Some(id), normalized: !special(text) };
        if let Some(other) = tokens.insert(id, token) {
            bail!("{name}: {:?} and {text:?} have the same id {id}; make the two differ", other.text);
        }
    }
    Ok(tokens)
}

/// A file of settings; empty if it is not there.
fn settings(folder: &Path, file: &str) -> Result<Settings> {
    let path = folder.join(file);
    let name = path.display().to_string();
    if !path.is_file() {
        return Ok(Settings { name, values: Map::new() });
    }
    let values =
        serde_json::from_str(&text(&path)?).with_context(|| format!("{name}: expected a JSON object"))?;
    Ok(Settings { name, values })
}
