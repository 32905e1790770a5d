//! `bench`: what this machine makes of a plan, a text encoder's or an image encoder's.

mod arguments;
mod cold;
#[cfg(feature = "compare")]
mod compare;
mod labels;
mod machine;
mod measure;
mod report;
mod subject;
mod times;
mod typing;
mod workload;

#[cfg(feature = "compare")]
use compare::Earlier;

pub(crate) use arguments::{BenchArgs, ColdArgs};
pub(crate) use cold::cold;

use crate::failure::{Failure, Outcome, work};
use crate::plan::{Access, Source};
use crate::setup::{kernels, team};

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
    let plan = subject::Subject::load(&source, args.is_image())?;
    let kernels = kernels(&plan, args.kernel.as_deref())?;
    #[cfg(feature = "compare")]
    let earlier = args.compare.as_deref().map(Earlier::read).transpose()?;
    let mut counts: Vec<usize> = args.threads.iter().map(|&threads| threads.into()).collect();
    if counts.is_empty() {
        counts = vec![1, cliptext::threads::default_threads()];
        counts.dedup();
    }
    let mut reports = Vec::new();
    for threads in counts {
        let team = team(Some(threads))?;
        let mut report = measure::warm(&plan, kernels, &team, args.runs as usize, args.kernel.is_some())?;
        if !args.only_warm {
            measure::everything_else(&plan, kernels, &team, args.runs as usize, &mut report)?;
            drop(team);
            report.cold = Some(cold::measure(args, access, threads)?);
        }
        if !args.json {
            report.print(args.steps)?;
        }
        #[cfg(feature = "compare")]
        if let Some(earlier) = &earlier {
            say!("{}", earlier.against(&report.json()));
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
