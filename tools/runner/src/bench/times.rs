//! Clocks.

use std::time::Instant;

use serde_json::{Value, json};

/// Milliseconds of several runs.
pub(super) struct Times {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) runs: usize,
}

impl Times {
    /// Of at least one run.
    pub(super) fn of(mut ms: Vec<f64>) -> Self {
        ms.sort_by(f64::total_cmp);
        Self { median: ms[ms.len() / 2], min: ms[0], max: ms[ms.len() - 1], runs: ms.len() }
    }

    pub(super) fn json(&self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max, "runs": self.runs })
    }
}

/// Milliseconds that `f` takes.
pub(super) fn ms(f: impl FnOnce()) -> f64 {
    let start = Instant::now();
    f();
    start.elapsed().as_secs_f64() * 1e3
}

/// Milliseconds that `f` takes, sorted.
pub(super) fn times(warm_up: usize, runs: usize, mut f: impl FnMut()) -> Times {
    (0..warm_up).for_each(|_| f());
    Times::of((0..runs).map(|_| ms(&mut f)).collect())
}
