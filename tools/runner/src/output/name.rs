//! Names of outputs.

use std::path::{Path, PathBuf};

use crate::failure::{Failure, Outcome};

/// The most digits that a number is filled up to.
const MOST_DIGITS: usize = 20;

/// Where an output goes: one for all prompts, or one for each.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Name {
    One(PathBuf),
    Each(Pattern),
}

/// A name with `{n}` in it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pattern {
    given: PathBuf,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    /// The number, filled up with zeros to so many digits.
    Number(usize),
}

impl Name {
    /// `{n}` in a name stands for the prompt's number from 0 on, `{n:04}` for the same with at least four digits.
    pub(crate) fn parse(given: &Path) -> Outcome<Self> {
        // Numbers go into names that can be told to anybody.
        let Some(text) = given.to_str() else { return Ok(Name::One(given.to_owned())) };
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{n") {
            let Some((digits, behind)) =
                after.split_once('}').and_then(|(width, behind)| Some((digits(width)?, behind)))
            else {
                return Err(Failure::Usage(format!(
                    "{text}: in an output's name {{n}} stands for the prompt's number, {{n:04}} for four digits of it"
                )));
            };
            parts.extend([Part::Text(before.to_owned()), Part::Number(digits)]);
            rest = behind;
        }
        if parts.is_empty() {
            return Ok(Name::One(given.to_owned()));
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Name::Each(Pattern { given: given.to_owned(), parts }))
    }

    /// The path of prompt `number`, from 0 on.
    pub(crate) fn path(&self, number: usize) -> PathBuf {
        match self {
            Name::One(path) => path.clone(),
            Name::Each(pattern) => pattern.path(number),
        }
    }

    /// As it was given, for messages.
    pub(crate) fn shown(&self) -> String {
        match self {
            Name::One(path) => shown(path),
            Name::Each(pattern) => shown(&pattern.given),
        }
    }
}

impl Pattern {
    fn path(&self, number: usize) -> PathBuf {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Number(digits) => format!("{number:0digits$}"),
        };
        self.parts.iter().map(part).collect::<String>().into()
    }
}

/// The digits that `` or `:04` asks for.
fn digits(width: &str) -> Option<usize> {
    if width.is_empty() {
        return Some(1);
    }
    width.strip_prefix(":0")?.parse().ok().filter(|digits| (1..=MOST_DIGITS).contains(digits))
}

/// A path in messages.
pub(crate) fn shown(path: &Path) -> String {
    if path == Path::new(cliptext_files::DASH) {
        "standard output".into()
    } else {
        path.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> Result<Name, String> {
        Name::parse(Path::new(name)).map_err(|failure| match failure {
            Failure::Usage(message) | Failure::Work(message) => message,
            Failure::Closed => panic!("nothing was printed"),
        })
    }

    #[test]
    fn numbers_stand_where_they_are_asked_for() {
        assert_eq!(parse("out/x.npy"), Ok(Name::One("out/x.npy".into())));
        assert_eq!(parse("{i}{.npy"), Ok(Name::One("{i}{.npy".into())));
        let names = |name: &str| [0, 7, 123].map(|number| parse(name).unwrap().path(number));
        assert_eq!(names("out/{n}.npy"), ["out/0.npy", "out/7.npy", "out/123.npy"].map(PathBuf::from));
        assert_eq!(names("{n:02}/x{n}"), ["00/x0", "07/x7", "123/x123"].map(PathBuf::from));
        for wrong in ["{n", "{n:}", "{n:4}", "{n:0}", "{n:099}", "{nn}", "a{n}{n:x}"] {
            assert!(parse(wrong).unwrap_err().contains("{n:04}"), "{wrong}");
        }
    }
}
