//! What several commands take.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

#[derive(Args)]
pub(crate) struct PromptArgs {
    /// The plan, then prompts; a first argument that neither names a file nor looks like a path is a prompt, and the
    /// built-in plan is used
    #[arg(value_name = "PLAN | PROMPT")]
    pub(crate) arguments: Vec<OsString>,
    /// A prompt, whatever it looks like (may be repeated)
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) prompt: Vec<String>,
    /// Read prompts from FILE: one a line, or a JSON array of strings; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) prompts: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct PadArgs {
    /// Only the prompt's own tokens, start and end included, instead of the whole context
    #[arg(long)]
    pub(crate) no_pad: bool,
}

#[derive(Args)]
pub(crate) struct RunArgs {
    /// Force a kernel instead of the fastest that this CPU runs
    #[arg(long, value_name = "NAME")]
    pub(crate) kernel: Option<String>,
    /// Threads that share the work [default: the cores, the large ones where some are larger]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,
}
