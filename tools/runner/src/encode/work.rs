//! The work: a plan, a cache or a pack to the embeddings of prompts.

use std::path::{Path, PathBuf};

use cliptext::{Pack, PlanHash, Program};

use super::arguments::EncodeArgs;
use super::cached::Cached;
use super::engine::How;
use super::label_set::label_set;
use super::run::Run;
use crate::cache::Cache;
use crate::failure::{Failure, Outcome};
use crate::opened::{Loaded, Opened};
use crate::output::{About, Target};
use crate::pack::FromPack;
use crate::plan::{Access, hash_of_file};
use crate::prompts::Prompts;
use crate::reading::Reading;
use crate::setup::{is_kernel, kernels};

/// Encodes prompts to files, or prints a summary.
pub(crate) fn encode(args: &EncodeArgs, access: Access) -> Outcome {
    let targets = args.targets()?;
    let mut reading = args.reading()?;
    if let Some(labels) = &args.labels.labels {
        return label_set(args, labels, targets, access);
    }
    let (path, prompts) = args.prompts.open()?;
    let inputs = path
        .iter()
        .chain(&args.prompts.prompts)
        .filter(|path| !cliptext_files::is_stdin(path))
        .cloned()
        .collect();
    let job = |prompts, reading| Job { args, targets, inputs, prompts, reading };
    // The hash is all that a cache needs of a plan.
    if args.cache.is_given()
        && !reading.is_open()
        && let Some(hash) = path.as_deref().map(hash_of_file).transpose()?.flatten()
    {
        return job(prompts, reading).cached(hash, || Opened::open(path.as_deref(), access, args.stream));
    }
    let source = Opened::open(path.as_deref(), access, args.stream)?;
    if let Opened::Whole(source) = &source
        && let Some(path) = path.filter(|_| Pack::is_one(source.bytes()))
    {
        return job(prompts, reading).by_names(&path, source.bytes());
    }
    if reading.is_open() {
        let listed = prompts.listed().iter().chain(&args.negative).map(String::as_str);
        reading.count(&source.load()?.program, listed, args.prompts.prompts.as_deref())?;
    }
    match args.cache.is_given() {
        true => job(prompts, reading).cached(source.hash()?, || Ok(source)),
        false => job(prompts, reading).with_plan(&source.load()?),
    }
}

/// What is to be done.
struct Job<'j> {
    args: &'j EncodeArgs,
    targets: Vec<Target>,
    /// Files that are read.
    inputs: Vec<PathBuf>,
    prompts: Prompts,
    reading: Reading,
}

impl Job<'_> {
    /// Encodes all with the plan.
    fn with_plan(self, plan: &Loaded<'_>) -> Outcome {
        let Job { args, targets, inputs, mut prompts, reading } = self;
        let program = &plan.program;
        let kernels = kernels(program, args.run.kernel.as_deref())?;
        if args.pad.no_pad && targets.iter().any(Target::wants_one_length) {
            one_length(program, prompts.listed(), args.negative.as_deref())?;
        }
        let about = About { plan: program.hash(), options: args.told(&reading) };
        let mut run = Run::begin(args, Some(&reading), targets, inputs, about, prompts.total())?;
        let how =
            How { plan, kernels, threads: args.run.threads, no_pad: args.pad.no_pad, reading: &reading };
        how.with_engine(args.negative.is_some(), |engine| run.all(engine, &mut prompts))
            .map_err(|failure| run.missing(failure))
    }

    /// Answers from the cache; the plan is loaded when the first prompt is not there.
    fn cached(self, plan: PlanHash, source: impl FnOnce() -> Outcome<Opened>) -> Outcome {
        let Job { args, targets, inputs, mut prompts, reading } = self;
        // Of a name that is wrong nothing else would tell.
        is_kernel(args.run.kernel.as_deref())?;
        let options = args.told(&reading);
        let mut cache = Cache::open(&args.cache, plan, options.to_string());
        let mut run =
            Run::begin(args, Some(&reading), targets, inputs, About { plan, options }, prompts.total())?;
        let work = || {
            let missed = loop {
                let Some(prompt) = prompts.next().transpose()? else { return run.finish() };
                match cache.find_all(&run.texts(&prompt)) {
                    Some(found) => run.take(&found.iter().map(|kept| kept.encoded()).collect::<Vec<_>>())?,
                    None => break prompt,
                }
            };
            let source = source()?;
            let plan = source.load()?;
            cache.is_of(&plan.program)?;
            let kernels = kernels(&plan.program, args.run.kernel.as_deref())?;
            let how = How {
                plan: &plan,
                kernels,
                threads: args.run.threads,
                no_pad: args.pad.no_pad,
                reading: &reading,
            };
            how.with_engine(args.negative.is_some(), |engine| {
                let mut engine = Cached { cache: &mut cache, engine };
                run.next(&mut engine, &missed)?;
                run.all(&mut engine, &mut prompts)
            })
        };
        work().map_err(|failure| run.missing(failure))
    }

    /// Takes named embeddings out of a pack.
    fn by_names(self, path: &Path, pack: &[u8]) -> Outcome {
        let Job { args, targets, inputs, mut prompts, .. } = self;
        args.suit_a_pack(path)?;
        let mut engine = FromPack::load(path, pack)?;
        let mut run = Run::begin(args, None, targets, inputs, engine.about(), prompts.total())?;
        run.all(&mut engine, &mut prompts).map_err(|failure| run.missing(failure))
    }
}

/// Whether prompts that are known beforehand have the same number of tokens.
fn one_length(plan: &Program<'_>, prompts: &[String], negative: Option<&str>) -> Outcome {
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
