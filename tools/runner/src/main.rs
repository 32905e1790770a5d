//! `cliptext-run`: prompts to embeddings on the board, from a plan.
//!
//! One static file; it never needs the compiler, Python or a network.

/// Prints to standard output, as `print!`, but returns from the function where that can't be done.
macro_rules! say {
    ($($text:tt)*) => { crate::print(format_args!($($text)*))? };
}

/// [`say!`] with an end of line.
macro_rules! sayln {
    ($($text:tt)*) => { say!("{}\n", format_args!($($text)*)) };
}

mod bench;
mod commands;
mod images;
mod output;
mod paths;
mod plan;
mod prompts;
mod similarity;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cliptext-run", version, about = "Runs CLIP text encoders from compiled plans")]
#[command(after_help = "Exit codes: 0 done, 1 the work failed, 2 the command line is wrong")]
struct Cli {
    #[command(flatten)]
    access: plan::Access,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Encode prompts to the hidden states that a diffusion UNet reads
    Encode(EncodeArgs),
    /// Compare prompts with images, whose embeddings were computed elsewhere: zero-shot classification
    Similarity(similarity::SimilarityArgs),
    /// Print the token ids of prompts, a line each
    Tokenize(TokenizeArgs),
    /// Measure this machine: encoding time, cold start, steps, memory
    Bench(bench::BenchArgs),
    /// Encode once in a fresh process, for `bench`
    #[command(hide = true)]
    Cold(bench::ColdArgs),
    /// Tell what is in a plan and how much RAM it needs
    Inspect {
        /// The plan; without it, the built-in one
        plan: Option<PathBuf>,
    },
}

#[derive(Args)]
struct PromptArgs {
    /// The plan, then prompts; a first argument that neither names a file nor looks like a path is a prompt, and the
    /// built-in plan is used
    #[arg(value_name = "PLAN | PROMPT")]
    arguments: Vec<OsString>,
    /// A prompt, whatever it looks like (may be repeated)
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Vec<String>,
    /// Read prompts from FILE: one a line, or a JSON array of strings
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
}

#[derive(Args)]
struct PadArgs {
    /// Only the prompt's own tokens, start and end included, instead of the whole context
    #[arg(long)]
    no_pad: bool,
}

#[derive(Args)]
struct RunArgs {
    /// Force a kernel instead of the fastest that this CPU runs
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    /// Threads that share the work [default: the cores, the large ones where some are larger]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

#[derive(Args)]
struct EncodeArgs {
    #[command(flatten)]
    prompts: PromptArgs,
    #[command(flatten)]
    pad: PadArgs,
    /// A negative prompt: encoded in one pass with the last prompt, and last in the outputs
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    negative: Option<String>,
    /// Write the hidden states to FILE: `.npy` [prompts, tokens, width], or `.f32`, the same values raw; a pipe or a device
    /// gets `.npy` whatever its name
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the pooled outputs to FILE: `.npy` [prompts, columns], or `.f32`
    #[arg(long, value_name = "FILE")]
    pooled: Option<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Args)]
struct TokenizeArgs {
    #[command(flatten)]
    prompts: PromptArgs,
    #[command(flatten)]
    pad: PadArgs,
}

/// Why a command ends early.
enum Failure {
    /// The command line can't be obeyed: exit code 2.
    Usage(String),
    /// The work failed: exit code 1.
    Work(String),
}

type Outcome<T = ()> = Result<T, Failure>;

/// An error of the work at hand: what it was about, then what went wrong.
fn work(about: impl std::fmt::Display, error: impl std::fmt::Display) -> Failure {
    Failure::Work(format!("{about}: {error}"))
}

/// Prints to standard output. A reader that has gone, as in `| head`, has not got the whole: an error as any other.
fn print(text: std::fmt::Arguments<'_>) -> Outcome {
    std::io::stdout().write_fmt(text).map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => {
            Failure::Work("standard output was closed before all was written".into())
        }
        _ => work("standard output", error),
    })
}

fn main() -> ExitCode {
    let Cli { access, command } = Cli::parse();
    let outcome = match command {
        Command::Encode(args) => commands::encode(&args, access),
        Command::Similarity(args) => similarity::similarity(&args, access),
        Command::Tokenize(args) => commands::tokenize(&args, access),
        Command::Bench(args) => bench::bench(&args, access),
        Command::Cold(args) => bench::cold(&args, access),
        Command::Inspect { plan } => commands::inspect(plan.as_deref(), access),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => {
            eprintln!("cliptext-run: {message}");
            ExitCode::from(2)
        }
        Err(Failure::Work(message)) => {
            eprintln!("cliptext-run: {message}");
            ExitCode::FAILURE
        }
    }
}
