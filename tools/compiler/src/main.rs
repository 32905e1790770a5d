//! `cliptext`: the compiler's command line.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use cliptext::tokenizer::Padding;
use cliptext_compiler::compile::{Job, compile};
use cliptext_compiler::emit::{self, Precision};
use cliptext_compiler::progress::Progress;
use cliptext_compiler::target::Target;
use cliptext_compiler::vocabulary::VocabularySource;

#[derive(Parser)]
#[command(name = "cliptext", version, about = "Compiles CLIP text encoders into plans for cliptext-run")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compile a model into a plan
    Compile(CompileArgs),
}

#[derive(Args)]
struct CompileArgs {
    /// The text encoder: an ONNX file, or one on the hub: hf:OWNER/REPO[@REVISION]/FILE
    model: PathBuf,
    /// The plan to write
    #[arg(short, long, value_name = "PLAN")]
    output: PathBuf,
    /// The vocabulary: merges.txt, tokenizer.json, or a folder with vocab.json and merges.txt [default: CLIP's own]
    #[arg(long, value_name = "PATH")]
    vocab: Option<PathBuf>,
    /// How weights are stored: f32 is for checking
    #[arg(long, value_enum, default_value = "int8")]
    precision: PrecisionArg,
    /// The kind of CPU that weights are packed for
    #[arg(long, default_value_t, long_help = target_help())]
    target: Target,
    /// What fills the context behind the prompt: `eot`, `zero`, or a token id [default: as the vocabulary says, else eot]
    #[arg(long, value_name = "PADDING", value_parser = padding)]
    pad: Option<Padding>,
    /// Tell nothing but errors
    #[arg(long)]
    quiet: bool,
    /// Write the report to FILE as JSON too
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionArg {
    Int8,
    F32,
}

fn target_help() -> String {
    let mut help = String::from("The kind of CPU that weights are packed for:");
    for target in Target::ALL {
        help.push_str(&format!("\n- {target}: {}", target.help()));
    }
    help
}

fn padding(text: &str) -> Result<Padding, String> {
    match text {
        "eot" => Ok(Padding::End),
        "zero" => Ok(Padding::Id(0)),
        id => id.parse().map(Padding::Id).map_err(|_| "expected `eot`, `zero` or a token id".into()),
    }
}

fn main() -> ExitCode {
    let Command::Compile(args) = Cli::parse().command;
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cliptext: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: CompileArgs) -> anyhow::Result<()> {
    let job = Job {
        model: args.model,
        plan: args.output,
        vocabulary: args.vocab.map_or(VocabularySource::Standard, VocabularySource::Path),
        precision: match args.precision {
            PrecisionArg::Int8 => Precision::Int8,
            PrecisionArg::F32 => Precision::F32,
        },
        target: args.target,
        padding: args.pad,
    };
    let report = compile(&job, &Progress::new(args.quiet))?;
    if let Some(path) = args.report {
        emit::write(&path, &serde_json::to_vec_pretty(&report)?)?;
    }
    if !args.quiet {
        // The plan is written: a reader that has gone, as in `| head`, takes nothing from it.
        let _ = writeln!(std::io::stdout(), "{report}");
    }
    Ok(())
}
