//! Special tokens as the settings beside a vocabulary have them.
//!
//! `tokenizer_config.json` and, in older folders, `special_tokens_map.json` say which tokens are cut out of the text. It matters:
//! where the padding token is `!` (Stable Diffusion 2, the second text encoder of SDXL), the reference
//! cuts every `!` out of the prompt and gives it the padding's id.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::definition::{AddedToken, Definition, END, START};
use super::merges::{checked, text};

/// Adds the special tokens of the settings in a folder, if there are any.
pub(super) fn read(folder: &Path, definition: &mut Definition) -> Result<()> {
    let config = object(&folder.join("tokenizer_config.json"))?;
    let map = object(&folder.join("special_tokens_map.json"))?;
    if config.is_none() && map.is_none() {
        return Ok(());
    }
    let name = folder.join("tokenizer_config.json").display().to_string();
    let setting = |key: &str| {
        [&config, &map].into_iter().flatten().find_map(|file| file.get(key).filter(|value| !value.is_null()))
    };
    // As in the reference: of several names for one token the last one counts, a bare text means "not normalized",
    // and the list of added tokens has the last word.
    for (key, default) in [("bos_token", START), ("eos_token", END), ("unk_token", END), ("pad_token", END)] {
        let (text, normalized) = match setting(key) {
            None => (default.to_owned(), false),
            Some(Value::String(text)) => (text.clone(), false),
            Some(Value::Object(token)) => checked(&name, key, token)?,
            Some(other) => bail!("{name}: {key} is {other}; expected a text or an object with \"content\""),
        };
        match key {
            "bos_token" => definition.start.clone_from(&text),
            "eos_token" => definition.end.clone_from(&text),
            "pad_token" => definition.pad = Some(text.clone()),
            _ => {}
        }
        definition.added.insert(text, AddedToken { id: None, normalized });
    }
    let listed = config.as_ref().and_then(|config| config.get("added_tokens_decoder"));
    if let Some(listed) = listed {
        let listed = listed
            .as_object()
            .with_context(|| format!("{name}: added_tokens_decoder is not an object of ids and tokens"))?;
        for (id, token) in listed {
            let place = format!("added_tokens_decoder, {id:?}");
            let id = id.parse().with_context(|| format!("{name}: {place}: the key is not an id"))?;
            let token = token.as_object().with_context(|| format!("{name}: {place}: not an object"))?;
            let (text, normalized) = checked(&name, &place, token)?;
            definition.added.insert(text, AddedToken { id: Some(id), normalized });
        }
    }
    Ok(())
}

fn object(path: &Path) -> Result<Option<Map<String, Value>>> {
    if !path.is_file() {
        return Ok(None);
    }
    let parsed = serde_json::from_str(&text(path)?);
    Ok(Some(parsed.with_context(|| format!("{}: expected a JSON object", path.display()))?))
}
