//! The commands.

use std::fmt::Write as _;
use std::path::Path;

use cliptext::plan::Step;
use cliptext::{Embedding, Encoder, Kernels, Plan, align_arena};

use crate::output::ArrayFile;
use crate::plan::Source;
use crate::{EncodeArgs, Failure, Outcome, TokenizeArgs};

/// `encode`: prompts to hidden states, to a file or as a summary.
pub(crate) fn encode(args: &EncodeArgs) -> Outcome {
    let (path, prompts) = args.prompts.read()?;
    let kernels = args.kernel.as_deref().map(kernels_named).transpose()?;
    let source = Source::open(path.as_deref())?;
    let plan = source.load()?;
    if args.pooled.is_some() && plan.manifest().pooled.is_none() {
        return Err(Failure::Usage("--pooled: the plan has no pooled output".into()));
    }
    let tokens = tokens_of_all(&plan, &prompts, args.prompts.no_pad, args.output.is_some())?;
    let hidden_shape = [prompts.len(), tokens, plan.width()];
    let mut hidden = args.output.as_deref().map(|path| ArrayFile::create(path, &hidden_shape)).transpose()?;
    let columns = plan.manifest().pooled.map_or(0, |rows| rows.columns as usize);
    let mut pooled =
        args.pooled.as_deref().map(|path| ArrayFile::create(path, &[prompts.len(), columns])).transpose()?;

    let mut memory = vec![0; plan.arena_bytes(1) + 63];
    let arena = align_arena(&mut memory);
    let kernels = kernels.map_or_else(|| plan.kernels(), Ok).map_err(|error| Failure::Work(error.to_string()))?;
    let mut encoder = Encoder::with(&plan, arena, kernels, cliptext::threads::Solo)
        .map_err(|error| Failure::Work(error.to_string()))?;
    for prompt in &prompts {
        let embedding =
            if args.prompts.no_pad { encoder.encode_unpadded(prompt) } else { encoder.encode(prompt) };
        if embedding.is_truncated() {
            eprintln!("cliptext-run: cut to {} tokens: {prompt:?}", plan.context());
        }
        match &mut hidden {
            Some(file) => file.write(embedding.hidden())?,
            None => println!("{}", summary(prompt, &embedding)),
        }
        if let (Some(file), Some(values)) = (&mut pooled, embedding.pooled()) {
            file.write(values)?;
        }
    }
    hidden.map_or(Ok(()), ArrayFile::finish)?;
    pooled.map_or(Ok(()), ArrayFile::finish)
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

/// A few lines about an embedding, for somebody who only looks.
fn summary(prompt: &str, embedding: &Embedding<'_>) -> String {
    let mut out = format!("{prompt:?}: [{}, {}]\n", embedding.tokens(), embedding.width());
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

fn kernels_named(name: &str) -> Outcome<Kernels> {
    Kernels::named(name).map_err(|error| {
        let names: Vec<_> = Kernels::available().map(Kernels::name).collect();
        Failure::Usage(format!("--kernel {name}: {error}; this CPU runs {}", names.join(", ")))
    })
}

/// `tokenize`: a line of ids for each prompt.
pub(crate) fn tokenize(args: &TokenizeArgs) -> Outcome {
    let (path, prompts) = args.prompts.read()?;
    let source = Source::open(path.as_deref())?;
    let plan = source.load()?;
    let tokenizer = plan.tokenizer();
    let mut out = String::new();
    for prompt in &prompts {
        let tokens = tokenizer.encode(prompt);
        let ids = if args.prompts.no_pad { tokens.unpadded() } else { tokens.ids() };
        for (index, id) in ids.iter().enumerate() {
            let _ = write!(out, "{}{id}", if index == 0 { "" } else { " " });
        }
        out.push('\n');
    }
    print!("{out}");
    Ok(())
}

/// `inspect`: what a plan is, where its bytes go, what RAM it needs.
pub(crate) fn inspect(path: Option<&Path>) -> Outcome {
    let source = Source::open(path)?;
    let plan = source.load()?;
    let manifest = plan.manifest();
    let (vocabulary, constants) = plan.section_bytes();
    println!("plan        {} bytes, made by {} from {}", plan.bytes(), manifest.producer, manifest.source);
    println!("model       {} layers, {} heads, width {}", manifest.layers, manifest.heads, plan.width());
    println!("context     {} tokens, padding {:?}", plan.context(), manifest.padding);
    println!("weights     {} ({})", manifest.packing, manifest.packing.compiled_with());
    println!("hidden      [{}, {}] f32 per prompt", plan.context(), plan.width());
    match manifest.pooled {
        Some(rows) => println!("pooled      [{}] f32 per prompt", rows.columns),
        None => println!("pooled      none"),
    }
    println!("arena       {} bytes of RAM for a prompt", plan.arena_bytes(1));
    println!("vocabulary  {vocabulary} bytes");
    println!("constants   {constants} bytes");
    match plan.kernels() {
        Ok(kernels) => println!("kernel      {} on this CPU", kernels.name()),
        Err(error) => println!("kernel      none on this CPU: {error}"),
    }
    println!("steps");
    for (index, (step, constants)) in plan.steps().enumerate() {
        println!("  {index:>3}  {}  {} bytes", describe(&step), constants.len());
    }
    Ok(())
}

/// A step in a few words.
fn describe(step: &Step) -> String {
    match step {
        Step::Embed(step) => format!("embed      {} tokens × {}", step.tokens, step.out.columns),
        Step::Norm(step) => format!("norm       {}", step.input.columns),
        Step::Linear(step) => {
            let (inputs, outputs) = (step.panels.inputs, step.panels.outputs);
            let residual = if step.residual.is_some() { " + residual" } else { "" };
            format!("linear     {inputs} → {outputs} {:?}{residual}", step.activation)
        }
        Step::Attention(step) => {
            format!("attention  {} heads × {}", step.heads, step.out.columns / u32::from(step.heads))
        }
        Step::Pool(step) => format!("pool       {}", step.out.columns),
    }
}
