//! Timed encodings.

use std::hint::black_box;
use std::time::Instant;

use cliptext::plan::{Mask, Op, Step};
use cliptext::threads::{Team, Threads};
use cliptext::{AlignedBytes, Encoder, Kernels, Plan};

use super::report::{Report, Short, StepTime};
use super::subject::{Encodes, Subject};
use super::times::{Times, times};
use super::workload::{NEGATIVE, PROMPT, SHORT_PROMPT};
use super::{labels, machine, typing};
use crate::describe::{describe, kind};
use crate::failure::Outcome;
use crate::setup::cannot_encode;

/// Encodings before the clock starts: pages are mapped, caches and clock rates settle.
const WARM_UP: usize = 3;

/// Encodes `runs` times.
pub(super) fn warm(
    plan: &Subject<'_>,
    kernels: Kernels,
    team: &Threads,
    runs: usize,
    forced: bool,
) -> Outcome<Report> {
    let mut memory = AlignedBytes::zeroed(plan.arena_bytes(1));
    let mut encoder = plan.encoder(&mut memory, kernels, team)?;
    let warm = times(WARM_UP, runs, || encoder.once());
    Ok(Report::new(plan, kernels, forced, team.workers(), warm))
}

/// Steps, what the machine can do, and of texts what else they are encoded for.
pub(super) fn everything_else(
    plan: &Subject<'_>,
    kernels: Kernels,
    team: &Threads,
    runs: usize,
    report: &mut Report,
) -> Outcome {
    report.peak = machine::peak(plan, kernels, team);
    report.peak_f32 = machine::peak_f32(kernels, team);
    report.attention_macs = plan.steps().map(|step| attention_macs(&step)).sum();
    report.fork_join_us = machine::fork_and_join(team) * 1e6;
    let mut memory = AlignedBytes::zeroed(plan.arena_bytes(1));
    report.steps = steps(plan, &mut plan.encoder(&mut memory, kernels, team)?, runs);
    drop(memory);
    match plan {
        Subject::Text(plan) => of_texts(plan, kernels, team, runs, report),
        #[cfg(feature = "pictures")]
        Subject::Image(_) => Ok(()),
    }
}

/// The pair, the short prompt, labels and typing.
fn of_texts(plan: &Plan<'_>, kernels: Kernels, team: &Threads, runs: usize, report: &mut Report) -> Outcome {
    let mut memory = AlignedBytes::zeroed(plan.arena_bytes(2));
    let mut encoder = Encoder::with(plan, &mut memory, kernels, team).map_err(cannot_encode)?;
    let mut failure = None;
    let pair = times(1, runs, || match encoder.encode_pair([PROMPT, NEGATIVE]) {
        Ok(pair) => {
            black_box(pair[1].hidden());
        }
        Err(error) => failure = Some(error),
    });
    if let Some(error) = failure {
        return Err(cannot_encode(error));
    }
    // The single encoding once more, beside the pair in time: the ratio is worth more than either.
    let single = times(0, runs, || {
        encoder.forget();
        black_box(encoder.encode(PROMPT).hidden());
    });
    report.pair = Some((pair, single.median));
    let tokens = encoder.encode_unpadded(SHORT_PROMPT).tokens();
    let short = times(1, runs, || {
        encoder.forget();
        black_box(encoder.encode_unpadded(SHORT_PROMPT).hidden());
    });
    report.short = Some(Short {
        tokens,
        times: short,
        bandwidth: machine::read_bandwidth(plan.constants().bytes(), team),
    });
    if plan.manifest().pooled.is_some() {
        report.labels = Some(labels::measure(plan, kernels, team, runs)?);
    }
    if plan.keeps_rows() {
        report.typing = Some(typing::measure(&mut encoder, plan, runs));
    }
    Ok(())
}

/// The median time of each step.
fn steps(plan: &Subject<'_>, encoder: &mut Encodes<'_>, runs: usize) -> Vec<StepTime> {
    let mut times = vec![Vec::with_capacity(runs); plan.step_count()];
    for _ in 0..runs {
        let mut last = Instant::now();
        encoder.observed(|output| {
            let now = Instant::now();
            times[output.index].push((now - last).as_secs_f64() * 1e3);
            last = now;
        });
    }
    let of_step = |(step, times): (Step, Vec<f64>)| StepTime {
        name: describe(&step),
        kind: kind(&step),
        macs: macs(&step, plan),
        ms: Times::of(times).median,
    };
    plan.steps().zip(times).map(of_step).collect()
}

/// Multiplications of a step's matrix product, of the rows that are computed.
fn macs(step: &Step, plan: &Subject<'_>) -> u64 {
    let Some(panels) = step.panels() else { return 0 };
    plan.computed_rows(step) * u64::from(panels.inputs) * u64::from(panels.outputs)
}

/// Multiplications of attention's two products: of each token with those that it sees.
fn attention_macs(step: &Step) -> u64 {
    let Op::Attention { mask, .. } = step.op else { return 0 };
    let rows = u64::from(step.out.rows);
    let pairs = match mask {
        Mask::Causal => rows * (rows + 1) / 2,
        Mask::None => rows * rows,
    };
    2 * pairs * u64::from(step.out.columns)
}
