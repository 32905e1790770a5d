//! What the machine can do, measured.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cliptext::threads::{Team, Threads};
use cliptext::{Graph, Kernels};

/// The shortest stretch worth timing.
const STRETCH: Duration = Duration::from_millis(2);
/// Stretches, of which the best counts: what else runs on the machine only ever makes them slower.
const STRETCHES: usize = 40;

/// Multiplications per second of the kernel's int8 inner loop on data in the first-level cache, all threads at once; `None`
/// where the plan is not int8.
pub(super) fn peak(plan: &Graph<'_>, kernels: Kernels, team: &Threads) -> Option<f64> {
    let packing = plan.manifest().packing;
    (kernels.exercise(packing, 1) > 0).then(|| rate(team, |rounds| kernels.exercise(packing, rounds)))
}

/// The same for attention's inner loop, which is f32.
pub(super) fn peak_f32(kernels: Kernels, team: &Threads) -> f64 {
    rate(team, |rounds| kernels.exercise_f32(rounds))
}

/// Multiplications per second of `exercise`, which is told how many rounds to go and returns how many they were.
fn rate(team: &Threads, exercise: impl Fn(usize) -> u64 + Sync) -> f64 {
    let timed = |rounds: usize| -> (u64, Duration) {
        let start = Instant::now();
        team.run(team.workers(), &|_, _| {
            black_box(exercise(rounds));
        });
        let time = start.elapsed();
        (exercise(1) * (rounds * team.workers()) as u64, time)
    };
    let mut rounds = 1;
    while timed(rounds).1 < STRETCH {
        rounds *= 2;
    }
    let rate = |(products, time): (u64, Duration)| products as f64 / time.as_secs_f64();
    (0..STRETCHES).map(|_| rate(timed(rounds))).max_by(f64::total_cmp).unwrap_or(0.0)
}

/// Bytes per second that all threads together read from memory: the plan from front to back.
pub(super) fn read_bandwidth(bytes: &[u8], team: &Threads) -> f64 {
    const PART: usize = 1 << 20;
    let parts: Vec<&[u8]> = bytes.chunks(PART).collect();
    let once = || {
        let start = Instant::now();
        team.run(parts.len(), &|_, part| {
            let mut sums = [0u64; 8];
            for words in parts[part].as_chunks::<64>().0 {
                for (sum, word) in sums.iter_mut().zip(words.as_chunks::<8>().0) {
                    *sum = sum.wrapping_add(u64::from_le_bytes(*word));
                }
            }
            black_box(sums);
        });
        bytes.len() as f64 / start.elapsed().as_secs_f64()
    };
    (0..10).map(|_| once()).max_by(f64::total_cmp).unwrap_or(0.0)
}

/// Seconds to hand every thread of the team a task and to have all of them back, when its threads are awake: the
/// median.
pub(super) fn fork_and_join(team: &Threads) -> f64 {
    const ROUNDS: usize = 20_000;
    /// Enough where a busy machine makes rounds long.
    const LONGEST: Duration = Duration::from_millis(300);
    let begin = Instant::now();
    let threads = team.workers();
    let mut times = Vec::with_capacity(ROUNDS);
    // Once at least, however busy the machine is.
    while times.is_empty() || times.len() < ROUNDS && begin.elapsed() < LONGEST {
        let (start, arrived) = (Instant::now(), AtomicUsize::new(0));
        team.run(threads, &|_, _| {
            // No thread does the task of another: each waits until all have arrived.
            arrived.fetch_add(1, Ordering::Relaxed);
            while arrived.load(Ordering::Relaxed) < threads {
                std::hint::spin_loop();
            }
        });
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Resident memory of this process in bytes: all of it, and the anonymous part, which is not the plan file. Linux only.
pub(super) fn resident() -> Option<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    };
    Some((field("VmRSS:")?, field("RssAnon:")?))
}
