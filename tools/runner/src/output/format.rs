//! Formats, by the names of outputs and by options.

use std::path::Path;

use clap::{Args, ValueEnum};
use cliptext_files::floats::Float;

use super::name::Name;
use crate::failure::{Failure, Outcome};

#[derive(Args)]
pub(crate) struct FormatArgs {
    /// The format where a name does not say it: of standard output, pipes and devices [default: npy]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<Kind>,
    /// The type of the numbers in .npy and .safetensors; f16 is rounded to the nearest [default: f32]
    #[arg(long, value_name = "TYPE")]
    pub(crate) dtype: Option<Dtype>,
}

/// The format of a file, as the ending of its name says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// An array of NumPy
    Npy,
    /// Raw numbers, little-endian f32
    F32,
    /// Raw numbers, little-endian f16
    F16,
    /// Tensors under the names that diffusers uses, and what they come from
    Safetensors,
    /// Prompts, ids and numbers as text
    Json,
}

/// A type of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dtype {
    F32,
    F16,
}

/// How an output is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Format {
    Npy(Float),
    Raw(Float),
    Safetensors(Float),
    Json,
}

impl Kind {
    /// What the ending of a path says.
    fn of(path: &Path) -> Option<Self> {
        Self::from_str(path.extension()?.to_str()?, true).ok()
    }

    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

impl FormatArgs {
    /// The format of each output of a command. The name's ending says it, and `--format` where it does not.
    ///
    /// # Errors
    /// When a name says nothing, options contradict a name, or an option has no effect.
    pub(crate) fn formats(&self, names: &[&Name]) -> Outcome<Vec<Format>> {
        let usage = |message: String| Err(Failure::Usage(message));
        let named: Vec<Option<Kind>> = names.iter().map(|name| Kind::of(&name.path(0))).collect();
        if let Some(format) = self.format {
            let takes_it = |kind: &Option<Kind>| kind.is_none_or(|kind| kind == format);
            if !named.iter().any(takes_it) {
                return match names.first() {
                    Some(name) => {
                        usage(format!("--format {}: the name {} says otherwise", format.name(), name.shown()))
                    }
                    None => {
                        usage("--format: there is no output that it says something of: give -o FILE".into())
                    }
                };
            }
        }
        if self.dtype.is_some() && names.is_empty() {
            return usage("--dtype: there is no output that it says something of: give -o FILE".into());
        }
        names.iter().zip(named).map(|(name, named)| self.format(name, named)).collect()
    }

    fn format(&self, name: &Name, named: Option<Kind>) -> Outcome<Format> {
        let kind = match named.or(self.format) {
            Some(kind) => kind,
            None if is_special(&name.path(0)) => Kind::Npy,
            None => {
                return Err(Failure::Usage(format!(
                    "{}: the name must end in .npy, .safetensors, .json, .f32 or .f16 (raw values), or --format say what it is",
                    name.shown()
                )));
            }
        };
        let float = match self.dtype {
            Some(Dtype::F16) => Float::F16,
            _ => Float::F32,
        };
        match (kind, self.dtype) {
            (Kind::Npy, _) => Ok(Format::Npy(float)),
            (Kind::Safetensors, _) => Ok(Format::Safetensors(float)),
            (Kind::F32, None | Some(Dtype::F32)) => Ok(Format::Raw(Float::F32)),
            (Kind::F16, None | Some(Dtype::F16)) => Ok(Format::Raw(Float::F16)),
            (Kind::Json, None | Some(Dtype::F32)) => Ok(Format::Json),
            (Kind::F32, _) => contradiction(name, "f16", "raw f32: name it .f16"),
            (Kind::F16, _) => contradiction(name, "f32", "raw f16: name it .f32"),
            (Kind::Json, _) => contradiction(name, "f16", "JSON, which holds f32: leave the option out"),
        }
    }
}

fn contradiction(name: &Name, dtype: &str, what: &str) -> Outcome<Format> {
    Err(Failure::Usage(format!("--dtype {dtype}: {} is {what}", name.shown())))
}

/// Whether a path is of standard output, a pipe or a device.
fn is_special(path: &Path) -> bool {
    cliptext_files::is_stdout(path)
        || std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formats(names: &[&str], format: Option<Kind>, dtype: Option<Dtype>) -> Result<Vec<Format>, String> {
        let names: Vec<Name> = names.iter().map(|name| Name::One(name.into())).collect();
        let names: Vec<&Name> = names.iter().collect();
        FormatArgs { format, dtype }.formats(&names).map_err(|failure| match failure {
            Failure::Usage(message) | Failure::Work(message) => message,
            Failure::Closed => panic!("nothing was printed"),
        })
    }

    #[test]
    fn names_say_formats_and_options_what_names_do_not() {
        use Float::{F16, F32};
        let of = |name: &str, dtype| formats(&[name], None, dtype).map(|formats| formats[0]);
        assert_eq!(of("x.npy", None), Ok(Format::Npy(F32)));
        assert_eq!(of("x.NPY", Some(Dtype::F16)), Ok(Format::Npy(F16)));
        assert_eq!(of("x.f16", None), Ok(Format::Raw(F16)));
        assert_eq!(of("x.f32", Some(Dtype::F32)), Ok(Format::Raw(F32)));
        assert_eq!(of("x.safetensors", Some(Dtype::F16)), Ok(Format::Safetensors(F16)));
        assert_eq!(of("x.json", None), Ok(Format::Json));
        assert_eq!(of("-", None), Ok(Format::Npy(F32)));
        assert_eq!(formats(&["-"], Some(Kind::F16), None), Ok(vec![Format::Raw(F16)]));
        assert_eq!(formats(&["x.bin"], Some(Kind::F32), None), Ok(vec![Format::Raw(F32)]));
        // It is said of the one whose name says nothing.
        let both = formats(&["-", "pooled.npy"], Some(Kind::F32), None);
        assert_eq!(both, Ok(vec![Format::Raw(F32), Format::Npy(F32)]));
    }

    #[test]
    fn contradictions_and_options_without_effect_are_refused() {
        for (names, format, dtype, said) in [
            (&["x.f32"][..], None, Some(Dtype::F16), "x.f32 is raw f32: name it .f16"),
            (&["x.f16"], None, Some(Dtype::F32), "x.f16 is raw f16"),
            (&["x.json"], None, Some(Dtype::F16), "x.json is JSON"),
            (&["x.npy"], Some(Kind::F32), None, "--format f32: the name x.npy says otherwise"),
            (&["x.png"], None, None, "x.png: the name must end in .npy"),
            (&["x"], None, None, "x: the name must end in .npy"),
            (&[], Some(Kind::Npy), None, "--format: there is no output"),
            (&[], None, Some(Dtype::F16), "--dtype: there is no output"),
        ] {
            let error = formats(names, format, dtype).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
