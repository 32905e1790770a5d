//! What was measured, for people and for programs.

use cliptext::plan::Part;
use cliptext::{Graph, KernelError, Kernels};
use serde_json::{Value, json};

use super::cold::Cold;
use super::labels::Labels;
use super::subject::Subject;
use super::times::Times;
use super::typing::Typing;
use crate::describe::grouped;
use crate::failure::Outcome;

/// A step, as it ran.
pub(super) struct StepTime {
    pub(super) name: String,
    /// What it has in common with those of other layers.
    pub(super) kind: String,
    /// Multiplications of its matrix product, 0 where it has none.
    pub(super) macs: u64,
    pub(super) ms: f64,
}

/// A prompt without padding.
pub(super) struct Short {
    pub(super) tokens: usize,
    pub(super) times: Times,
    /// Bytes per second that the threads can read.
    pub(super) bandwidth: f64,
}

/// Everything about one number of threads.
pub(super) struct Report {
    /// What one encoding reads.
    input: &'static str,
    plan_hash: String,
    kernel: &'static str,
    /// Why that kernel ran.
    reason: String,
    threads: usize,
    arena_bytes: usize,
    pair_arena_bytes: usize,
    /// Bytes of constants that every encoding reads: all but the embedding table.
    weight_bytes: u64,
    warm: Times,
    /// Multiplications per second of the int8 inner loop.
    pub(super) peak: Option<f64>,
    /// The same of attention's inner loop, in f32.
    pub(super) peak_f32: f64,
    /// Multiplications of attention, in f32.
    pub(super) attention_macs: u64,
    pub(super) fork_join_us: f64,
    pub(super) steps: Vec<StepTime>,
    /// A pair in one pass, and the median of a single encoding measured beside it.
    pub(super) pair: Option<(Times, f64)>,
    pub(super) short: Option<Short>,
    pub(super) labels: Option<Labels>,
    pub(super) typing: Option<Typing>,
    pub(super) cold: Option<Cold>,
}

impl Report {
    pub(super) fn new(
        plan: &Subject<'_>,
        kernels: Kernels,
        forced: bool,
        threads: usize,
        warm: Times,
    ) -> Self {
        let weights = plan.steps().filter(|step| step.role.part != Part::Embedding);
        Self {
            input: plan.input(),
            plan_hash: plan.hash().to_string(),
            kernel: kernels.name(),
            reason: reason(plan, kernels, forced),
            threads,
            arena_bytes: plan.arena_bytes(1),
            pair_arena_bytes: plan.arena_bytes(2),
            weight_bytes: weights.filter_map(|step| step.constant_bytes()).sum(),
            warm,
            peak: None,
            peak_f32: 0.0,
            attention_macs: 0,
            fork_join_us: 0.0,
            steps: Vec::new(),
            pair: None,
            short: None,
            labels: None,
            typing: None,
            cold: None,
        }
    }

    /// Multiplications per second of `macs` in `ms`, and their share of the peak.
    fn rate(&self, macs: u64, ms: f64) -> (f64, Option<f64>) {
        let rate = macs as f64 / ms * 1e3;
        (rate, self.peak.map(|peak| rate / peak))
    }

    /// The matrix products of all steps over the whole time.
    fn total(&self) -> (u64, f64, Option<f64>) {
        let macs = self.steps.iter().map(|step| step.macs).sum();
        let (rate, share) = self.rate(macs, self.warm.median);
        (macs, rate, share)
    }

    /// Milliseconds that the products alone would take, each kind at its peak: those of the linear steps and attention's.
    /// `None` without int8 products.
    fn floor_ms(&self) -> Option<f64> {
        let (macs, ..) = self.total();
        self.peak.map(|peak| (macs as f64 / peak + self.attention_macs as f64 / self.peak_f32) * 1e3)
    }

