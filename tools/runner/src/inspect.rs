//! `inspect`: what a plan is, where its bytes go, what RAM it needs.

use std::path::Path;

#[cfg(feature = "pictures")]
use cliptext::ImagePlan;
use cliptext::pack::Dtype;
use cliptext::plan::TowerInfo;
use cliptext::{Graph, MAX_SEQUENCES, Pack, Plan};

use crate::describe::{describe, grouped, kind};
use crate::failure::{Outcome, work};
use crate::plan::{Access, Source};
use crate::prompts::shown;

/// Prints what is in the plan or pack at `path`, or in the built-in plan; each of its steps if `all_steps`.
pub(crate) fn inspect(path: Option<&Path>, all_steps: bool, access: Access) -> Outcome {
    let source = Source::open(path, access)?;
    if let Some(path) = path.filter(|_| Pack::is_one(source.bytes())) {
        return list(path, source.bytes());
    }
    #[cfg(feature = "pictures")]
    match source.holds() {
        (false, _) => return inspect_image(&source.load_image()?, all_steps),
        (true, true) => {
            inspect_text(&source.load()?, all_steps)?;
            sayln!("");
            return inspect_image(&source.load_image()?, all_steps);
        }
        (true, false) => {}
    }
    inspect_text(&source.load()?, all_steps)
}

/// Prints what is in the image encoder's plan at `path`, which a text encoder's may stand before.
#[cfg(feature = "pictures")]
pub(crate) fn image(path: Option<&Path>, all_steps: bool, access: Access) -> Outcome {
    inspect_image(&Source::open(path, access)?.load_image()?, all_steps)
}

/// Prints what is in a text encoder's plan.
fn inspect_text(plan: &Plan<'_>, all_steps: bool) -> Outcome {
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
    if plan.keeps_rows() {
        sayln!(
            "            of a prompt that begins as the one before only the rest is computed (--prefix-cache)"
        );
    }
    sayln!("vocabulary  {} bytes", plan.vocabulary_bytes());
    tell_steps(plan, all_steps)
}

/// Prints what is in an image encoder's plan.
#[cfg(feature = "pictures")]
fn inspect_image(plan: &ImagePlan<'_>, all_steps: bool) -> Outcome {
    let (manifest, grid) = (plan.manifest(), plan.grid());
    sayln!("plan        {} bytes, made by {} from {}", plan.file_bytes(), manifest.producer, manifest.source);
    sayln!("hash        {}", plan.hash());
    sayln!(
        "image       {0} x {0} pixels in {1} patches of {2} x {2}",
        grid.side,
        grid.tokens() - 1,
        grid.patch
    );
    let layers = plan.steps().map(|step| step.role.layer).max().unwrap_or(0);
    sayln!("tower       {layers} layers, width {}", plan.width());
    sayln!("weights     {} ({})", manifest.packing, manifest.packing.option());
    if let Some(rows) = manifest.pooled {
        let projected = if plan.is_projected() { ", projected" } else { "" };
        sayln!("embedding   [{}] f32 per image{projected}", rows.columns);
    }
    if let Some(scale) = manifest.logit_scale {
        sayln!("logit scale {scale}");
    }
    sayln!("arena       {} bytes of RAM for an image", plan.arena_bytes(1));
    tell_steps(plan, all_steps)
}

/// Prints what a plan computes, and by which kernels.
fn tell_steps(plan: &Graph<'_>, all_steps: bool) -> Outcome {
    sayln!("constants   {} bytes", plan.constant_bytes());
    match plan.kernels() {
        Ok(kernels) => sayln!("kernel      {} on this CPU", kernels.name()),
        Err(error) => sayln!("kernel      none on this CPU: {error}"),
    }
    if all_steps {
        sayln!("steps");
        for (index, step) in plan.steps().enumerate() {
            sayln!("  {index:>3}  {}  {} bytes", describe(&step), step.constant_bytes().unwrap_or_default());
        }
        return Ok(());
    }
    sayln!("steps       {}, by kind (--steps: each)", plan.step_count());
    for (kind, steps) in grouped(plan.steps().map(|step| (kind(&step), step))) {
        let bytes: u64 = steps.iter().filter_map(|step| step.constant_bytes()).sum();
        sayln!("  {:>3} ×  {kind}  {bytes} bytes", steps.len());
    }
    Ok(())
}

/// Prints what is in the pack at `path`: a line for each entry.
fn list(path: &Path, bytes: &[u8]) -> Outcome {
    let pack = Pack::load(bytes).map_err(|error| work(path.display(), error))?;
    let manifest = pack.manifest();
    sayln!("pack        {} bytes, made by {} from {}", bytes.len(), manifest.producer, manifest.source);
    sayln!("plan        {}", manifest.plan_hash());
    let numbers = match manifest.dtype {
        Dtype::F32 => "f32",
        Dtype::F16 => "f16",
    };
    sayln!("hidden      [tokens, {}] {numbers}", pack.width());
    match manifest.pooled {
        0 => sayln!("pooled      none"),
        columns => sayln!("pooled      [{columns}] {numbers}"),
    }
    sayln!("entries     {}", pack.len());
    for entry in pack.entries() {
        let options = match entry.options() {
            "" => String::new(),
            options => format!(", {options}"),
        };
        let cut = if entry.dropped().is_some() { ", cut" } else { "" };
        sayln!("  {:?}: {} tokens{options}{cut}: {}", entry.name(), entry.tokens(), shown(entry.prompt()));
    }
    Ok(())
}
