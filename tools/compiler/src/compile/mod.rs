//! `cliptext compile`: a model's file to a plan's file.

pub mod check;
mod gate;
pub mod image;
pub mod inspect;
pub mod load;
pub mod report;
mod tokenization;

use std::path::PathBuf;

use anyhow::{Context, Result};
use cliptext::tokenizer::Padding;
use cliptext::{AlignedBytes, Plan};

use crate::backend::emit::{self, Emitted, Precision};
use crate::backend::lower;
use crate::backend::target::Target;
use crate::compile::load::{LoadedTower, Spec};
use crate::compile::report::{Bytes, Report};
use crate::compile::tokenization::{Vocabularies, fits};
use crate::output;
use crate::progress::Progress;
use crate::prompts::evaluation;
use crate::quantize::{self, Quantized, calibrate};
use crate::verify;
use crate::vocabulary::VocabularyTable;

/// What to compile, and how.
#[derive(Debug)]
pub struct Job {
    /// The model and what is made of it.
    pub model: Spec,
    /// The plan to write.
    pub plan: PathBuf,
    /// The vocabulary's source; `None`: the tokenizer beside the model, else CLIP's own.
    pub vocabulary: Option<PathBuf>,
    /// How weights are stored.
    pub precision: Precision,
    /// How they are quantized, where they are int8.
    pub quantize: quantize::Options,
    /// The kind of CPU that weights are packed for.
    pub target: Target,
    /// Whether the arena keeps the rows that a text has in common with the one before.
    pub prefix_cache: bool,
    /// Whether to write the plan however far from the f32 model it is.
    pub force: bool,
    /// Whether to find out, too, where the error arises: by layer, position, prompt and channel.
    pub full_report: bool,
}

/// Prompts of the [evaluation's](evaluation) on which a plan is measured, where no page is made of it.
const MEASURED_ON: usize = 8;

/// Compiles, measures the plan and writes it.
///
/// # Errors
/// What is wrong with the model, the vocabulary, the way the two fit, or the plan that was made; nothing is written then.
pub fn compile(job: &Job, progress: &Progress) -> Result<Report> {
    output::check(&job.plan)?;
    let (source, choice) = job.model.open(progress)?;
    let towers = job.model.select(&source, &choice)?;
    let mut vocabularies =
        progress.stage("vocabulary", || Vocabularies::read(job.vocabulary.as_deref(), &towers, progress))?;
    let mut loaded = job.model.load_towers(&towers, &choice, progress)?;
    vocabularies.add_words(&loaded, progress)?;
    let vocabulary = vocabularies.table();
    for tower in &loaded {
        fits(tower, vocabulary, &choice, progress).with_context(|| job.model.name.clone())?;
    }
    let paddings = vocabularies.paddings(&choice, &loaded).with_context(|| job.model.name.clone())?;

    let mut prompts = evaluation();
    prompts.truncate(if job.full_report { usize::MAX } else { MEASURED_ON });
    // Before the models are changed; each run of tract is gone before the next one begins.
    let references = progress.stage("run the f32 model by tract", || {
        let one = |(tower, &padding): (&mut LoadedTower, &Padding)| {
            let ids = calibrate::tokens(&prompts, 0, vocabulary, tower.model.context(), padding)?;
            tower.reference(ids, job.full_report)
        };
        loaded.iter_mut().zip(&paddings).map(one).collect::<Result<Vec<_>>>()
    })?;
    let found = match job.precision {
        Precision::Int8 => quantized(job, &mut loaded, &paddings, vocabulary, progress)?,
        Precision::F32 => loaded.iter().map(|_| None).collect(),
    };
    for tower in &loaded {
        check::finite(tower.model.tensors())
            .with_context(|| format!("{}, ready to be packed", tower.name))?;
    }
    let towers: Vec<report::TowerReport> = loaded
        .iter()
        .zip(&paddings)
        .map(|(tower, padding)| report::TowerReport::new(tower, *padding))
        .collect();
    let plan_for = |target| plan_for(job, target, &loaded, &found, &paddings, vocabulary);
    let emitted = progress.stage("pack, lay out", || plan_for(job.target))?;
    // A plan for another kind of CPU runs here by the slow reference only; its numbers are those of one for this CPU.
    let measured = if job.target == Target::default() {
        AlignedBytes::copy_of(&emitted.bytes)
    } else {
        let stand_in = AlignedBytes::copy_of(&plan_for(Target::default())?.bytes);
        verify::agree(&stand_in, &AlignedBytes::copy_of(&emitted.bytes))?;
        stand_in
    };
    let arena = Plan::load(&measured).context("the plan that was made")?.arena_bytes(1);
    // The models are the largest thing in memory, and no longer needed.
    drop(loaded);

    let (figures, verification) = if job.full_report {
        let found = verify::verify(&measured, &references, &prompts, None, progress)?;
        (found.figures.clone(), Some(found))
    } else {
        let figures = || verify::figures(&measured, &references, &prompts);
        (progress.stage("measure against f32", figures)?, None)
    };
    let towers: Vec<report::TowerReport> =
        towers.into_iter().zip(figures.towers).map(|(tower, found)| tower.measured(found)).collect();
    gate::quality(&towers, job.force, |warning| progress.note(warning))?;
    progress.stage("write", || output::write(&job.plan, &emitted.bytes))?;
    Ok(Report {
        model: job.model.name.clone(),
        kind: source.kind,
        preset: choice.preset.map(|preset| preset.to_string()),
        plan: job.plan.display().to_string(),
        precision: match job.precision {
            Precision::Int8 => "int8",
            Precision::F32 => "f32",
        },
        towers,
        bytes: Bytes::of(&emitted, arena),
        prompts: prompts.len(),
        verification,
        smoothed: found.into_iter().map(|found| found.map_or(vec![], |found| found.smoothed)).collect(),
        seconds: progress.seconds(),
    })
}

/// Quantizes each tower's weights; returns what the plan is to know of each.
fn quantized(
    job: &Job,
    loaded: &mut [LoadedTower],
    paddings: &[Padding],
    vocabulary: &VocabularyTable,
    progress: &Progress,
) -> Result<Vec<Option<Quantized>>> {
    let one = |(tower, &padding): (&mut LoadedTower, &Padding)| {
        progress.counted("quantize", |told| {
            let (model, outputs) = (&mut tower.model, &tower.outputs);
            job.quantize.quantize(model, outputs, vocabulary, padding, told).map(Some)
        })
    };
    loaded.iter_mut().zip(paddings).map(one).collect()
}

fn plan_for(
    job: &Job,
    target: Target,
    loaded: &[LoadedTower],
    found: &[Option<Quantized>],
    paddings: &[Padding],
    vocabulary: &VocabularyTable,
) -> Result<Emitted> {
    let towers: Vec<lower::Tower<'_>> = loaded
        .iter()
        .zip(found)
        .zip(paddings)
        .map(|((tower, quantized), &padding)| lower::Tower {
            model: &tower.model,
            outputs: tower.outputs,
            padding,
            quantized: quantized.as_ref(),
        })
        .collect();
    let logit_scale = loaded.iter().find_map(|tower| tower.logit_scale);
    let options = emit::Options {
        precision: job.precision,
        target,
        logit_scale,
        prefix_cache: job.prefix_cache,
        source: job.model.name.clone(),
    };
    emit::emit(&towers, &vocabulary.bytes, &options)
}
