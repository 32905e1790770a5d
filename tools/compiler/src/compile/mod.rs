//! `cliptext compile`: a model's file to a plan's file.

pub mod check;
mod gate;
pub mod inspect;
pub mod prepare;
pub mod report;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use cliptext::AlignedBytes;
use cliptext::tokenizer::Padding;

use crate::backend::emit::{self, Emitted, Precision};
use crate::backend::lower;
use crate::backend::target::Target;
use crate::compile::prepare::{Prepared, Spec};
use crate::compile::report::Report;
use crate::ir::Pooled;
use crate::output;
use crate::preset::Choice;
use crate::progress::Progress;
use crate::prompts::evaluation;
use crate::quantize::{self, Quantized};
use crate::source::Tower;
use crate::verify;
use crate::verify::trial::{self, Reference};
use crate::vocabulary::{self, VocabularySource, VocabularyTable};

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
    /// Whether to write the plan however far from the f32 model it is.
    pub force: bool,
    /// Whether to find out, too, where the error arises: by layer, position, prompt and channel.
    pub full_report: bool,
}

/// Tokens of nearly every CLIP.
const USUAL_CONTEXT: usize = 77;

/// Compiles, writes the plan and measures it.
///
/// # Errors
/// What is wrong with the model, the vocabulary or the way the two fit; nothing is written then.
pub fn compile(job: &Job, progress: &Progress) -> Result<Report> {
    output::check(&job.plan)?;
    let (source, choice) = job.model.open(progress)?;
    let towers = job.model.select(&source, &choice)?;
    let mut vocabularies = progress.stage("vocabulary", || vocabularies(job, &towers))?;
    let mut told: Vec<&String> = vocabularies.iter().flat_map(|table| &table.notes).collect();
    told.dedup();
    told.into_iter().for_each(|note| progress.note(note));
    let mut prepared = job.model.prepare_all(&towers, &choice, progress)?;
    let words = &prepared[0].words;
    if !words.is_empty() {
        let source = vocabulary_source(job, towers[0]);
        vocabularies[0] = progress.stage("new words", || vocabulary::build(source, words))?;
    }
    for tower in &prepared {
        fits(tower, &vocabularies[0]).with_context(|| job.model.name.clone())?;
        let (rows, words) = (tower.model.token_embedding.rows, vocabularies[0].size);
        if rows > words {
            progress.note(&format!(
                "{}: the token embedding has {rows} rows, the vocabulary {words} words: the last {} rows belong to no word. If \
                 words were added to the model, give the tokenizer that names them with --vocab",
                tower.name,
                rows - words
            ));
        }
        let context = tower.model.context();
        if context != USUAL_CONTEXT && choice.context.is_none() {
            progress.note(&format!(
                "the model takes {context} tokens, not {USUAL_CONTEXT}: if it is an export and the model has more positions, \
                 export it for all of them"
            ));
        }
    }
    let paddings = paddings(&choice, &prepared, &vocabularies);
    for padding in &paddings {
        if let Padding::Id(id) = *padding {
            let size = vocabularies[0].size;
            ensure!(
                (id as usize) < size,
                "{}: padding with the id {id} (--pad) is wanted, the vocabulary has {size} ids",
                job.model.name
            );
        }
    }
    let full = || progress.stage("build the f32 reference", || full_references(&prepared));
    let full = job.full_report.then(full).transpose()?;
    let found = match job.precision {
        Precision::Int8 => quantized(job, &mut prepared, &paddings, &vocabularies[0], progress)?,
        Precision::F32 => prepared.iter().map(|_| None).collect(),
    };
    for tower in &prepared {
        check::finite(&tower.model).with_context(|| format!("{}, ready to be packed", tower.name))?;
    }
    let plan_for = |target| plan_for(job, target, &prepared, &found, &paddings, &vocabularies[0]);
    let emitted = progress.stage("pack, lay out", || plan_for(job.target))?;
    // A plan for another kind of CPU runs here by the slow reference only; its numbers are those of one for this CPU.
    let stand_in = (job.target != Target::default())
        .then(|| {
            let ours = plan_for(Target::default())?;
            trial::agree(&ours, &emitted)?;
            anyhow::Ok(ours)
        })
        .transpose()?;
    let towers: Vec<report::Tower> =
        prepared.iter().zip(&paddings).map(|(tower, padding)| report::Tower::new(tower, *padding)).collect();
    // The models are the largest thing in memory, and no longer needed.
    let references: Vec<Reference> = prepared
        .into_iter()
        .zip(paddings)
        .map(|(tower, padding)| Reference { run: tower.run, padding })
        .collect();
    let measured = progress.stage("measure against f32", || {
        trial::measure(stand_in.as_ref().unwrap_or(&emitted), &references)
    })?;
    let towers: Vec<report::Tower> =
        towers.into_iter().zip(measured).map(|(tower, closeness)| tower.measured(closeness)).collect();
    gate::quality(&towers, job.force, |warning| progress.note(warning))?;
    let verification = full
        .map(|full| {
            let plan = AlignedBytes::copy_of(&stand_in.as_ref().unwrap_or(&emitted).bytes);
            verify::verify(&plan, &full, &evaluation(), None, progress)
        })
        .transpose()?;
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
        bytes: (&emitted).into(),
        prompts: trial::PROMPTS,
        verification,
        smoothed: found.into_iter().map(|found| found.map_or(vec![], |found| found.smoothed)).collect(),
        seconds: progress.seconds(),
    })
}

