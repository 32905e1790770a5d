//! `cliptext`: the compiler's command line.

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use cliptext::tokenizer::Padding;
use cliptext_compiler::backend::emit::Precision;
use cliptext_compiler::backend::target::Target;
use cliptext_compiler::compile::image::{self, ImageJob};
use cliptext_compiler::compile::inspect;
use cliptext_compiler::compile::load::Spec;
use cliptext_compiler::compile::{Job, compile};
use cliptext_compiler::edit::Edits;
use cliptext_compiler::edit::lora::LoraFile;
use cliptext_compiler::edit::words::{Inversion, name_and_file};
use cliptext_compiler::embed::{EmbedJob, Embedded, embed};
use cliptext_compiler::ir::{Activation, Pooled};
use cliptext_compiler::output;
use cliptext_compiler::page;
use cliptext_compiler::preset::{Choice, Hidden, Preset};
use cliptext_compiler::progress::Progress;
use cliptext_compiler::prompts;
use cliptext_compiler::quantize::{self, Quality, Recipe};
use cliptext_compiler::verify::job::{LabelFiles, VerifyJob};
use cliptext_compiler::verify::plans::Plans;
use cliptext_compiler::verify::verified::Verified;

#[derive(Parser)]
#[command(name = "cliptext", version, about = "Compiles CLIP text encoders into plans for cliptext-run")]
#[command(after_help = "Exit codes: 0 done, 1 the work failed, 2 the command line is wrong")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compile a model into a plan
    Compile(Box<CompileArgs>),
    /// Tell what a model's file or folder holds, and what would be compiled, without compiling it
    InspectModel(InspectArgs),
    /// Compare a plan with the f32 model that it was made from
    Verify(Box<VerifyArgs>),
    /// Embed pictures with any image encoder in ONNX, in f32 on this machine, for `cliptext-run similarity` to compare with prompts
    EmbedImages(EmbedArgs),
}

#[derive(Args)]
struct EmbedArgs {
    /// The image encoder: an .onnx file, or a folder with model.onnx or vision_model.onnx
    model: PathBuf,
    /// Pictures: PNG, JPEG or WebP
    #[arg(required = true, value_name = "PICTURE")]
    pictures: Vec<PathBuf>,
    /// The embeddings to write: an .npy of [pictures, columns] f32
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Pixels of a side of the images, where the graph leaves it open
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    size: Option<u16>,
    /// The graph's output that is the embedding, where it has several
    #[arg(long, value_name = "NAME")]
    from: Option<String>,
    /// Leave embeddings as long as the graph gives them out [default: each is divided by its length]
    #[arg(long)]
    no_normalize: bool,
    /// Tell nothing but errors
    #[arg(long)]
    quiet: bool,
}

#[derive(Args)]
struct InspectArgs {
    /// A .safetensors or .onnx file, a model's or pipeline's folder, or hf:OWNER/REPO[@REVISION][/PART]
    model: PathBuf,
    /// The activation of the layers, where the files don't tell it
    #[arg(long, value_enum)]
    act: Option<ActArg>,
    /// Tell it as JSON
    #[arg(long)]
    json: bool,
}

/// A model and what is made of it.
#[derive(Args)]
struct ModelArgs {
    /// The model: a .safetensors or .onnx file, a model's or pipeline's folder, or hf:OWNER/REPO[@REVISION][/PART]
    model: PathBuf,
    #[command(flatten)]
    outputs: OutputArgs,
    /// The activation of the layers, where the files don't tell it: without a configuration it is assumed, with a note
    #[arg(long, value_enum)]
    act: Option<ActArg>,
    /// Add a word of textual inversion: NAME=FILE.safetensors (may be repeated)
    #[arg(long, value_name = "NAME=FILE", value_parser = name_and_file)]
    embedding: Vec<(String, PathBuf)>,
    /// Merge a LoRA into the weights: FILE.safetensors or an adapter's folder, each with or without :WEIGHT (may be repeated)
    #[arg(long, value_name = "FILE[:WEIGHT]", value_parser = lora)]
    lora: Vec<(PathBuf, f32)>,
}

