//! What an encoding takes on this machine.

use std::fmt;
use std::time::Instant;

use serde::Serialize;

/// Encodings that are timed, at least.
pub const RUNS: usize = 30;

/// Milliseconds of several runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Times {
    /// How many there were.
    pub runs: usize,
    /// The median.
    pub p50_ms: f64,
    /// Nine of ten took no longer.
    pub p90_ms: f64,
    /// 99 of a hundred took no longer; with fewer runs the longest.
    pub p99_ms: f64,
}

impl Times {
    /// Of at least one run's milliseconds: percentiles by the nearest rank.
    pub fn of(mut ms: Vec<f64>) -> Self {
        ms.sort_by(f64::total_cmp);
        let at = |percent: usize| {
            let rank = (ms.len() * percent).div_ceil(100).max(1);
            ms.get(rank - 1).copied().unwrap_or(f64::NAN)
        };
        Times { runs: ms.len(), p50_ms: at(50), p90_ms: at(90), p99_ms: at(99) }
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Times { runs, p50_ms, p90_ms, p99_ms } = self;
        write!(f, "p50 {p50_ms:.2} ms, p90 {p90_ms:.2}, p99 {p99_ms:.2} ({runs} runs)")
    }
}

/// Milliseconds that `work` takes, and what it gives.
pub fn timed<R>(work: impl FnOnce() -> R) -> (f64, R) {
    let start = Instant::now();
    let found = work();
    (start.elapsed().as_secs_f64() * 1e3, found)
}

/// Time and memory of one input's encoding.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Threads that shared the work.
    pub threads: usize,
    /// How long it took.
    #[serde(flatten)]
    pub times: Times,
    /// Bytes of RAM that the runtime takes for it.
    pub arena_bytes: usize,
    /// Bytes of the plan.
    pub plan_bytes: u64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cost { threads, times, arena_bytes, plan_bytes } = self;
        let s = if *threads == 1 { "" } else { "s" };
        write!(f, "{times}, {threads} thread{s}; arena {arena_bytes} bytes, plan {plan_bytes} bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let times = Times::of((1..=200).rev().map(f64::from).collect());
        assert_eq!(times, Times { runs: 200, p50_ms: 100.0, p90_ms: 180.0, p99_ms: 198.0 });
        let few = Times::of(vec![3.0, 1.0, 2.0]);
        assert_eq!((few.p50_ms, few.p90_ms, few.p99_ms), (2.0, 3.0, 3.0));
        assert_eq!(Times::of(vec![7.0]).p50_ms, 7.0);
    }
}
