//! `cliptext compile --image`: a model's image tower to a plan's file.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use cliptext::AlignedBytes;
use serde::Serialize;

use crate::backend::emit::{self, Emitted, Options, Precision};
use crate::backend::target::Target;
use crate::compile::check;
use crate::compile::gate;
use crate::compile::report::Bytes;
use crate::ir::Activation;
use crate::output;
use crate::pictures;
use crate::progress::Progress;
use crate::quantize::{Recipe, quantize_image};
use crate::source::image::{self, Exported, ImageTower};
use crate::tract::tower;
use crate::verify::compare::Quality;
use crate::verify::image::{self as verify, ImageSums};

/// What to compile, and how.
#[derive(Debug)]
pub struct ImageJob {
    /// A file or folder.
    pub model: PathBuf,
    /// What the user called it.
    pub name: String,
    /// The activation of the layers, if the user says it.
    pub activation: Option<Activation>,
    /// Whether embeddings are divided by their length; `None`: as the model's own class gives them out.
    pub normalize: Option<bool>,
    /// The plan to write.
    pub plan: PathBuf,
    /// How weights are stored.
    pub precision: Precision,
    /// How they are quantized, where they are int8.
    pub recipe: Recipe,
    /// A folder of pictures to calibrate on; `None`: built-in ones.
    pub calibrate: Option<PathBuf>,
    /// The kind of CPU that weights are packed for.
    pub target: Target,
    /// Whether to write the plan however far from the f32 model it is.
    pub force: bool,
}

/// Pictures to calibrate on, at least.
const LEAST_PICTURES: usize = 8;

/// Rows of a prompt's calibration, of which pictures have as many together: by which large ones are fewer.
const ROWS: usize = 77;

/// Compiles, measures the plan and writes it.
///
/// # Errors
/// What is wrong with the model or the plan that was made; nothing is written then.
pub fn compile(job: &ImageJob, progress: &Progress) -> Result<ImageReport> {
    output::check(&job.plan)?;
    let opened = progress.stage("read", || image::open(&job.model, job.activation, progress))?;
    let ImageTower { mut model, kind, normalizes, logit_scale, notes, exported } = opened;
    notes.iter().for_each(|note| progress.note(note));
    let normalized = job.normalize.unwrap_or(normalizes);
    check::finite(model.tensors()).with_context(|| job.name.clone())?;
    if let Some(Exported { run, colours, normalized }) = exported {
        let checked = || check::recognised_image(&model, normalized, colours, &run);
        progress.stage("check against tract's f32 run", checked).with_context(|| job.name.clone())?;
    }

    let measured_on = verify::made(model.side);
    let references = progress
        .stage("run the f32 model by tract", || tower::compute_images(&model, &measured_on, normalized))?;
    let calibrated_on = match job.precision {
        Precision::F32 => 0,
        Precision::Int8 => {
            let Recipe { prompts, joined, .. } = job.recipe;
            let count = ((prompts + joined) * ROWS).div_ceil(model.tokens()).max(LEAST_PICTURES);
            let images = match &job.calibrate {
                None => pictures::made(0, count, model.side),
                Some(folder) => {
                    let (images, given) = pictures::in_folder(folder, count, model.side)?;
                    if given > images.len() {
                        progress.note(&format!(
                            "{}: calibrates on {} of its {given} pictures, evenly chosen: no more are used at this quality",
                            folder.display(),
                            images.len()
                        ));
                    }
                    images
                }
            };
            let layers = model.layers.len();
            progress.counted("quantize", |told| {
                quantize_image(&mut model, &images, &job.recipe, |done| told(done, layers))
            })?;
            images.len()
        }
    };
    check::finite(model.tensors()).with_context(|| format!("{}, ready to be packed", job.name))?;
    let plan_for = |target| {
        let options = Options {
            precision: job.precision,
            target,
            logit_scale,
            prefix_cache: false,
            source: job.name.clone(),
        };
        emit::emit_image(&model, normalized, &options)
    };
    let emitted = progress.stage("pack, lay out", || plan_for(job.target))?;
    let measure = |emitted: &Emitted, images: &[Vec<u8>]| {
        let bytes = AlignedBytes::copy_of(&emitted.bytes);
        let measured = || {
            verify::with_encoder(&bytes, |plan, encoder| {
                let mut sums = ImageSums::default();
                sums.add(encoder, images, &references)?;
                Ok((sums, plan.arena_bytes(1)))
            })
        };
        progress.stage("measure against f32", measured)
    };
    // A plan for another kind of CPU runs here by the slow reference only; its numbers are those of one for this CPU.
    let (found, arena) = if job.target == Target::default() {
        measure(&emitted, &measured_on)?
    } else {
        let stand_in = measure(&plan_for(Target::default())?, &measured_on)?;
        let (first, _) = measure(&emitted, &measured_on[..1])?;
        ensure!(
            stand_in.0.embeddings[..1] == first.embeddings[..],
            "the plans for two targets differ: a bug in the packing"
        );
        stand_in
    };
    const TRY: &str = "try --quality best, pictures of your own with --calibrate, or --precision f32";
    for (what, quality) in [("hidden states", found.hidden()), ("embedding", found.pooled())] {
        let what = format!("{}, {what}", job.name);
        gate::output(&what, quality, TRY, job.force, |warning| progress.note(warning))?;
    }
    progress.stage("write", || output::write(&job.plan, &emitted.bytes))?;
    Ok(ImageReport {
        model: job.name.clone(),
        kind,
        plan: job.plan.display().to_string(),
        precision: match job.precision {
            Precision::Int8 => "int8",
            Precision::F32 => "f32",
        },
        side: model.side,
        patch: model.patch,
        layers: model.layers.len(),
        width: model.width(),
        heads: model.heads,
        tokens: model.tokens(),
        pooled: model.pooled_columns(),
        projected: model.projection.is_some(),
        normalized,
        calibrated_on,
        measured_on: measured_on.len(),
        hidden_quality: found.hidden(),
        pooled_quality: found.pooled(),
        bytes: Bytes::of(&emitted, arena),
        seconds: progress.seconds(),
    })
}

