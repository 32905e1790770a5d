//! Accounts for every tensor of a tower: one that is left unread is told, and one that would change what comes out is an error.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use super::naming::Location;
use crate::tensors::Tensors;

/// Last parts of names that say nothing which is not known: a mask and numbers of positions that every tower has (transformers
/// does not read them either), and sizes that OpenAI's archives hold.
const SAYS_NOTHING: [&str; 5] =
    ["position_ids", "attn_mask", "input_resolution", "context_length", "vocab_size"];

/// First parts of names that belong to the other parts of a whole CLIP.
const BESIDE: [&str; 6] =
    ["visual", "vision_model", "visual_projection", "logit_scale", "logit_bias", "text_model"];

/// How many names a message lists.
const LISTED: usize = 4;

/// Looks at the tensors of the tower at `location` that are not among those `read`; the first `layers` layers are taken. Says
/// which are left out.
///
/// # Errors
/// When one of them makes it another tower than CLIP's.
pub fn unread(
    tensors: &Tensors,
    location: &Location,
    read: &BTreeSet<String>,
    layers: usize,
) -> Result<Vec<String>> {
    let file = tensors.path().display();
    // What a text model of its own is called by holds nothing else; what the whole file is called by may.
    let is_own = location.outer() != location.prefix
        || !location.prefix.is_empty() && location.prefix != tensors.shared_prefix();
    let (mut changing, mut harmless) = (Vec::new(), Vec::new());
    for name in tensors.names().filter(|name| !read.contains(*name)) {
        // The projection's name begins like the whole model's, not like the text model's.
        let beside =
            || name.strip_prefix(location.outer()).filter(|part| part.starts_with("text_projection"));
        let Some(part) = name.strip_prefix(&location.prefix).or_else(beside) else { continue };
        let root = part.split('.').next().unwrap_or_default();
        let last = part.rsplit('.').next().unwrap_or_default();
        if SAYS_NOTHING.contains(&last) || BESIDE.contains(&root) {
            continue;
        }
        // That layers are left out was said with their number.
        if location.layer_of(name).is_some_and(|index| index >= layers) {
            continue;
        }
        let changes = (location.is_root(root) || is_own) && tensors.holds_floats(name);
        if changes { changing.push(name) } else { harmless.push(name) }
    }
    if !changing.is_empty() {
        // Scales beside weights that are quantized already: what the weights are says more.
        let types = ["F32", "F16", "BF16", "F64"].map(|kind| Some(kind.to_owned()));
        if let Some(name) = read.iter().find(|name| !types.contains(&tensors.stored_as(name))) {
            tensors.floats(name)?;
        }
        bail!(
            "{file}: it is another text tower than CLIP's, or has changes that are not merged: tensors that cliptext does not \
             know would change what comes out: {}",
            listed(&changing)
        );
    }
    if harmless.is_empty() {
        return Ok(vec![]);
    }
    Ok(vec![format!(
        "{file}: {} tensors beside the text tower's are not read: {}",
        harmless.len(),
        listed(&harmless)
    )])
}

fn listed(names: &[&str]) -> String {
    let first = names[..names.len().min(LISTED)].join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
