//! Size and time of a plan's steps.

use std::time::Instant;

use cliptext::plan::Step;
use cliptext::{Encoder, Plan};
use serde::Serialize;

/// A step's size and time.
#[derive(Clone, Debug, Serialize)]
pub struct StepFigures {
    /// What it does.
    pub name: &'static str,
    /// The tower's number, and the layer it belongs to, from 1; 0 before the first.
    pub tower: usize,
    /// As `tower`.
    pub layer: usize,
    /// Bytes of its constants.
    pub bytes: usize,
    /// Median milliseconds at one thread on this machine.
    pub ms: f64,
}

/// Encodings that each step's time is the median of.
const RUNS: usize = 9;

/// Each step of the plan, timed by `encoder`.
pub fn steps(plan: &Plan<'_>, encoder: &mut Encoder<'_>) -> Vec<StepFigures> {
    let mut times: Vec<Vec<f64>> = vec![vec![]; plan.step_count()];
    for _ in 0..RUNS {
        let mut last = Instant::now();
        encoder.encode_observed("a running dog", |observed| {
            let now = Instant::now();
            times[observed.index].push((now - last).as_secs_f64() * 1e3);
            last = now;
        });
    }
    let figures = |(step, mut times): (Step, Vec<f64>)| {
        times.sort_by(f64::total_cmp);
        StepFigures {
            name: step.name(),
            tower: step.role.tower.into(),
            layer: step.role.layer.into(),
            bytes: step.constant_bytes().unwrap_or_default() as usize,
            ms: times[times.len() / 2],
        }
    };
    plan.steps().zip(times).map(figures).collect()
}
