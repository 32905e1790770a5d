//! `cliptext compile`: a model's file to a plan's file.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use cliptext::threads::Solo;
use cliptext::tokenizer::Padding;
use cliptext::{Encoder, Kernels, Plan, align_arena};

use crate::emit::{self, Emitted, Precision};
use crate::f32_run::F32Run;
use crate::import::onnx;
use crate::ir::Pooled;
use crate::measure::Comparison;
use crate::progress::Progress;
use crate::recognise::{Recognised, recognise};
use crate::reference::check;
use crate::report::{Measured, Report, Tower};
use crate::source;
use crate::target::Target;
use crate::vocabulary::{self, VocabularySource, VocabularyTable};

/// What to compile, and how.
#[derive(Clone, Debug)]
pub struct Job {
    /// The model: a path, or a name on the hub.
    pub model: PathBuf,
    /// The plan to write.
    pub plan: PathBuf,
    /// The vocabulary's source.
    pub vocabulary: VocabularySource,
    /// How weights are stored.
    pub precision: Precision,
    /// The kind of CPU that weights are packed for.
    pub target: Target,
    /// What fills the context; `None`: what the vocabulary's source says, else the end token.
    pub padding: Option<Padding>,
}

/// Tokens of nearly every CLIP.
const USUAL_CONTEXT: usize = 77;

/// What the plan is compared with the f32 model on.
pub const PROMPTS: [&str; 8] = [
    "",
    "a running dog",
    "a photo of an astronaut riding a horse on mars",
    "watercolor painting of a fox in an autumn forest, soft light, highly detailed",
    "portrait of an old fisherman, 85mm, f/1.8, shallow depth of field, film grain",
    "isometric voxel art of a tiny village at night with glowing windows and falling snow, trending on artstation",
    "low quality, worst quality, blurry, jpeg artifacts, watermark, text, signature, extra fingers, deformed hands",
    "the inside of a vast library carved into a cliff, shelves up to the clouds, a single reader on a rope bridge, \
     golden hour light through high windows, dust in the air, wide angle, matte painting, intricate details, \
     muted colours, volumetric light, by a quiet master of architecture and weather, 8k, unreal engine render",
];

/// Compiles, writes the plan and measures it.
///
/// # Errors
/// What is wrong with the model, the vocabulary or the way the two fit; nothing is written then.
pub fn compile(job: &Job, progress: &Progress) -> Result<Report> {
    let folder = job.plan.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        ensure!(folder.is_dir(), "{}: there is no folder {}", job.plan.display(), folder.display());
    }
    let model = source::local(&job.model, progress)?;
    let vocabulary = progress.stage("vocabulary", || vocabulary::build(job.vocabulary.clone()))?;
    let imported = progress.stage("import: load, type, fold, declutter", || onnx::load(&model))?;
    let recognised = progress
        .stage("recognise", || recognise(&imported.model))
        .with_context(|| format!("{}: not a CLIP text encoder that can be compiled", job.model.display()))?;
    fits(&recognised, &vocabulary).with_context(|| job.model.display().to_string())?;
    let tower = tower(&recognised);
    if tower.context != USUAL_CONTEXT {
        progress.note(&format!(
            "the graph takes {} tokens, not {USUAL_CONTEXT}: if the model has more positions, export it for all of them",
            tower.context
        ));
    }
    let run = progress.stage("check against tract's f32 run", || {
        let run = F32Run::new(imported, &recognised)?;
        check(&recognised.model, &recognised.outputs, &run)?;
        anyhow::Ok(run)
    })?;
    let emitted =
        progress.stage("quantize, pack, lay out", || emitted(job, job.target, &recognised, &vocabulary))?;
    // A plan for another kind of CPU runs here by the slow reference only; its numbers are those of one for this CPU.
    let stand_in = (job.target != Target::default())
        .then(|| emitted_for_here(job, &recognised, &vocabulary, &emitted))
        .transpose()?;
    // The largest thing in memory, and no longer needed.
    drop(recognised);
    let quality =
        progress.stage("measure against f32", || measure(stand_in.as_ref().unwrap_or(&emitted), &run))?;
    progress.stage("write", || emit::write(&job.plan, &emitted.bytes))?;
    let name = |path: &PathBuf| path.display().to_string();
    Ok(Report {
        model: name(&job.model),
        plan: name(&job.plan),
        precision: match job.precision {
            Precision::Int8 => "int8",
            Precision::F32 => "f32",
        },
        tower,
        bytes: (&emitted).into(),
        quality,
        seconds: progress.seconds(),
    })
}

