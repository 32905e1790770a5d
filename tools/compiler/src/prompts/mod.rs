//! Prompts: those that plans are measured on, and those in users' files.

use std::path::Path;

use anyhow::{Context, Result, ensure};

/// The built-in prompts that plans are measured on: varied in length, style, subject and language; nothing is calibrated on
/// them. The first is empty.
pub fn evaluation() -> Vec<String> {
    serde_json::from_str(include_str!("evaluation.json")).expect("the list is a JSON array of strings")
}

/// The prompts in a file: a JSON array of strings, or one a line; an empty line is an empty prompt.
///
/// # Errors
/// When the file can't be read, is not UTF-8 or JSON, or holds no prompt.
pub fn read(path: &Path) -> Result<Vec<String>> {
    let name = path.display();
    let prompts = cliptext_files::prompts::read(path).with_context(|| format!("{name}: cannot be read"))?;
    ensure!(
        prompts.iter().any(|prompt| !prompt.trim().is_empty()),
        "{name}: holds no prompt: give a JSON array of strings, or one prompt a line"
    );
    Ok(prompts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_prompts_are_as_many_as_promised_and_differ() {
        let mut prompts = evaluation();
        assert_eq!((prompts.len(), prompts[0].as_str()), (24, ""));
        prompts.sort();
        prompts.dedup();
        assert_eq!(prompts.len(), 24);
    }
}
