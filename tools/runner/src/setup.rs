//! What encoding needs besides the plan: threads and kernels.

use cliptext::threads::{Threads, default_threads};
use cliptext::{EncoderError, Graph, Kernels};

use crate::failure::{Failure, Outcome, work};

/// A team of so many threads, or of as many as this machine has use for.
pub(crate) fn team(threads: Option<usize>) -> Outcome<Threads> {
    let threads = threads.unwrap_or_else(default_threads);
    Threads::start(threads).map_err(|error| work(format_args!("starting {threads} threads"), error))
}

/// An encoder that can't be made or used.
pub(crate) fn cannot_encode(error: EncoderError) -> Failure {
    Failure::Work(error.to_string())
}

/// The kernels called `name`, or the fastest for the plan.
pub(crate) fn kernels(plan: &Graph<'_>, name: Option<&str>) -> Outcome<Kernels> {
    match name {
        None => plan.kernels().map_err(|error| Failure::Work(error.to_string())),
        Some(name) => named(name),
    }
}

/// Whether a name that is given is one of a kernel that this CPU runs.
pub(crate) fn is_kernel(name: Option<&str>) -> Outcome {
    name.map(named).transpose().map(drop)
}

fn named(name: &str) -> Outcome<Kernels> {
    Kernels::named(name).map_err(|error| {
        let names: Vec<_> = Kernels::available().map(Kernels::name).collect();
        Failure::Usage(format!("--kernel {name}: {error}; this CPU runs {}", names.join(", ")))
    })
}
