//! What `client` takes.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use cliptext::serve;

use crate::arguments::PadArgs;
use crate::output::FormatArgs;

#[derive(Args)]
pub(crate) struct ClientArgs {
    #[command(flatten)]
    pub(super) line: LineArgs,
    /// Bits per second of the serial port
    #[cfg(unix)]
    #[arg(long, value_name = "N", default_value_t = 115_200, conflicts_with_all = ["unix", "tcp"])]
    pub(super) baud: u32,
    /// Seconds after which a device counts as gone that says nothing
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) timeout: u16,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct LineArgs {
    /// The serial port that the device is at
    #[cfg(unix)]
    #[arg(long, value_name = "DEVICE")]
    pub(super) uart: Option<PathBuf>,
    /// The server's Unix socket
    #[cfg(unix)]
    #[arg(long, value_name = "PATH")]
    pub(super) unix: Option<PathBuf>,
    /// The server's address and port
    #[arg(long, value_name = "ADDRESS")]
    pub(super) tcp: Option<SocketAddr>,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Tell who answers: the plan, its hash, memory and limits
    Hello,
    /// Print the token ids of texts, a line each
    Tokenize {
        /// Texts
        #[arg(required = true, value_name = "TEXT")]
        texts: Vec<String>,
    },
    /// Encode prompts to arrays
    Encode(EncodeArgs),
    /// Tell what was done since the device started
    Statistics,
}

#[derive(Args)]
pub(super) struct EncodeArgs {
    /// Prompts
    #[arg(required = true, value_name = "PROMPT")]
    pub(super) prompts: Vec<String>,
    #[command(flatten)]
    pub(super) pad: PadArgs,
    /// How numbers come over the line: exact, or in half or a quarter of the time
    #[arg(long, value_name = "NUMBERS", default_value = "f32")]
    pub(super) numbers: Numbers,
    /// Whose weights prompts have: none, a1111 or comfy
    #[arg(long, value_name = "WHOSE", default_value = "none")]
    pub(super) weights: serve::Weighting,
    /// Chunks of a prompt that is longer than the context: as many as needed (auto), or so many
    #[arg(long, value_name = "N | auto")]
    pub(super) chunks: Option<serve::Chunks>,
    /// Write the hidden states to FILE: .npy [prompts, tokens, width], .f32 or .f16
    #[arg(short, long, value_name = "FILE", required_unless_present = "pooled")]
    pub(super) output: Option<PathBuf>,
    /// Write the pooled outputs to FILE: .npy [prompts, columns], .f32 or .f16
    #[arg(long, value_name = "FILE")]
    pub(super) pooled: Option<PathBuf>,
    #[command(flatten)]
    pub(super) formats: FormatArgs,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Numbers {
    /// The values as they are
    F32,
    /// The nearest in half precision
    F16,
    /// Bytes, and a scale for each row
    Int8,
}

impl EncodeArgs {
    /// The request for some of the prompts.
    pub(super) fn request<'t>(&self, texts: &[&'t str]) -> serve::Encode<'t> {
        serve::Encode {
            texts: texts.iter().copied().collect(),
            numbers: match self.numbers {
                Numbers::F32 => serve::Numbers::F32,
                Numbers::F16 => serve::Numbers::F16,
                Numbers::Int8 => serve::Numbers::Int8,
            },
            parts: match (&self.output, &self.pooled) {
                (Some(_), Some(_)) => serve::Parts::Both,
                (None, Some(_)) => serve::Parts::Pooled,
                (_, None) => serve::Parts::Hidden,
            },
            unpadded: self.pad.no_pad,
            rows: None,
            weights: self.weights,
            chunks: self.chunks.unwrap_or_default(),
            comma: 0,
        }
    }
}