#[derive(Args)]
struct CompileArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The plan to write
    #[arg(short, long, value_name = "PLAN")]
    output: PathBuf,
    /// Compile the image encoder of the model, a vision transformer, instead of its text encoder
    #[arg(long)]
    image: bool,
    /// The vocabulary: merges.txt, tokenizer.json, or a folder with vocab.json and merges.txt [default: the tokenizer beside
    /// the model, else CLIP's own]
    #[arg(long, value_name = "PATH")]
    vocab: Option<PathBuf>,
    /// How weights are stored: f32 is for checking
    #[arg(long, value_enum, default_value = "int8")]
    precision: PrecisionArg,
    /// How much work goes into int8 weights: `fast` takes up to a minute, `best` up to a quarter of an hour [default: fast]
    #[arg(long, value_enum)]
    quality: Option<QualityArg>,
    /// Prompts to calibrate int8 weights on: a JSON array of strings, or one a line [default: 96 built-in ones]. With --image a folder of
    /// pictures: PNG, JPEG or WebP [default: some made by a formula]
    #[arg(long, value_name = "FILE")]
    calibrate: Option<PathBuf>,
    /// By how much an int8 plan may grow to be more precise, as in `2%` [default: 1%]
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    budget: Option<f64>,
    /// The kind of CPU that int8 weights are packed for
    #[arg(long, long_help = target_help())]
    target: Option<Target>,
    /// Keep every layer's queries, keys and values in RAM from one prompt to the next: of a prompt that begins as the one
    /// before, as while somebody types, only what follows the common beginning is computed. Takes several times the RAM
    #[arg(long)]
    prefix_cache: bool,
    /// Write the plan even if its outputs are far from the f32 model's (SQNR below 10 dB)
    #[arg(long)]
    force: bool,
    /// Tell nothing but errors
    #[arg(long)]
    quiet: bool,
    /// Write the report to FILE too: a page to look at where it ends in .html, which also measures by layer, position, prompt
    /// and channel, else JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Args)]
struct VerifyArgs {
    /// The plan, compiled from MODEL with the same options: a text encoder's, an image encoder's, or both one behind the other
    plan: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    /// Prompts to compare on: a JSON array of strings, or one a line [default: 24 built-in ones]
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Fail when the SQNR of the hidden states, or of the images' embeddings, is below this many dB
    #[arg(long, value_name = "DB", allow_negative_numbers = true, value_parser = decibels)]
    min_sqnr: Option<f64>,
    /// Also run this UNet (ONNX; sample, timestep, encoder_hidden_states) with both embeddings
    #[arg(long, value_name = "FILE")]
    unet: Option<PathBuf>,
    #[command(flatten)]
    images: ImageArgs,
    /// Tell nothing but errors
    #[arg(long)]
    quiet: bool,
    /// Write the figures to FILE: a page to look at where it ends in .html, else JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Pictures, and what they show.
#[derive(Args)]
#[command(next_help_heading = "Images")]
struct ImageArgs {
    /// The plan of the same model's image encoder, where PLAN does not hold it too
    #[arg(long, value_name = "PLAN")]
    image_plan: Option<PathBuf>,
    /// Pictures to compare the image encoder on: PNG, JPEG or WebP [default: some made by a formula]
    #[arg(long, value_name = "FOLDER")]
    images: Option<PathBuf>,
    /// What the pictures show, for retrieval and zero-shot classification: a line for each picture and text, the picture's name in
    /// the folder, a tab, the text
    #[arg(long, value_name = "FILE", requires = "images")]
    labels: Option<PathBuf>,
    /// The classes of zero-shot classification, which each label is one of: one a line, or a JSON array of strings [default: the labels'
    /// texts, where each picture has one]
    #[arg(long, value_name = "FILE", requires = "labels")]
    classes: Option<PathBuf>,
    /// Put each class into each template in FILE and take the mean: one a line, or a JSON array of strings; {} or {c} stands for the
    /// class [default: {}, the class itself]
    #[arg(long, value_name = "FILE", requires = "labels")]
    templates: Option<PathBuf>,
}

impl ImageArgs {
    /// The files that are read.
    fn inputs(&self) -> impl Iterator<Item = &Path> {
        let files = [&self.image_plan, &self.images, &self.labels, &self.classes, &self.templates];
        files.into_iter().flatten().map(PathBuf::as_path)
    }

