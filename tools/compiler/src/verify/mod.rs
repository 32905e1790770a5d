//! A plan against the f32 model that it was made from, on prompts that nothing was calibrated on: for `cliptext verify`, and
//! for a compile, which measures what it made.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use cliptext::threads::{Solo, Threads, default_threads};
use cliptext::{AlignedBytes, Encoder, Kernels, Plan};

pub mod compare;
pub mod cost;
pub mod decibels;
pub mod figures;
pub mod image;
pub mod job;
pub mod labels;
pub mod measure;
pub mod pairs;
pub mod plans;
pub mod psnr;
pub mod ranking;
pub mod reference;
pub mod steps;
pub mod texts;
pub mod unet;
pub mod verification;
pub mod verified;

use crate::progress::Progress;
use cost::{Cost, RUNS, Times, timed};
use figures::Figures;
use measure::measure;
use reference::Reference;
use steps::steps;
use unet::Unet;
use verification::Verification;

/// Loads a plan and does `work` with an encoder for it: by the fastest kernels, or the scalar ones where none fits.
///
/// # Errors
/// Those of `work`, and when the plan does not load.
fn with_encoder<R>(
    bytes: &[u8],
    work: impl FnOnce(&Plan<'_>, &mut Encoder<'_>, Kernels) -> Result<R>,
) -> Result<R> {
    let plan = Plan::load(bytes).context("the plan does not load")?;
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let kernels = plan.kernels().or_else(|_| Kernels::named("scalar"))?;
    let mut encoder = Encoder::with(&plan, &mut arena, kernels, Solo)?;
    work(&plan, &mut encoder, kernels)
}

/// Compares the plan in `bytes` with `references`, one for each of its towers, which answered `prompts`; with a UNet if
/// there is one.
///
/// # Errors
/// When the plan does not load or is not of these towers, or tract fails.
pub fn verify(
    bytes: &[u8],
    references: &[Reference],
    prompts: &[String],
    unet: Option<&Path>,
    progress: &Progress,
) -> Result<Verification> {
    with_encoder(bytes, |plan, encoder, kernels| {
        let compare = || measure(plan, encoder, references, prompts);
        let measured = progress.stage(&format!("compare on {} prompts", prompts.len()), compare)?;
        let unet = match unet {
            Some(path) => Some(progress.stage("run the UNet with both embeddings", || {
                Unet::load(path, plan.context(), plan.width())?.compare(&measured.embeddings)
            })?),
            None => None,
        };
        Ok(Verification {
            kernels: kernels.name(),
            figures: measured.figures,
            unet,
            steps: steps(plan, encoder),
            cost: progress.stage("time encodings", || cost(plan, kernels, prompts))?,
        })
    })
}

/// What a prompt in the whole context takes, on all threads.
fn cost(plan: &Plan<'_>, kernels: Kernels, prompts: &[String]) -> Result<Cost> {
    let mut arena = AlignedBytes::zeroed(plan.arena_bytes(1));
    let team = Threads::start(default_threads())?;
    let mut encoder = Encoder::with(plan, &mut arena, kernels, &team)?;
    let mut once = |prompt: &String| {
        encoder.forget();
        timed(|| encoder.encode(prompt).width()).0
    };
    // The pages of plan and arena are there when the clock starts.
    prompts.iter().take(1).for_each(|prompt| {
        once(prompt);
    });
    let ms = prompts.iter().cycle().take(RUNS).map(once).collect();
    let (times, plan_bytes) = (Times::of(ms), plan.file_bytes());
    Ok(Cost { threads: default_threads(), times, arena_bytes: plan.arena_bytes(1), plan_bytes })
}

/// The distances alone.
///
/// # Errors
/// As [`verify`].
pub fn figures(bytes: &[u8], references: &[Reference], prompts: &[String]) -> Result<Figures> {
    with_encoder(bytes, |plan, encoder, _| Ok(measure(plan, encoder, references, prompts)?.figures))
}

/// Finds two plans of the same model, for two targets, to say the same.
///
/// # Errors
/// When they don't, or one does not load.
pub fn agree(one: &[u8], other: &[u8]) -> Result<()> {
    let short = |bytes: &[u8]| {
        with_encoder(bytes, |_, encoder, _| Ok(encoder.encode_unpadded("a running dog").hidden().to_vec()))
    };
    ensure!(short(one)? == short(other)?, "the plans for two targets differ: a bug in the packing");
    Ok(())
}
