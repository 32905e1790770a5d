//! `cliptext-run`: prompts to embeddings on the board, from a plan.
//!
//! One static file; it never needs the compiler, Python or a network.
//!
//! A library, so that the makers of the man page and of the shells' completions read the same definition of the
//! command line as the program, which need not carry them.

#[macro_use]
mod print;
mod arguments;
mod bench;
mod cache;
mod client;
mod describe;
mod encode;
#[cfg(feature = "pictures")]
mod encode_image;
mod failure;
mod images;
mod inspect;
mod labels;
mod line;
mod opened;
mod output;
mod pack;
mod packed;
mod paths;
#[cfg(feature = "pictures")]
mod pictures;
mod plan;
mod prompts;
mod reading;
mod serve;
mod setup;
mod similarity;
mod streamed;
mod tokenize;
#[cfg(unix)]
mod uart;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use failure::Failure;

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
    /// Encode prompts to the hidden states that a diffusion UNet reads; or take them by name out of a prompt pack, in the place of the
    /// plan
    Encode(encode::EncodeArgs),
    /// Encode pictures to the embeddings that `similarity` compares with prompts
    #[cfg(feature = "pictures")]
    EncodeImage(encode_image::EncodeImageArgs),
    /// Compare prompts with images: zero-shot classification
    Similarity(similarity::SimilarityArgs),
    /// Print the token ids of prompts, a line each
    Tokenize(tokenize::TokenizeArgs),
    /// Measure this machine: encoding time, cold start, steps, memory
    Bench(bench::BenchArgs),
    /// Encode once in a fresh process, for `bench`
    #[command(hide = true)]
    Cold(bench::ColdArgs),
    /// Encode named prompts to a prompt pack: a file of embeddings that needs no plan
    Pack(pack::PackArgs),
    /// Answer requests on a line: a serial port, standard input and output, a Unix socket, a TCP port
    Serve(serve::ServeArgs),
    /// Ask a device that answers, a board or `serve`
    Client(client::ClientArgs),
    /// Tell what is in a plan and how much RAM it needs, or what is in a prompt pack
    Inspect {
        /// The plan or pack; without it, the built-in plan
        plan: Option<PathBuf>,
        /// List each step, not only each kind of steps
        #[arg(long)]
        steps: bool,
        /// Of a file that holds both plans tell of the image encoder's alone
        #[cfg(feature = "pictures")]
        #[arg(long)]
        image: bool,
    },
}

/// The command line, as clap builds it.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Does what the process' arguments ask for; errors are told on standard error.
pub fn main() -> ExitCode {
    let Cli { access, command } = Cli::parse();
    let outcome = match command {
        Command::Encode(args) => encode::encode(&args, access),
        #[cfg(feature = "pictures")]
        Command::EncodeImage(args) => encode_image::encode_image(&args, access),
        Command::Similarity(args) => similarity::similarity(&args, access),
        Command::Tokenize(args) => tokenize::tokenize(&args, access),
        Command::Bench(args) => bench::bench(&args, access),
        Command::Cold(args) => bench::cold(&args, access),
        Command::Pack(args) => pack::pack(&args, access),
        Command::Serve(args) => serve::serve(&args, access),
        Command::Client(args) => client::client(&args, access),
        #[cfg(feature = "pictures")]
        Command::Inspect { plan, steps, image: true } => inspect::image(plan.as_deref(), steps, access),
        Command::Inspect { plan, steps, .. } => inspect::inspect(plan.as_deref(), steps, access),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Closed) => ExitCode::FAILURE,
        Err(Failure::Usage(message)) => {
            cliptext_files::to_stderr!("cliptext-run: {message}");
            ExitCode::from(2)
        }
        Err(Failure::Work(message)) => {
            cliptext_files::to_stderr!("cliptext-run: {message}");
            ExitCode::FAILURE
        }
    }
}
