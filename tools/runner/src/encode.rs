//! `encode`: prompts to hidden states.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use cliptext::{AlignedBytes, Embedding, Encoder, Kernels, Plan};

use crate::arguments::{PadArgs, PromptArgs, RunArgs};
use crate::failure::{Failure, Outcome};
use crate::output::ArrayFile;
use crate::plan::{Access, Source};
use crate::prompts::{shown, warn_of_truncation};
use crate::setup::{cannot_encode, kernels, team};

#[derive(Args)]
pub(crate) struct EncodeArgs {
    #[command(flatten)]
    prompts: PromptArgs,
    #[command(flatten)]
    pad: PadArgs,
    /// A negative prompt: encoded in one pass with the last prompt, and last in the outputs
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    negative: Option<String>,
    /// Write the hidden states to FILE: `.npy` [prompts, tokens, width], or `.f32`, the same values raw; a pipe or a device
    /// gets `.npy` whatever its name
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the pooled outputs to FILE: `.npy` [prompts, columns], or `.f32`
    #[arg(long, value_name = "FILE")]
    pooled: Option<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
}

/// Encodes prompts to files, or prints a summary.
pub(crate) fn encode(args: &EncodeArgs, access: Access) -> Outcome {
    let (path, mut prompts) = args.prompts.read()?;
    prompts.extend(args.negative.clone());
    if let (Some(hidden), Some(pooled)) = (&args.output, &args.pooled)
        && cliptext_files::same_file(hidden, pooled)
    {
        return Err(Failure::Usage(format!("{}: both --output and --pooled name it", pooled.display())));
    }
    let source = Source::open(path.as_deref(), access)?;
    let plan = source.load()?;
    let kernels = kernels(&plan, args.run.kernel.as_deref())?;
    if args.pooled.is_some() && plan.manifest().pooled.is_none() {
        return Err(Failure::Usage("--pooled: the plan has no pooled output".into()));
    }
    let tokens = tokens_of_all(&plan, &prompts, args.pad.no_pad, args.output.is_some())?;
    let mut outputs = Outputs {
        hidden: output(args.output.as_deref(), &[prompts.len(), tokens, plan.width()])?,
        pooled: output(args.pooled.as_deref(), &[prompts.len(), pooled_columns(&plan)])?,
        summary: args.output.is_none() && !args.pooled.as_deref().is_some_and(cliptext_files::is_stdout),
        context: plan.context(),
    };
    let encoded = encode_all(args, &plan, kernels, &prompts, &mut outputs);
    encoded.and_then(|()| outputs.finish()).map_err(|failure| outputs.missing(failure))
}

/// Encodes the prompts; with a negative prompt the last two go in one pass.
fn encode_all(
    args: &EncodeArgs,
    plan: &Plan<'_>,
    kernels: Kernels,
    prompts: &[String],
    outputs: &mut Outputs,
) -> Outcome {
    let no_pad = args.pad.no_pad;
    let sequences = 1 + usize::from(args.negative.is_some());
    let mut memory = AlignedBytes::zeroed(plan.arena_bytes(sequences));
    let team = team(args.run.threads.map(usize::from))?;
    let mut encoder = Encoder::with(plan, &mut memory, kernels, &team).map_err(cannot_encode)?;
    let (single, pair) = prompts.split_at(prompts.len() - if args.negative.is_some() { 2 } else { 0 });
    for prompt in single {
        let embedding = if no_pad { encoder.encode_unpadded(prompt) } else { encoder.encode(prompt) };
        outputs.write(prompt, &embedding)?;
    }
    if let [prompt, negative] = pair {
        let texts = [prompt.as_str(), negative];
        let both = if no_pad { encoder.encode_pair_unpadded(texts) } else { encoder.encode_pair(texts) };
        for (text, embedding) in texts.iter().zip(&both.map_err(cannot_encode)?) {
            outputs.write(text, embedding)?;
        }
    }
    Ok(())
}

/// Columns of the pooled output, 0 where there is none.
fn pooled_columns(plan: &Plan<'_>) -> usize {
    plan.manifest().pooled.map_or(0, |rows| rows.columns as usize)
}

fn output(path: Option<&Path>, shape: &[usize]) -> Outcome<Option<ArrayFile>> {
    path.map(|path| ArrayFile::create(path, shape)).transpose()
}

/// Where embeddings go.
struct Outputs {
    hidden: Option<ArrayFile>,
    pooled: Option<ArrayFile>,
    /// Whether a summary is printed: where no array of hidden states is written, and none goes to standard output.
    summary: bool,
    context: usize,
}

impl Outputs {
    /// Writes what there is a file for, and prints the summary.
    fn write(&mut self, prompt: &str, embedding: &Embedding<'_>) -> Outcome {
        warn_of_truncation(prompt, embedding.is_truncated(), self.context);
        if let Some(file) = &mut self.hidden {
            file.write(embedding.hidden())?;
        }
        if self.summary {
            sayln!("{}", summary(prompt, embedding));
        }
        match (&mut self.pooled, embedding.pooled()) {
            (Some(file), Some(values)) => file.write(values),
            _ => Ok(()),
        }
    }

    /// Gives the files their names, once both have all their bytes.
    fn finish(&mut self) -> Outcome {
        let mut files = [&mut self.hidden, &mut self.pooled];
        files.iter_mut().filter_map(|file| file.as_mut()).try_for_each(ArrayFile::flush)?;
        files.into_iter().filter_map(Option::take).try_for_each(ArrayFile::finish)
    }

    /// `failure`, with the files that are not written because of it.
    fn missing(&self, failure: Failure) -> Failure {
        let missing: String = [&self.hidden, &self.pooled]
            .into_iter()
            .flatten()
            .map(|file| format!("; {} is not written", file.path().display()))
            .collect();
        match failure {
            Failure::Work(message) => Failure::Work(message + &missing),
            usage => usage,
        }
    }
}

/// The rows that each prompt gets; one array can only hold prompts of one length.
fn tokens_of_all(plan: &Plan<'_>, prompts: &[String], no_pad: bool, to_array: bool) -> Outcome<usize> {
    if !no_pad {
        return Ok(plan.context());
    }
    let tokenizer = plan.tokenizer();
    let mut lengths = prompts.iter().map(|prompt| tokenizer.encode(prompt).unpadded().len());
    let first = lengths.next().unwrap_or(0);
    match lengths.find(|&length| length != first) {
        Some(other) if to_array => Err(Failure::Usage(format!(
            "--no-pad: prompts of {first} and of {other} tokens don't fit one array: write them to files of their own"
        ))),
        _ => Ok(first),
    }
}

/// A few lines about an embedding.
fn summary(prompt: &str, embedding: &Embedding<'_>) -> String {
    let mut out = format!("{}: [{}, {}]\n", shown(prompt), embedding.tokens(), embedding.width());
    let rows = embedding.hidden().chunks(embedding.width());
    for (id, row) in embedding.ids().iter().zip(rows).take(4) {
        let _ = write!(out, "  {id:>5}:");
        for value in row.iter().take(6) {
            let _ = write!(out, " {value:>9.5}");
        }
        let _ = writeln!(out, "{}", if row.len() > 6 { " …" } else { "" });
    }
    if let Some(pooled) = embedding.pooled() {
        let _ = write!(out, "  pooled [{}]:", pooled.len());
        for value in pooled.iter().take(4) {
            let _ = write!(out, " {value:>9.5}");
        }
        out.push_str(if pooled.len() > 4 { " …\n" } else { "\n" });
    }
    out.push_str("  (write all of it with -o FILE.npy)");
    out
}
