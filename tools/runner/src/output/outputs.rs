//! All outputs of a command.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::ValueEnum;

use super::encoded::{About, Encoded};
use super::format::Format;
use super::name::{Name, shown as shown_path};
use super::sink::{Sink, What};
use crate::failure::{Failure, Outcome};
use crate::prompts::shown;

/// Which comes first, the prompts or the negative prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    /// As they are given
    #[default]
    PromptFirst,
    /// As UNets take a batch for classifier-free guidance
    NegativeFirst,
}

/// An output that is asked for.
pub(crate) struct Target {
    pub(crate) name: Name,
    pub(crate) format: Format,
    pub(crate) what: What,
}

impl Target {
    /// Whether all prompts have to have the same number of tokens.
    pub(crate) fn wants_one_length(&self) -> bool {
        matches!(self.name, Name::One(_)) && self.what == What::Hidden && self.format != Format::Json
    }

    /// Whether it holds numbers alone.
    pub(crate) fn is_array(&self) -> bool {
        matches!(self.format, Format::Npy(_) | Format::Raw(_))
    }

    /// Whether prompts stand one after the other, in an order.
    pub(crate) fn has_order(&self) -> bool {
        !matches!(self.format, Format::Safetensors(_))
    }
}

/// Outputs while they are written.
pub(crate) struct Outputs {
    files: Vec<(Target, Option<Sink>)>,
    about: About,
    order: Order,
    /// What must not be written over.
    inputs: Vec<PathBuf>,
    /// Prompts that are written.
    written: usize,
}

impl Outputs {
    /// Starts the outputs that all prompts go to, of `total` prompts, the negative one counted, where it is known.
    pub(crate) fn create(
        targets: Vec<Target>,
        about: About,
        order: Order,
        inputs: Vec<PathBuf>,
        total: Option<usize>,
    ) -> Outcome<Self> {
        let mut outputs = Self { files: Vec::new(), about, order, inputs, written: 0 };
        let paths: Vec<PathBuf> = targets.iter().map(|target| target.name.path(0)).collect();
        outputs.check(&paths, Failure::Usage)?;
        for target in &targets {
            if cliptext_files::is_stdout(&target.name.path(0))
                && std::io::stdout().is_terminal()
                && target.format != Format::Json
            {
                return Err(Failure::Usage(format!(
                    "{}: it is a terminal: name a file, or send it on to one or to a program",
                    target.name.shown()
                )));
            }
        }
        for target in targets {
            let sink = match &target.name {
                Name::One(path) => {
                    Some(Sink::create(path, target.format, target.what, &outputs.about, total)?)
                }
                Name::Each(_) => None,
            };
            outputs.files.push((target, sink));
        }
        Ok(outputs)
    }

    /// Whether no two of the paths, and none of them and the inputs, are the same file.
    fn check(&self, paths: &[PathBuf], failure: fn(String) -> Failure) -> Outcome {
        for (index, path) in paths.iter().enumerate() {
            let is = |other: &PathBuf| cliptext_files::same_file(path, other);
            if paths[..index].iter().any(is) {
                return Err(failure(format!("{}: both --output and --pooled name it", shown_path(path))));
            }
            if self.inputs.iter().any(is) {
                return Err(failure(format!(
                    "{}: it is read, and an output too: name another",
                    shown_path(path)
                )));
            }
        }
        Ok(())
    }

    /// Writes a prompt, and what belongs to it of the negative one.
    pub(crate) fn write(&mut self, prompt: &Encoded<'_>, negative: Option<&Encoded<'_>>) -> Outcome {
        tell_of_infinities(prompt);
        let is_first = self.written == 0;
        if let Some(negative) = negative.filter(|_| is_first) {
            tell_of_infinities(negative);
        }
        let first = negative.filter(|_| is_first && self.order == Order::NegativeFirst);
        for sink in self.files.iter_mut().filter_map(|(_, sink)| sink.as_mut()) {
            first.iter().try_for_each(|negative| sink.write(negative))?;
            sink.write(prompt)?;
        }
        self.write_own(prompt, negative)?;
        self.written += 1;
        Ok(())
    }

