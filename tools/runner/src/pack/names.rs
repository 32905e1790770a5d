//! Named prompts.

use std::collections::HashMap;

use cliptext::pack::{NAME, is_name};

/// A prompt and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) prompt: String,
}

impl Named {
    /// Reads `name<TAB>prompt`, or a prompt that is its own name.
    fn of(text: &str) -> Self {
        let (name, prompt) = text.split_once('\t').unwrap_or((text, text));
        Self { name: name.to_owned(), prompt: prompt.to_owned() }
    }
}

/// Reads named prompts, and sorts them by the bytes of their names.
///
/// # Errors
/// When a name is none, or given twice: which, of which prompt.
pub(super) fn named(texts: &[String]) -> Result<Vec<Named>, String> {
    let mut numbers = HashMap::new();
    let mut all = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let named = Named::of(text);
        let number = index + 1;
        if !is_name(&named.name) {
            let why = if named.name.is_empty() {
                "has no name".into()
            } else if named.name.len() > NAME {
                format!("has a name of {} bytes, where {NAME} are the most", named.name.len())
            } else {
                "has a name with a control character".into()
            };
            return Err(format!("prompt {number} {why}: write a name, a tab, and the prompt"));
        }
        if let Some(first) = numbers.insert(named.name.clone(), number) {
            return Err(format!("prompts {first} and {number} have the same name, {:?}", named.name));
        }
        all.push(named);
    }
    all.sort();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Result<Vec<(String, String)>, String> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let named = named(&texts)?;
        Ok(named.into_iter().map(|Named { name, prompt }| (name, prompt)).collect())
    }

    #[test]
    fn names_stand_before_a_tab() {
        let pair = |name: &str, prompt: &str| (name.to_owned(), prompt.to_owned());
        let want = vec![pair("a dog", "a dog"), pair("empty", ""), pair("é", "one\ttwo")];
        assert_eq!(read(&["é\tone\ttwo", "a dog", "empty\t"]), Ok(want));
    }

    #[test]
    fn names_that_are_none_are_told() {
        let long = "x".repeat(257);
        for (texts, said) in [
            (&["a", ""][..], "prompt 2 has no name"),
            (&["\ta dog"], "prompt 1 has no name"),
            (&[&long], "prompt 1 has a name of 257 bytes, where 256 are the most"),
            (&["a\nb"], "prompt 1 has a name with a control character"),
            (&["a\tx", "b", "a\ty"], "prompts 1 and 3 have the same name, \"a\""),
        ] {
            let error = read(texts).unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
        assert!(read(&[&format!("short\t{long}")]).is_ok());
    }
}
