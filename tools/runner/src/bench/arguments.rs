//! What `bench` takes, and what it gives the processes that it starts.

use std::path::PathBuf;

use clap::Args;

#[derive(Args)]
pub(crate) struct BenchArgs {
    /// The plan, a text encoder's or an image encoder's; without it, the built-in one
    pub(super) plan: Option<PathBuf>,
    /// Of a file that holds both plans measure the image encoder's
    #[cfg(feature = "pictures")]
    #[arg(long)]
    pub(super) image: bool,
    /// Numbers of threads to measure with [default: 1 and what encode takes]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) threads: Vec<u16>,
    /// Force a kernel instead of the fastest that this CPU runs
    #[arg(long, value_name = "NAME")]
    pub(super) kernel: Option<String>,
    /// Encodings to time
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) runs: u32,
    /// Only the timed encodings, nothing before or after: what executes grows with --runs alone, for counting
    /// instructions
    #[arg(long)]
    pub(super) only_warm: bool,
    /// Print each step, not only each kind of steps and the slowest
    #[arg(long, conflicts_with_all = ["json", "only_warm"])]
    pub(super) steps: bool,
    /// Print JSON: an array with an object for each number of threads, with each step
    #[arg(long)]
    pub(super) json: bool,
    /// Tell what changed since an earlier run, whose --json this file is
    #[cfg(feature = "compare")]
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(super) compare: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct ColdArgs {
    pub(super) plan: Option<PathBuf>,
    #[cfg(feature = "pictures")]
    #[arg(long)]
    pub(super) image: bool,
    #[arg(long)]
    pub(super) threads: u16,
    #[arg(long)]
    pub(super) kernel: Option<String>,
}

impl BenchArgs {
    /// Whether the image encoder of a file with both plans is meant.
    pub(super) fn is_image(&self) -> bool {
        #[cfg(feature = "pictures")]
        return self.image;
        #[cfg(not(feature = "pictures"))]
        false
    }
}

impl ColdArgs {
    /// As [`BenchArgs::is_image`].
    pub(super) fn is_image(&self) -> bool {
        #[cfg(feature = "pictures")]
        return self.image;
        #[cfg(not(feature = "pictures"))]
        false
    }
}
