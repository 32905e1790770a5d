//! What `encode` takes.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::arguments::{PadArgs, PromptArgs, RunArgs};
use crate::cache::CacheArgs;
use crate::failure::{Failure, Outcome};
use crate::labels::LabelArgs;
use crate::output::{FormatArgs, Name, Options, Order, Target, What};
use crate::reading::{Reading, ReadingArgs};

#[derive(Args)]
pub(crate) struct EncodeArgs {
    #[command(flatten)]
    pub(super) prompts: PromptArgs,
    #[command(flatten)]
    pub(super) pad: PadArgs,
    #[command(flatten)]
    reading: ReadingArgs,
    /// A negative prompt: encoded in one pass with the first prompt; last in the outputs, but for --order, and in
    /// .safetensors a negative for each prompt
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(super) negative: Option<String>,
    /// Which comes first in arrays and JSON [default: prompt-first]
    #[arg(long, value_name = "ORDER", requires = "negative")]
    order: Option<Order>,
    // clap would make a new line of the pattern without digits.
    /// Write the hidden states to FILE, in the format that its name ends in: .npy [prompts, tokens, width], .f32 or .f16 (the
    /// same values raw), .safetensors (as diffusers names them) or .json. - is standard output. A name with {n:04} in it is
    /// for a file each, as the prompt alone would give it: 0000, 0001 and so on; without :04 0, 1 and so on
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Write the pooled outputs to FILE: .npy [prompts, columns], .f32 or .f16; .safetensors and .json have them already
    #[arg(long, value_name = "FILE")]
    pub(super) pooled: Option<PathBuf>,
    #[command(flatten)]
    pub(super) labels: LabelArgs,
    #[command(flatten)]
    formats: FormatArgs,
    #[command(flatten)]
    pub(super) cache: CacheArgs,
    /// Read the plan's weights from its file while they are used, through a buffer of 2 to 3 MB: for plans that are larger than
    /// the memory. The bytes that come out are the same
    #[arg(long, conflicts_with = "labels")]
    pub(super) stream: bool,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

impl EncodeArgs {
    /// The outputs that are asked for.
    ///
    /// # Errors
    /// When names and options contradict each other, or an option has no effect.
    pub(super) fn targets(&self) -> Outcome<Vec<Target>> {
        // A label set has a row for each label.
        let main = if self.labels.labels.is_some() { What::Pooled } else { What::Hidden };
        let asked = [(&self.output, main), (&self.pooled, What::Pooled)];
        let asked = asked.into_iter().filter_map(|(path, what)| Some((path.as_deref()?, what)));
        let asked = asked.map(|(path, what)| Ok((Name::parse(path)?, what))).collect::<Outcome<Vec<_>>>()?;
        let formats = self.formats.formats(&asked.iter().map(|(name, _)| name).collect::<Vec<_>>())?;
        let targets: Vec<Target> = asked
            .into_iter()
            .zip(formats)
            .map(|((name, what), format)| Target { name, format, what })
            .collect();
        for target in &targets {
            if target.what == What::Pooled && !target.is_array() && self.labels.labels.is_some() {
                return Err(Failure::Usage(format!(
                    "--labels: {}: the rows are an array: name an .npy, .f32 or .f16",
                    target.name.shown()
                )));
            }
            if target.what == What::Pooled && !target.is_array() {
                return Err(Failure::Usage(format!(
                    "--pooled {}: name an .npy, .f32 or .f16: in .safetensors and .json (-o) the pooled outputs stand beside the \
                     hidden states",
                    target.name.shown()
                )));
            }
        }
        if self.order.is_some() && !targets.iter().any(Target::has_order) {
            return Err(Failure::Usage(match targets.first() {
                Some(target) => {
                    format!(
                        "--order: in {} the prompt and its negative go by name, in no order",
                        target.name.shown()
                    )
                }
                None => "--order: there is no output that it says something of: give -o FILE".into(),
            }));
        }
        Ok(targets)
    }

    /// Which comes first.
    pub(super) fn order(&self) -> Order {
        self.order.unwrap_or_default()
    }

    /// Whether the arguments can be obeyed with the pack at `path` in the place of a plan.
    ///
    /// # Errors
    /// When an option says how to encode.
    pub(super) fn suit_a_pack(&self, path: &Path) -> Outcome {
        let options = [
            ("--no-pad", self.pad.no_pad),
            ("--kernel", self.run.kernel.is_some()),
            ("--threads", self.run.threads.is_some()),
            ("--cache", self.cache.is_given()),
            (self.reading.given().unwrap_or(""), self.reading.given().is_some()),
        ];
        match options.into_iter().find(|(_, is_given)| *is_given) {
            Some((option, _)) => Err(Failure::Usage(format!(
                "{option}: {} is a prompt pack, of what was encoded before: the option has no effect",
                path.display()
            ))),
            None => Ok(()),
        }
    }

    /// How prompts are read.
    ///
    /// # Errors
    /// When the option has no effect, or contradicts another.
    pub(super) fn reading(&self) -> Outcome<Reading> {
        match self.reading.given().filter(|_| self.labels.labels.is_some()) {
            Some(option) => {
                Err(Failure::Usage(format!("--labels: labels are read as text: {option} has no effect")))
            }
            None => self.reading.with_padding(&self.pad),
        }
    }

    /// The options that outputs tell of.
    pub(super) fn told(&self, reading: &Reading) -> Options {
        reading.told(&self.pad)
    }
}
