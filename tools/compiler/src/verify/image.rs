//! An image plan's outputs beside the f32 model's.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use cliptext::plan::Op;
use cliptext::threads::{Threads, default_threads};
use cliptext::{AlignedBytes, ImageEncoder, ImagePlan, Kernels};
use serde::Serialize;

use crate::ir::ImageModel;
use crate::pictures;
use crate::progress::Progress;
use crate::tract::run::Computed;
use crate::tract::tower;
use crate::verify::compare::{Comparison, Quality};
use crate::verify::cost::{Cost, RUNS, Times, timed};

/// Made pictures on which a plan is measured; nothing is calibrated on them.
pub const MADE: usize = 8;

/// The number of the first of them.
const MADE_FROM: u64 = 1 << 32;

/// Those pictures, for images of `side` by `side` pixels.
pub fn made(side: usize) -> Vec<Vec<u8>> {
    pictures::made(MADE_FROM, MADE, side)
}

/// Loads a plan and does `work` with an encoder on all threads: by the fastest kernels, or the scalar ones where none fits.
///
/// # Errors
/// Those of `work`, and when the plan does not load.
pub fn with_encoder<R>(
    bytes: &[u8],
    work: impl FnOnce(&ImagePlan<'_>, &mut ImageEncoder<'_, &Threads>) -> Result<R>,
) -> Result<R> {
    let plan = ImagePlan::load(bytes).context("the plan does not load")?;
    let kernels = plan.kernels().or_else(|_| Kernels::named("scalar"))?;
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let team = Threads::start(default_threads())?;
    let mut encoder = ImageEncoder::with(&plan, &mut arena, kernels, &team)?;
    work(&plan, &mut encoder)
}

/// Sums over images.
#[derive(Clone, Debug, Default)]
pub struct ImageSums {
    hidden: Comparison,
    pooled: Comparison,
    /// Of each image its embeddings, the plan's and the f32 model's.
    pub embeddings: Vec<[Vec<f32>; 2]>,
    /// Milliseconds that the plan took for each.
    ms: Vec<f64>,
}

impl ImageSums {
    /// Encodes `images` and adds them, beside what the f32 model computes of them.
    ///
    /// # Errors
    /// When an image has another size than the plan's.
    pub fn add(
        &mut self,
        encoder: &mut ImageEncoder<'_, &Threads>,
        images: &[Vec<u8>],
        references: &[Computed],
    ) -> Result<()> {
        for (image, reference) in images.iter().zip(references) {
            let (ms, ours) = timed(|| encoder.encode(image));
            let ours = ours?;
            self.ms.push(ms);
            if let Some(reference) = &reference.hidden {
                self.hidden.add(ours.hidden(), &reference.values, reference.cols);
            }
            if let (Some(ours), Some(reference)) = (ours.pooled(), &reference.pooled) {
                self.pooled.add(ours, reference, reference.len());
                self.embeddings.push([ours.to_vec(), reference.clone()]);
            }
        }
        Ok(())
    }

    /// Of the hidden states.
    pub fn hidden(&self) -> Option<Quality> {
        self.hidden.quality()
    }

    /// Of the embeddings.
    pub fn pooled(&self) -> Option<Quality> {
        self.pooled.quality()
    }
}

/// What a plan is measured on.
#[derive(Clone, Debug)]
pub enum Pictures {
    /// The built-in ones.
    Made,
    /// Files of pictures.
    Files(Vec<PathBuf>),
}

impl Pictures {
    /// How many there are.
    fn count(&self) -> usize {
        match self {
            Pictures::Made => MADE,
            Pictures::Files(files) => files.len(),
        }
    }

    /// So many pictures from number `first` on.
    fn read(&self, first: usize, count: usize, side: usize) -> Result<Vec<Vec<u8>>> {
        match self {
            Pictures::Made => Ok(made(side).split_off(first).into_iter().take(count).collect()),
            Pictures::Files(files) => {
                files[first..first + count].iter().map(|file| pictures::read(file, side)).collect()
            }
        }
    }
}

/// An image plan beside the f32 model that it was made from.
#[derive(Clone, Debug, Serialize)]
pub struct ImageVerification {
    /// The kernels that it ran with.
    pub kernels: &'static str,
    /// Pictures that both encoded.
    pub pictures: usize,
    /// Whether they are the built-in ones.
    pub made: bool,
    /// Hidden states of all rows.
    pub hidden: Quality,
    /// Embeddings.
    pub embedding: Quality,
    /// What encoding one takes.
    pub cost: Cost,
}

/// Bytes of f32 hidden states that are in memory at once.
const PART: usize = 256 << 20;

/// Compares the plan in `bytes` with `model` on `pictures`. Beside the figures: each picture's embeddings, the plan's and the f32 model's.
///
/// # Errors
/// When the plan does not load or is not of this model, a picture can't be read, or tract fails.
pub fn verify(
    bytes: &[u8],
    model: &ImageModel,
    pictures: &Pictures,
    progress: &Progress,
) -> Result<(ImageVerification, Vec<[Vec<f32>; 2]>)> {
    with_encoder(bytes, |plan, encoder| {
        let normalized = same_model(plan, model)?;
        let (count, side) = (pictures.count(), model.side);
        let part = (PART / (model.tokens() * model.width() * size_of::<f32>())).clamp(1, count);
        let mut sums = ImageSums::default();
        let first_ones = pictures.read(0, part.min(RUNS), side)?;
        // The pages of plan and arena are there when the clock starts.
        encoder.encode(&first_ones[0])?;
        progress.counted(&format!("compare on {count} pictures"), |told| {
            for first in (0..count).step_by(part) {
                let images = pictures.read(first, part.min(count - first), side)?;
                sums.add(encoder, &images, &tower::compute_images(model, &images, normalized)?)?;
                told(first + images.len(), count);
            }
            anyhow::Ok(())
        })?;
        let mut ms = std::mem::take(&mut sums.ms);
        for image in first_ones.iter().cycle().take(RUNS.saturating_sub(count)) {
            ms.push(timed(|| encoder.encode(image).map(drop)).0);
        }
        let found = ImageVerification {
            kernels: encoder.kernels().name(),
            pictures: count,
            made: matches!(pictures, Pictures::Made),
            hidden: sums.hidden().context("no pictures to compare on")?,
            embedding: sums.pooled().context("the plan gives out no embedding")?,
            cost: Cost {
                threads: default_threads(),
                times: Times::of(ms),
                arena_bytes: plan.arena_bytes(1),
                plan_bytes: plan.file_bytes(),
            },
        };
        Ok((found, sums.embeddings))
    })
}

/// Whether the plan's sizes are the model's; tells whether the plan's embeddings have length 1.
///
/// # Errors
/// When they are not.
pub fn same_model(plan: &ImagePlan<'_>, model: &ImageModel) -> Result<bool> {
    let grid = plan.grid();
    let layers = plan.steps().map(|step| usize::from(step.role.layer)).max().unwrap_or(0);
    let columns = plan.manifest().pooled.map_or(0, |rows| rows.columns as usize);
    let ours = [grid.side.into(), grid.patch.into(), layers, plan.width(), columns];
    let theirs = [model.side, model.patch, model.layers.len(), model.width(), model.pooled_columns()];
    ensure!(
        ours == theirs && plan.is_projected() == model.projection.is_some(),
        "the plan's image encoder has (side, patch, layers, width, columns) {ours:?}, the model's {theirs:?}: give the model that the plan \
         was compiled from"
    );
    Ok(plan.steps().any(|step| matches!(step.op, Op::Normalize)))
}
