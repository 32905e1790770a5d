//! `encode`: prompts to hidden states.

mod arguments;
mod engine;
mod progress;
mod run;
mod summary;

pub(crate) use arguments::EncodeArgs;
pub(crate) use run::encode;
