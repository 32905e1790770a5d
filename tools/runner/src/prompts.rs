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
            prompts.extend(cliptext_files::prompts::read(path).map_err(|error| work(path.display(), error))?);
        }
        if prompts.is_empty() {
            return Err(Failure::Usage("give a prompt, or --prompts FILE (see --help)".into()));
        }
        Ok((plan, prompts))
    }
}
