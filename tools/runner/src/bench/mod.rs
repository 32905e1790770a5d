//! `bench`: what this machine makes of a plan.

mod cold;
mod machine;
mod measure;
mod report;

use std::path::PathBuf;

use clap::Args;

pub(crate) use cold::cold;

use crate::commands::{kernels, team};
use crate::plan::{Access, Source};
use crate::{Failure, Outcome, work};

/// 77 tokens with its padding.
const PROMPT: &str = "a photograph of an astronaut riding a horse";
const NEGATIVE: &str = "low quality, blurry";
/// 7 tokens, start and end included.
const SHORT_PROMPT: &str = "a photo of a cat";

#[derive(Args)]
pub(crate) struct BenchArgs {
    /// The plan; without it, the built-in one
    plan: Option<PathBuf>,
    /// Numbers of threads to measure with [default: 1 and what encode takes]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    threads: Vec<u16>,
    /// Force a kernel instead of the fastest that this CPU runs
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    /// Encodings to time
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Only the timed encodings, nothing before or after: what executes grows with --runs alone, for counting
    /// instructions
    #[arg(long)]
    only_warm: bool,
    /// Print JSON: an array with an object for each number of threads
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct ColdArgs {
    plan: Option<PathBuf>,
    #[arg(long)]
    threads: u16,
    #[arg(long)]
    kernel: Option<String>,
}

/// Measures and prints.
pub(crate) fn bench(args: &BenchArgs, access: Access) -> Outcome {
    if let Some(path) = &args.plan
        && !args.only_warm
        && std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
    {
        return Err(Failure::Usage(format!(
            "{}: fresh processes are measured too, which can't read a pipe again: give a file, or --only-warm",
            path.display()
        )));
    }
    let source = Source::open(args.plan.as_deref(), access)?;
    let plan = source.load()?;
    let kernels = kernels(&plan, args.kernel.as_deref())?;
    let mut counts: Vec<usize> = args.threads.iter().map(|&threads| threads.into()).collect();
    if counts.is_empty() {
        counts = vec![1, cliptext::threads::default_threads()];
        counts.dedup();
    }
    let mut reports = Vec::new();
    for threads in counts {
        let team = team(Some(threads))?;
        let mut report = measure::warm(&plan, kernels, &team, args.runs as usize)?;
        if !args.only_warm {
            measure::everything_else(&plan, kernels, &team, args.runs as usize, &mut report)?;
            drop(team);
            report.cold = Some(cold::measure(args, access, threads)?);
        }
        if !args.json {
            report.print()?;
        }
        reports.push(report);
    }
    if args.json {
        let json: Vec<_> = reports.iter().map(report::Report::json).collect();
        let text = serde_json::to_string_pretty(&json).map_err(|error| work("the report", error))?;
        sayln!("{text}");
    }
    Ok(())
}
