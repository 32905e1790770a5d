//! The work: prompts one after the other through the encoder to the outputs.

use cliptext::{AlignedBytes, Encoder, Plan};

use super::arguments::EncodeArgs;
use super::engine::{Engine, encoded};
use super::label_set::label_set;
use super::progress::Progress;
use super::summary::summary;
use crate::failure::{Failure, Outcome};
use crate::output::{About, Encoded, Kept, Outputs};
use crate::plan::{Access, Source};
use crate::prompts::{Prompts, warn_of_truncation};
use crate::setup::{cannot_encode, kernels, team};

/// Encodes prompts to files, or prints a summary.
pub(crate) fn encode(args: &EncodeArgs, access: Access) -> Outcome {
    let targets = args.targets()?;
    if let Some(labels) = &args.labels.labels {
        return label_set(args, labels, targets, access);
    }
    let (path, mut prompts) = args.prompts.open()?;
    let inputs = path
        .iter()
        .chain(&args.prompts.prompts)
        .filter(|path| !cliptext_files::is_stdin(path))
        .cloned()
        .collect();
    let source = Source::open(path.as_deref(), access)?;
    let plan = source.load()?;
    let kernels = kernels(&plan, args.run.kernel.as_deref())?;
    if args.pooled.is_some() && plan.manifest().pooled.is_none() {
        return Err(Failure::Usage("--pooled: the plan has no pooled output".into()));
    }
    if args.pad.no_pad && targets.iter().any(|target| target.wants_one_length()) {
        one_length(&plan, prompts.listed(), args.negative.as_deref())?;
    }
    let total = prompts.total();
    let about = About { plan: plan.hash(), options: args.told() };
    let with_negative = total.map(|total| total + usize::from(args.negative.is_some()));
    let mut outputs = Outputs::create(targets, about, args.order(), inputs, with_negative)?;
    let mut memory = AlignedBytes::zeroed(plan.arena_bytes(1 + usize::from(args.negative.is_some())));
    let team = team(args.run.threads.map(usize::from))?;
    let encoder = Encoder::with(&plan, &mut memory, kernels, &team).map_err(cannot_encode)?;
    let engine = Engine { encoder, no_pad: args.pad.no_pad };
    let is_summarised =
        args.output.is_none() && !args.pooled.as_deref().is_some_and(cliptext_files::is_stdout);
    let mut run = Run {
        engine,
        context: plan.context(),
        outputs: &mut outputs,
        is_summarised,
        progress: Progress::new("prompts", total, !is_summarised),
    };
    let done = run.all(&mut prompts, args.negative.as_deref());
    run.progress.clear();
    done.map_err(|failure| outputs.missing(failure))
}

/// Whether prompts that are known beforehand have the same number of tokens.
fn one_length(plan: &Plan<'_>, prompts: &[String], negative: Option<&str>) -> Outcome {
    let tokenizer = plan.tokenizer();
    let texts = prompts.iter().map(String::as_str).chain(negative);
    let mut lengths = texts.map(|prompt| tokenizer.encode(prompt).unpadded().len());
    let first = lengths.next().unwrap_or(0);
    match lengths.find(|&length| length != first) {
        Some(other) => Err(Failure::Usage(format!(
            "--no-pad: prompts of {first} and of {other} tokens don't fit one array: write a file for each (-o 'x{{n}}.npy') or JSON"
        ))),
        None => Ok(()),
    }
}

struct Run<'r, 'a, T> {
    engine: Engine<'a, T>,
    context: usize,
    outputs: &'r mut Outputs,
    /// Whether a summary is printed: where no hidden states are written, and no pooled ones go to standard output.
    is_summarised: bool,
    progress: Progress,
}

impl<T: cliptext::threads::Team> Run<'_, '_, T> {
    /// Encodes the prompts; the first and the negative one in one pass.
    fn all(&mut self, prompts: &mut Prompts, negative: Option<&str>) -> Outcome {
        let mut kept: Option<Kept> = None;
        for prompt in prompts {
            let prompt = prompt?;
            match negative {
                Some(negative) if kept.is_none() => {
                    let pair = self.engine.pair([&prompt, negative]).map_err(cannot_encode)?;
                    for (text, embedding) in [&prompt, negative].into_iter().zip(&pair) {
                        warn_of_truncation(text, embedding.is_truncated(), self.context);
                    }
                    let [first, second] = &pair;
                    let second = encoded(negative, true, second);
                    write(self.outputs, self.is_summarised, &encoded(&prompt, false, first), Some(&second))?;
                    kept = Some(Kept::of(&second));
                }
                _ => {
                    let embedding = self.engine.one(&prompt);
                    if embedding.is_truncated() {
                        self.progress.clear();
                    }
                    warn_of_truncation(&prompt, embedding.is_truncated(), self.context);
                    let kept = kept.as_ref().map(Kept::encoded);
                    write(
                        self.outputs,
                        self.is_summarised,
                        &encoded(&prompt, false, &embedding),
                        kept.as_ref(),
                    )?;
                }
            }
            self.progress.step();
        }
        let kept = kept.as_ref().map(Kept::encoded);
        if let Some(negative) = kept.as_ref().filter(|_| self.is_summarised) {
            sayln!("{}", summary(negative));
        }
        self.outputs.finish(kept.as_ref())
    }
}

/// Writes a prompt, and prints its summary.
fn write(
    outputs: &mut Outputs,
    is_summarised: bool,
    prompt: &Encoded<'_>,
    negative: Option<&Encoded<'_>>,
) -> Outcome {
    outputs.write(prompt, negative)?;
    if is_summarised {
        sayln!("{}", summary(prompt));
    }
    Ok(())
}
