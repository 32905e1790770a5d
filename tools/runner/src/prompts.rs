//! Prompts from the command line, from files and from standard input.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use crate::arguments::PromptArgs;
use crate::failure::{Failure, Outcome, work};
use crate::paths;

/// Prompts in the order of the command line, then those of a file, one at a time.
pub(crate) struct Prompts {
    listed: Vec<String>,
    given: usize,
    file: Option<(String, cliptext_files::prompts::Prompts)>,
}

impl Prompts {
    /// The prompts that stand on the command line.
    pub(crate) fn listed(&self) -> &[String] {
        &self.listed
    }

    /// How many there are: known but where a pipe gives them.
    pub(crate) fn total(&self) -> Option<usize> {
        let in_file = self.file.as_ref().map_or(Some(0), |(_, prompts)| prompts.total());
        in_file.map(|count| count + self.listed.len())
    }
}

impl Iterator for Prompts {
    type Item = Outcome<String>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(prompt) = self.listed.get(self.given) {
            self.given += 1;
            return Some(Ok(prompt.clone()));
        }
        let (name, file) = self.file.as_mut()?;
        file.next().map(|prompt| prompt.map_err(|error| work(name, error)))
    }
}

impl PromptArgs {
    /// The plan's path alone, where the texts come from elsewhere: from the file that `option` names.
    pub(crate) fn plan(&self, option: &str) -> Outcome<Option<PathBuf>> {
        let mut arguments = self.arguments.iter();
        let Some(first) = arguments.next() else { return Ok(None) };
        let prompt = if paths::is_path(first)? { arguments.next() } else { Some(first) };
        match prompt {
            Some(prompt) => Err(Failure::Usage(format!(
                "{prompt:?} is no plan's file: with {option} there is no other prompt"
            ))),
            None => Ok(Some(first.into())),
        }
    }

    /// The plan's path, if the first argument is one, and the prompts.
    pub(crate) fn open(&self) -> Outcome<(Option<PathBuf>, Prompts)> {
        let (plan, alone) = match self.arguments.split_first() {
            Some((first, rest)) if paths::is_path(first)? => (Some(PathBuf::from(first)), rest),
            _ => (None, &self.arguments[..]),
        };
        let mut listed = alone.iter().map(text).collect::<Outcome<Vec<_>>>()?;
        listed.extend(self.prompt.iter().cloned());
        let stdin = self.prompts.as_deref().is_some_and(cliptext_files::is_stdin);
        if stdin && plan.as_deref().is_some_and(cliptext_files::is_stdin) {
            return Err(Failure::Usage("standard input can't give both the plan and the prompts".into()));
        }
        let file = self.prompts.as_deref().map(open).transpose()?;
        if listed.is_empty() && file.is_none() {
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
        if stdin && std::io::stdin().is_terminal() {
            cliptext_files::to_stderr!(
                "cliptext-run: reading prompts from the terminal, one a line; Ctrl-D ends them"
            );
        }
        Ok((plan, Prompts { listed, given: 0, file }))
    }
}

fn open(path: &Path) -> Outcome<(String, cliptext_files::prompts::Prompts)> {
    let name = name_of(path);
    let prompts = cliptext_files::prompts::Prompts::open(path).map_err(|error| work(&name, error))?;
    Ok((name, prompts))
}

/// What a file of prompts is called in messages.
pub(crate) fn name_of(path: &Path) -> String {
    match path == Path::new(cliptext_files::DASH) {
        true => "standard input".into(),
        false => path.display().to_string(),
    }
}

fn text(argument: &OsString) -> Outcome<String> {
    let text = argument.to_str().map(str::to_owned);
    text.ok_or_else(|| Failure::Usage(format!("{argument:?}: a prompt must be UTF-8")))
}

/// Tells of the words of a prompt that did not fit, from and to which byte.
pub(crate) fn warn_of_dropped(prompt: &str, dropped: Option<(usize, usize)>, tokens: usize) {
    if let Some((from, to)) = dropped {
        let words = prompt.get(from..to).unwrap_or(prompt);
        cliptext_files::to_stderr!("cliptext-run: cut to {tokens} tokens: {} fell off", shown(words));
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
