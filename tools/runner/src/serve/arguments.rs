//! What `serve` takes.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::arguments::RunArgs;

/// Texts of a request that go through one pass, unless it is said: a prompt and its negative.
const AT_ONCE: u8 = 2;

#[derive(Args)]
pub(crate) struct ServeArgs {
    /// The plan; without it, the built-in one
    pub(super) plan: Option<PathBuf>,
    #[command(flatten)]
    pub(super) line: LineArgs,
    /// Bits per second of the serial port
    #[cfg(unix)]
    #[arg(long, value_name = "N", default_value_t = 115_200, conflicts_with_all = ["stdio", "unix", "tcp"])]
    pub(super) baud: u32,
    /// Also answer clients on other machines, with --tcp at an address that they reach: nothing asks who they are, and nothing is
    /// encrypted
    #[arg(long, conflicts_with = "stdio")]
    #[cfg_attr(unix, arg(conflicts_with_all = ["uart", "unix"]))]
    pub(super) allow_remote: bool,
    /// Clients at a time, each with memory of its own; another takes the place of the one that has been idle for longest
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) clients: u16,
    /// Seconds after which a client ends that takes nothing of its answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) timeout: u16,
    /// Texts of a request that go through one pass, for which each client has memory
    #[arg(long, value_name = "N", default_value_t = AT_ONCE, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(super) at_once: u8,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct LineArgs {
    /// Answer on standard input and output, as `ssh board cliptext-run serve PLAN --stdio` reaches it
    #[arg(long)]
    pub(super) stdio: bool,
    /// Answer on a serial port
    #[cfg(unix)]
    #[arg(long, value_name = "DEVICE")]
    pub(super) uart: Option<PathBuf>,
    /// Answer on a Unix socket at PATH, which may be left over from a server that is gone
    #[cfg(unix)]
    #[arg(long, value_name = "PATH")]
    pub(super) unix: Option<PathBuf>,
    /// Answer on a TCP port of this machine: 127.0.0.1:PORT; port 0 takes a free one, which is told
    #[arg(long, value_name = "ADDRESS")]
    pub(super) tcp: Option<SocketAddr>,
}
