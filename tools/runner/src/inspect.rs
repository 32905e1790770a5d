//! `inspect`: what a plan is, where its bytes go, what RAM it needs.

use std::path::Path;

use cliptext::MAX_SEQUENCES;
use cliptext::plan::TowerInfo;

use crate::describe::describe;
use crate::failure::Outcome;
use crate::plan::{Access, Source};

/// Prints what is in the plan at `path`, or in the built-in one.
pub(crate) fn inspect(path: Option<&Path>, access: Access) -> Outcome {
    let source = Source::open(path, access)?;
    let plan = source.load()?;
    let manifest = plan.manifest();
    sayln!("plan        {} bytes, made by {} from {}", plan.file_bytes(), manifest.producer, manifest.source);
    sayln!("hash        {}", plan.hash());
    for tower in plan.towers() {
        let TowerInfo { layers, width, heads, padding, .. } = tower;
        sayln!("tower       {layers} layers, width {width}, {heads} heads, padding {padding}");
    }
    sayln!("context     {} tokens", plan.context());
    sayln!("weights     {} ({})", manifest.packing, manifest.packing.option());
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
    sayln!(
        "            {} bytes for up to {MAX_SEQUENCES} short texts of {} tokens together in one pass",
        plan.pass_bytes(MAX_SEQUENCES, plan.context()),
        plan.context()
    );
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
