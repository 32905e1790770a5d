//! A device that answers: requests and answers over any line of bytes, such as a UART or a socket.
//!
//! A frame is a message with a checksum in COBS, ended by a zero; `docs/protocol.md` has it byte by byte. A [`Server`] answers what a
//! line brings, over [`embedded_io`]'s traits; a [`Client`] asks it.
//!
//! ```
//! use cliptext::prompt::Prompt;
//! use cliptext::serve::{Counters, Receiver, Server};
//! use cliptext::{ArenaBuf, Encoder, Plan};
//!
//! # fn run<L: embedded_io::Read + embedded_io::Write>(mut uart: L) -> Result<(), Box<dyn core::error::Error>> {
//! static COUNTERS: Counters = Counters::new();
//! let plan = Plan::load(cliptext::include_plan!("../../models/demo.plan"))?;
//! let mut arena = ArenaBuf::<{ 160 * 1024 }>::new();
//! let mut request = [0; 2048]; // the longest request, and so the longest text
//! let mut prompt = Prompt::new();
//! let mut server = Server::new(Encoder::new(&plan, arena.bytes())?, &COUNTERS, &mut prompt);
//! let _ = server.serve(&mut uart, &mut Receiver::new(&mut request)); // until the line ends or fails
//! # Ok(())
//! # }
//! ```
//!
//! Nothing is allocated, and whatever a line brings, nothing panics: what is no request is answered by a [`Problem`] or skipped, and the
//! next request is answered.

mod client;
mod cobs;
mod format;
mod message;
mod problem;
mod receive;
mod rows;
mod send;
mod server;
mod statistics;
mod values;

pub use crate::prompt::{Chunks, Weighting};
pub use client::{Client, ClientError};
pub use format::VERSION;
pub use message::{Answer, Encode, Hello, Numbers, Parts, Request, Rows, Text};
pub use problem::Problem;
pub use receive::Receiver;
pub use send::SendError;
pub use server::{Server, refuse};
pub use statistics::{Counters, Statistics};