    pub(super) fn json(&self) -> Value {
        let steps: Vec<Value> = self
            .steps
            .iter()
            .map(|step| {
                let (rate, share) = self.rate(step.macs, step.ms);
                let name = step.name.split_whitespace().collect::<Vec<_>>().join(" ");
                let mut out = json!({ "step": name, "ms": step.ms });
                if step.macs > 0 {
                    out["macs"] = step.macs.into();
                    out["macs_per_s"] = rate.into();
                    out["share_of_peak"] = share.into();
                }
                out
            })
            .collect();
        let mut out = json!({
            "input": self.input,
            "threads": self.threads,
            "plan_hash": self.plan_hash,
            "kernel": self.kernel,
            "kernel_reason": self.reason,
            "warm_ms": self.warm.json(),
            "arena_bytes": self.arena_bytes,
            "pair_arena_bytes": self.pair_arena_bytes,
            "weight_bytes": self.weight_bytes,
            "steps": steps,
        });
        if !self.steps.is_empty() {
            let (macs, rate, share) = self.total();
            out["macs"] = macs.into();
            out["macs_per_s"] = rate.into();
            out["share_of_peak"] = share.into();
            out["peak_macs_per_s"] = self.peak.into();
            out["attention_macs"] = self.attention_macs.into();
            out["peak_f32_macs_per_s"] = self.peak_f32.into();
            let floor = self.floor_ms();
            out["floor_ms"] = floor.into();
            out["share_of_floor"] = floor.map(|floor| floor / self.warm.median).into();
            out["fork_join_us"] = self.fork_join_us.into();
        }
        if let Some((pair, single)) = &self.pair {
            out["pair_ms"] = pair.json();
            out["pair_ratio"] = (pair.median / single).into();
        }
        if let Some(short) = &self.short {
            out["short"] = json!({
                "tokens": short.tokens,
                "ms": short.times.json(),
                "bytes_per_s": self.short_bandwidth(short),
                "read_bytes_per_s": short.bandwidth,
            });
        }
        if let Some(labels) = &self.labels {
            out["labels"] = labels.json();
        }
        if let Some(typing) = &self.typing {
            out["typing"] = typing.json();
        }
        if let Some(cold) = &self.cold {
            out["cold_ms"] = cold.ms.into();
            out["rss_bytes"] = cold.resident.map(|(all, _)| all).into();
            out["rss_anon_bytes"] = cold.resident.map(|(_, anonymous)| anonymous).into();
        }
        out
    }

    fn short_bandwidth(&self, short: &Short) -> f64 {
        self.weight_bytes as f64 / short.times.median * 1e3
    }

