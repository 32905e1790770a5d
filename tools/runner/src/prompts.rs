//! Prompts from the command line and from files.

use std::path::{Path, PathBuf};

use crate::{Failure, Outcome, PromptArgs, work};

impl PromptArgs {
    /// The plan's path, if the first argument is one, and the prompts.
    pub(crate) fn read(&self) -> Outcome<(Option<PathBuf>, Vec<String>)> {
        let (plan, prompts) = match self.arguments.split_first() {
            Some((first, rest)) if Path::new(first).is_file() => (Some(PathBuf::from(first)), rest),
            _ => (None, &self.arguments[..]),
        };
        if plan.is_none() && prompts.first().is_some_and(|first| first.ends_with(".plan")) {
            return Err(work(&prompts[0], "no such file"));
        }
        let mut prompts = prompts.to_vec();
        if let Some(path) = &self.prompts {
            prompts.extend(from_file(path)?);
        }
        if prompts.is_empty() {
            return Err(Failure::Usage("give a prompt, or --prompts FILE (see --help)".into()));
        }
        Ok((plan, prompts))
    }
}

/// The prompts in a file: a JSON array of strings, else one a line.
fn from_file(path: &Path) -> Outcome<Vec<String>> {
    let bytes = std::fs::read(path).map_err(|error| work(path.display(), error))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        work(path.display(), format_args!("not UTF-8 from byte {at}: save the prompts as UTF-8"))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    match serde_json::from_str(text) {
        Ok(prompts) => Ok(prompts),
        Err(error) if is_json => {
            Err(work(path.display(), format_args!("not a JSON array of strings: {error}")))
        }
        Err(_) => Ok(text.lines().map(str::to_owned).collect()),
    }
}