/// References with every hidden state, made before quantizing changes the models.
fn full_references(prepared: &[Prepared]) -> Result<Vec<verify::Reference>> {
    prepared.iter().map(|tower| verify::Reference::new(tower.model.clone(), &tower.outputs)).collect()
}

fn vocabulary_source(job: &Job, tower: &Tower) -> VocabularySource {
    match job.vocabulary.as_ref().or(tower.tokenizer.as_ref()) {
        Some(path) => VocabularySource::Path(path.clone()),
        None => VocabularySource::Standard,
    }
}

/// The vocabulary of each tower: all must have the same words, since a prompt is tokenized once; the padding is each
/// tower's own.
fn vocabularies(job: &Job, towers: &[&Tower]) -> Result<Vec<VocabularyTable>> {
    let mut built: Vec<VocabularyTable> = Vec::new();
    for tower in towers {
        let table = vocabulary::build(vocabulary_source(job, tower), &[])?;
        if let Some(first) = built.first() {
            ensure!(
                first.same_words(&table),
                "{}: its tokenizer has other words than that of {}: one prompt can't be tokenized for both",
                tower.name,
                towers[0].name
            );
        }
        built.push(table);
    }
    Ok(built)
}

/// What fills each tower's context: as the user says, else as its tokenizer says, else as the family has it.
fn paddings(choice: &Choice, towers: &[Prepared], vocabularies: &[VocabularyTable]) -> Vec<Padding> {
    let one = |(tower, vocabulary): (&Prepared, &VocabularyTable)| {
        let tokenizers = vocabulary.pad_id.map(|id| match id {
            end if end == vocabulary.end_id => Padding::End,
            other => Padding::Id(other),
        });
        choice.padding.or(tokenizers).or(tower.padding).unwrap_or(Padding::End)
    };
    towers.iter().zip(vocabularies).map(one).collect()
}

/// Whether model and vocabulary belong together.
fn fits(tower: &Prepared, vocabulary: &VocabularyTable) -> Result<()> {
    let rows = tower.model.token_embedding.rows;
    ensure!(
        vocabulary.size <= rows,
        "the vocabulary has {} ids, the model's token embedding {rows} rows: give the model's own with --vocab",
        vocabulary.size
    );
    let (pools, ends) = (tower.outputs.end_token, vocabulary.end_id);
    if tower.outputs.pooled != Pooled::None && pools != ends {
        bail!(
            "the model pools at token {pools}, the vocabulary's end token is {ends}: give the model's own with --vocab"
        );
    }
    Ok(())
}

/// Quantizes each tower's weights; returns what the plan is to know of each.
fn quantized(
    job: &Job,
    prepared: &mut [Prepared],
    paddings: &[Padding],
    vocabulary: &VocabularyTable,
    progress: &Progress,
) -> Result<Vec<Option<Quantized>>> {
    let one = |(tower, &padding): (&mut Prepared, &Padding)| {
        progress.counted("quantize", |told| {
            let (model, outputs) = (&mut tower.model, &tower.outputs);
            job.quantize.quantize(model, outputs, vocabulary, padding, told).map(Some)
        })
    };
    prepared.iter_mut().zip(paddings).map(one).collect()
}

fn plan_for(
    job: &Job,
    target: Target,
    prepared: &[Prepared],
    found: &[Option<Quantized>],
    paddings: &[Padding],
    vocabulary: &VocabularyTable,
) -> Result<Emitted> {
    let towers: Vec<lower::Tower<'_>> = prepared
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
    let logit_scale = prepared.iter().find_map(|tower| tower.logit_scale);
    let options =
        emit::Options { precision: job.precision, target, logit_scale, source: job.model.name.clone() };
    emit::emit(&towers, &vocabulary.bytes, &options)
}
