//! The commands.

use std::fmt::Write as _;
use std::path::Path;

use cliptext::kernels::Activation;
use cliptext::plan::{Op, Step, TowerInfo};
use cliptext::threads::{Threads, default_threads};
use cliptext::{AlignedBytes, Embedding, Encoder, EncoderError, Kernels, Plan};

use crate::output::ArrayFile;
use crate::plan::{Access, Source};
use crate::{EncodeArgs, Failure, Outcome, TokenizeArgs, work};

/// `encode`: prompts to hidden states, to a file or as a summary.
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

/// A team of so many threads, or of as many as this machine has use for.
pub(crate) fn team(threads: Option<usize>) -> Outcome<Threads> {
    let threads = threads.unwrap_or_else(default_threads);
    Threads::start(threads).map_err(|error| work(format_args!("starting {threads} threads"), error))
}

/// An encoder that can't be made or used.
pub(crate) fn cannot_encode(error: EncoderError) -> Failure {
    Failure::Work(error.to_string())
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

/// Tells of a prompt that is longer than the context.
pub(crate) fn warn_of_truncation(prompt: &str, is_truncated: bool, context: usize) {
    if is_truncated {
        eprintln!("cliptext-run: cut to {context} tokens: {}", shown(prompt));
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

/// A few lines about an embedding, for somebody who only looks.
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

/// The kernels called `name`, or the fastest for the plan.
pub(crate) fn kernels(plan: &Plan<'_>, name: Option<&str>) -> Outcome<Kernels> {
    let Some(name) = name else {
        return plan.kernels().map_err(|error| Failure::Work(error.to_string()));
    };
    Kernels::named(name).map_err(|error| {
        let names: Vec<_> = Kernels::available().map(Kernels::name).collect();
        Failure::Usage(format!("--kernel {name}: {error}; this CPU runs {}", names.join(", ")))
    })
}

/// `tokenize`: a line of ids for each prompt.
pub(crate) fn tokenize(args: &TokenizeArgs, access: Access) -> Outcome {
    let (path, prompts) = args.prompts.read()?;
    let source = Source::open(path.as_deref(), access)?;
    let plan = source.load()?;
    let tokenizer = plan.tokenizer();
    let mut out = String::new();
    for prompt in &prompts {
        let tokens = tokenizer.encode(prompt);
        warn_of_truncation(prompt, tokens.is_truncated(), plan.context());
        let ids = if args.pad.no_pad { tokens.unpadded() } else { tokens.ids() };
        for (index, id) in ids.iter().enumerate() {
            let _ = write!(out, "{}{id}", if index == 0 { "" } else { " " });
        }
        out.push('\n');
    }
    say!("{out}");
    Ok(())
}

/// `inspect`: what a plan is, where its bytes go, what RAM it needs.
pub(crate) fn inspect(path: Option<&Path>, access: Access) -> Outcome {
    let source = Source::open(path, access)?;
    let plan = source.load()?;
    let manifest = plan.manifest();
    sayln!("plan        {} bytes, made by {} from {}", plan.file_bytes(), manifest.producer, manifest.source);
    for tower in plan.towers() {
        let TowerInfo { layers, width, heads, padding, .. } = tower;
        sayln!("tower       {layers} layers, width {width}, {heads} heads, padding {padding}");
    }
    sayln!("context     {} tokens", plan.context());
    sayln!("weights     {} ({})", manifest.packing, manifest.packing.compiled_with());
    sayln!("hidden      [{}, {}] f32 per prompt", plan.context(), plan.width());
    match manifest.pooled {
        Some(rows) => {
            let projected = if plan.is_projected() { ", projected" } else { "" };
            sayln!("pooled      [{}] f32 per prompt{projected}", rows.columns);
        }
        None => sayln!("pooled      none"),
    }
    if let Some(scale) = manifest.logit_scale {
        sayln!("logit scale {scale}");
    }
    sayln!("arena       {} bytes of RAM for a prompt", plan.arena_bytes(1));
    sayln!("            {} bytes for a prompt and its negative in one pass", plan.arena_bytes(2));
    sayln!("vocabulary  {} bytes", plan.vocabulary_bytes());
    sayln!("constants   {} bytes", plan.constant_bytes());
    match plan.kernels() {
        Ok(kernels) => sayln!("kernel      {} on this CPU", kernels.name()),
        Err(error) => sayln!("kernel      none on this CPU: {error}"),
    }
    sayln!("steps");
    for (index, step) in plan.steps().enumerate() {
        sayln!("  {index:>3}  {}  {} bytes", describe(&step), step.constant_bytes().unwrap_or_default());
    }
    Ok(())
}

/// A step in a few words: its layer, what it does, the columns that it reads and writes.
pub(crate) fn describe(step: &Step) -> String {
    let layer = match step.role.layer {
        0 => String::new(),
        layer => layer.to_string(),
    };
    let mut out = format!("{}.{layer:<3} {:<17}", step.role.tower + 1, step.name());
    let reads: Vec<String> = step.reads().map(|place| place.columns.to_string()).collect();
    match (step.op, step.input) {
        (Op::Embed(embed), _) => {
            let _ = write!(out, " {} tokens × {}", embed.vocabulary, step.out.columns);
        }
        (_, Some(input)) if input == step.out => {
            let _ = write!(out, " {}", step.out.columns);
        }
        _ => {
            let _ = write!(out, " {} → {}", reads.join(" + "), step.out.columns);
        }
    }
    match step.op {
        Op::Linear { activation, .. } if activation != Activation::Identity => {
            let _ = write!(out, ", {activation:?}");
        }
        Op::Attention { heads, .. } => {
            let _ = write!(out, ", {heads} heads");
        }
        Op::CachedRow { token } => {
            let _ = write!(out, ", token {token}");
        }
        _ => {}
    }
    out
}
