//! Prompts from the command line and from files.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::arguments::PromptArgs;
use crate::failure::{Failure, Outcome, work};
use crate::paths;

impl PromptArgs {
    /// The plan's path, if the first argument is one, and the prompts.
    pub(crate) fn read(&self) -> Outcome<(Option<PathBuf>, Vec<String>)> {
        let (plan, alone) = match self.arguments.split_first() {
            Some((first, rest)) if paths::is_path(first)? => (Some(PathBuf::from(first)), rest),
            _ => (None, &self.arguments[..]),
        };
        let mut prompts = alone.iter().map(text).collect::<Outcome<Vec<_>>>()?;
        prompts.extend(self.prompt.iter().cloned());
        if let Some(path) = &self.prompts {
            prompts.extend(cliptext_files::prompts::read(path).map_err(|error| work(path.display(), error))?);
        }
        if prompts.is_empty() {
            return Err(Failure::Usage("give a prompt, or --prompts FILE (see --help)".into()));
        }
        if plan.is_none()
            && let Some(first) = alone.first()
        {
            cliptext_files::to_stderr!("cliptext-run: {first:?} names no file: taken as a prompt");
        }
        let others = if plan.is_none() { alone.get(1..) } else { Some(alone) };
        for other in others.unwrap_or_default().iter().filter(|argument| Path::new(argument).is_file()) {
            cliptext_files::to_stderr!(
                "cliptext-run: {other:?} names a file, and is taken as a prompt: the plan comes first"
            );
        }
        Ok((plan, prompts))
    }
}

fn text(argument: &OsString) -> Outcome<String> {
    let text = argument.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::Usage(format!("{argument:?}: a prompt must be UTF-8")))
}

/// Tells of a prompt that is longer than the context.
pub(crate) fn warn_of_truncation(prompt: &str, is_truncated: bool, context: usize) {
    if is_truncated {
        cliptext_files::to_stderr!("cliptext-run: cut to {context} tokens: {}", shown(prompt));
    }
}

/// A prompt in quotes, a long one by its beginning.
pub(crate) fn shown(prompt: &str) -> String {
    const LONG: usize = 60;
    match prompt.char_indices().nth(LONG) {
        Some((end, _)) => format!("{:?}…", &prompt[..end]),
        None => format!("{prompt:?}"),
    }
}
