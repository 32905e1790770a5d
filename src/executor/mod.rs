//! Runs a plan: inputs in, embeddings out, all memory in one arena.
//!
//! A pass takes a [`Program`](crate::plan::Program), a [`Source`](crate::plan::Source) of its constants, [`Input`]s and a
//! [`Sink`].

mod arena;
mod batch;
mod embedding;
mod encoder;
mod error;
mod image;
mod input;
mod prompt;
mod sink;
mod steps;

pub use embedding::Embedding;
pub use encoder::Encoder;
pub use error::{EncoderError, IdsError, PassError};
pub use image::{ImageEmbedding, ImageEncoder};
pub use input::Input;
pub use sink::{Sink, StepOutput};

#[cfg(test)]
mod tests;