    /// Writes the files that a prompt has of its own.
    fn write_own(&self, prompt: &Encoded<'_>, negative: Option<&Encoded<'_>>) -> Outcome {
        let own: Vec<&Target> = self
            .files
            .iter()
            .map(|(target, _)| target)
            .filter(|target| matches!(target.name, Name::Each(_)))
            .collect();
        if own.is_empty() {
            return Ok(());
        }
        let paths: Vec<PathBuf> =
            self.files.iter().map(|(target, _)| target.name.path(self.written)).collect();
        self.check(&paths, Failure::Work)?;
        let both = match self.order {
            Order::PromptFirst => [Some(prompt), negative],
            Order::NegativeFirst => [negative, Some(prompt)],
        };
        let total = both.iter().flatten().count();
        let mut sinks = Vec::with_capacity(own.len());
        for target in own {
            let path = target.name.path(self.written);
            let mut sink = Sink::create(&path, target.format, target.what, &self.about, Some(total))?;
            both.iter().flatten().try_for_each(|encoded| sink.write(encoded))?;
            sink.complete()?;
            sinks.push(sink);
        }
        sinks.into_iter().try_for_each(Sink::finish)
    }

    /// Gives the files their names, once all have all their bytes.
    pub(crate) fn finish(&mut self, negative: Option<&Encoded<'_>>) -> Outcome {
        let last = negative.filter(|_| self.order == Order::PromptFirst);
        for sink in self.files.iter_mut().filter_map(|(_, sink)| sink.as_mut()) {
            last.iter().try_for_each(|negative| sink.write(negative))?;
            sink.complete()?;
        }
        self.files.iter_mut().filter_map(|(_, sink)| sink.take()).try_for_each(Sink::finish)
    }

    /// `failure`, with the files that are not written because of it.
    pub(crate) fn missing(&self, failure: Failure) -> Failure {
        let missing = self.files.iter().map(|(target, sink)| match (&target.name, sink) {
            (Name::One(_), Some(_)) => format!("; {} is not written", target.name.shown()),
            (Name::Each(_), _) if self.written > 0 => {
                format!("; of {} {} are written", target.name.shown(), self.written)
            }
            _ => String::new(),
        });
        let missing: String = missing.collect();
        match failure {
            Failure::Work(message) => Failure::Work(message + &missing),
            Failure::Closed if !missing.is_empty() => {
                Failure::Work(format!("standard output was closed before all was written{missing}"))
            }
            other => other,
        }
    }
}

/// Values that no UNet can use are told.
fn tell_of_infinities(encoded: &Encoded<'_>) {
    let values = encoded.hidden.iter().chain(encoded.pooled.unwrap_or_default());
    let count = values.filter(|value| !value.is_finite()).count();
    if count > 0 {
        cliptext_files::to_stderr!(
            "cliptext-run: {}: {count} values are not finite (NaN or infinity)",
            shown(encoded.text)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::encoded::Options;
    use cliptext::plan::PlanHash;
    use cliptext_files::floats::Float;

    use super::*;

    /// Writes a prompt with a value that is not finite to an output of `format`.
    fn write_nan(name: &str, format: Format, folder: &std::path::Path) -> Outcome {
        let about = About { plan: PlanHash::from_bytes([0; 32]), options: Options::default() };
        let target = Target { name: Name::One(folder.join(name)), format, what: What::Hidden };
        let mut outputs = Outputs::create(vec![target], about, Order::default(), Vec::new(), Some(1))?;
        let prompt = Encoded {
            text: "a cat",
            is_negative: false,
            ids: &[1, 2],
            hidden: &[1.0, 2.0, 3.0, f32::NAN],
            width: 2,
            pooled: Some(&[f32::INFINITY]),
            dropped: None,
        };
        outputs
            .write(&prompt, None)
            .and_then(|()| outputs.finish(None))
            .map_err(|failure| outputs.missing(failure))
    }

    #[test]
    fn what_is_no_number_is_no_json() {
        let folder = tempfile::tempdir().unwrap();
        let Err(Failure::Work(error)) = write_nan("x.json", Format::Json, folder.path()) else {
            panic!("it has to be refused");
        };
        assert!(
            error
                .contains("\"a cat\": a value is not finite (NaN or infinity), which JSON has no number for")
        );
        assert!(error.ends_with("x.json is not written"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(write_nan("x.f16", Format::Raw(Float::F16), folder.path()).is_ok());
        let bytes = std::fs::read(folder.path().join("x.f16")).unwrap();
        let last = u16::from_le_bytes([bytes[6], bytes[7]]);
        assert!(bytes.len() == 8 && last & 0x7c00 == 0x7c00 && last & 0x3ff != 0, "it stays NaN: {last:x}");
    }
}
