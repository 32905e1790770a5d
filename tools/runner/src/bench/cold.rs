//! Cold start: a fresh process of this very program, from its start to the first embedding.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use cliptext::AlignedBytes;

use super::arguments::{BenchArgs, ColdArgs};
use super::machine::resident;
use super::subject::Subject;
use crate::failure::{Failure, Outcome, work};
use crate::plan::{Access, Source};
use crate::setup::{kernels, team};

/// Processes started.
const RUNS: usize = 7;

/// What fresh processes did.
pub(crate) struct Cold {
    /// From before the process was started to its first embedding, in ms: the median.
    pub(super) ms: f64,
    /// Its resident memory then, and the anonymous part of that.
    pub(super) resident: Option<(u64, u64)>,
}

/// Starts processes and waits for their first embedding.
pub(super) fn measure(args: &BenchArgs, access: Access, threads: usize) -> Outcome<Cold> {
    let program = std::env::current_exe().map_err(|error| work("finding this program", error))?;
    let mut command = Command::new(program);
    command.arg("cold").args(&args.plan).arg("--threads").arg(threads.to_string());
    if access.read {
        command.arg("--read");
    }
    if args.is_image() {
        command.arg("--image");
    }
    if let Some(kernel) = &args.kernel {
        command.arg("--kernel").arg(kernel);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut runs = (0..RUNS).map(|_| once(&mut command)).collect::<Outcome<Vec<Cold>>>()?;
    runs.sort_by(|a, b| a.ms.total_cmp(&b.ms));
    Ok(runs.swap_remove(RUNS / 2))
}

fn once(command: &mut Command) -> Outcome<Cold> {
    let start = Instant::now();
    let mut child = command.spawn().map_err(|error| work("starting a fresh process", error))?;
    let mut line = String::new();
    let read = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
    let ms = start.elapsed().as_secs_f64() * 1e3;
    let status = child.wait().map_err(|error| work("the fresh process", error))?;
    if !status.success() || !matches!(read, Some(Ok(1..))) {
        return Err(Failure::Work(format!("the fresh process ended with {status} and no embedding")));
    }
    let mut bytes = line.split_whitespace().map(str::parse);
    let resident = match (bytes.next(), bytes.next()) {
        (Some(Ok(all)), Some(Ok(anonymous))) => Some((all, anonymous)),
        _ => None,
    };
    Ok(Cold { ms, resident })
}

/// `cold`: encodes once and says so, in a line with its resident memory.
pub(crate) fn cold(args: &ColdArgs, access: Access) -> Outcome {
    let source = Source::open(args.plan.as_deref(), access)?;
    let plan = Subject::load(&source, args.is_image())?;
    let kernels = kernels(&plan, args.kernel.as_deref())?;
    let team = team(Some(args.threads.into()))?;
    let mut memory = AlignedBytes::zeroed(plan.arena_bytes(1));
    plan.encoder(&mut memory, kernels, &team)?.once();
    match resident() {
        Some((all, anonymous)) => sayln!("{all} {anonymous}"),
        None => sayln!("done"),
    }
    Ok(())
}