/// Whether model and vocabulary belong together.
fn fits(recognised: &Recognised, vocabulary: &VocabularyTable) -> Result<()> {
    let rows = recognised.model.token_embedding.rows;
    ensure!(
        vocabulary.size <= rows,
        "the vocabulary has {} ids, the model's token embedding {rows} rows: give the model's own with --vocab",
        vocabulary.size
    );
    let (pools, ends) = (recognised.outputs.end_token, vocabulary.end_id);
    if recognised.outputs.pooled != Pooled::None && pools != ends {
        bail!(
            "the model pools at token {pools}, the vocabulary's end token is {ends}: give the model's own with --vocab"
        );
    }
    Ok(())
}

fn tower(recognised: &Recognised) -> Tower {
    let (model, outputs) = (&recognised.model, &recognised.outputs);
    Tower {
        layers: model.layers.len(),
        width: model.width(),
        heads: model.heads,
        context: model.context(),
        vocabulary: model.token_embedding.rows,
        hidden_layer: outputs.hidden_layer,
        hidden_norm: outputs.hidden_norm,
        pooled: match (outputs.pooled, &model.projection) {
            (Pooled::None, _) => None,
            (Pooled::Projected, Some(projection)) => Some(projection.rows),
            _ => Some(model.width()),
        },
    }
}

fn emitted(
    job: &Job,
    target: Target,
    recognised: &Recognised,
    vocabulary: &VocabularyTable,
) -> Result<Emitted> {
    let padding = job.padding.unwrap_or(match vocabulary.pad_id {
        Some(id) if id != vocabulary.end_id => Padding::Id(id),
        _ => Padding::End,
    });
    let source = job.model.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let options = emit::Options { precision: job.precision, target, padding, source };
    let emitted = emit::emit(&recognised.model, &recognised.outputs, &vocabulary.bytes, &options)?;
    Ok(emitted)
}

/// The same plan for the target that this CPU reads, found to say the same as `theirs`.
fn emitted_for_here(
    job: &Job,
    recognised: &Recognised,
    vocabulary: &VocabularyTable,
    theirs: &Emitted,
) -> Result<Emitted> {
    let ours = emitted(job, Target::default(), recognised, vocabulary)?;
    let short = |emitted: &Emitted| -> Result<Vec<f32>> {
        with_encoder(emitted, |encoder| Ok(encoder.encode_unpadded(PROMPTS[1]).hidden().to_vec()))
    };
    ensure!(
        short(&ours)? == short(theirs)?,
        "the plan for --target {} differs from the generic one",
        job.target
    );
    Ok(ours)
}

/// Loads a plan and does `work` with an encoder for it: by the fastest kernels, or the reference where none fits.
fn with_encoder<R>(emitted: &Emitted, work: impl FnOnce(&mut Encoder<'_>) -> Result<R>) -> Result<R> {
    let mut memory = vec![0; emitted.bytes.len() + 63];
    let aligned = align_arena(&mut memory);
    aligned[..emitted.bytes.len()].copy_from_slice(&emitted.bytes);
    let plan = Plan::load(&aligned[..emitted.bytes.len()]).context("the plan that was made does not load")?;
    let mut arena = vec![0; plan.arena_bytes(1) + 63];
    let kernels = plan.kernels().or_else(|_| Kernels::named("scalar"))?;
    work(&mut Encoder::with(&plan, align_arena(&mut arena), kernels, Solo)?)
}

/// The plan's outputs against the reference's, on [`PROMPTS`].
fn measure(emitted: &Emitted, run: &F32Run) -> Result<Measured> {
    with_encoder(emitted, |encoder| measure_with(encoder, run))
}

fn measure_with(encoder: &mut Encoder<'_>, run: &F32Run) -> Result<Measured> {
    let (mut hidden, mut pooled) = (Comparison::default(), Comparison::default());
    for prompt in PROMPTS {
        let ours = encoder.encode(prompt);
        let reference = run.encode(ours.ids())?;
        if let Some(reference) = &reference.hidden {
            hidden.add(ours.hidden(), &reference.values, reference.cols);
        }
        if let (Some(ours), Some(reference)) = (ours.pooled(), &reference.pooled) {
            pooled.add(ours, reference, reference.len());
        }
    }
    Ok(Measured { prompts: PROMPTS.len(), hidden: hidden.quality(), pooled: pooled.quality() })
}