    fn labels(self) -> Option<LabelFiles> {
        let Self { classes, templates, .. } = self;
        self.labels.map(|labels| LabelFiles { labels, classes, templates })
    }
}

/// What comes out, where it is not as the model's family has it.
#[derive(Args)]
#[command(next_help_heading = "What comes out")]
struct OutputArgs {
    /// The family of models whose conventions to follow [default: found out from the files]
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// Take this one of several text encoders, by the name that inspect-model tells
    #[arg(long, value_name = "NAME")]
    tower: Option<String>,
    /// Which hidden states: `last`, `penultimate`, or after N layers
    #[arg(long, value_name = "STATES", value_parser = hidden)]
    hidden: Option<Hidden>,
    /// Whether the final norm is on the hidden states
    #[arg(long, value_enum, value_name = "ON|OFF")]
    final_norm: Option<Switch>,
    /// The pooled output: none, the end token's row, or its projection
    #[arg(long, value_enum)]
    pooled: Option<PooledArg>,
    /// Whether the pooled output is divided by its length
    #[arg(long, value_enum, value_name = "ON|OFF")]
    normalize: Option<Switch>,
    /// What fills the context behind the prompt: `eot`, `zero`, `zero-after-eos`, or a token id [default: as the model's
    /// tokenizer says, else as its family has it, else eot]
    #[arg(long, value_name = "PADDING")]
    pad: Option<Padding>,
    /// Tokens of the context, where less than the model has positions
    #[arg(long, value_name = "N")]
    context: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionArg {
    Int8,
    F32,
}

impl From<PrecisionArg> for Precision {
    fn from(precision: PrecisionArg) -> Self {
        match precision {
            PrecisionArg::Int8 => Precision::Int8,
            PrecisionArg::F32 => Precision::F32,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum QualityArg {
    Fast,
    Best,
}

#[derive(Clone, Copy, ValueEnum)]
enum Switch {
    On,
    Off,
}

impl Switch {
    fn is_on(self) -> bool {
        matches!(self, Switch::On)
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum PooledArg {
    None,
    Eos,
    Projected,
}

/// The activation in a layer's MLP.
#[derive(Clone, Copy, ValueEnum)]
enum ActArg {
    /// OpenAI's CLIP
    QuickGelu,
    /// OpenCLIP's, mostly
    Gelu,
    /// GELU by its approximation with tanh
    GeluTanh,
}

impl From<ActArg> for Activation {
    fn from(act: ActArg) -> Self {
        match act {
            ActArg::QuickGelu => Activation::QuickGelu,
            ActArg::Gelu => Activation::Gelu,
            ActArg::GeluTanh => Activation::GeluTanh,
        }
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    match number {
        Some(number) if (0.0..=100.0).contains(&number) => Ok(number / 100.0),
        _ => Err("expected a percentage from 0% to 100%, as in 2%".into()),
    }
}

fn decibels(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|number: &f64| !number.is_nan()).ok_or("expected a number of dB".into())
}

fn target_help() -> String {
    let mut help = String::from("The kind of CPU that int8 weights are packed for:");
    for target in Target::ALL {
        help.push_str(&format!("\n- {target}: {}", target.help()));
    }
    help + &format!("\n\n[default: {}]", Target::default())
}

fn hidden(text: &str) -> Result<Hidden, String> {
    match text {
        "last" => Ok(Hidden::Last),
        "penultimate" => Ok(Hidden::Penultimate),
        number => number
            .parse()
            .map(Hidden::After)
            .map_err(|_| "expected `last`, `penultimate` or a number of layers".into()),
    }
}

/// A file's name may hold colons itself: only a number behind the last one is a weight.
fn lora(text: &str) -> Result<(PathBuf, f32), String> {
    let with_weight =
        text.rsplit_once(':').and_then(|(file, weight)| Some((file, weight.parse::<f32>().ok()?)));
    match with_weight {
        Some((_, weight)) if !weight.is_finite() => Err(format!("{weight} is no weight")),
        Some((file, weight)) if !file.is_empty() => Ok((file.into(), weight)),
        _ => Ok((text.into(), 1.0)),
    }
}

impl OutputArgs {
    /// Ends the program where an option would be ignored.
    fn refuse_contradictions(&self) {
        if matches!(self.pooled, Some(PooledArg::None)) && self.normalize.is_some() {
            usage("--normalize is about the pooled output: it has no effect with --pooled none");
        }
    }

    /// The options that image encoders do not have, and whether they were given.
    fn of_texts(&self) -> [(&'static str, bool); 7] {
        [
            ("--preset", self.preset.is_some()),
            ("--tower", self.tower.is_some()),
            ("--hidden", self.hidden.is_some()),
            ("--final-norm", self.final_norm.is_some()),
            ("--pooled", self.pooled.is_some()),
            ("--pad", self.pad.is_some()),
            ("--context", self.context.is_some()),
        ]
    }

    fn choice(&self) -> Choice {
        Choice {
            preset: self.preset,
            hidden: self.hidden,
            final_norm: self.final_norm.map(Switch::is_on),
            pooled: self.pooled.map(|pooled| match pooled {
                PooledArg::None => Pooled::None,
                PooledArg::Eos => Pooled::EndToken,
                PooledArg::Projected => Pooled::Projected,
            }),
            normalize: self.normalize.map(Switch::is_on),
            padding: self.pad,
            context: self.context,
            activation: None,
        }
    }
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Compile(args) => run_compile(*args),
        Command::InspectModel(args) => run_inspect(&args),
        Command::Verify(args) => run_verify(*args),
        Command::EmbedImages(args) => run_embed(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // With a word of what was written it is told.
        Err(error) if error.is::<Closed>() && error.source().is_none() => ExitCode::FAILURE,
        Err(error) => {
            cliptext_files::to_stderr!("cliptext: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ends the program as clap does when a command line can't be obeyed: with 2.
fn usage(message: impl std::fmt::Display) -> ! {
    Cli::command().error(ErrorKind::ArgumentConflict, message).exit()
}

/// Ends the program where the file that `option` names is one of `others`.
fn refuse_overwriting(option: &str, output: &Path, others: &[&Path]) {
    if others.iter().any(|other| cliptext_files::same_file(output, other)) {
        let path = output.display();
        usage(format!(
            "{option} {path}: the command line names that file twice, and it would be overwritten"
        ));
    }
}

impl ModelArgs {
    /// The files that are read.
    fn inputs(&self) -> Vec<&Path> {
        let files = self.embedding.iter().map(|(_, file)| file).chain(self.lora.iter().map(|(file, _)| file));
        std::iter::once(&self.model).chain(files).map(PathBuf::as_path).collect()
    }

    /// The options that image encoders do not have, and whether they were given.
    fn of_texts(&self) -> [(&'static str, bool); 2] {
        [("--embedding", !self.embedding.is_empty()), ("--lora", !self.lora.is_empty())]
    }
}

impl CompileArgs {
    /// Ends the program where an option would be ignored, or a file be lost.
    fn refuse_contradictions(&self) {
        let mut files = self.model.inputs();
        files.extend(self.calibrate.as_deref().into_iter().chain(self.vocab.as_deref()));
        refuse_overwriting("--output", &self.output, &files);
        files.push(&self.output);
        if let Some(report) = &self.report {
            refuse_overwriting("--report", report, &files);
        }
        let int8_only = [
            ("--quality", self.quality.is_some()),
            ("--calibrate", self.calibrate.is_some()),
            ("--budget", self.budget.is_some()),
            ("--target", self.target.is_some()),
        ];
        self.model.outputs.refuse_contradictions();
        let text_only = [
            ("--vocab", self.vocab.is_some()),
            ("--budget", self.budget.is_some()),
            ("--prefix-cache", self.prefix_cache),
        ];
        let text_only =
            text_only.into_iter().chain(self.model.of_texts()).chain(self.model.outputs.of_texts());
        if self.image && self.report.as_deref().is_some_and(is_page) {
            usage("--report: an image encoder's is JSON: give a name that does not end in .html");
        }
        if let (true, Some((option, _))) = (self.image, { text_only }.find(|(_, given)| *given)) {
            usage(format!("{option} is about text encoders: it has no effect with --image"));
        }
        if matches!(self.precision, PrecisionArg::F32)
            && let Some((option, _)) = int8_only.iter().find(|(_, given)| *given)
        {
            usage(format!("{option} is about int8 weights: it has no effect with --precision f32"));
        }
    }
}

/// The file's or folder's own name, for the plan to carry.
fn name(path: &Path) -> String {
    // What a pipe is called by the system differs every time.
    let known = if path.is_file() || path.is_dir() { path.canonicalize().ok() } else { None };
    let path = known.unwrap_or_else(|| path.to_owned());
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl ModelArgs {
    fn spec(self) -> anyhow::Result<Spec> {
        let mut edits = Edits::default();
        for (name, file) in &self.embedding {
            edits.inversions.push(Inversion::read(name, file)?);
        }
        for (file, weight) in &self.lora {
            edits.loras.push(LoraFile::read(file, *weight)?);
        }
        Ok(Spec {
            name: name(&self.model),
            path: self.model,
            tower: self.outputs.tower.clone(),
            choice: Choice { activation: self.act.map(Activation::from), ..self.outputs.choice() },
            edits,
        })
    }
}

/// Whether a report is to be looked at.
fn is_page(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("html"))
}

fn run_compile(args: CompileArgs) -> anyhow::Result<()> {
    args.refuse_contradictions();
    if let Some(report) = &args.report {
        output::check(report)?;
    }
    let progress = Progress::new(args.quiet);
    let mut quantize = quantize::Options::new(match args.quality {
        Some(QualityArg::Best) => Quality::Best,
        Some(QualityArg::Fast) | None => Quality::Fast,
    });
    if args.image {
        return run_compile_image(args, quantize.recipe, &progress);
    }
    if let Some(budget) = args.budget {
        quantize.recipe.budget = budget;
    }
    if let Some(path) = &args.calibrate {
        quantize.calibration = prompts::read(path)?;
        let (most, given) = (quantize.recipe.prompts, quantize.calibration.len());
        if given > most {
            progress.note(&format!(
                "{}: calibrates on {most} of its {given} prompts, evenly chosen: no more are used at this quality",
                path.display()
            ));
        }
    }
    let job = Job {
        model: args.model.spec()?,
        plan: args.output,
        vocabulary: args.vocab,
        precision: args.precision.into(),
        quantize,
        target: args.target.unwrap_or_default(),
        prefix_cache: args.prefix_cache,
        force: args.force,
        full_report: args.report.as_deref().is_some_and(is_page),
    };
    let report = compile(&job, &progress)?;
    if let Some(path) = &args.report {
        let bytes = match &report.verification {
            Some(found) => {
                let found = Verified { texts: Some(found.clone()), ..Verified::default() };
                page::page(&name(&job.plan), &report.model, &found, &report.smoothed).into_bytes()
            }
            None => serde_json::to_vec_pretty(&report)?,
        };
        output::write(path, &bytes)?;
    }
    if !args.quiet {
        tell_report(&report, &job.plan, args.report.as_ref())?;
    }
    Ok(())
}

fn run_compile_image(args: CompileArgs, recipe: Recipe, progress: &Progress) -> anyhow::Result<()> {
    let job = ImageJob {
        name: name(&args.model.model),
        model: args.model.model,
        activation: args.model.act.map(Activation::from),
        normalize: args.model.outputs.normalize.map(Switch::is_on),
        plan: args.output,
        precision: args.precision.into(),
        recipe,
        calibrate: args.calibrate,
        target: args.target.unwrap_or_default(),
        force: args.force,
    };
    let report = image::compile(&job, progress)?;
    if let Some(path) = &args.report {
        output::write(path, &serde_json::to_vec_pretty(&report)?)?;
    }
    if !args.quiet {
        tell_report(&report, &job.plan, args.report.as_ref())?;
    }
    Ok(())
}

fn run_embed(args: EmbedArgs) -> anyhow::Result<()> {
    let mut files: Vec<&Path> = args.pictures.iter().map(PathBuf::as_path).collect();
    files.push(&args.model);
    refuse_overwriting("--output", &args.output, &files);
    let is_npy = args.output.extension().is_none_or(|extension| extension.eq_ignore_ascii_case("npy"));
    if !is_npy {
        usage(format!(
            "--output {}: embeddings are written as .npy: give a name that ends so",
            args.output.display()
        ));
    }
    let job = EmbedJob {
        model: args.model,
        pictures: args.pictures,
        embeddings: args.output,
        side: args.size.map(usize::from),
        from: args.from,
        normalize: !args.no_normalize,
    };
    let Embedded { columns, side } = embed(&job, &Progress::new(args.quiet))?;
    if !args.quiet {
        let (path, count) = (job.embeddings.display(), job.pictures.len());
        let length = if job.normalize { ", length 1" } else { "" };
        let text = format!("{path}: [{count}, {columns}] f32{length}, of images of {side} x {side} pixels");
        tell(&text, &[Some(&job.embeddings)])?;
    }
    Ok(())
}

/// Prints what a compile ends with.
fn tell_report(report: &impl Display, plan: &PathBuf, file: Option<&PathBuf>) -> anyhow::Result<()> {
    let written = || format!("{} is written, its report was not shown", plan.display());
    tell(&report.to_string(), &[Some(plan), file]).with_context(written)
}

impl VerifyArgs {
    /// Ends the program where an option would be ignored, or a file be lost.
    fn refuse_contradictions(&self) {
        self.model.outputs.refuse_contradictions();
        if let Some(report) = &self.report {
            let mut files = self.model.inputs();
            files.push(&self.plan);
            files.extend(self.prompts.as_deref().into_iter().chain(self.unet.as_deref()));
            files.extend(self.images.inputs());
            refuse_overwriting("--report", report, &files);
        }
    }

    /// The same where that depends on what is in the plans.
    fn refuse_without(&self, plans: &Plans) {
        let plan = self.plan.display();
        if plans.image().is_none() && self.images.images.is_some() {
            usage(format!(
                "--images: {plan} holds no image encoder's plan: name it with --image-plan (made by `cliptext compile --image`)"
            ));
        }
        if plans.text().is_some() {
            return;
        }
        let text_only = [
            ("--prompts", self.prompts.is_some()),
            ("--unet", self.unet.is_some()),
            ("--labels", self.images.labels.is_some()),
            ("--normalize", self.model.outputs.normalize.is_some()),
        ];
        let text_only =
            text_only.into_iter().chain(self.model.of_texts()).chain(self.model.outputs.of_texts());
        if let Some((option, _)) = { text_only }.find(|(_, given)| *given) {
            usage(format!("{option} is about text encoders: {plan} holds an image encoder's plan alone"));
        }
        if self.images.image_plan.is_some() {
            usage(format!(
                "--image-plan: {plan} holds an image encoder's plan itself, and no text encoder's"
            ));
        }
    }
}

fn run_verify(args: VerifyArgs) -> anyhow::Result<()> {
    args.refuse_contradictions();
    if let Some(report) = &args.report {
        output::check(report)?;
    }
    let progress = Progress::new(args.quiet);
    let prompts = match &args.prompts {
        Some(path) => prompts::read(path)?,
        None => prompts::evaluation(),
    };
    let plans = Plans::read(&args.plan, args.images.image_plan.as_deref())?;
    args.refuse_without(&plans);
    let job = VerifyJob {
        model: args.model.spec()?,
        prompts,
        unet: args.unet,
        images: args.images.images.clone(),
        labels: args.images.labels(),
    };
    let found = job.run(&plans, &progress)?;
    if let Some(path) = &args.report {
        let page = || page::page(&name(&args.plan), &job.model.name, &found, &[]).into_bytes();
        let bytes = if is_page(path) { page() } else { serde_json::to_vec_pretty(&found)? };
        output::write(path, &bytes)?;
    }
    if !args.quiet {
        let text = format!("{} against {}\n{found}", args.plan.display(), job.model.name);
        tell(&text, &[args.report.as_ref()])?;
    }
    let plan = args.plan.display();
    if let Some((what, _)) = found.outputs().find(|(_, sqnr)| sqnr.0.is_nan()) {
        anyhow::bail!("{plan}: the plan computes values that are no numbers, in {what}");
    }
    if let Some(least) = args.min_sqnr {
        for (what, sqnr) in found.deciding() {
            anyhow::ensure!(
                sqnr >= least,
                "{plan}: {what}' SQNR is {sqnr:.2} dB, below the {least} dB asked for (--min-sqnr)"
            );
        }
    }
    Ok(())
}

fn run_inspect(args: &InspectArgs) -> anyhow::Result<()> {
    let found = inspect::inspect(&args.model, args.act.map(Activation::from), &Progress::new(false))?;
    tell(&if args.json { serde_json::to_string_pretty(&found)? } else { found.to_string() }, &[])
}

/// Who reads standard output has enough, as `| head` has: the program ends without a word.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("standard output was closed before all was written")
    }
}

impl std::error::Error for Closed {}

/// Prints a result: to standard error where one of `outputs` goes to standard output.
fn tell(text: &str, outputs: &[Option<&PathBuf>]) -> anyhow::Result<()> {
    if outputs.iter().flatten().any(|path| cliptext_files::is_stdout(path)) {
        cliptext_files::to_stderr!("{text}");
        return Ok(());
    }
    writeln!(std::io::stdout(), "{text}").map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => anyhow::Error::new(Closed),
        _ => anyhow::anyhow!("standard output: {error}"),
    })
}