    /// For people; with each step if `all_steps`.
    pub(super) fn print(&self, all_steps: bool) -> Outcome {
        let Times { median, min, max, runs } = self.warm;
        sayln!("{} with {} thread{}", self.kernel, self.threads, if self.threads == 1 { "" } else { "s" });
        sayln!("  kernel      {}", self.reason);
        sayln!("  warm        {median:.2} ms (median of {runs}; {min:.2} to {max:.2})");
        if let Some(cold) = &self.cold {
            sayln!("  cold start  {:.1} ms from starting a process to its first embedding", cold.ms);
            if let Some((all, anonymous)) = cold.resident {
                let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
                sayln!("  resident    {:.1} MiB, {:.2} MiB of it anonymous", mib(all), mib(anonymous));
            }
        }
        sayln!(
            "  arena       {} bytes for one {}; {} for two",
            self.arena_bytes,
            self.input,
            self.pair_arena_bytes
        );
        if self.steps.is_empty() {
            return Ok(());
        }
        sayln!("  fork, join  {:.2} µs", self.fork_join_us);
        if let Some((pair, single)) = &self.pair {
            let times = pair.median / single;
            sayln!(
                "  pair        {:.2} ms, {times:.2} times one prompt; {} bytes of weights are read once",
                pair.median,
                self.weight_bytes
            );
        }
        if let Some(short) = &self.short {
            let rate = self.short_bandwidth(short);
            sayln!(
                "  {} tokens    {:.2} ms, {:.1} GB/s, {:.0} % of the {:.1} GB/s that can be read",
                short.tokens,
                short.times.median,
                rate / 1e9,
                rate / short.bandwidth * 100.0,
                short.bandwidth / 1e9
            );
        }
        if let Some(labels) = &self.labels {
            sayln!("  labels      {}", labels.line());
        }
        if let Some(typing) = &self.typing {
            say!("{}", typing.table());
        }
        if let Some(peak) = self.peak {
            sayln!("  peak        {:.1} GMAC/s, the inner loop on cached data", peak / 1e9);
        }
        let (macs, rate, share) = self.total();
        sayln!("  products    {:.2} GMAC, {:.1} GMAC/s{}", macs as f64 / 1e9, rate / 1e9, percent(share));
        if let Some(floor) = self.floor_ms() {
            sayln!(
                "  floor       {floor:.2} ms: these, and attention's {:.3} GMAC at {:.1} GMAC/s in f32; {:.0} % of the time",
                self.attention_macs as f64 / 1e9,
                self.peak_f32 / 1e9,
                floor / self.warm.median * 100.0
            );
        }
        self.print_kinds()?;
        let mut rest: Vec<(usize, &StepTime)> = self.steps.iter().enumerate().collect();
        let shown = if all_steps { rest.len() } else { SLOWEST.min(rest.len()) };
        sayln!("  {}", if all_steps { "steps" } else { "the slowest (--steps: all)" });
        for _ in 0..shown {
            let slowest = (0..rest.len()).max_by(|&a, &b| rest[a].1.ms.total_cmp(&rest[b].1.ms)).unwrap_or(0);
            let (index, step) = rest.remove(if all_steps { 0 } else { slowest });
            say!("    {index:>3}  {:8.3} ms  {}", step.ms, step.name);
            if step.macs > 0 {
                let (rate, share) = self.rate(step.macs, step.ms);
                say!("  {:.1} GMAC/s{}", rate / 1e9, percent(share));
            }
            say!("\n");
        }
        Ok(())
    }

    /// A line for each kind of steps, which is the same in every layer.
    fn print_kinds(&self) -> Outcome {
        let sum = |steps: &[&StepTime]| steps.iter().map(|step| step.ms).sum::<f64>();
        let all = sum(&self.steps.iter().collect::<Vec<_>>());
        sayln!("  steps by kind     ms  share");
        for (kind, steps) in grouped(self.steps.iter().map(|step| (step.kind.clone(), step))) {
            let (ms, macs) = (sum(&steps), steps.iter().map(|step| step.macs).sum::<u64>());
            say!("    {:>3} × {ms:9.3} {:>4.1} %  {kind}", steps.len(), ms / all * 100.0);
            if macs > 0 {
                let (rate, share) = self.rate(macs, ms);
                say!("  {:.1} GMAC/s{}", rate / 1e9, percent(share));
            }
            say!("\n");
        }
        let linear: f64 = self.steps.iter().filter(|step| step.macs > 0).map(|step| step.ms).sum();
        sayln!("    all   {all:9.3}, of which linear {linear:.3} ms");
        Ok(())
    }
}

/// How many of the slowest steps are shown.
const SLOWEST: usize = 5;

/// Why `kernels` ran: what of this build would be faster, and why it did not.
fn reason(plan: &Graph<'_>, kernels: Kernels, forced: bool) -> String {
    if forced {
        return String::from("chosen by --kernel");
    }
    let faster: Vec<String> = Kernels::names()
        .take_while(|name| *name != kernels.name())
        .map(|name| match Kernels::named(name) {
            Ok(faster) if !faster.reads(plan.manifest().packing) => {
                format!("{name} does not read {}", plan.manifest().packing)
            }
            Ok(_) => format!("{name} was not taken"),
            Err(KernelError::Refused) => format!("the operating system refuses the registers of {name}"),
            Err(_) => format!("this CPU lacks {name}"),
        })
        .collect();
    match faster.as_slice() {
        [] => String::from("the fastest of this build"),
        faster => format!("the fastest that does: {}", faster.join(", ")),
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or(String::new(), |share| format!(", {:.0} % of the peak", share * 100.0))
}
