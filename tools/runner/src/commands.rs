//! What commands set up, and `inspect`.

use std::fmt::Write as _;
use std::path::Path;

use cliptext::kernels::Activation;
use cliptext::plan::{Op, Step, TowerInfo};
use cliptext::threads::{Threads, default_threads};
use cliptext::{EncoderError, Kernels, Plan};

use crate::failure::{Failure, Outcome, work};
use crate::packing::{advice, compiled_with};
use crate::plan::{Access, Source};

/// A team of so many threads, or of as many as this machine has use for.
pub(crate) fn team(threads: Option<usize>) -> Outcome<Threads> {
    let threads = threads.unwrap_or_else(default_threads);
    Threads::start(threads).map_err(|error| work(format_args!("starting {threads} threads"), error))
}

/// An encoder that can't be made or used.
pub(crate) fn cannot_encode(error: EncoderError) -> Failure {
    Failure::Work(match error {
        EncoderError::Packing(error) => advice(error),
        error => error.to_string(),
    })
}

/// The kernels called `name`, or the fastest for the plan.
pub(crate) fn kernels(plan: &Plan<'_>, name: Option<&str>) -> Outcome<Kernels> {
    let Some(name) = name else {
        return plan.kernels().map_err(|error| Failure::Work(advice(error)));
    };
    Kernels::named(name).map_err(|error| {
        let names: Vec<_> = Kernels::available().map(Kernels::name).collect();
        Failure::Usage(format!("--kernel {name}: {error}; this CPU runs {}", names.join(", ")))
    })
}

/// `inspect`: what a plan is, where its bytes go, what RAM it needs.
pub(crate) fn inspect(path: Option<&Path>, access: Access) -> Outcome {
    let source = Source::open(path, access)?;
    let plan = source.load()?;
    let manifest = plan.manifest();
    sayln!("plan        {} bytes, made by {} from {}", plan.file_bytes(), manifest.producer, manifest.source);
    for tower in plan.towers() {
        let TowerInfo { layers, width, heads, padding, .. } = tower;
        sayln!("tower       {layers} layers, width {width}, {heads} heads, padding {padding}");
    }
    sayln!("context     {} tokens", plan.context());
    sayln!("weights     {} ({})", manifest.packing, compiled_with(manifest.packing));
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
    sayln!("vocabulary  {} bytes", plan.vocabulary_bytes());
    sayln!("constants   {} bytes", plan.constant_bytes());
    match plan.kernels() {
        Ok(kernels) => sayln!("kernel      {} on this CPU", kernels.name()),
        Err(error) => sayln!("kernel      none on this CPU: {}", advice(error)),
    }
    sayln!("steps");
    for (index, step) in plan.steps().enumerate() {
        sayln!("  {index:>3}  {}  {} bytes", describe(&step), step.constant_bytes().unwrap_or_default());
    }
    Ok(())
}

/// A step in a few words: its layer, what it does, the columns that it reads and writes.
pub(crate) fn describe(step: &Step) -> String {
    let layer = match step.role.layer {
        0 => String::new(),
        layer => layer.to_string(),
    };
    let mut out = format!("{}.{layer:<3} {:<17}", step.role.tower + 1, step.name());
    let reads: Vec<String> = step.reads().map(|place| place.columns.to_string()).collect();
    match (step.op, step.input) {
        (Op::Embed(embed), _) => {
            let _ = write!(out, " {} tokens × {}", embed.vocabulary, step.out.columns);
        }
        (_, Some(input)) if input == step.out => {
            let _ = write!(out, " {}", step.out.columns);
        }
        _ => {
            let _ = write!(out, " {} → {}", reads.join(" + "), step.out.columns);
        }
    }
    match step.op {
        Op::Linear { activation, .. } if activation != Activation::Identity => {
            let _ = write!(out, ", {activation:?}");
        }
        Op::Attention { heads, .. } => {
            let _ = write!(out, ", {heads} heads");
        }
        Op::CachedRow { token } => {
            let _ = write!(out, ", token {token}");
        }
        _ => {}
    }
    out
}