/// Everything that a compile has to tell.
#[derive(Clone, Debug, Serialize)]
pub struct ImageReport {
    /// The model, as the user named it.
    pub model: String,
    /// What was found there.
    pub kind: &'static str,
    /// The plan's file.
    pub plan: String,
    /// How weights are stored.
    pub precision: &'static str,
    /// Pixels of a side of the images.
    pub side: usize,
    /// Pixels of a side of a patch.
    pub patch: usize,
    /// Layers.
    pub layers: usize,
    /// Width of the hidden states.
    pub width: usize,
    /// Heads in each layer.
    pub heads: usize,
    /// Rows of an image: the class token's and one for each patch.
    pub tokens: usize,
    /// Columns of the embedding.
    pub pooled: usize,
    /// Whether it is projected into the space of the texts.
    pub projected: bool,
    /// Whether it is divided by its length.
    pub normalized: bool,
    /// Pictures that the weights were calibrated on.
    pub calibrated_on: usize,
    /// Built-in pictures on which the plan was compared with tract's f32 run.
    pub measured_on: usize,
    /// Hidden states against f32.
    pub hidden_quality: Option<Quality>,
    /// The embedding against f32.
    pub pooled_quality: Option<Quality>,
    /// Bytes of the plan and its parts.
    pub bytes: Bytes,
    /// Seconds from start to end.
    pub seconds: f64,
}

impl fmt::Display for ImageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { side, patch, layers, width, heads, tokens, pooled, .. } = self;
        writeln!(f, "{} from {}, {}", self.plan, self.model, self.kind)?;
        writeln!(
            f,
            "  image       {side} x {side} pixels in patches of {patch}: {layers} layers, width {width}, {heads} heads"
        )?;
        writeln!(f, "    hidden    [{tokens}, {width}], of the last layer, without the norm")?;
        let projected = if self.projected { ", projected" } else { "" };
        let normalized = if self.normalized { ", length 1" } else { "" };
        writeln!(f, "    embedding [{pooled}]{projected}{normalized}")?;
        for (what, quality) in [("hidden", self.hidden_quality), ("embedding", self.pooled_quality)] {
            let Some(Quality { cosine_mean, cosine_min, sqnr_db }) = quality else { continue };
            writeln!(
                f,
                "    {what}, against f32 on {} built-in pictures: cosine mean {cosine_mean:.5}, min {cosine_min:.5}; SQNR \
                 {sqnr_db:.1} dB",
                self.measured_on
            )?;
        }
        let mb = |bytes: usize| bytes as f64 / 1e6;
        let bytes = &self.bytes;
        writeln!(f, "  plan        {:>9.2} MB ({} weights)", mb(bytes.plan), self.precision)?;
        writeln!(f, "    weights   {:>9.2} MB", mb(bytes.weights))?;
        writeln!(f, "    tables    {:>9.2} MB positions", mb(bytes.embeddings))?;
        writeln!(f, "    norms     {:>9.2} MB", mb(bytes.norms))?;
        writeln!(f, "  arena       {:>9.2} MB of RAM for an image", mb(bytes.arena))?;
        write!(f, "  {:.1} s", self.seconds)
    }
}
