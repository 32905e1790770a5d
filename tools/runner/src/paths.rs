//! Whether an argument is a plan's path or a prompt.
//!
//! A mistyped path taken as a prompt would be answered by the built-in plan, with numbers that look right.

use std::ffi::OsStr;
use std::path::Path;

use crate::failure::{Failure, Outcome};

/// The ending of plans' names.
const ENDING: &str = "plan";

/// Letters and digits that the ending of a file's name may have.
const LONGEST_ENDING: usize = 12;

/// How many letters of a name may be wrong, left out or added for another to be meant.
const TYPING_ERRORS: usize = 2;

/// Whether `argument` is the path of something that can be read: a file, a pipe or a device.
///
/// # Errors
/// When it is a folder, or looks like a path but leads nowhere.
pub(crate) fn is_path(argument: &OsStr) -> Outcome<bool> {
    let path = Path::new(argument);
    if argument == cliptext_files::DASH {
        return Err(Failure::Usage(
            "-: for a plan from standard input give /dev/stdin, for prompts from there --prompts -, for a dash --prompt -".into(),
        ));
    }
    let what = match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => "a folder, not a plan",
        Ok(_) => return Ok(true),
        Err(_) if looks_like_one(argument) => "no such file",
        Err(_) => match meant(path) {
            Some(_) => "no such file",
            None => return Ok(false),
        },
    };
    let meant = meant(path).map_or_else(String::new, |name| format!(" (is {name} meant?)"));
    Err(Failure::Work(format!(
        "{}: {what}{meant}; to give a prompt that looks like a path: --prompt TEXT",
        path.display()
    )))
}

/// Whether an argument looks like a path: it has a separator, a plan's ending, or is one word with the ending of a file.
fn looks_like_one(argument: &OsStr) -> bool {
    let Some(text) = argument.to_str() else { return true };
    let is_ending = |ending: &str| {
        ending.len() <= LONGEST_ENDING
            && ending.chars().all(|c| c.is_ascii_alphanumeric())
            && ending.chars().any(|c| c.is_ascii_alphabetic())
    };
    let one_word = !text.contains(char::is_whitespace);
    text.contains(std::path::is_separator)
        || text.rsplit_once('.').is_some_and(|(stem, ending)| {
            !stem.is_empty() && (ending.eq_ignore_ascii_case(ENDING) || one_word && is_ending(ending))
        })
}

/// The plan beside `path` whose name is so close that it may be meant.
fn meant(path: &Path) -> Option<String> {
    let wanted = path.file_name()?.to_str().filter(|name| !name.contains(char::is_whitespace))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let names =
        std::fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let distance = |name: String| {
        let stem = name.strip_suffix(ENDING)?.strip_suffix('.')?;
        let to_stem = strsim::osa_distance(wanted, stem);
        let distance = to_stem.min(strsim::osa_distance(wanted, &name));
        // Of a short word two letters are all there is.
        (distance <= TYPING_ERRORS.min(wanted.chars().count() / 3)).then_some((distance, name))
    };
    names.filter_map(distance).min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_prompts_are_told_apart() {
        for path in
            ["sd15.plan", "a b.plan", "sd15.plam", "./x", "a/b c", "model.onnx", "x.safetensors", "SD15.PLAN"]
        {
            assert!(looks_like_one(path.as_ref()), "{path}");
        }
        for prompt in [
            "a running dog",
            "dog",
            "",
            ".",
            "a dog.",
            "dog.",
            "no. 5",
            "1.5",
            ".plan",
            "a plan",
            "3.14159",
            "an oil painting by J.M.W. Turner",
            "wait... what",
            "ein Hund.Über",
        ] {
            assert!(!looks_like_one(prompt.as_ref()), "{prompt}");
        }
    }
}
